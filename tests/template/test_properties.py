"""Whatever is answered: a bake is refused by one clear sentence and leaves nothing, or it parses everywhere."""

import ast
import configparser
import json
import re
import string
import subprocess
import tempfile
import tomllib
from pathlib import Path

import yaml
from baking import BakedProject, RefusedError, bake_into, only_programs
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_answers import assert_one_sentence

# What ends a literal somewhere, what a shell, Jinja, TOML, YAML or Markdown reads, and what terminals choke on.
SHARP = "\"'\\`$#%{}[]()<>&|;:!*_~-+=?@^,./ \t\n\r\0\x1b\x85\u00a0\u200b\u2028\u202e\ud800\ufeff\U0001f680é٣م"
snippets = st.sampled_from(
    [
        '"""',
        "'''",
        "{{ 1 }}",
        "{% raw %}",
        "{#",
        "${x}",
        "$(id)",
        "\\u0041",
        "\\",
        '\\"',
        "-->",
        "]]>",
        "---",
        "# ",
        "1. ",
        "🚀",
    ]
)
text = st.lists(st.text(max_size=20) | st.text(SHARP, max_size=10) | snippets, max_size=8).map("".join)
plain = st.text(string.ascii_letters + " -'", min_size=1, max_size=40).filter(str.strip)
words = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,3}", fullmatch=True)
names = words | st.text(string.ascii_lowercase + string.digits + "-_./A", max_size=70) | text
good = st.fixed_dictionaries(
    {"project_slug": words.filter(lambda word: len(word) > 3)},
    optional={
        "project_name": plain,
        "license": st.sampled_from(["MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"]),
        "cloud": st.sampled_from(["gcp", "aws", "azure"]),
    },
)
bad = st.one_of(
    [
        st.fixed_dictionaries({key: values})
        for key, values in {
            "project_name": text,
            "project_slug": names,
            "package_name": names,
            "description": text | st.text(max_size=310),
            "author_name": text,
            "region": st.sampled_from(["us-central1", "eu-west-1", "westeurope"]) | text,
            "bucket": names,
        }.items()
    ]
)
# Free text alone varies here, so that nearly every bake is taken.
free_text = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
    | st.sampled_from(SHARP.replace("\t", "")[:33]),
    max_size=80,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(good, bad)
def test_any_answers_are_refused_clearly_or_parse_everywhere(
    good: dict[str, str], bad: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as folder, only_programs("git"):
        try:
            project = bake_into(Path(folder), **good | bad)
        except RefusedError as refused:
            event("refused")
            assert_one_sentence(str(refused))
            assert list(Path(folder).iterdir()) == []
        else:
            event("taken")
            assert_parses(project)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(free_text, free_text, free_text)
def test_any_printable_text_arrives_unchanged(name: str, description: str, author: str) -> None:
    given_texts = {"project_name": name, "description": description, "author_name": author}
    with tempfile.TemporaryDirectory() as folder, only_programs("git"):
        try:
            project = bake_into(Path(folder), project_slug="any-text", bucket="my-bucket", **given_texts)
        except RefusedError as refused:
            event("refused")
            assert_one_sentence(str(refused))
        else:
            event("taken")
            assert_parses(project)
            metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
            assert metadata["description"] == description
            assert metadata["authors"] == [{"name": author}]
            assert_readme_shows(project, name, description, author)


def assert_parses(project: BakedProject) -> None:
    """Reads every file with the parser of its kind."""
    for path in project.files():
        content = project.read(path)
        match path.rpartition(".")[2]:
            case "toml":
                tomllib.loads(content)
            case "yaml" | "yml":
                yaml.safe_load(content)
            case "py":
                ast.parse(content)
            case "json" | "ipynb":
                json.loads(content)
            case "sh" | "infra/setup" | "infra/destroy":
                subprocess.run(["/bin/bash", "-n", project.folder / path], check=True)
    subprocess.run(
        ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "make", "-n", "help"],
        cwd=project.folder,
        check=True,
        capture_output=True,
    )
    dvc = configparser.ConfigParser(interpolation=None)
    dvc.read(project.folder / ".dvc/config")
    assert "core" in dvc.sections()


def assert_readme_shows(project: BakedProject, name: str, description: str, author: str) -> None:
    """The README's heading, summary and last line show the text itself, whatever Markdown makes of its characters."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(project.read("README.md"))
    shown = [shown_text(token) for token in tokens if token.type == "inline"]
    assert shown[0] == squeeze(name)
    assert shown[1] == f"In short: {squeeze(description)}"
    assert squeeze(shown[-1]).startswith(squeeze(f"Copyright {author}"))


def shown_text(inline) -> str:
    """What a reader of the rendered page sees of a line; a link or HTML in it would be lost, and so found."""
    parts = [
        child.content for child in inline.children if child.type in ("text", "text_special", "code_inline")
    ]
    return squeeze("".join(parts))


def squeeze(text: str) -> str:
    """Markdown trims a line and shows runs of spaces as one."""
    return re.sub(" +", " ", text).strip(" ")
