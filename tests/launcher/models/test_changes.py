"""Two people at one registry: an alias leads to a version that is there, whoever was first."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.models import aliases, changes, versions
from launcher.models.versions import Version

FACTS = {"run": "r1", "metrics": {"test/accuracy": 0.9}, "gate": {}, "made": {}}


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "models")


@pytest.fixture
def two(home: str, tmp_path: Path) -> tuple[Version, Version]:
    """Two versions; the champion is the first."""
    made = []
    for run in ("r1", "r2"):
        folder = tmp_path / run
        folder.mkdir()
        (folder / "model.onnx").write_text(run)
        made.append(versions.add(home, "digits", folder, {**FACTS, "run": run})[0])
    changes.lead(made[0], "champion", [])
    return made[0], made[1]


def history(version: Version) -> list[aliases.Move]:
    return aliases.history(version.home, "digits", "champion")


def test_what_is_removed_while_it_is_promoted_is_not_the_champion(
    two: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch
):
    first, second = two
    move = aliases.move
    seen = history(second)

    def removed_before(*args, **settings):
        monkeypatch.setattr(aliases, "move", move)
        changes.erase(second)
        return move(*args, **settings)

    monkeypatch.setattr(aliases, "move", removed_before)
    with pytest.raises(
        UserError, match=r"digits@v2 was removed by somebody just now; digits@champion is as before"
    ):
        changes.lead(second, "champion", seen)
    assert aliases.target(first.home, "digits", "champion") == 1
    assert aliases.before(history(first)) == 0, "nobody rolls back to what is gone"


def test_what_is_promoted_while_it_is_removed_stays(
    two: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch
):
    _, second = two
    withdraw = versions.withdraw

    def promoted_before(version: Version) -> None:
        changes.lead(second, "champion", history(second))
        withdraw(version)

    monkeypatch.setattr(versions, "withdraw", promoted_before)
    with pytest.raises(UserError, match=r"digits@v2 is champion; promote another version first"):
        changes.erase(second)
    assert versions.read(second.home, "digits", 2) == second
    assert Path(second.uri, "model.onnx").read_text() == "r2"
    assert aliases.target(second.home, "digits", "champion") == 2


def test_what_nobody_finished_is_removed_after_a_day_and_keeps_its_number(two: tuple[Version, Version]):
    first, second = two
    versions.withdraw(second)
    with pytest.raises(UserError, match="may be being written"):
        changes.clear(first.home, "digits", 2)
    assert Path(second.uri, "model.onnx").exists()
    claim = Path(second.uri, "claim.json")
    begun = {**json.loads(claim.read_text()), "at": (datetime.now(UTC) - timedelta(days=2)).isoformat()}
    claim.write_text(json.dumps(begun))
    assert changes.clear(first.home, "digits", 2)
    assert [path.name for path in Path(second.uri).iterdir()] == ["claim.json"]
    assert not changes.clear(first.home, "digits", 2)
    assert not changes.clear(first.home, "digits", 3)
