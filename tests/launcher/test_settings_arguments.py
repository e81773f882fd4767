"""A section of one's own gives what its class takes: read in the class's source, which is not imported."""

import re
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.settings.arguments import check_arguments
from omegaconf import OmegaConf

BASE = """
from abc import ABC

class Arrays(ABC):
    def __init__(self, folder, fraction=1.0): ...

class Images(Arrays):
    def __init__(self, folder, fraction, channels, *, classes): ...
"""
OWN = """
import torch_is_not_imported_here
from functools import cache
from .base import Images

# "\\d" is a warning of newer Pythons
class Leaves(Images):
    def __init__(self, archive: str, **settings) -> None:
        super().__init__(**settings)
        self.archive = archive

class Fixed(Images):
    def __init__(self, **settings): super().__init__(channels=3, **settings)

class Same(Images): ...

class Both(Images):
    def __init__(self, **settings):
        settings.setdefault("channels", 3)
        super().__init__(**settings)

class Nothing: ...

class Foreign(torch_is_not_imported_here.Module): ...

class Open:
    def __init__(self, **anything): ...

class Made:
    def __new__(cls, anything): ...

@cache
class Decorated:
    def __init__(self, one): ...

def schedule(optimizer, total_steps, warmup=0.0): ...

alias = Leaves

class Twice(Images): ...
Twice = cache(Twice)

class Redone(Images): ...
Redone.__init__ = schedule

class Taken(Images):
    __init__ = schedule

@dataclass
class Plain:
    a: int
    kind: str = "x"
    shared: ClassVar[int] = 0

@dataclass
class Fields:
    a: int = field(init=False)

@dataclass
class Heir(Plain):
    b: int

class Spread(Images):
    def __init__(self, **settings): super().__init__(**DEFAULTS, **settings)

class Registered(Images):
    def __init_subclass__(cls): ...

class Child(Registered):
    def __init__(self, one): ...

class Whole:
    def __init__(self, part): ...

globals()["Secret"] = Leaves
"""
UNTOLD = [
    *(
        "Both",
        "Foreign",
        "Open",
        "Made",
        "Decorated",
        "alias",
        "Leaves.load",
        "Twice",
        "Redone",
        "Taken",
        "Spread",
    ),
    *("Child", "Secret", "${seed}", "Fields", "Heir"),
]
ALL = {"archive": "a.npz", "folder": "d", "fraction": 1.0, "channels": 3, "classes": 5}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "src"
    (folder / "mine/data").mkdir(parents=True)
    files = {"__init__": "", "data/__init__": "from .own import Leaves\n", "data/base": BASE, "data/own": OWN}
    for name, text in files.items():
        (folder / f"mine/{name}.py").write_text(text)
    return folder


def refused(source: Path, target: str, besides=None, **settings) -> str:
    config = OmegaConf.create({"data": {"_target_": f"mine.{target}", **settings}})
    with pytest.raises(UserError) as found:
        check_arguments(config, source, besides)
    return str(found.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Leaves", ALL),
        ("Fixed", {"folder": "d", "fraction": 1, "classes": 5}),
        ("Same", {"folder": "d", "fraction": "${seed}", "channels": 3, "classes": "???"}),
        ("Nothing", {}),
        ("schedule", {"_partial_": True, "warmup": 0.1}),
        ("Leaves", {"_args_": ["a.npz"], "whatever": 1}),
    ],
)
def test_what_a_class_takes_passes(source: Path, name: str, settings: dict):
    section = {"_target_": f"mine.data.own.{name}", **settings}
    check_arguments(OmegaConf.create({"seed": 1, "data": section}), source)


@pytest.mark.parametrize("name", UNTOLD)
def test_what_the_source_does_not_tell_is_left_to_the_training(source: Path, name: str):
    section = {"_target_": f"mine.data.own.{name}", "anything": 1}
    check_arguments(OmegaConf.create({"data": section}), source)


def test_parts_that_a_class_makes_itself_may_be_unfinished(source: Path):
    part = {"_target_": "mine.data.own.Leaves", "more": 1}
    section = {"_target_": "mine.data.own.Whole", "part": part, "_recursive_": False}
    check_arguments(OmegaConf.create({"data": section}), source)
    with pytest.raises(UserError, match=r"^There is no data\.part\.more"):
        check_arguments(OmegaConf.create({"data": {**section, "_recursive_": True}}), source)


def test_classes_of_packages_are_theirs(source: Path):
    section = {"_target_": "torch.optim.AdamW", "anything": 1}
    check_arguments(OmegaConf.create({"optimizer": section, "nothing": None}), source)


def test_a_name_that_a_class_does_not_take_is_refused_with_the_nearest(source: Path):
    said = refused(source, "data.own.Leaves", **ALL, chanels=3)
    assert said == (
        "There is no data.chanels: Leaves (src/mine/data/own.py) does not take it; did you mean channels?"
    )


def test_a_name_that_its_base_class_gets_from_it_is_not_taken_twice(source: Path):
    said = refused(source, "data.own.Fixed", folder="d", fraction=1, classes=5, channels=3)
    assert said.startswith(
        "There is no data.channels: Fixed (src/mine/data/own.py) does not take it; there are "
    )


def test_a_name_that_is_missing_is_asked_for(source: Path):
    said = refused(source, "data.own.Leaves", folder="d", fraction=1.0, channels=3)
    assert said == (
        "data lacks archive, classes, which Leaves (src/mine/data/own.py) needs; add it to the section's file, or "
        "+data.archive=..."
    )


def test_where_a_class_is_imported_from_is_looked_up(source: Path):
    assert "Leaves (src/mine/data/own.py)" in refused(source, "data.Leaves", **ALL, more=1)


def test_a_partial_is_given_more_later_but_nothing_that_it_does_not_take(source: Path):
    said = refused(source, "data.own.schedule", _partial_=True, warm_up=0.1)
    assert said.endswith("did you mean warmup?")


def test_names_for_the_training_are_not_for_the_class(source: Path):
    section = {"_target_": "mine.data.own.schedule", "_partial_": True, "groups": []}
    check_arguments(OmegaConf.create({"optimizer": section}), source, {"optimizer": ("groups",)})


def test_parts_of_a_section_are_looked_at_too(source: Path):
    inner = {"_target_": "mine.data.own.Nothing", "one": 1}
    config = OmegaConf.create({"task": {"metrics": [{"deep": inner}]}})
    with pytest.raises(UserError, match=r"^There is no task\.metrics\[0\]\.deep\.one: Nothing "):
        check_arguments(config, source)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("data.base.Imagse", "there is no Imagse in src/mine/data/base.py; did you mean Images?"),
        ("data.owm.Leaves", "there is no owm in src/mine/data/__init__.py; did you mean own?"),
        ("data.base.Quite", "there is no Quite in src/mine/data/base.py; correct it."),
    ],
)
def test_a_class_that_is_not_there_is_refused(source: Path, target: str, said: str):
    assert refused(source, target) == f"data._target_=mine.{target}: {said}"


def test_a_file_is_no_class(source: Path):
    assert refused(source, "data.own") == (
        "data._target_=mine.data.own is a file; name a class or a function in it, as in mine.data.own.Name."
    )


def test_a_package_that_is_nearly_ones_own_is_refused(source: Path):
    with pytest.raises(
        UserError, match=r"^data\._target_=minne\.data\.own\.Leaves: did you mean mine\.data\.own\.Leaves\?$"
    ):
        check_arguments(OmegaConf.create({"data": {"_target_": "minne.data.own.Leaves"}}), source)


def test_an_item_of_a_list_is_completed_in_its_file(source: Path):
    config = OmegaConf.create({"data": {"parts": [{"_target_": "mine.data.own.Whole"}]}})
    with pytest.raises(UserError, match=r"^data\.parts\[0\] lacks part, .*; add it to the section's file$"):
        check_arguments(config, source)


def test_a_file_that_is_no_python_is_named_with_its_line(source: Path):
    (source / "mine/broken.py").write_text("import os\nclass (:")
    assert re.fullmatch(
        r".*src/mine/broken\.py, line 2, is no Python: .*; correct it\.", refused(source, "broken.Any")
    )


@pytest.mark.parametrize("target", ["Leaves", "mine/data/own.py", "mine.data.own.", "mine.data.own.Leaves "])
def test_what_is_no_dotted_name_is_refused(source: Path, target: str):
    with pytest.raises(UserError, match=r"names no class; write package\.module\.Name\.$"):
        check_arguments(OmegaConf.create({"data": {"_target_": target}}), source)


@pytest.mark.parametrize("target", ["data.own.Leaves", "src.mine.data.own.Leaves", "src.data.own.Leaves"])
def test_a_class_without_its_package_is_told_it(source: Path, target: str, monkeypatch):
    (source.parent / "data").mkdir(exist_ok=True)  # as every project has, for its files
    monkeypatch.chdir(source.parent)
    monkeypatch.syspath_prepend("")
    with pytest.raises(UserError) as found:
        check_arguments(OmegaConf.create({"data": {"_target_": target}}), source)
    assert str(found.value) == f"data._target_={target}: did you mean mine.data.own.Leaves?"


def test_a_plain_dataclass_takes_its_fields(source: Path):
    check_arguments(OmegaConf.create({"data": {"_target_": "mine.data.own.Plain", "a": 1}}), source)
    assert "did you mean kind?" in refused(source, "data.own.Plain", a=1, knd=2)
    assert refused(source, "data.own.Plain", kind=2).startswith("data lacks a, which Plain ")
