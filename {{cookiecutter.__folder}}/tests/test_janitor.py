"""The janitor ends what runs too long or unknown, counts what is over, and touches nothing of anybody else's."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.package_name }} import janitor
from {{ cookiecutter.package_name }}.cloud import ledger, records
from {{ cookiecutter.package_name }}.cloud import places as places_module
from {{ cookiecutter.package_name }}.cloud.chores import DO, carry_out, tidy
from {{ cookiecutter.package_name }}.cloud.github import CommitMissingError, GitHub, GitHubError
from {{ cookiecutter.package_name }}.cloud.janitor import Verb, decide
from {{ cookiecutter.package_name }}.cloud.job import (
    Handle,
    Job,
    Leftover,
    NoMachineError,
    State,
    Status,
)
from {{ cookiecutter.package_name }}.cloud.places import Place
from {{ cookiecutter.package_name }}.cloud.survey import Troubles, survey
from {{ cookiecutter.package_name }}.errors import UserError

from .fake_backend import FakeBackend
from .test_runs import record

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OURS = {"project": "demo"}
COMMIT = "c" * 40


@dataclass
class Cloud(FakeBackend):
    """A backend with statuses as a test gives them; `hidden` are known only when asked for by name."""

    statuses: list[Status] = field(default_factory=list)
    hidden: list[Status] = field(default_factory=list)
    clock: datetime = NOW
    no_capacity: UserError | None = None

    def list(self) -> list[Status]:
        self._call("list")
        return self.statuses

    def status(self, run_id: str) -> Status | None:
        self._call("status")
        found = [status for status in self.statuses + self.hidden if status.run_id == run_id]
        return max(found, key=lambda status: status.created, default=None)

    def submit(self, job: Job) -> Handle:
        if self.no_capacity:
            raise self.no_capacity
        super().submit(job)
        return Handle("jobs/again", "https://console.example/again")


class Hub(GitHub):
    """A repository that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__("owner/name", "token")
        self.trouble: Exception | None = None
        self.statuses: list[tuple[str, str, str]] = []
        self.comments: dict[str, tuple[int, str]] = {}

    def set_status(self, commit: str, state: str, description: str, url: str = "") -> None:
        if self.trouble:
            raise self.trouble
        self.statuses.append((commit, state, description))

    def comment(self, number: int, marker: str, body: str) -> bool:
        new = marker not in self.comments
        self.comments[marker] = (number, body)
        return new


def job(run_id: str, state: State = State.running, hours_ago: float = 1, **values: Any) -> Status:
    """A job of this project that may run for two hours, and has been running since it was made."""
    created = NOW - timedelta(hours=hours_ago)
    seconds = 0.0 if state is State.queued else hours_ago * 3600
    labels = OURS | {"run": run_id, "max-seconds": "7200"}
    usual = {"seconds": seconds, "name": f"jobs/{run_id}", "labels": labels}
    return Status(run_id, state, created, **(usual | values))


def launched(hours_ago: float, **values: Any) -> dict[str, Any]:
    """Fields of a record."""
    return {"launched": (NOW - timedelta(hours=hours_ago)).isoformat(), **values}


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "bucket/runs")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def place(cloud: Cloud, home: str) -> Place:
    return Place("one", "one", cloud, home, OURS, 50.0)


@pytest.fixture
def keep(home: str) -> Callable[..., records.Record]:
    """Writes the record of a launch two USD of which are reserved."""

    def write(
        run_id: str, hours_ago: float = 1, reserved: bool = True, **values: Any
    ) -> records.Record:
        made = record(run_id, **launched(hours_ago, **values))
        records.write(home, made)
        if reserved:
            since = datetime.fromisoformat(made.launched)
            ledger.reserve(home, made.key, run_id, 2.0, 50.0, since)
        return made

    return write


@pytest.fixture
def sweep_up(place: Place) -> Callable[..., tuple[list[str], list[str]]]:
    """Lets the janitor work once: what it did, and its troubles."""

    def run(hub: GitHub | None = None, dry_run: bool = False, *more: Place):
        said: list[str] = []
        return said, tidy([place, *more], hub, dry_run, said.append)

    return run


def note(home: str, run_id: str, name: str, value: Any) -> None:
    path = Path(home, run_id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def spent(home: str, made: records.Record) -> float | None:
    """What the ledger says that a launch did cost; None while only its worst case is known."""
    return ledger.month(home, made.launched[:7]).entries[made.key].spent_usd


def outcome(home: str, run_id: str) -> str:
    found = records.outcome(home, run_id)
    assert found
    return found["state"]


def kept(home: str, run_id: str) -> records.Record:
    found = records.read(home, run_id)
    assert found
    return found


def attempt(hours_ago: float, seconds: float = 0.0) -> dict[str, Any]:
    return {"started": (NOW - timedelta(hours=hours_ago)).isoformat(), "seconds": seconds}


# Jobs


@pytest.mark.parametrize(
    ("status", "stopped"),
    [
        (job("a", hours_ago=2.1), False),  # within the margin in which the provider ends it itself
        (job("a", hours_ago=2.2), True),
        (job("a", State.queued, hours_ago=25.9), False),
        (job("a", State.queued, hours_ago=26.1), True),
        (job("a", State.succeeded, hours_ago=300), False),
        (job("a", labels=OURS, hours_ago=1.9), False),  # the record says two hours
        (job("a", labels=OURS, hours_ago=2.2), True),
        (job("a", labels=OURS | {"max-seconds": "soon"}, hours_ago=2.2), True),
        (job("a", labels=OURS | {"max-seconds": "36000"}, hours_ago=9), False),
    ],
)
def test_past_its_deadline_a_job_is_stopped(status, stopped, cloud, keep, sweep_up, home):
    keep("a", (NOW - status.created) / timedelta(hours=1))
    cloud.statuses = [status]
    said, troubles = sweep_up()
    assert (cloud.stopped == ["a"]) == stopped
    assert any("one: stopped run a: it " in line for line in said) == stopped
    assert troubles == []
    if stopped:
        assert outcome(home, "a") == "stopped"


def test_waiting_for_a_machine_after_a_preemption_does_not_count(cloud, keep, sweep_up, home):
    keep("a", 10)
    cloud.statuses = [job("a", hours_ago=10)]  # the provider counts from the first start to now
    note(home, "a", records.ATTEMPTS, [attempt(10, 1800), attempt(0.5)])
    sweep_up()
    assert cloud.stopped == []
    note(home, "a", records.ATTEMPTS, [attempt(10, 1800), attempt(1.9)])
    sweep_up()
    assert cloud.stopped == ["a"]


def test_of_a_sweep_without_a_label_all_trials_count_together(cloud, keep, sweep_up):
    keep("a", 19.9, kind="sweep", worst_case_usd=60.0)  # twenty hours of two nodes at 1.50 USD
    cloud.statuses = [job("a", hours_ago=19.9, labels=OURS)]
    sweep_up()
    assert cloud.stopped == []
    cloud.clock += timedelta(hours=0.3)
    cloud.statuses = [replace(cloud.statuses[0], seconds=20.2 * 3600)]
    sweep_up()
    assert cloud.stopped == ["a"]


def test_a_job_without_a_record_is_stopped_after_a_while(cloud, keep, sweep_up):
    keep("known")
    cloud.statuses = [job("young", hours_ago=0.2), job("old", hours_ago=0.3), job("known")]
    said, _ = sweep_up()
    assert cloud.stopped == ["old"]
    assert said == ["one: stopped run old: there is no record of it"]


def test_a_job_whose_record_cannot_be_read_is_no_orphan(cloud, sweep_up, home):
    Path(home, records.LAUNCHES).mkdir(parents=True)
    Path(home, records.LAUNCHES, "a.json").write_text(
        '{"run_id": "a", "written": "by a newer version"}'
    )
    cloud.statuses = [job("a")]
    sweep_up()
    assert cloud.stopped == []


@pytest.mark.parametrize("labels", [{}, {"project": "demo2"}, {"Project": "demo"}, {"run": "x"}])
def test_what_is_somebody_elses_is_never_touched(labels, cloud, sweep_up):
    """Whatever the provider's list gives."""
    cloud.statuses = [job("x", hours_ago=900, labels={**labels, "max-seconds": "1"})]
    assert sweep_up() == ([], [])
    assert cloud.stopped == []


def test_without_labels_of_its_own_a_place_has_no_jobs(cloud, place, home):
    cloud.statuses = [job("x", hours_ago=900, labels={})]
    views = survey([replace(place, labels={})], Troubles())
    assert [view.jobs for view in views] == [[]]


def test_a_machine_that_outlives_its_run_is_stopped(cloud, keep, sweep_up, home):
    keep("a", 1)
    cloud.statuses = [job("a", hours_ago=1)]
    for minutes, stopped in ((14, []), (16, ["a"])):
        time = (NOW - timedelta(minutes=minutes)).isoformat()
        note(home, "a", records.OUTCOME, {"state": "failed", "time": time})
        sweep_up()
        assert cloud.stopped == stopped


def test_leftovers_are_removed(cloud, sweep_up):
    cloud.left = [Leftover("disks/x", "disk x in us-central1-a")]
    assert sweep_up()[0] == ["one: removed disk x in us-central1-a: no job needs it"]
    assert cloud.removed == ["disks/x"]


# Launches


def test_a_job_whose_launch_was_killed_is_adopted(cloud, keep, sweep_up, home):
    keep("a", 0.1, job=None)
    found = job("a", hours_ago=0.05, url="https://console.example/a")
    older = job("a", State.failed, hours_ago=30, name="jobs/older")
    cloud.statuses = [found, older]
    said, _ = sweep_up()
    assert said == [
        "one: adopted run a: its launch ended before it was recorded; it is jobs/a",
    ]
    assert kept(home, "a").job == "jobs/a"
    assert kept(home, "a").url == "https://console.example/a"
    assert cloud.stopped == []
    assert sweep_up()[0] == []


def test_an_earlier_launchs_job_is_not_adopted(cloud, keep, sweep_up, home):
    keep("a", 0.1, job=None)
    cloud.statuses = [job("a", State.failed, hours_ago=30)]
    assert sweep_up() == ([], [])


def test_a_launch_that_started_nothing_gets_its_money_back(cloud, keep, sweep_up, home):
    made = keep("a", 0.2, job=None)
    assert sweep_up() == ([], [])
    made = keep("a", 0.3, job=None)
    assert sweep_up()[0] == [
        "one: closed run a: its launch ended before anything was started",
        "one: released what was reserved for run a: nothing was started",
    ]
    assert made.key not in ledger.month(home, made.launched[:7]).entries
    assert sweep_up() == ([], [])  # said once
    assert outcome(home, "a") == "failed"


def preempted(run_id: str = "a", seconds: float = 3600.0) -> Status:
    return job(run_id, State.preempted, hours_ago=1.5, seconds=seconds)


def test_a_preempted_run_goes_on_with_the_time_that_is_left(cloud, keep, sweep_up, home):
    """Its provider may have forgotten its machine, and know it only when asked for this run."""
    keep("a", 2, env={"RUN_MAX_ATTEMPTS": "3", "RUN_ID": "a"}, image="image@sha256:1")
    cloud.hidden = [preempted()]
    said, _troubles = sweep_up()
    assert said == [
        "one: submitted again run a: preempted, with 1.00 of 2 hours left, for the 1. time"
    ]
    (again,) = cloud.submitted
    assert (again.max_hours, again.image, again.env["RUN_ID"]) == (1.0, "image@sha256:1", "a")
    assert (kept(home, "a").job, kept(home, "a").max_hours) == ("jobs/again", 2.0)
    sweep_up()
    said, _ = sweep_up()
    assert said == ["one: closed run a: preempted, and all of its 3 attempts are used up"]
    assert len(cloud.submitted) == 2


def test_two_janitors_submit_a_preempted_run_once(cloud, keep, place, home):
    keep("a", 2, env={"RUN_MAX_ATTEMPTS": "9"})
    cloud.hidden = [preempted()]
    views = [survey([place], Troubles())[0] for _ in range(2)]
    done = [carry_out(action, None) for view in views for action in decide(view)]
    assert len(cloud.submitted) == 1
    assert [bool(line) for line in done] == [True, False]


def test_without_capacity_a_preempted_run_is_tried_again_later(cloud, keep, sweep_up):
    keep("a", 2, env={"RUN_MAX_ATTEMPTS": "2"})
    cloud.hidden, cloud.no_capacity = [preempted()], NoMachineError("No zone has a machine now.")
    assert sweep_up() == (["one: run a waits for a machine: No zone has a machine now."], [])
    cloud.no_capacity = UserError("It answers 503.")
    assert sweep_up() == ([], ["one: would submit again run a, but: It answers 503."])
    cloud.no_capacity = None
    sweep_up()
    assert len(cloud.submitted) == 1


@pytest.mark.parametrize(
    ("seconds", "noted", "why"),
    [
        (7199.0, [], "time"),
        (10.0, [attempt(2, 7190.0)], "time"),
        (10.0, [attempt(2)] * 2, "attempts"),
    ],
)
def test_a_preempted_run_with_nothing_left_is_closed(
    seconds, noted, why, cloud, keep, sweep_up, home
):
    made = keep("a", 2, env={"RUN_MAX_ATTEMPTS": "2"})
    note(home, "a", records.ATTEMPTS, noted)
    cloud.hidden = [preempted(seconds=seconds)]
    said, _ = sweep_up()
    assert len(said) == 1
    assert said[0].startswith("one: closed run a: preempted, and ")
    assert why in said[0]
    assert cloud.submitted == []
    sweep_up()
    assert spent(home, made) == pytest.approx(seconds / 3600 * 3, abs=1e-3)


def test_a_job_that_its_provider_forgot_is_closed_and_counts_in_full(cloud, keep, sweep_up, home):
    made = keep("a", 25)
    assert sweep_up() == ([], [])
    cloud.clock += timedelta(hours=2)
    (said,), _ = sweep_up()
    assert "no longer knows it" in said
    assert sweep_up()[0] == ["one: settled run a: it did cost 2.00 of 2.00 USD"]
    assert spent(home, made) == 2.0


# Money


def test_what_a_run_did_cost_takes_the_place_of_what_was_reserved(cloud, keep, sweep_up, home):
    made = keep("a", 3)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    assert sweep_up(dry_run=True)[0] == ["one: would settle run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) is None
    assert sweep_up()[0] == ["one: settled run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) == 1.0
    assert sweep_up() == ([], [])


def test_what_could_not_be_settled_before_it_was_reported_is_settled_afterwards(
    cloud, keep, sweep_up, home
):
    made = keep("a", 3)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    records.mark(home, made, "reported")
    assert sweep_up(Hub())[0] == ["one: settled run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) == 1.0


def test_one_that_ran_where_nobody_remembers_costs_what_its_worker_noted(
    cloud, keep, sweep_up, home
):
    made = keep("a", 30)
    earlier = attempt(50, 7200)  # of an earlier launch
    note(home, "a", records.ATTEMPTS, [earlier, attempt(29, 1200)])
    note(home, "a", records.OUTCOME, {"state": "succeeded"})
    sweep_up()
    assert spent(home, made) == 1.0


def reserve(home: str, run_id: str, hours_ago: float) -> None:
    since = NOW - timedelta(hours=hours_ago)
    ledger.reserve(home, f"{run_id} {since.isoformat()}", run_id, 2.0, 50.0, since)


def test_a_reservation_without_a_record_is_given_back(cloud, sweep_up, home):
    reserve(home, "young", 0.2)
    reserve(home, "old", 0.3)
    assert sweep_up()[0] == [
        "one: released what was reserved for run old: its launch ended before anything was started (2.00 USD)"
    ]
    assert [one.run_id for one in ledger.month(home, "2026-05").entries.values()] == ["young"]


def test_one_whose_job_is_there_counts_until_that_is_over_and_then_in_full(cloud, sweep_up, home):
    reserve(home, "a", 1)
    cloud.statuses = [job("a", hours_ago=0.9)]
    said, _ = sweep_up()
    assert said == ["one: stopped run a: there is no record of it"]
    cloud.statuses = [job("a", State.stopped, hours_ago=0.9)]
    said, _ = sweep_up()
    assert said == ["one: settled run a: its record is gone, so its worst case of 2.00 USD counts"]


def test_nothing_is_given_back_while_a_place_cannot_be_asked(cloud, place, home, sweep_up, keep):
    """The job may be in the place that does not answer, or be one of its launches."""
    reserve(home, "loose", 1)
    keep("theirs", 5, backend="two", job=None)
    two = Cloud(refusal="It answers 503.")
    said, troubles = sweep_up(None, False, Place("two", "two", two, home, OURS, 50.0))
    assert said == []
    assert troubles == ["two: It answers 503."]
    assert len(ledger.month(home, "2026-05").entries) == 2


# Trouble


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
    monkeypatch.setattr(
        cloud, "stop", lambda run_id: stop(run_id) if run_id == "second" else refuse("Busy.")
    )
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


# Reports


def test_a_run_that_is_over_is_reported_once(cloud, keep, sweep_up, home):
    keep("a", 3, commit=COMMIT, pull_request=7)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    note(home, "a", "metrics.json", {"test/loss": 0.1, "test/accuracy": 0.97})
    hub = Hub()
    said, _ = sweep_up(hub)
    assert (
        f"one: reported run a: it is over (succeeded) (pull request 7 and commit {COMMIT[:12]})"
        in said
    )
    assert hub.statuses == [(COMMIT, "success", "succeeded, test/accuracy 0.9700, 1.00 USD")]
    ((number, body),) = hub.comments.values()
    assert number == 7
    assert "| `test/accuracy` | 0.9700 |" in body
    assert sweep_up(hub) == ([], [])
    assert len(hub.statuses) == 1


def test_outside_of_github_reports_are_left_to_the_workflow(cloud, keep, sweep_up):
    keep("a", 3, commit=COMMIT, reserved=False)
    cloud.statuses = [job("a", State.failed, hours_ago=3)]
    assert sweep_up(None) == ([], [])
    hub = Hub()
    sweep_up(hub)
    assert [state for _, state, _ in hub.statuses] == ["failure"]


def test_a_report_that_fails_is_tried_again(cloud, keep, sweep_up):
    keep("a", 3, commit=COMMIT, reserved=False)
    cloud.statuses = [job("a", State.stopped, hours_ago=3)]
    hub = Hub()
    hub.trouble = GitHubError("GitHub's rate limit.")
    assert sweep_up(hub)[1] == ["one: would report run a, but: GitHub's rate limit."]
    hub.trouble = None
    sweep_up(hub)
    assert [state for _, state, _ in hub.statuses] == ["error"]


def test_a_commit_that_was_not_pushed_is_waited_for_but_not_for_ever(cloud, keep, sweep_up):
    keep("new", 3, commit=COMMIT, reserved=False)
    keep("old", 60, commit=COMMIT, reserved=False)
    cloud.statuses = [job("new", State.stopped, 3), job("old", State.stopped, 60)]
    hub = Hub()
    hub.trouble = CommitMissingError("GitHub has no commit.")
    said, troubles = sweep_up(hub)
    assert (len(said), troubles) == (2, [])
    said, troubles = sweep_up(hub)
    assert said == ["one: run new is not reported at its commit: GitHub has no commit."]


@pytest.mark.parametrize(
    "values",
    [{"commit": f"{COMMIT}-dirty"}, {"commit": None}, {"kind": "notebook", "commit": COMMIT}],
)
def test_what_is_of_no_commit_gets_no_status(values, cloud, keep, sweep_up):
    keep("a", 3, reserved=False, **values)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3)]
    hub = Hub()
    said, troubles = sweep_up(hub)
    assert (len(said), troubles, hub.statuses) == (1, [], [])


def test_runs_of_long_ago_are_left_alone(cloud, keep, sweep_up, home):
    keep("a", 24 * 40, commit=COMMIT, reserved=False)
    calls = len(cloud.calls)
    assert sweep_up(Hub()) == ([], [])
    assert "status" not in cloud.calls[calls:]


# The program


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


def test_without_a_login_it_ends_with_one_sentence(program, cloud):
    cloud.refusal = "There is no login; log in."
    assert program() == (1, "", "one: There is no login; log in.\n")


def test_every_verb_is_done():
    assert set(DO) == set(Verb)
