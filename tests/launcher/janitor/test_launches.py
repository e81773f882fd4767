"""The janitor puts right what a launch has left half done, and lets preempted runs go on."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from launcher import records
from launcher.errors import UserError
from launcher.janitor.chores import carry_out, tidy
from launcher.janitor.rules import decide
from launcher.janitor.survey import Troubles, survey
from launcher.job import (
    NoMachineError,
    State,
    Status,
)
from launcher.money import ledger
from launcher.records import places
from omegaconf import OmegaConf
from world import NOW, OURS, Cloud, attempt, job, kept, note, outcome, spent


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
    assert said == ["one: submitted again run a: preempted, with 1.00 of 2 hours left, for the 1. time"]
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
def test_a_preempted_run_with_nothing_left_is_closed(seconds, noted, why, cloud, keep, sweep_up, home):
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


def test_a_region_that_is_out_of_machines_is_asked_again_and_no_longer_than_was_allowed(
    cloud, keep, sweep_up
):
    keep("a", 1.5, env={"RUN_MAX_ATTEMPTS": "3"}, max_wait_hours=6.0)
    cloud.hidden = [preempted(seconds=0.0)]
    for _ in range(2):  # the first launch was an attempt as well
        assert "submitted again run a" in sweep_up()[0][0]
    assert "all of its 3 attempts are used up" in sweep_up()[0][0]
    keep("b", 6.1, env={"RUN_MAX_ATTEMPTS": "3"}, max_wait_hours=6.0)
    cloud.hidden = [job("b", State.preempted, hours_ago=6.1, seconds=0.0)]
    assert "closed run b: preempted, and it has had no machine for 6.1 hours" in sweep_up()[0][0]
    assert len(cloud.submitted) == 2


def test_a_job_that_its_provider_forgot_is_closed_and_counts_in_full(cloud, keep, sweep_up, home):
    made = keep("a", 25)
    assert sweep_up() == ([], [])
    cloud.clock += timedelta(hours=2)
    (said,), _ = sweep_up()
    assert "no longer knows it" in said
    assert sweep_up()[0] == ["one: settled run a: it did cost 2.00 of 2.00 USD"]
    assert spent(home, made) == 2.0


def test_a_job_in_a_region_of_its_own_is_ended_there(home, cloud, keep, monkeypatch):
    far, bucket = Cloud(statuses=[job("over", hours_ago=5)]), home.removesuffix("/runs")
    section = {
        "backend": "one",
        "bucket": bucket,
        "labels": OURS,
        "max_month_usd": 50.0,
        "region": "us-east5",
    }
    monkeypatch.setattr(places, "connect", lambda cloud: far)
    monkeypatch.setattr(places, "datetime", SimpleNamespace(now=lambda zone: NOW))
    keep("over", hours_ago=5, region="us-east5")
    near = places.Place("one", "one", cloud, home, OURS, 50.0, "us-central1", OmegaConf.create(section))
    said: list[str] = []
    assert tidy([near], None, False, said.append) == []
    assert (cloud.stopped, far.stopped) == ([], ["over"])
    assert any(line.startswith("one (us-east5): ") for line in said)
