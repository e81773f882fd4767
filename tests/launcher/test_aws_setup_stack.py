"""What moto never does: a stack that fails, takes its time or is stuck; jobs of Batch to end; and the budget."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aws_calls import Calls, calls, refusal
from aws_setup_world import clear
from launcher.errors import UserError
from launcher.project import project
from launcher.providers.aws.setup import extras, remove
from launcher.providers.aws.setup.stack import Stack
from launcher.providers.steps import Steps

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    clear()
    monkeypatch.setenv("WAIT", "0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    yield calls(monkeypatch)
    clear()


class Formation:
    """CloudFormation by what its next looks find; events are of the last operation.

    Args:
        statuses: what DescribeStacks gives, the last one for ever; "" for no stack.
        events: (name, status, reason), in the order of their happening.
    """

    def __init__(self, asked: Calls, statuses: list[str], events: list[tuple[str, str, str]]):
        self.statuses, self.events, self.started = statuses, events, False
        answers: dict[str, Any] = {
            "DescribeStacks": self._stacks,
            "DescribeStackEvents": self._happened,
            "CreateStack": self._start,
            "UpdateStack": self._start,
            "DeleteStack": self._start,
            "ContinueUpdateRollback": self._start,
        }
        asked.answers |= answers

    def _stacks(self, given: Any) -> Any:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if not status:
            message = "Stack with id demo does not exist"
            raise refusal("DescribeStacks", "ValidationError", message)
        now = datetime.now(UTC)
        return {
            "Stacks": [
                {"StackName": "demo", "StackId": "arn:demo", "CreationTime": now, "StackStatus": status}
            ]
        }

    def _start(self, given: Any) -> Any:
        self.started = True
        return {}

    def _happened(self, given: Any) -> Any:
        now = datetime.now(UTC)
        some = [
            {
                "StackId": "arn:demo",
                "EventId": str(number),
                "StackName": "demo",
                "LogicalResourceId": name,
                "ResourceType": "AWS::S3::Bucket",
                "Timestamp": now,
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }
            for number, (name, status, reason) in enumerate(self.events)
        ]
        return {"StackEvents": some[::-1] if self.started else []}


@pytest.fixture
def stack() -> Stack:
    return Stack("demo", "us-east-1", Steps(False))


CAUSES = {
    "demo-bucket already exists": "remove it, or rename it",
    "User: x is not authorized to perform: iam:CreateRole": "an administrator must allow that",
    "Maximum job queue limit reached": "MACHINES='cpu t4'",
    "The security token does something odd": "it goes on where it stopped",
}


@pytest.mark.parametrize(("reason", "remedy"), CAUSES.items())
def test_a_stack_that_fails_says_what_failed_first_and_what_to_do(asked, stack, reason, remedy):
    events = [
        ("Bucket", "CREATE_FAILED", reason),
        ("Images", "CREATE_FAILED", "Resource creation cancelled"),
        ("Later", "CREATE_FAILED", "something else"),
    ]
    Formation(asked, ["CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"], events)
    with pytest.raises(UserError) as failed:
        stack.deploy(None, "{}", {})
    said = str(failed.value)
    assert said.startswith(f"The stack demo could not be made: Bucket (AWS::S3::Bucket): {reason}; ")
    assert remedy in said
    assert "\n" not in said


def test_each_thing_is_said_once_when_it_is_done(asked, stack, capsys):
    events = [("Bucket", "CREATE_IN_PROGRESS", ""), ("Bucket", "CREATE_COMPLETE", "")]
    Formation(asked, ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"], events)
    stack.deploy(None, "{}", {})
    assert capsys.readouterr().out.splitlines() == ["stack     Bucket: made"]


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "DELETE_FAILED", "REVIEW_IN_PROGRESS"])
def test_what_a_failed_attempt_has_left_is_removed_before_it_is_made_anew(asked, stack, status):
    Formation(asked, [status, status, "DELETE_IN_PROGRESS", "DELETE_COMPLETE"], [])
    assert stack.ready() is None
    assert asked.count("DeleteStack") == 1


def test_somebody_elses_run_is_waited_for(asked, stack, capsys):
    Formation(asked, ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"], [])
    assert stack.ready()["StackStatus"] == "UPDATE_COMPLETE"
    assert "waiting for what goes on" in capsys.readouterr().out


def test_a_rollback_that_got_stuck_is_taken_up_again(asked, stack):
    Formation(
        asked, ["UPDATE_ROLLBACK_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"], []
    )
    assert stack.ready()["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert asked.count("ContinueUpdateRollback") == 1


def test_what_goes_on_for_an_hour_is_left_to_itself(asked, stack):
    Formation(asked, ["CREATE_IN_PROGRESS"], [])
    with pytest.raises(UserError, match="run this again in a while"):
        stack.deploy(None, "{}", {})


def test_nothing_to_update_is_a_success(asked, stack):
    Formation(asked, ["UPDATE_COMPLETE"], [])

    def nothing(given: Any) -> Any:
        raise refusal("UpdateStack", "ValidationError", "No updates are to be performed.")

    asked.answers["UpdateStack"] = nothing
    assert stack.deploy(stack.ready(), "{}", {})["StackStatus"] == "UPDATE_COMPLETE"
    assert stack.steps.changes == 0


def test_jobs_of_batch_are_ended_in_whatever_state_they_are(asked, stack):
    Formation(asked, ["CREATE_COMPLETE"], [])
    queue = "arn:aws:batch:us-east-1:123456789012:job-queue/demo-t4-spot"
    now = datetime.now(UTC)
    summary = {
        "LogicalResourceId": "T4SpotQueue",
        "PhysicalResourceId": queue,
        "ResourceType": "AWS::Batch::JobQueue",
        "LastUpdatedTimestamp": now,
        "ResourceStatus": "CREATE_COMPLETE",
    }
    asked.answers["ListStackResources"] = lambda given: {"StackResourceSummaries": [summary]}

    def jobs(given: Any) -> Any:
        assert given["jobQueue"] == queue
        status = given["jobStatus"]
        return {"jobSummaryList": [{"jobId": status, "jobName": status.lower()}]}

    asked.answers |= {"ListJobs": jobs, "TerminateJob": lambda given: {}}
    remove._end_batch(project(), stack)
    ended = {given["jobId"] for _, name, given in asked.asked if name == "TerminateJob"}
    assert ended == {"SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"}


def test_only_this_projects_job_definitions_are_forgotten(asked):
    some = [
        {
            "jobDefinitionName": name,
            "jobDefinitionArn": f"arn:{name}",
            "revision": 1,
            "type": "container",
            **tags,
        }
        for name, tags in (("demo-train", {"tags": {"project": "demo"}}), ("demo-two", {}))
    ]
    asked.answers |= {
        "DescribeJobDefinitions": lambda given: {"jobDefinitions": some},
        "DeregisterJobDefinition": lambda given: {},
    }
    remove._forget_definitions(project(), Steps(False))
    gone = [given for _, name, given in asked.asked if name == "DeregisterJobDefinition"]
    assert gone == [{"jobDefinition": "arn:demo-train"}]


class Budgets:
    """One budget and who gets its mails."""

    def __init__(self, asked: Calls) -> None:
        self.amount, self.mail, self.notices = "", "", 0
        answers: dict[str, Any] = {
            "DescribeBudget": self._look,
            "DescribeSubscribersForNotification": self._subscribers,
            "CreateBudget": self._make,
            "DeleteBudget": self._delete,
        }
        asked.answers |= answers

    def _look(self, given: Any) -> Any:
        if not self.amount:
            raise refusal("DescribeBudget", "NotFoundException")
        limit = {"Amount": f"{self.amount}.0", "Unit": "USD"}
        return {
            "Budget": {
                "BudgetName": "demo",
                "BudgetType": "COST",
                "TimeUnit": "MONTHLY",
                "BudgetLimit": limit,
            }
        }

    def _subscribers(self, given: Any) -> Any:
        return {"Subscribers": [{"SubscriptionType": "EMAIL", "Address": self.mail}]}

    def _make(self, given: Any) -> Any:
        assert not self.amount, "DuplicateRecordException"
        self.amount = given["Budget"]["BudgetLimit"]["Amount"]
        assert given["Budget"]["CostFilters"] == {"TagKeyValue": ["user:project$demo"]}
        self.notices = len(given["NotificationsWithSubscribers"])
        self.mail = given["NotificationsWithSubscribers"][0]["Subscribers"][0]["Address"]
        return {}

    def _delete(self, given: Any) -> Any:
        if not self.amount:
            raise refusal("DeleteBudget", "NotFoundException")
        self.amount = ""
        return {}


def test_a_budget_is_made_once_changed_when_asked_for_and_removed(asked, capsys):
    budgets = Budgets(asked)
    for amount, mail, made in (
        ("50", "a@b.c", 1),
        ("50", "a@b.c", 1),
        ("80", "a@b.c", 2),
        ("80", "d@e.f", 3),
    ):
        extras.set_budget("demo", amount, mail, "123456789012", Steps(False))
        assert (budgets.amount, budgets.mail, budgets.notices) == (amount, mail, 3)
        assert asked.count("CreateBudget") == made
    assert "until the tag 'project' is activated" in capsys.readouterr().out
    for _ in range(2):
        extras.remove_budget("demo", "123456789012", Steps(False))
    assert not budgets.amount


def test_who_may_not_see_budgets_is_told_and_goes_on(asked, capsys):
    def denied(given: Any) -> Any:
        raise refusal("DescribeBudget", "AccessDeniedException", "not you")

    asked.answers["DescribeBudget"] = denied
    extras.set_budget("demo", "50", "a@b.c", "123456789012", Steps(False))
    assert "NOT SET: Permission denied: not you" in capsys.readouterr().out
