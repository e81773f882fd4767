"""Which answers are refused, which are taken, and that taken ones arrive unchanged."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from baking import ROOT, RefusedError, bake_into, only_programs, template
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter

REFUSED = {
    # free text
    "an empty project name": {"project_name": ""},
    "a blank project name": {"project_name": " \t "},
    "an invisible project name": {"project_name": "\u200b\u2060"},
    "a blank description": {"description": "   "},
    "an empty author": {"author_name": ""},
    "a line break in the name": {"project_name": "One\nTwo"},
    "a carriage return": {"description": "One\rTwo"},
    "a null byte": {"description": "One\x00Two"},
    "an escape sequence": {"author_name": "\x1b[31mRed"},
    "a next-line character": {"description": "One\x85Two"},
    "a line separator": {"description": "One\u2028Two"},
    "a paragraph separator": {"description": "One\u2029Two"},
    "half a surrogate pair": {"description": "One\ud800Two"},
    "a direction override": {"description": "One\u202etwo"},
    "a long name": {"project_name": "n" * 81, "project_slug": "n"},
    "a long description": {"description": "d" * 301},
    "a long author": {"author_name": "a" * 121},
    # slugs
    "an empty slug": {"project_slug": ""},
    "a blank slug": {"project_slug": " "},
    "a capital in the slug": {"project_slug": "My-project"},
    "a dot in the slug": {"project_slug": "my.project"},
    "a slash in the slug": {"project_slug": "my/project"},
    "a backslash in the slug": {"project_slug": "my\\project"},
    "a parent folder": {"project_slug": ".."},
    "a path to a parent": {"project_slug": "../escape"},
    "an absolute path": {"project_slug": "/tmp/escape"},
    "a leading digit in the slug": {"project_slug": "3d-training"},
    "a leading dash in the slug": {"project_slug": "-project"},
    "a trailing dash in the slug": {"project_slug": "project-"},
    "a double dash in the slug": {"project_slug": "my--project"},
    "an underscore in the slug": {"project_slug": "my_project"},
    "a space in the slug": {"project_slug": "my project"},
    "a line break after the slug": {"project_slug": "project\n"},
    "letters beyond ASCII in the slug": {"project_slug": "projét"},
    "digits beyond ASCII in the slug": {"project_slug": "project٣"},
    "a slug of 64": {"project_slug": "p" * 64, "package_name": "p", "bucket": "my-bucket"},
    "a slug that no file system takes": {
        "project_slug": "p" * 5000,
        "package_name": "p",
        "bucket": "my-bucket",
    },
    "half a surrogate pair in the slug": {"project_slug": "a\udcff"},
    "a slug that is a dependency": {"project_slug": "scikit-learn", "package_name": "p"},
    # packages
    "an empty package": {"package_name": ""},
    "a keyword": {"package_name": "class"},
    "a module of Python": {"package_name": "json"},
    "a capital in the package": {"package_name": "Package"},
    "a dash in the package": {"package_name": "my-package"},
    "a dot in the package": {"package_name": "my.package"},
    "a leading digit in the package": {"package_name": "3d"},
    "a leading underscore": {"package_name": "_package"},
    "letters beyond ASCII in the package": {"package_name": "paquét"},
    "a line break after the package": {"package_name": "package\n"},
    "a package of 33": {"package_name": "p" * 33},
    "a package path": {"package_name": "../package"},
    # regions
    "an unknown region": {"region": "mars-north1"},
    "an empty region": {"region": ""},
    "a zone for a region": {"region": "us-central1-a"},
    "a region of AWS's Chinese part": {"cloud": "aws", "region": "cn-north-1"},
    "GovCloud": {"cloud": "aws", "region": "us-gov-west-1"},
    "a region of another cloud": {"cloud": "aws", "region": "us-central1"},
    "a region as Azure's portal writes it": {"cloud": "azure", "region": "East US"},
    # buckets
    "a short bucket": {"bucket": "ab"},
    "a long bucket": {"bucket": "b" * 64},
    "a capital in the bucket": {"bucket": "My-bucket"},
    "a bucket URI": {"bucket": "gs://my-bucket"},
    "a trailing dash in the bucket": {"bucket": "my-bucket-"},
    "goog at the start": {"bucket": "googly"},
    "google inside": {"bucket": "my-google-bucket"},
    "an underscore on S3": {"cloud": "aws", "bucket": "my_bucket"},
    "punycode on S3": {"cloud": "aws", "bucket": "xn--bucket"},
    "an alias suffix on S3": {"cloud": "aws", "bucket": "bucket-s3alias"},
    "a directory bucket's suffix on S3": {"cloud": "aws", "bucket": "bucket--x-s3"},
    "a dash on Azure": {"cloud": "azure", "bucket": "my-store"},
    "a storage account of 25": {"cloud": "azure", "bucket": "s" * 25},
    "a storage account of 2": {"cloud": "azure", "bucket": "ss"},
    "an underscore on Azure": {"cloud": "azure", "bucket": "my_store"},
    "a trade mark in the host's name on Azure": {"cloud": "azure", "bucket": "mywindowsstore"},
    "a login page on Azure": {"cloud": "azure", "bucket": "loginstore"},
    "the name of the workspace's own account on Azure": {"cloud": "azure", "bucket": "ml" * 12},
    "a line break after the bucket": {"bucket": "my-bucket\n"},
}
DEPENDENCIES = [
    "torch",
    "hydra",
    "omegaconf",
    "dvc",
    "wandb",
    "torchmetrics",
    "safetensors",
    "numpy",
    "matplotlib",
    "rich",
    "sklearn",
    "optuna",
    "pytest",
    "fsspec",
    "gcsfs",
    "s3fs",
    "adlfs",
    "tests",
    "configs",
    "data",
    "yaml",
]


@pytest.mark.parametrize("answers", REFUSED.values(), ids=REFUSED)
def test_is_refused_in_one_sentence_and_leaves_nothing(answers: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "inner" / "most"
    folder.mkdir(parents=True)
    with pytest.raises(RefusedError) as refused:
        bake_into(folder, **answers)
    assert_one_sentence(str(refused.value))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("package", DEPENDENCIES)
def test_refuses_a_package_that_would_hide_a_dependency(package: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"'{package}_training'"):
        bake_into(tmp_path, package_name=package)


def test_refuses_every_direct_dependency(demo_project, tmp_path: Path) -> None:
    """The list in the hook is written by hand: this finds what a new dependency makes importable."""
    code = """if True:
        import re, tomllib
        from importlib.metadata import packages_distributions
        project = tomllib.load(open("pyproject.toml", "rb"))
        wanted = project["project"]["dependencies"] + sum(project["dependency-groups"].values(), [])
        names = {re.match("[A-Za-z0-9-]+", item)[0].lower() for item in wanted}
        for module, owners in packages_distributions().items():
            if names & {owner.lower().replace("_", "-") for owner in owners} and not module.startswith("_"):
                print(module)
    """
    modules = demo_project.run(".venv/bin/python", "-c", code).stdout.split()
    assert {"torch", "hydra", "dvc", "sklearn", "pytest"} <= set(modules)
    hook = (ROOT / "hooks/pre_gen_project.py").read_text()
    taken = set(hook.partition('TAKEN = """')[2].partition('"""')[0].split())
    assert {module for module in modules if module.islower()} <= taken


def test_names_the_nearest_region(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"such as 'europe-west4'\."):
        bake_into(tmp_path, region="Europe-West-4")


HOSTILE = {
    "quotes": """She said "it's" '''fine''' and ""\"so\"""",
    "backslashes": r"C:\new\table \\ \" \u0041 \x",
    "shell": "$HOME `id` $(id) ; rm -rf / & | > < # % !! ~ *",
    "jinja": "{{ 7 * 7 }} {% raw %} {# gone? #} {{ cookiecutter.cloud }} ${data.classes}",
    "markup": "<script>alert(1)</script> [a](b) **c** _d_ <!-- e --> &amp; |f| $x$ # g",
    "yaml": "- a: b, c # d [e] {f} !g &h *i ? j : k @l %m",
    "toml": '""" [project] name = "x" #',
    "emoji": "🚀 family 👩‍👩‍👧‍👦 flag 🇬🇷",
    "right to left": "مشروع تدريب - פרויקט",
    "accents": "Żółć Ünïcödé 漢字 e\u0301",
    "a list": "1. first",
    "a rule": "---",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_carries_any_line_of_text_unchanged(text: str, tmp_path: Path) -> None:
    with only_programs("git"):
        project = bake_into(
            tmp_path,
            project_name=text[:80],
            project_slug="hostile",
            description=text,
            author_name=text,
            bucket="my-bucket",
        )
    metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text}]
    assert text in project.read("LICENSE")


TAKEN = {
    "a description of 200": {"description": "d" * 200},
    "a description of 300": {"description": "é" * 300},
    "a slug of 63": {"project_slug": "s" * 63},
    "a slug of one letter": {"project_slug": "s", "bucket": "my-bucket"},
    "a package of 32": {"package_name": "p" * 32},
    "a package that is not the slug": {"package_name": "elsewhere2"},
    "the longest GCS bucket": {"bucket": "b" * 63},
    "an underscore on GCS": {"bucket": "my_bucket"},
    "the longest storage account": {"cloud": "azure", "bucket": "s" * 24},
    "the shortest storage account": {"cloud": "azure", "bucket": "s1s"},
    "a storage account of digits": {"cloud": "azure", "bucket": "123"},
    "a region elsewhere": {"cloud": "aws", "region": "eu-central-1"},
    "another region elsewhere": {"cloud": "azure", "region": "westeurope"},
}


@pytest.mark.parametrize("answers", TAKEN.values(), ids=TAKEN)
def test_takes_what_is_at_the_edge(answers: dict[str, str], tmp_path: Path) -> None:
    with only_programs("git"):
        project = bake_into(tmp_path, **answers)
    assert project.has_file(f"src/{answers.get('package_name', project.package)}/__init__.py")


@pytest.mark.parametrize("cloud", ["gcp", "aws", "azure"])
@pytest.mark.parametrize("slug", ["a", "a-b", "s" * 63, "s" * 62 + "9", "ab-" * 20 + "c"])
def test_derives_a_bucket_that_the_cloud_takes(cloud: str, slug: str, tmp_path: Path) -> None:
    with only_programs("git"):
        bake_into(tmp_path, cloud=cloud, project_slug=slug)


# What the launcher makes of the answers, and what Azure takes:
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
AZURE_NAMES = {
    "storage account": ("{bucket}", r"[a-z0-9]{3,24}"),
    "workspace's own storage account": ("ml{own}", r"[a-z0-9]{3,24}"),
    "registry": ("{bucket}images", r"[a-z0-9]{5,50}"),
    "vault": ("kv-{vault}", r"(?=.{3,24}\Z)[a-z](-?[a-z0-9])*"),
    "resource group": ("{slug}", r"[\w.()-]{0,89}[\w()-]"),
    "workspace": ("{account}-ml", r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}"),
    "identity": ("{account}-launcher", r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}"),
    "other identity": ("{account}-trainer", r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}"),
}


@pytest.mark.parametrize("bucket", ["s1s", "123", "s" * 24, ""])
@pytest.mark.parametrize("slug", ["a", "a-b", "s" * 63, "ab-" * 20 + "c", "c" * 21 + "-d"])
def test_all_names_that_are_made_of_the_answers_are_azures(slug: str, bucket: str, tmp_path: Path) -> None:
    with only_programs("git"):
        given = {"project_slug": slug} | ({"bucket": bucket} if bucket else {})
        project = bake_into(tmp_path, cloud="azure", **given)
    known = tomllib.loads(project.read("pyproject.toml"))["tool"]["launcher"]
    bucket = known["bucket"]
    names = known | {"account": slug[:22].rstrip("-"), "vault": bucket[:21], "own": bucket[:22]}
    for what, (form, rule) in AZURE_NAMES.items():
        assert re.fullmatch(rule, form.format(**names)), what


def assert_one_sentence(text: str) -> None:
    """One line that a person can act on: what is wrong, then what to type."""
    assert text.endswith(".\n")
    assert text.count("\n") == 1
    assert ": type " in text
    assert len(text) < 400
    assert text.isprintable() or text[:-1].isprintable()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("author_name: yes", "The answer author_name is true, which is no text: put it in quotes"),
        ("description: null", "The answer description is null, which is no text"),
        ("bucket: no", "The answer bucket is false, which is no text"),
        ("project_name: 2024", "The project slug '2024' cannot name a folder"),
    ],
)
def test_a_default_of_the_user_that_is_no_text_is_refused(
    line: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "defaults.yaml").write_text(f"default_context:\n  {line}\n")
    with pytest.raises(FailedHookException):
        cookiecutter(
            str(template()),
            no_input=True,
            config_file=str(tmp_path / "defaults.yaml"),
            output_dir=str(tmp_path / "out"),
        )
    assert says in capfd.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_replay_file_with_nothing_but_the_answers_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = {
        "project_name": "Leaf",
        "project_slug": "leaf",
        "package_name": "leaf",
        "description": "Leaves.",
        "author_name": "The authors",
        "license": "MIT",
        "cloud": "gcp",
        "region": "us-central1",
        "bucket": "leaf-bucket",
    }
    (tmp_path / "leaf.json").write_text(json.dumps({"cookiecutter": answers}))
    with pytest.raises(FailedHookException):
        cookiecutter(str(template()), replay=str(tmp_path / "leaf.json"), output_dir=str(tmp_path / "out"))
    assert "--config-file" in capfd.readouterr().err
    assert not list((tmp_path / "out").iterdir())
