"""What a person types is read as they meant it, or refused in a sentence that says what to type."""

import argparse
import re
import subprocess
import sys

import pytest
from launcher.errors import UserError
from launcher.settings.cli import as_typed, flags_last, refuse_choices
from launcher.settings.explain import ambiguous, nearest, unreadable
from launcher.settings.parser import SHELL_COMPLETION, TextHelpParser


class Lazy:
    """As Hydra's own help of one option: no text, but becomes some."""

    def __repr__(self) -> str:
        return "Install"


class StrictParser(argparse.ArgumentParser):
    """As argparse is since Python 3.14: it looks into a help as the option is added."""

    def add_argument(self, *names, **options):
        if "%" in options.get("help", ""):
            raise ValueError("badly formed help string")
        return super().add_argument(*names, **options)


def test_a_help_that_is_no_text_breaks_a_new_python_and_not_us():
    class Mended(TextHelpParser, StrictParser):
        """Ours, on the argparse of Python 3.14."""

    with pytest.raises(TypeError):
        StrictParser().add_argument("--shell-completion", help=Lazy())
    parser = Mended()
    parser.add_argument("--shell-completion", help=Lazy())
    parser.add_argument("--other", help="as it is")
    assert SHELL_COMPLETION in parser.format_help()
    assert "as it is" in parser.format_help()


def test_hydra_makes_its_parser_of_ours():
    from hydra._internal import utils  # only here: what we reach into is what this test is of
    from launcher.settings import cli

    assert cli.parser
    assert isinstance(utils.get_args_parser(), TextHelpParser)


def test_a_python_that_looks_into_helps_starts_every_command(project):
    """The whole program, with argparse as Python 3.14 has it, where this Python is an older one."""
    strict = (
        "import argparse, runpy, sys\n"
        "plain = argparse.ArgumentParser._get_formatter\n"
        "add = argparse._ActionsContainer.add_argument\n"
        "def strict(self, *names, **options):\n"
        "    '%' in options.get('help', '')\n"
        "    return add(self, *names, **options)\n"
        "argparse._ActionsContainer.add_argument = strict\n"
        "sys.argv = ['launch', '--cfg', 'job']\n"
        "runpy.run_module('launcher.commands.launch', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", strict], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cloud:" in done.stdout


# What cannot be read


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/a b",
        "a,b",
        'say "hello"',
        "it's",
        "C:\\temp\\",
        "{x}",
        "$HOME",
        "100%",
        "a=b=c",
        "[1",
    ],
)
def test_what_is_advised_is_read_as_what_was_meant(value: str):
    """By a shell and by Hydra's own parser, one after the other."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    said = unreadable(f"a.b={value}")
    advised = re.search(r"as in (.*)\.$", said)
    assert advised, said
    word = subprocess.run(
        ["sh", "-c", f"printf %s {advised[1]}"], capture_output=True, text=True, check=True
    ).stdout
    read = OverridesParser.create().parse_override(word)
    assert (read.key_or_group, read.value()) == ("a.b", value)


@pytest.mark.parametrize(
    ("value", "listed"), [("1,2", [1, 2]), ("a,b c", ["a", "b c"]), ("'x','y'", ["x", "y"])]
)
def test_a_value_with_a_comma_is_told_both_ways_to_type_it(value: str, listed: list[object]):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    said = ambiguous(f"a.b={value}")
    advised = re.search(r"as in (.*), and a text in quotes, as in (.*) \(", said)
    assert advised, said
    line = subprocess.run(
        ["sh", "-c", f"printf '%s\n' {advised[1]} {advised[2]}"], capture_output=True, text=True, check=True
    ).stdout
    in_brackets, in_quotes = map(OverridesParser.create().parse_override, line.splitlines())
    assert in_brackets.value() == listed
    assert in_quotes.value() == (value if "'" not in value else value[1:-1])


@pytest.mark.parametrize(
    ("word", "read"),
    [
        *[
            (f"run.id={each}", each)
            for each in ("1", "1e3", "007", "2026_11_27", "true", "nan", "mine", "null-like")
        ],
        *[(f"{key}=1e3", "1e3") for key in ("++run.id", "restore.from", "run")],
        ("run.id= 12", "12"),
        ("run.id=null", None),
        ('run.id="1"', "1"),
        ("seed=1e3", 1000.0),
    ],
)
def test_an_id_is_read_as_it_was_typed(word: str, read: object):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(as_typed(word)).value() == read


def test_a_word_that_cannot_be_read_is_left_to_who_says_so():
    assert as_typed("run.id=[1") == "run.id=[1"


def test_a_home_that_the_shell_leaves_is_put_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert 'a.b="/home/me/data"' in unreadable("a.b=~/data")


@pytest.mark.parametrize("word", ["trainer", "=5", " =5"])
def test_a_word_without_a_name_or_a_value_is_told_the_form(word: str):
    assert "write name=value" in unreadable(word)


@pytest.mark.parametrize(
    ("name", "known", "end"),
    [
        ("trainer.lr", ["trainer.lt", "data.x"], "; did you mean trainer.lt?"),
        ("Data.X", ["trainer.lt", "data.x"], "; did you mean data.x?"),
        ("model.foo", ["model.dropout", "model.width"], "; there are model.dropout, model.width."),
        ("model.widht", ["model.dropout", "model.width"], "; did you mean model.width?"),
        ("zzz", ["b", "a"], "; there are a, b."),
        ("zzz", [], "."),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_all(name: str, known: list[str], end: str):
    assert nearest(name, known) == end


def test_a_folder_among_the_words_is_no_choice(tmp_path):
    (tmp_path / "model").mkdir()
    refuse_choices(["--config-dir", str(tmp_path / "model")], tmp_path)
    with pytest.raises(UserError, match="model= names no file"):
        refuse_choices(["model="], tmp_path)


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        (["a=1", "-m", "b=1,2"], ["a=1", "b=1,2", "-m"]),
        (["~a", "--cfg", "job", "b=2", "a=1"], ["~a", "b=2", "a=1", "--cfg", "job"]),
        (["b=-1", "--config-dir=/d=e"], ["b=-1", "--config-dir=/d=e"]),
        (["-cd", "/d=e", "a=1"], ["a=1", "-cd", "/d=e"]),
        (["--info", "a=1"], ["a=1", "--info"]),
        (["--info", "searchpath", "a=1"], ["a=1", "--info", "searchpath"]),
        ([], []),
    ],
)
def test_a_flag_may_stand_anywhere(words: list[str], ordered: list[str]):
    assert flags_last(words) == ordered


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["a=1", "--epochs", "3"], "--epochs: a setting is given without dashes, as in epochs=..."),
        (["--lr=3"], "--lr=3: a setting is given without dashes, as in lr=3"),
        (["--lr=3", "-m", "a=1"], "--lr=3: a setting is given without dashes, as in lr=3"),
    ],
)
def test_a_setting_typed_as_a_flag_is_told_the_form(words: list[str], advice: str):
    with pytest.raises(UserError) as refused:
        flags_last(words)
    assert str(refused.value) == f"There is no {advice}"


def test_a_word_between_flags_is_no_setting():
    with pytest.raises(
        UserError, match=r"^'first' cannot be read: write name=value; --help shows the names\.$"
    ):
        flags_last(["a=1", "-m", "first", "--cfg", "job"])
