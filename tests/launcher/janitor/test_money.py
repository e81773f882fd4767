"""What is over counts with what it did cost, and what never was with nothing."""

from launcher import records
from launcher.job import (
    State,
)
from launcher.money import ledger
from launcher.records.places import Place
from world import OURS, Cloud, Hub, attempt, job, note, reserve, spent


def test_what_a_run_did_cost_takes_the_place_of_what_was_reserved(cloud, keep, sweep_up, home):
    made = keep("a", 3)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    assert sweep_up(dry_run=True)[0] == ["one: would settle run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) is None
    assert sweep_up()[0] == ["one: settled run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) == 1.0
    assert sweep_up() == ([], [])


def test_what_could_not_be_settled_before_it_was_reported_is_settled_afterwards(cloud, keep, sweep_up, home):
    made = keep("a", 3)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    records.mark(home, made, "reported")
    assert sweep_up(Hub())[0] == ["one: settled run a: it did cost 1.00 of 2.00 USD"]
    assert spent(home, made) == 1.0


def test_one_that_ran_where_nobody_remembers_costs_what_its_worker_noted(cloud, keep, sweep_up, home):
    made = keep("a", 30)
    earlier = attempt(50, 7200)  # of an earlier launch
    note(home, "a", records.ATTEMPTS, [earlier, attempt(29, 1200)])
    note(home, "a", records.OUTCOME, {"state": "succeeded"})
    sweep_up()
    assert spent(home, made) == 1.0


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
