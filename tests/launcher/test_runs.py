"""`runs` shows, stops and fetches what was launched anywhere, also when a provider has forgotten it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import runs_world
import xxhash
from fake_backend import record
from launcher import records
from launcher.errors import UserError
from launcher.job import State
from launcher.models import deployed
from launcher.money import ledger
from runs_world import row

home, backends, run = runs_world.home, runs_world.backends, runs_world.run  # fixtures


def test_the_list_has_state_hours_and_cost_of_all_runs(run, backends, home):
    records.write(str(home), record("first"))
    records.write(str(home), record("second", earlier_seconds=3600.0))
    backends["one"].jobs = {"first": (State.succeeded, 1800.0), "second": (State.running, 3600.0)}
    backends["two"].jobs = {"other": (State.queued, 0.0)}
    table = run("list")
    expected = ["first", "one", "succeeded", "2", "x", "l4,", "spot", "0.50", "1.50", "0.00"]
    assert row(table, "first") == expected
    # Two hours so far, of which the one of this launch counts against what it may cost.
    assert row(table, "second")[2:] == ["running", "2", "x", "l4,", "spot", "2.00", "6.00", "3.00"]
    assert row(table, "other")[1:4] == ["two", "queued", "?"]


def test_a_run_that_its_provider_forgot_is_known_from_the_bucket(run, home):
    records.write(str(home), record("old"))
    (home / "old").mkdir()
    (home / "old" / records.ATTEMPTS).write_text('[{"seconds": 1800}, {"seconds": 5400}]')
    (home / "old" / records.OUTCOME).write_text('{"state": "failed", "exit_code": 1}')
    records.write(str(home), record("never", job=None))
    table = run("list")
    assert row(table, "old")[2] == "failed"
    assert row(table, "old")[-3:] == ["2.00", "6.00", "0.00"]
    assert "not started" in table


def test_no_run_yet_is_no_error(run):
    assert "No run has been launched yet" in run("list")


def test_a_damaged_record_is_passed_over(run, home):
    records.write(str(home), record("first"))
    (home / records.LAUNCHES / "first.json").write_text('{"run_id": "first"}')
    records.write(str(home), record("second"))
    table = run("list")
    assert row(table, "second")
    assert "first" not in table


def test_logs_come_from_the_provider_else_from_the_bucket(run, backends, home):
    records.write(str(home), record("first"))
    assert "has not printed anything yet" in run("logs", "first")
    (home / "first").mkdir()
    (home / "first" / records.LOG).write_text("kept\n")
    assert run("logs", "first").strip() == "kept"
    backends["one"].lines = ["fresh 1", "fresh 2"]
    assert run("logs", "first") == "fresh 1\nfresh 2\n"


def test_stop_tells_the_provider_unless_it_is_over(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.running, 60.0)}
    assert "Run first is told to stop" in run("stop", "first")
    assert backends["one"].stopped == ["first"]
    backends["one"].jobs = {"first": (State.succeeded, 60.0)}
    assert "Run first is not running (succeeded)" in run("stop", "first")
    assert backends["one"].stopped == ["first"]


def test_a_run_that_lost_its_machine_is_shown_as_its_provider_tells(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].list = list  # it has no machine that could be listed
    backends["one"].jobs = {"first": (State.preempted, 1800.0)}
    assert row(run("list"), "first")[2] == "preempted"
    assert row(run("list"), "first")[-2:] == ["1.50", "4.50"]


def test_a_run_that_lost_its_machine_is_stopped_for_good(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.preempted, 1800.0)}
    assert "is stopped: it waited for another machine" in run("stop", "first")
    assert backends["one"].stopped == []  # there is no job that could be
    assert (records.outcome(str(home), "first") or {})["state"] == "stopped"


def test_what_waits_says_why(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.queued, 0.0)}
    backends["one"].detail = "RESOURCE_POOL_EXHAUSTED: no machine in us-central1-a"
    assert "first waits: RESOURCE_POOL_EXHAUSTED: no machine in us-central1-a" in run("list")


def test_stop_all_ends_everything_that_is_not_over_wherever_it_is(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.running, 60.0), "old": (State.failed, 60.0)}
    backends["two"].jobs = {"other": (State.queued, 0.0)}
    assert "Run other is told to stop" in run("stop", "--all")
    assert (backends["one"].stopped, backends["two"].stopped) == (["first"], ["other"])
    backends["one"].jobs, backends["two"].jobs = {}, {}
    assert run("stop", "--all") == "Nothing is running.\n"
    assert run("stop").startswith("ended: Say which")


def test_stop_all_goes_on_when_one_cannot_be_stopped_and_says_so(run, backends, monkeypatch):
    def refuse(run_id: str) -> None:
        raise UserError("The network is down.")

    backends["one"].jobs = {"first": (State.running, 60.0)}
    backends["two"].jobs = {"other": (State.running, 60.0)}
    monkeypatch.setattr(backends["one"], "stop", refuse)
    assert run("stop", "--all").endswith("\nended: 1 of 2 runs could not be stopped; try again.")
    assert backends["two"].stopped == ["other"]


def test_the_cost_of_a_month_is_that_of_its_launches_against_the_cap(run, backends, home):
    now = datetime(2026, 1, 5, tzinfo=UTC)
    for run_id in ("first", "second"):
        ledger.reserve(str(home), f"{run_id} {now.isoformat()}", run_id, 6.0, 50.0, now)
    ledger.settle(str(home), f"first {now.isoformat()}", 1.25)
    backends["one"].clock = now
    lines = run("cost", "--month").splitlines()
    assert "1.25 USD" in lines[0]
    assert "up to 6.00 USD" in lines[1]
    assert "2026-01: 1.25 USD spent, up to 6.00 more" in lines[2]
    assert "of cloud.max_month_usd=50" in lines[2]
    assert "2026-02: 0.00 USD spent" in run("cost", "--month", "2026-02")
    assert run("cost", "--month", "May") == "ended: May is no month; write it as in 2026-11."


def test_what_answers_stands_beside_the_cost_of_this_month(run, backends):
    deployed.note("vertex", "digits", 3, "2999-12-31", "", 57.0)
    deployed.note("cloudrun", "words", 1, "")
    *_, one, other, told = run("cost", "--month").splitlines()
    assert re.fullmatch(r"words@v1 +to=cloudrun until undeploy: price unknown", one)
    assert re.fullmatch(r"digits@v3 +to=vertex until 2999-12-31: up to 57\.00 USD a month", other)
    assert "not counted in cloud.max_month_usd" in told
    assert "digits" not in run("cost", "--month", "2026-02")


def test_the_cost_of_one_and_of_all(run, backends, home):
    records.write(str(home), record("first"))
    records.write(str(home), record("second"))
    backends["one"].jobs = {"first": (State.succeeded, 3600.0), "second": (State.running, 1800.0)}
    one = run("cost", "first")
    assert "1.00 h  1.50 USD/h x 2" in one
    assert "3.00 USD" in one.splitlines()[-1]
    total = run("cost").splitlines()[-1]
    assert "4.50 USD, 1 not over" in total


def test_an_unknown_run_names_the_nearest(run, home):
    records.write(str(home), record("20260101-first"))
    assert run("stop", "20260101-frist") == (
        "ended: There is no run 20260101-frist; did you mean 20260101-first?"
    )
    assert "cannot name a run" in run("logs", "a/b")


def checkpoint(folder: Path, step: int, content: bytes) -> Path:
    name = f"step-{step:08d}-{xxhash.xxh3_128(content).hexdigest()}.pt"
    path = folder / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_fetch_copies_a_run_and_again_only_what_is_new(run, home, tmp_path, monkeypatch):
    records.write(str(home), record("first"))
    (home / "first").mkdir()
    (home / "first/metrics.json").write_text("{}")
    checkpoint(home / "first", 1, b"one")
    assert "2 files fetched" in run("fetch", "first")
    here = tmp_path / "runs/first"
    assert (here / "metrics.json").read_text() == "{}"
    checkpoint(home / "first", 2, b"two")
    assert "2 files fetched" in run("fetch", "first")  # the new one, and the small one
    assert len(list((here / "checkpoints").iterdir())) == 2


def test_fetch_repairs_what_is_damaged_here_and_refuses_what_is_damaged_there(run, home, tmp_path):
    records.write(str(home), record("first"))
    path = checkpoint(home / "first", 1, b"one")
    run("fetch", "first")
    here = tmp_path / "runs/first/checkpoints" / path.name
    here.write_bytes(b"tor")
    run("fetch", "first")
    assert here.read_bytes() == b"one"
    here.unlink()
    path.write_bytes(b"onf")
    assert "is damaged: its content does not match its name" in run("fetch", "first")
    assert not here.exists()


def test_a_record_keeps_what_a_newer_version_adds_out_of_the_way(home):
    records.write(str(home), record("first"))
    path = home / records.LAUNCHES / "first.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "new": 1}))
    assert records.read(str(home), "first") == record("first")
