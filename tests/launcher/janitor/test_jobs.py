"""The janitor ends what runs too long or unknown, and touches nothing of anybody else's."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from launcher import records
from launcher.janitor.survey import Troubles, survey
from launcher.job import (
    Leftover,
    State,
)
from world import NOW, OURS, attempt, job, note, outcome


@pytest.mark.parametrize(
    ("status", "stopped"),
    [
        (job("a", hours_ago=2.1), False),  # within the margin in which the provider ends it itself
        (job("a", hours_ago=2.2), True),
        (job("a", State.queued, hours_ago=23.9), False),
        (job("a", State.queued, hours_ago=24.1), True),  # cloud.max_wait_hours
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


@pytest.mark.parametrize(("waits", "hours_ago"), [(2.0, 2.1), (0.0, 0.1), (30.0, 25.9)])
def test_a_job_waits_for_a_machine_no_longer_than_it_was_told_to(waits, hours_ago, cloud, keep, sweep_up):
    keep("a", hours_ago, max_wait_hours=waits)
    cloud.statuses = [job("a", State.queued, hours_ago=hours_ago)]
    said, _ = sweep_up()
    assert said == (
        [f"one: stopped run a: it has had no machine for {hours_ago} hours, and may wait for {waits:g}"]
        if waits < hours_ago
        else []
    )


def test_what_waits_after_a_preemption_waits_anew(cloud, keep, sweep_up, home):
    keep("a", 10, max_wait_hours=3.0)
    cloud.statuses = [job("a", State.queued, hours_ago=10, seconds=3600.0)]
    note(home, "a", records.ATTEMPTS, [attempt(4, 3600)])  # so it was taken away three hours ago
    cloud.clock -= timedelta(minutes=6)
    assert sweep_up()[0] == []
    cloud.clock += timedelta(minutes=12)
    assert "it has had no machine for 3.1 hours" in sweep_up()[0][0]


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
    Path(home, records.LAUNCHES, "a.json").write_text('{"run_id": "a", "written": "by a newer version"}')
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
