"""Versions of models in a registry: whole or absent, numbered once, never changed."""

import json
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.models import versions

FACTS = {"run": "r1", "metrics": {"test/accuracy": 0.9}, "gate": {}, "made": {}}


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "models")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a version is made of."""
    made = tmp_path / "new"
    made.mkdir()
    for name in ("model.onnx", "signature.json", "README.md"):
        (made / name).write_text(f"content of {name}")
    return made


def test_versions_are_numbered_from_one(home: str, folder: Path):
    first, _ = versions.add(home, "digits", folder, FACTS)
    second, _ = versions.add(home, "digits", folder, {**FACTS, "run": "r2"})
    assert [str(first), str(second)] == ["digits@v1", "digits@v2"]
    assert [version.run for version in versions.all_of(home, "digits")] == ["r2", "r1"]
    assert versions.models(home) == ["digits"]


def test_the_same_run_with_the_same_files_stays_the_version_that_it_is(home: str, folder: Path):
    versions.add(home, "digits", folder, FACTS)
    (folder / "README.md").write_text("made an hour later")
    again, new = versions.add(home, "digits", folder, FACTS)
    assert (str(again), new) == ("digits@v1", False)
    (folder / "model.onnx").write_text("other weights")
    other, new = versions.add(home, "digits", folder, FACTS)
    assert (str(other), new) == ("digits@v2", True)


def test_what_was_begun_and_not_finished_is_no_version_and_keeps_its_number(
    home: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, uri: str) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(versions, "store", full)
        with pytest.raises(UserError, match="full"):
            versions.add(home, "digits", folder, FACTS)
    assert versions.all_of(home, "digits") == []
    assert versions.read(home, "digits", 1) is None
    version, _ = versions.add(home, "digits", folder, FACTS)
    assert version.number == 2


def test_of_two_who_take_a_number_at_once_each_gets_one(
    home: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    before = versions._claim

    def slower(home: str, name: str, number: int, run: str) -> int:
        monkeypatch.setattr(versions, "_claim", before)
        versions.add(home, name, folder, {**FACTS, "run": "faster"})
        return before(home, name, number, run)

    monkeypatch.setattr(versions, "_claim", slower)
    version, _ = versions.add(home, "digits", folder, FACTS)
    assert version.number == 2
    assert [one.run for one in versions.all_of(home, "digits")] == ["r1", "faster"]


def test_files_are_fetched_and_compared_with_the_manifest(home: str, folder: Path, tmp_path: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    versions.download(version, tmp_path / "down")
    assert (tmp_path / "down/model.onnx").read_text() == "content of model.onnx"
    Path(version.uri, "model.onnx").write_text("something else")
    versions.download(version, tmp_path / "down")  # what is there is whole, and not asked for again
    with pytest.raises(UserError, match="damaged"):
        versions.download(version, tmp_path / "other")
    assert not (tmp_path / "other/model.onnx").exists()


def test_a_removed_version_is_gone_and_its_number_is_not_given_again(home: str, folder: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    versions.erase(version)
    assert versions.read(home, "digits", 1) is None
    assert versions.add(home, "digits", folder, FACTS)[0].number == 2


def test_a_manifest_that_is_none_is_one_sentence(home: str, folder: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    for text in ("[]", "no json", json.dumps({"name": "digits"})):
        Path(version.uri, "manifest.json").write_text(text)
        with pytest.raises(UserError, match="is no manifest of a model"):
            versions.read(home, "digits", 1)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", "..", ".hidden"])
def test_a_manifest_that_names_files_elsewhere_is_refused(home: str, folder: Path, name: str):
    version, _ = versions.add(home, "digits", folder, FACTS)
    path = Path(version.uri, "manifest.json")
    values = json.loads(path.read_text())
    values["files"] = {name: {"sha256": "0" * 64, "bytes": 1}}
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="is no file of a version"):
        versions.read(home, "digits", 1)


def test_a_manifest_of_another_version_is_refused(home: str, folder: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    path = Path(home, "digits/v2/manifest.json")
    path.parent.mkdir()
    path.write_text(Path(version.uri, "manifest.json").read_text())
    with pytest.raises(UserError, match="it is that of digits@v1"):
        versions.read(home, "digits", 2)


def test_the_card_may_be_written_on_and_nothing_else(home: str, folder: Path, tmp_path: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    Path(version.uri, "README.md").write_text("It is for digits of one size.")
    versions.download(version, tmp_path / "down")
    assert (tmp_path / "down/README.md").read_text() == "It is for digits of one size."
    Path(version.uri, "signature.json").write_text("{}")
    with pytest.raises(UserError, match=r"signature\.json is damaged"):
        versions.download(version, tmp_path / "other")


def test_what_was_fetched_says_which_version_it_is(home: str, folder: Path, tmp_path: Path):
    version, _ = versions.add(home, "digits", folder, FACTS)
    versions.download(version, tmp_path / "down", ("model.onnx", "what-it-has-not"))
    names = sorted(path.name for path in (tmp_path / "down").iterdir())
    assert names == ["manifest.json", "model.onnx"]
    assert json.loads((tmp_path / "down/manifest.json").read_text())["number"] == 1


def test_versions_of_two_registries_are_kept_apart_and_are_no_models(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    ours, _ = versions.add(versions.HERE, "digits", folder, FACTS)
    theirs, _ = versions.add(str(tmp_path / "bucket"), "digits", folder, FACTS)
    assert versions.cached(ours) != versions.cached(theirs)
    assert versions.models(versions.HERE) == ["digits"]


def test_a_version_that_is_not_there_is_told_with_those_that_are(home: str, folder: Path):
    versions.add(home, "digits", folder, FACTS)
    with pytest.raises(UserError, match=r"no digits@v7 in .*; there is v1"):
        versions.need(home, "digits", 7)
