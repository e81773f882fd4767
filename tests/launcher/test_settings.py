"""What a person types is read as they meant it, or refused in a sentence that says what to type."""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from baking import ROOT
from launcher.errors import UserError
from launcher.settings.cli import alone, as_typed, refuse_choices
from launcher.settings.examples import check_config, check_types
from launcher.settings.explain import ambiguous, explain, nearest, unreadable
from launcher.settings.parser import SHELL_COMPLETION, TextHelpParser
from omegaconf import OmegaConf
from yaml import YAMLError


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
        ("zzz", ["b", "a"], "; there are a, b."),
        ("zzz", [], "."),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_all(name: str, known: list[str], end: str):
    assert nearest(name, known) == end


# What is read, and wrong


@dataclass
class Inner:
    depth: int = 1


@dataclass
class Outer:
    width: int = 1
    inner: Inner = field(default_factory=Inner)


def unknown(words: dict) -> str:
    config = OmegaConf.create({"model": OmegaConf.structured(Outer)})
    OmegaConf.set_struct(config, False)
    for key, value in words.items():
        OmegaConf.update(config, key, value, force_add=True)
    with pytest.raises(UserError) as refused:
        check_config(config, {}, ROOT)
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [("model.widht", "model.width"), ("model.inner.dept", "model.inner.depth")],
)
def test_a_name_added_to_a_typed_section_is_refused_however_deep(key: str, meant: str):
    assert unknown({key: 3}) == f"There is no {key}; did you mean {meant}?"


def test_names_of_a_section_without_a_type_are_its_owners():
    config = OmegaConf.create({"mine": {"anything": 1, "more": {"deep": "x"}}})
    check_config(config, {}, ROOT)


def test_a_missing_value_is_asked_for_by_name():
    config = OmegaConf.create({"data": {"folder": "???"}, "b": "???"})
    with pytest.raises(UserError, match=r"^Give a value for b, data.folder, for example b=\.\.\.$"):
        check_config(config, {}, ROOT)


@pytest.mark.parametrize(
    ("example", "actual"),
    [
        ({"a": 1.5}, {"a": 2}),
        ({"a": None}, {"a": "anything"}),
        ({"a": [1]}, {"a": []}),
        ({"a": {"b": 1}}, {"a": {"b": 2, "c": "new"}}),
        ({"a": "${b}", "b": 1}, {"a": "text", "b": 1}),
        ({"a": 1}, {}),
    ],
)
def test_what_fits_its_example_passes(example: dict, actual: dict):
    check_types("x", OmegaConf.create(example), OmegaConf.create(actual))


@pytest.mark.parametrize(
    ("example", "actual", "named"),
    [
        ({"a": 1}, {"a": 1.5}, "x.a=1.5"),
        ({"a": 1}, {"a": True}, "x.a=True"),
        ({"a": 1.5}, {"a": True}, "x.a=True"),
        ({"a": "t"}, {"a": 3}, "x.a=3"),
        ({"a": [1]}, {"a": 1}, "x.a=1"),
        ({"a": {"b": 1}}, {"a": {"b": "t"}}, "x.a.b=t"),
        ({"a": {"b": 1}}, {"a": 3}, "x.a=3"),
        ({"a": 1}, {"a": None}, "x.a=None"),
    ],
)
def test_what_does_not_is_named_with_what_would(example: dict, actual: dict, named: str):
    with pytest.raises(UserError) as refused:
        check_types("x", OmegaConf.create(example), OmegaConf.create(actual))
    assert str(refused.value).startswith(f"{named} is ")


# What files say, and their classes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {b: 1\nc: 2\n", "line 2, is no YAML: while parsing a flow mapping expected"),
        ("a: 1\n\tb: 2\n", "line 2, is no YAML: while scanning"),
        ("a: 1\na: 2\n", "line 2, is no YAML: while constructing a mapping found duplicate key a"),
        ("a: [1\n", "line 2, is no YAML: while parsing a flow sequence"),
    ],
)
def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path, monkeypatch, text: str, said: str):
    (tmp_path / "own.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(YAMLError) as broken:
        OmegaConf.load(tmp_path / "own.yaml")
    sentence = explain(broken.value)
    assert sentence.startswith(f"own.yaml, {said}")
    assert "\n" not in sentence


def composed(folder, text: str) -> str:
    """What is said of an experiment with this text."""
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException

    (folder / "experiment").mkdir()
    (folder / "experiment" / "own.yaml").write_text(text)
    (folder / "top.yaml").write_text("defaults: [of_this_test, _self_, experiment: own]\n")
    ConfigStore.instance().store(name="of_this_test", node=Outer)
    with hydra.initialize_config_dir(str(folder), version_base="1.3"), pytest.raises(HydraException) as wrong:
        hydra.compose("top")
    return explain(wrong.value)


@pytest.mark.parametrize("text", ["", "width: 3\n"])
def test_an_experiment_without_its_first_line_is_told_it(tmp_path, text: str):
    said = composed(tmp_path, text)
    assert said.startswith("configs/experiment/own.yaml needs the line `# @package _global_` at its top")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widht: 3", "There is no widht; did you mean width?"),
        ("inner: {dept: 3}", "There is no inner.dept; did you mean inner.depth?"),
        ("width: wide", "width: Value 'wide' of type 'str' could not be converted to Integer."),
    ],
)
def test_a_mistake_in_an_experiment_names_file_and_key(tmp_path, text: str, said: str):
    said_of = composed(tmp_path, f"# @package _global_\n{text}\n")
    assert said_of == f"configs/experiment/own.yaml: {said}"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("json.decoder.JSONDecoderr", "there is no JSONDecoderr in json.decoder; did you mean JSONDecoder?"),
        ("json.dumbs", "there is no dumbs in json; did you mean dumps?"),
        ("json.qqqqqqqq", "there is no qqqqqqqq in json; correct it."),
        ("jsonn.decoder.JSONDecoder", "there is no JSONDecoder in jsonn.decoder; correct it."),
    ],
)
def test_a_class_that_is_not_there_is_said_in_one_sentence(target: str, said: str):
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    config = OmegaConf.create({"model": {"_target_": target}})
    with pytest.raises(InstantiationException) as wrong:
        instantiate(config.model)
    assert explain(wrong.value) == f"model._target_: {said}"


def test_a_class_whose_module_lacks_a_package_is_not_called_missing(tmp_path, monkeypatch):
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    (tmp_path / "of_this_test.py").write_text("import a_package_that_is_not_there\nclass Mine: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InstantiationException) as wrong:
        instantiate(OmegaConf.create({"model": {"_target_": "of_this_test.Mine"}}).model)
    assert "No module named 'a_package_that_is_not_there'" in explain(wrong.value)


def test_only_the_sections_that_a_program_reads_must_fit_together():
    whole = OmegaConf.create({"data": {"seed": "${seed}"}, "seed": 3, "model": {"sides": "${data.sides}"}})
    assert alone(whole, ["data"]) == {"data": {"seed": 3}}
    assert alone(whole, []) is whole


def test_a_folder_among_the_words_is_no_choice(tmp_path):
    (tmp_path / "model").mkdir()
    refuse_choices(["--config-dir", str(tmp_path / "model")], tmp_path)
    with pytest.raises(UserError, match="model= names no file"):
        refuse_choices(["model="], tmp_path)


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
