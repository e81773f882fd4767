"""`runs` where a provider cannot be asked: the others are shown and stopped, and what is not known is said."""

import pytest
import runs_world
from fake_backend import record
from launcher import records
from launcher.errors import UserError
from launcher.job import State
from launcher.money import ledger
from runs_world import row

home, backends, run = runs_world.home, runs_world.backends, runs_world.run  # fixtures

UNKNOWN = "What is in {} is not known; put right what is said above, and ask again."


def test_a_provider_that_cannot_be_asked_is_one_line_and_hides_no_other(run, backends, home, caplog):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.running, 60.0)}
    backends["two"].refusal = "There is no login; log in."
    table = run("list")
    assert row(table, "first")[2] == "running"
    assert table.endswith(f"\nended: {UNKNOWN.format('two')}")
    assert [entry.getMessage() for entry in caplog.records] == ["two: There is no login; log in."]


@pytest.mark.parametrize("words", [("list",), ("stop", "--all"), ("cost",), ("cost", "--month")])
@pytest.mark.parametrize("ask", ["who", "now"])
def test_where_no_place_can_be_asked_nothing_is_said_of_what_runs(
    run, backends, monkeypatch, caplog, words, ask
):
    """With no login at all, and with one but no network."""

    def refuse(*given: object) -> None:
        raise UserError("There is no login; log in.")

    for backend in backends.values():
        monkeypatch.setattr(backend, ask, refuse, raising=False)
        backend.refusal = "There is no login; log in."
    said = run(*words)
    assert said.endswith(f"ended: {UNKNOWN.format('one and two')}")
    assert "Nothing is running" not in said
    assert "No run has been launched" not in said
    assert {entry.getMessage() for entry in caplog.records} == {
        "one: There is no login; log in.",
        "two: There is no login; log in.",
    }


def test_stop_all_ends_what_it_can_ask_for_and_says_what_it_cannot(run, backends):
    backends["one"].jobs = {"first": (State.running, 60.0)}
    backends["two"].refusal = "The network is down."
    said = run("stop", "--all")
    assert backends["one"].stopped == ["first"]
    assert said.endswith(f"ended: {UNKNOWN.format('two')}")


def test_a_ledger_that_cannot_be_read_hides_no_other(run, backends, home, tmp_path, monkeypatch):
    real = ledger.month
    broken = str(tmp_path / "bucket-two/runs")

    def month(where: str, name: str) -> ledger.Month:
        if where == broken:
            raise UserError("The bucket cannot be read.")
        return real(where, name)

    monkeypatch.setattr(ledger, "month", month)
    said = run("cost", "--month", "2026-02")
    assert f"{home} in 2026-02: 0.00 USD spent" in said
    assert said.endswith(f"ended: {UNKNOWN.format('two')}")


def test_a_run_that_is_found_needs_no_other_place(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].jobs = {"first": (State.running, 60.0)}
    backends["two"].refusal = "The network is down."
    assert "Run first is told to stop" in run("stop", "first")
    assert "ended" not in run("cost", "first")
    said = run("stop", "other")
    assert "There is no run other where it could be asked for (not two); `uv run runs list` shows" in said


def test_stop_says_when_the_provider_cannot_be_told(run, backends, home):
    records.write(str(home), record("first"))
    backends["one"].refusal = "The network is down."
    assert run("stop", "first") == "ended: The network is down."
