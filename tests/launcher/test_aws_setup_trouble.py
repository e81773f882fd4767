"""Setting up an AWS project where something was there before, is refused, or goes wrong; each time one sentence."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aws_calls import Calls, calls, refusal
from aws_setup_world import PROVIDER, Place, clear, place
from launcher.errors import UserError
from launcher.project import project
from launcher.providers.aws.setup import extras, remove
from launcher.providers.aws.setup.stack import Stack
from launcher.providers.steps import Steps

pytestmark = pytest.mark.cloud("aws")
ISSUER = "https://token.actions.githubusercontent.com"
TRUST = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "%s"}}]}'


@pytest.fixture
def there(tmp_path: Path, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path, projects("aws")) as there:
        there.env["MACHINES"] = "cpu"  # a queue takes its time
        yield there


def test_what_was_there_before_is_used_and_neither_changed_nor_removed(there):
    s3, iam, logs = there.client("s3"), there.client("iam"), there.client("logs")
    s3.create_bucket(Bucket="demo-bucket")
    iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
    logs.create_log_group(logGroupName="/aws/batch/job")
    there.client("secretsmanager").create_secret(Name="demo-wandb", SecretString="old")
    made = there.run("setup", WANDB_API_KEY="new")
    assert not made.error
    assert "was there before, and is used as it is" in made.output
    assert "it is NOT CLOSED to the public" in made.output
    assert there.client("secretsmanager").get_secret_value(SecretId="demo-wandb")["SecretString"] == "new"
    removed = there.run("destroy", YES="1", DATA="delete")
    assert not removed.error
    assert "stays, it was there before; delete it by hand" in removed.output
    assert [each["Name"] for each in s3.list_buckets()["Buckets"]] == ["demo-bucket"]
    assert [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]] == [
        PROVIDER
    ]
    assert [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]] == ["/aws/batch/job"]
    assert there.client("secretsmanager").describe_secret(SecretId="demo-wandb")["Name"] == "demo-wandb"


def test_the_identity_provider_stays_while_another_role_uses_it_and_logs_while_others_write_them(there):
    assert not there.run("setup").error
    there.client("iam").create_role(RoleName="other-launcher", AssumeRolePolicyDocument=TRUST % PROVIDER)
    there.client("logs").create_log_stream(logGroupName="/aws/batch/job", logStreamName="other/default/1")
    removed = there.run("destroy", YES="1")
    assert "stays, for other-launcher uses it" in removed.output
    assert there.client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER)
    assert "/aws/batch/job: stays" in removed.output
    groups = there.client("logs").describe_log_groups()["logGroups"]
    assert [each["logGroupName"] for each in groups] == ["/aws/batch/job"]


def test_what_still_runs_is_ended_before_the_rest_goes(there):
    assert not there.run("setup").error
    sagemaker = there.client("sagemaker")
    for name, slug in (("ours", "demo"), ("theirs", "other")):
        sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={
                "TrainingImage": there.world.push("demo/train"),
                "TrainingInputMode": "File",
            },
            RoleArn="arn:aws:iam::123456789012:role/demo-trainer",
            OutputDataConfig={"S3OutputPath": "s3://demo-bucket/x"},
            ResourceConfig={"InstanceType": "ml.m7i.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            StoppingCondition={"MaxRuntimeInSeconds": 3600},
            Tags=[{"Key": "project", "Value": slug}],
        )
    removed = there.run("destroy", YES="1")
    assert not removed.error
    assert removed.given("StopTrainingJob") == [{"TrainingJobName": "ours"}] * len(
        removed.given("StopTrainingJob")
    )
    asked = [name for _, name, _ in removed.asked]
    assert asked.index("StopTrainingJob") < asked.index("DeleteStack")
    status = sagemaker.describe_training_job(TrainingJobName="theirs")["TrainingJobStatus"]
    assert status == "InProgress"


def without_login(there: Place) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        there.env[name] = ""


def with_a_repository_of_somebody_else(there: Place) -> None:
    github = there.github
    github.admin = False
    there.github = github


def without_a_repository(there: Place) -> None:
    there.env["GITHUB_REPO"] = "octo-org/roots"


def without_github(there: Place) -> None:
    github = there.github
    github.logged_in = False
    there.github = github


def without_a_reviewer(there: Place) -> None:
    there.env["REVIEWER"] = "nobody"


def without_a_network(there: Place) -> None:
    ec2 = there.client("ec2")
    for each in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=each["SubnetId"])
    for each in ec2.describe_vpcs()["Vpcs"]:
        ec2.delete_vpc(VpcId=each["VpcId"])


def without_a_public_subnet(there: Place) -> None:
    ec2 = there.client("ec2")
    for each in ec2.describe_subnets()["Subnets"]:
        ec2.modify_subnet_attribute(SubnetId=each["SubnetId"], MapPublicIpOnLaunch={"Value": False})


def with_a_bucket_elsewhere(there: Place) -> None:
    where: Any = {"LocationConstraint": "eu-west-1"}
    there.client("s3", "eu-west-1").create_bucket(Bucket="demo-bucket", CreateBucketConfiguration=where)


def with_a_bucket_of_somebody_else(there: Place) -> None:
    there.world.fail("s3", "HeadBucket", "403", message="Forbidden", status=403, times=None)


def with_a_provider_for_another_client(there: Place) -> None:
    there.client("iam").create_open_id_connect_provider(Url=ISSUER, ClientIDList=["other"])


REFUSED = [
    (without_login, "run `aws sso login`"),
    (with_a_repository_of_somebody_else, "ask one of its administrators"),
    (without_a_repository, "There is no repository 'octo-org/roots'"),
    (without_github, "run 'gh auth login' first"),
    (without_a_reviewer, "write REVIEWER=login"),
    (without_a_network, "create-default-vpc"),
    (without_a_public_subnet, "create-default-subnet"),
    (with_a_bucket_elsewhere, "is in eu-west-1 and not in us-east-1"),
    (with_a_bucket_of_somebody_else, "belongs to somebody else"),
    (with_a_provider_for_another_client, "does not know the audience sts.amazonaws.com"),
]


@pytest.mark.parametrize(("prepare", "said"), REFUSED, ids=[each.__name__ for each, _ in REFUSED])
def test_what_is_missing_is_one_sentence_and_nothing_is_made(there, prepare, said):
    prepare(there)
    step = there.run("setup")
    assert said in step.error
    assert "\n" not in step.error
    assert step.changes == []
    assert not there.github.variables


def test_a_machine_that_ec2_does_not_have_here_after_all_spoils_nothing(there, monkeypatch):
    monkeypatch.setattr("launcher.providers.aws.setup.ground.offered", lambda types, region: {"m7i.2xlarge"})
    step = there.run("setup", MACHINES="cpu t4")
    assert "t4: left out, EC2 has no g4dn.xlarge in us-east-1" in step.output
    assert there.queues() == ["demo-cpu-demand", "demo-cpu-spot"]


# What moto's CloudFormation never does: to fail, and to take its time.


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
