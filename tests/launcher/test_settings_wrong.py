"""Settings that are read, and wrong: a sentence says which, also where a file or a class is what is wrong."""

from dataclasses import dataclass, field

import hydra
import pytest
from baking import ROOT
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from launcher.errors import UserError
from launcher.settings.cli import alone
from launcher.settings.examples import check_config, check_types
from launcher.settings.explain import explain
from omegaconf import OmegaConf
from yaml import YAMLError

# What does not fit


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
        ({"a": "???"}, {"a": "given"}),
        ({"a": "???"}, {"a": "???"}),  # which is asked for by name
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


def test_a_whole_number_of_a_file_is_told_how_any_number_will_do():
    with pytest.raises(
        UserError, match=r"give a whole number, such as x\.a=1 \(any .* its file says 1\.0\)\.$"
    ):
        check_types("x", OmegaConf.create({"a": 1}), OmegaConf.create({"a": 1.5}))


def test_a_part_of_a_section_is_not_told_to_be_a_folder():
    with pytest.raises(UserError) as refused:
        check_types("x.a", OmegaConf.create({"b": 1}), OmegaConf.create({"x": None}).x)
    assert str(refused.value) == "x.a=None is nothing; change x.a.<setting>=..., or leave it out with ~x.a."


def test_only_the_sections_that_a_program_reads_must_fit_together():
    whole = OmegaConf.create({"data": {"seed": "${seed}"}, "seed": 3, "model": {"sides": "${data.sides}"}})
    assert alone(whole, ["data"]) == {"data": {"seed": 3}}
    assert alone(whole, []) is whole


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
    (folder / "experiment").mkdir()
    (folder / "experiment" / "own.yaml").write_text(text)
    (folder / "top.yaml").write_text("defaults: [of_this_test, _self_, experiment: own]\n")
    ConfigStore.instance().store(name="of_this_test", node=Outer)
    with hydra.initialize_config_dir(str(folder), version_base="1.3"), pytest.raises(HydraException) as wrong:
        hydra.compose("top")
    return explain(wrong.value)


def refused(folder, text: str, word: str) -> str:
    """What is said of a word on the command line, of a configuration with this text."""
    (folder / "top.yaml").write_text(text)
    with hydra.initialize_config_dir(str(folder), version_base="1.3"), pytest.raises(HydraException) as wrong:
        hydra.compose("top", [word])
    return explain(wrong.value)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("lr=0.1", "did you mean optimizer.lr?"),
        ("epochs=3", "did you mean trainer.max_epochs?"),
        (
            "fraction=0.1",
            "did you mean data.fraction?",
        ),  # and not traction, which is nearer to nothing but in letters
        ("name=x", "did you mean data.name or optimizer.name?"),
        ("qqq=1", "there are data, nothing, optimizer, seed, traction, trainer."),
    ],
)
def test_a_setting_without_its_section_is_told_it(tmp_path, word: str, end: str):
    text = (
        "seed: 0\nnothing: null\ntraction: 1\ndata: {fraction: 1, name: a}\noptimizer: {lr: 1.0, name: b}\n"
        "trainer: {max_epochs: 3}\n"
    )
    assert refused(tmp_path, text, word) == f"There is no {word.partition('=')[0]}; {end}"


@dataclass
class Named:
    names: dict[str, str] = field(default_factory=lambda: {"B": "c"})


@pytest.mark.parametrize("word", ["names.A=b", "names={A:b}"])
@pytest.mark.parametrize("text", ["names: {}\n", "defaults: [named_of_this_test]\n"])
def test_a_name_of_ones_own_in_a_section_of_names_is_told_how_to_add_it(tmp_path, text: str, word: str):
    ConfigStore.instance().store(name="named_of_this_test", node=Named)
    assert (
        refused(tmp_path, text, word) == "names has no A yet; to add it put + before it, as in +names.A=..."
    )


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
    assert explain(wrong.value).startswith(
        "model imports a_package_that_is_not_there, which is not installed: "
    )


def test_what_a_class_itself_says_of_a_package_that_lacks_is_what_is_said(tmp_path, monkeypatch):
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    text = """
from launcher.errors import UserError
class Mine:
    def __init__(self):
        try:
            import a_package_that_is_not_there
        except ImportError as error:
            raise UserError("Install it.") from error
"""
    (tmp_path / "of_that_test.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InstantiationException) as wrong:
        instantiate(OmegaConf.create({"model": {"_target_": "of_that_test.Mine"}}).model)
    assert explain(wrong.value) == "Install it."
