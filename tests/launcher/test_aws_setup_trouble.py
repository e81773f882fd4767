"""Setting up an AWS project where something was there before, is refused, or goes wrong; each time one sentence."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_setup_world import PROVIDER, Place, place

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
