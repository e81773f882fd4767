"""A run that is over is told of once, where it came from."""

import pytest
from launcher.janitor.github import CommitMissingError, GitHubError
from launcher.job import (
    State,
)
from world import COMMIT, Hub, job, note


def test_a_run_that_is_over_is_reported_once(cloud, keep, sweep_up, home):
    keep("a", 3, commit=COMMIT, pull_request=7)
    cloud.statuses = [job("a", State.succeeded, hours_ago=3, seconds=1200.0)]
    note(home, "a", "metrics.json", {"test/loss": 0.1, "test/accuracy": 0.97})
    hub = Hub()
    said, _ = sweep_up(hub)
    assert f"one: reported run a: it is over (succeeded) (pull request 7 and commit {COMMIT[:12]})" in said
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


def test_predictions_have_a_status_of_their_own_beside_that_of_the_training(cloud, keep, sweep_up):
    keep("a", 3, commit=COMMIT, kind="predict", reserved=False)
    cloud.statuses = [job("a", State.failed, hours_ago=3)]
    hub = Hub()
    sweep_up(hub)
    assert (hub.contexts, [state for _, state, _ in hub.statuses]) == ({"predict"}, ["failure"])


def test_runs_of_long_ago_are_left_alone(cloud, keep, sweep_up, home):
    keep("a", 24 * 40, commit=COMMIT, reserved=False)
    calls = len(cloud.calls)
    assert sweep_up(Hub()) == ([], [])
    assert "status" not in cloud.calls[calls:]
