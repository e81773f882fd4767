"""Whatever cannot be asked or done, the rest is; and the program says so."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from launcher import records
from launcher.commands import janitor
from launcher.errors import UserError
from launcher.janitor.chores import DO
from launcher.janitor.rules import Verb
from launcher.job import (
    Leftover,
    State,
)
from launcher.money import ledger
from launcher.records import places as places_module
from launcher.records.places import Place
from world import NOW, OURS, Cloud, job, reserve


def test_a_place_that_cannot_be_asked_keeps_no_other_from_being_tidied(cloud, sweep_up, tmp_path):
    cloud.statuses = [job("old")]
    dead, lost = Cloud(refusal="It answers 503."), Cloud(refusal="There is no login; log in.")
    broken = Cloud(statuses=[None])  # type: ignore[list-item]
    homes = [
        Place(name, name, service, str(tmp_path / name), OURS, 50.0)
        for name, service in (
            ("dead", dead),
            ("lost", lost),
            ("also-lost", lost),
            ("broken", broken),
        )
    ]
    _said, troubles = sweep_up(None, False, *homes)
    assert cloud.stopped == ["old"]
    assert troubles[:2] == ["dead: It answers 503.", "lost, also-lost: There is no login; log in."]
    assert troubles[2].startswith("broken: AttributeError: ")


def test_one_that_cannot_be_stopped_keeps_no_other_from_it(cloud, sweep_up, monkeypatch):
    cloud.statuses = [job("first"), job("second")]
    stop = cloud.stop
    monkeypatch.setattr(cloud, "stop", lambda run_id: stop(run_id) if run_id == "second" else refuse("Busy."))
    _said, troubles = sweep_up()
    assert cloud.stopped == ["second"]
    assert troubles == ["one: would stop run first, but: Busy."]


def refuse(text: str) -> None:
    raise UserError(text)


def test_a_ledger_that_cannot_be_read_keeps_no_job_alive(cloud, sweep_up, home):
    Path(home, ledger.FOLDER).mkdir(parents=True)
    Path(home, ledger.FOLDER, "2026-05.json").write_text("{ torn")
    cloud.statuses = [job("old")]
    _said, troubles = sweep_up()
    assert cloud.stopped == ["old"]
    assert len(troubles) == 1


def test_the_clock_is_the_providers(cloud, keep, sweep_up):
    """Of this machine's clock nothing depends: NOW is long ago, or still to come."""
    keep("a", 1)
    cloud.statuses = [job("a")]
    assert sweep_up() == ([], [])
    cloud.clock = NOW + timedelta(days=2)
    sweep_up()
    assert cloud.stopped == ["a"]


def test_a_dry_run_changes_nothing(cloud, keep, sweep_up, home):
    keep("new", 0.3, job=None)
    keep("old", 0.9, env={"RUN_MAX_ATTEMPTS": "9"})
    reserve(home, "loose", 1)
    cloud.statuses = [job("orphan"), job("old", State.preempted, 0.8)]
    cloud.left = [Leftover("disks/x", "disk x")]
    before = {path: path.read_bytes() for path in Path(home).rglob("*") if path.is_file()}
    said, _ = sweep_up(dry_run=True)
    assert len(said) == 6
    assert all(" would " in line for line in said)
    assert {path: path.read_bytes() for path in Path(home).rglob("*") if path.is_file()} == before
    assert (cloud.stopped, cloud.submitted, cloud.removed) == ([], [], [])


@pytest.fixture
def program(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `janitor`: its status and what it printed."""
    for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(places_module, "places", lambda: [place])

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["janitor", *words])
        status = 0
        try:
            janitor.main()
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_it_says_what_it_did(program, cloud):
    assert program() == (0, "Nothing to do.\n", "")
    cloud.statuses = [job("old")]
    line = "stop{} run old: there is no record of it\n"
    assert program("--dry-run") == (0, f"one: would {line.format('')}", "")
    assert program() == (0, f"one: {line.format('ped')}", "")


def test_a_reader_that_leaves_keeps_nothing_running(program, cloud, monkeypatch):
    def leave(*words: str, **options: object) -> None:
        raise BrokenPipeError

    cloud.statuses = [job("old"), job("older")]
    monkeypatch.setattr("builtins.print", leave)
    assert program()[0] == 0
    assert cloud.stopped == ["old", "older"]


def test_without_a_login_it_ends_with_one_sentence(program, cloud):
    cloud.refusal = "There is no login; log in."
    assert program() == (1, "", "one: There is no login; log in.\n")


def test_the_login_is_asked_for_before_the_bucket(program, cloud, monkeypatch):
    """Without one a bucket is tried for a minute."""
    monkeypatch.setattr(cloud, "who", lambda: refuse("There is no login; log in."), raising=False)
    monkeypatch.setattr(records, "read_all", lambda home: pytest.fail("asked"))
    assert program() == (1, "", "one: There is no login; log in.\n")


def test_one_place_without_a_login_keeps_no_other_from_being_tidied(cloud, place, sweep_up):
    lost = Cloud()
    lost.who = lambda: refuse("There is no login; log in.")  # type: ignore[attr-defined]
    cloud.statuses = [job("old")]
    _said, troubles = sweep_up(None, False, Place("lost", "lost", lost, place.home, OURS, 50.0))
    assert cloud.stopped == ["old"]
    assert troubles == ["lost: There is no login; log in."]


def test_every_verb_is_done():
    assert set(DO) == set(Verb)
