"""What a provider's own registry is told of a version, by a registry that only listens."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from launcher import providers
from launcher.errors import UserError
from launcher.mirror import Entry
from launcher.models import aliases, deploy, mirror, places, versions


class Listener:
    """Takes what it is given."""

    def __init__(self, image: bool) -> None:
        self.IMAGE = image
        self.entries: list[Entry] = []

    def prepare(self) -> None:
        if self.entries:
            raise UserError("full")

    def put(self, entry: Entry) -> str:
        self.entries.append(entry)
        return f"there as {entry}"


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> versions.Version:
    home = f"{tmp_path}/bucket/models"
    monkeypatch.setattr(places, "bucket", lambda: home)
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.onnx").write_text("x")
    (folder / "signature.json").write_text(json.dumps({"kind": "classification"}))
    facts = {"run": "r1", "metrics": {"test/accuracy": 0.9}, "gate": {}, "made": {"commit": "c" * 40}}
    made, _ = versions.add(home, "digits", folder, facts)
    return made


@pytest.mark.parametrize("wants", [False, True])
def test_it_is_told_all_that_others_ask_of_a_version(version, wants: bool, monkeypatch: pytest.MonkeyPatch):
    there = Listener(wants)
    monkeypatch.setattr(mirror, "find", lambda place: there)
    monkeypatch.setattr(deploy, "pushed", lambda version: f"registry/serve@sha256:{version.number}")
    aliases.move(version.home, "digits", "champion", [], 1, "me", "")
    assert mirror.mirror(version) == "there as digits@v1"
    (entry,) = there.entries
    assert entry.image == ("registry/serve@sha256:1" if wants else "")
    assert (entry.kind, entry.run, entry.aliases) == ("classification", "r1", ("champion",))
    assert entry.uri == f"{version.home}/digits/v1"
    assert set(asdict(entry)["files"]) == {"model.onnx", "signature.json"}


def test_no_image_is_made_for_a_registry_that_refuses(version, monkeypatch: pytest.MonkeyPatch):
    there = Listener(image=True)
    there.entries.append(mirror.entry(version, ""))
    monkeypatch.setattr(mirror, "find", lambda place: there)
    monkeypatch.setattr(deploy, "pushed", lambda version: pytest.fail("an image was made"))
    with pytest.raises(UserError, match="full"):
        mirror.mirror(version)


def test_a_version_that_only_this_folder_has_is_not_shown_to_others(version, monkeypatch: pytest.MonkeyPatch):
    there = Listener(image=False)
    monkeypatch.setattr(mirror, "find", lambda place: there)
    monkeypatch.setattr(places, "bucket", lambda: "gs://demo-bucket/models")
    with pytest.raises(UserError, match="models register run=r1 to=bucket"):
        mirror.mirror(version)
    assert there.entries == []


@pytest.mark.parametrize(
    ("known", "place", "match"),
    [
        ({"wandb": "x.local.wandb"}, "", r"Say which registry of models: to=wandb\."),
        ({"wandb": "x.local.wandb", "vertex": "x"}, "sagemaker", "to=wandb or to=vertex"),
        ({"a": "x", "b": "y"}, "", "to=a or to=b"),
    ],
)
def test_which_registry_is_meant_is_asked_where_it_cannot_be_told(
    known: dict[str, str], place: str, match: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(providers, "__package__", "x")
    monkeypatch.setattr(providers, "_listed", lambda what: known if what == "MIRRORS" else {})
    with pytest.raises(UserError, match=match):
        providers.mirror(place)


def test_unless_another_is_named_the_registry_of_the_cloud_is_meant(monkeypatch: pytest.MonkeyPatch):
    known = {"wandb": "x.local.wandb", "vertex": "x.google.models"}
    monkeypatch.setattr(providers, "__package__", "x")
    monkeypatch.setattr(providers, "_listed", lambda what: known if what == "MIRRORS" else {})
    monkeypatch.setattr(
        providers.importlib, "import_module", lambda name: SimpleNamespace(connect=lambda: name)
    )
    assert [providers.mirror(place) for place in ("", "wandb")] == ["x.google.models", "x.local.wandb"]
