"""Who asks AWS on the stage, by which keys, and what a role's policies let them do."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests

from stage import aws
from stage.aws import policies
from stage.aws.bench import client, policy, refused, role
from stage.aws.people import ACCOUNT
from stage.tokens import ISSUER, Issuer

HOST = ISSUER.removeprefix("https://")
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
GOOD = {
    "StringEquals": {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:repository_id": "74"},
    "StringLike": {f"{HOST}:sub": ["repo:octo-org/octo-repo:*", "repo:octo-org@65/octo-repo@74:*"]},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        iam = client(world, "iam")
        iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
        federated(world, "launcher", GOOD)
        client(world, "s3").create_bucket(Bucket="demo")
        yield world


def federated(world: aws.World, name: str, condition: dict[str, Any]) -> str:
    trust = {"Principal": {"Federated": PROVIDER}, "Action": "sts:AssumeRoleWithWebIdentity"}
    trust["Condition"] = condition  # type: ignore[assignment]
    iam = client(world, "iam")
    return iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]["Arn"]


def assume(world: aws.World, token: str, name: str = "launcher", **more: Any) -> dict[str, Any]:
    sts = boto3.client("sts", region_name="us-east-1", endpoint_url=world.url)
    arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
    asked = {"RoleArn": arn, "RoleSessionName": "push", "WebIdentityToken": token} | more
    return sts.assume_role_with_web_identity(**asked)


# GitHub's workflows


def test_a_workflow_of_the_repository_gets_keys_that_work(world: aws.World) -> None:
    answer = assume(world, world.github.token())
    keys = answer["Credentials"]
    assert answer["SubjectFromWebIdentityToken"] == "repo:octo-org@65/octo-repo@74:environment:cloud"
    sts = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=world.url,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    who = sts.get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/launcher/push"
    assert who["Account"] == ACCOUNT


@pytest.mark.parametrize(
    ("claims", "code", "words"),
    [
        ({"repository_id": "75"}, "AccessDenied", "sts:AssumeRoleWithWebIdentity"),
        ({"sub": "repo:octo-org/other:ref:refs/heads/main"}, "AccessDenied", "Not authorized"),
        (
            {"repository_id": None, "sub": "repo:octo-org/octo-repo:x", "repository_owner_id": "65"},
            "AccessDenied",
            "",
        ),
        ({"aud": "https://github.com/octo-org"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"iss": "https://elsewhere.example"}, "InvalidIdentityToken", "No OpenIDConnect provider"),
    ],
)
def test_another_claim_lets_nobody_in(
    world: aws.World, claims: dict[str, Any], code: str, words: str
) -> None:
    whole = world.github.read(world.github.token())
    assert whole is not None
    token = world.github.sign({key: one for key, one in (whole | claims).items() if one is not None})
    with refused(code, words):
        assume(world, token)


def test_the_old_form_of_the_subject_is_let_in_where_the_policy_has_it(world: aws.World) -> None:
    assume(world, world.github.token(sub="repo:octo-org/octo-repo:ref:refs/heads/main"))


def test_a_claim_that_sts_does_not_know_lets_nobody_in(world: aws.World) -> None:
    federated(world, "by-owner", {"StringEquals": {f"{HOST}:repository_owner_id": "65"}})
    with refused("AccessDenied"):
        assume(world, world.github.token(), "by-owner")


def test_tokens_are_signed_and_end(world: aws.World) -> None:
    with refused("ExpiredTokenException"):
        assume(world, world.github.token(lifetime=-1))
    with refused("InvalidIdentityToken", "verification key"):
        assume(world, Issuer(world.clock).token())


def test_a_role_has_to_be_there_and_to_last(world: aws.World) -> None:
    with refused("AccessDenied"):
        assume(world, world.github.token(), "nobody")
    with refused("ValidationError", "MaxSessionDuration"):
        assume(world, world.github.token(), DurationSeconds=7200)


def test_keys_end_with_their_time(world: aws.World) -> None:
    role(world, "short")
    keys = world.people.session("short", seconds=60)
    client(world, "sts", keys).get_caller_identity()
    world.pass_time(60)
    with refused("ExpiredToken"):
        client(world, "sts", keys).get_caller_identity()


# Who asks


def test_without_keys_nobody_is_answered(world: aws.World) -> None:
    assert requests.get(f"{world.url}/demo/a", timeout=60).status_code == 403
    answer = requests.post(
        world.url, headers={"X-Amz-Target": "SageMaker.ListTrainingJobs"}, data="{}", timeout=60
    )
    assert "MissingAuthenticationToken" in answer.text


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("sagemaker", "list_training_jobs", "UnrecognizedClientException"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
    ],
)
def test_wrong_keys_are_refused(world: aws.World, service: str, operation: str, code: str) -> None:
    keys = {"aws_access_key_id": "AKIA0000000000000000", "aws_secret_access_key": "wrong"}
    wrong: Any = boto3.client(service, region_name="us-east-1", endpoint_url=world.url, **keys)  # type: ignore[call-overload]
    with refused(code):
        getattr(wrong, operation)()


def test_the_environment_leads_programs_here(world: aws.World) -> None:
    found = world.credentials("launcher")
    assert found["AWS_ENDPOINT_URL"] == world.url
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"} < set(found)
    with pytest.raises(KeyError):
        world.credentials("nobody")


def test_there_is_one_world_at_a_time_and_the_next_is_empty(world: aws.World, tmp_path: Any) -> None:
    with pytest.raises(RuntimeError), aws.serve(tmp_path):
        pass


# What they may


def allowed(statement: dict[str, Any], action: str, resource: str, **context: Any) -> str:
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    return policies.verdict([{"Statement": {"Effect": "Allow"} | statement}], action, resource, keys)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ({"Action": "s3:Get*", "Resource": "arn:aws:s3:::demo/*"}, "allowed"),
        ({"Action": "S3:getobject", "Resource": "*"}, "allowed"),
        ({"Action": ["s3:Put*"], "Resource": "*"}, "silent"),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::demo"}, "silent"),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::DEMO/*"}, "silent"),
        ({"NotAction": "s3:Put*", "Resource": "*"}, "allowed"),
        ({"Action": "s3:*", "NotResource": "arn:aws:s3:::demo/*"}, "silent"),
        ({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}, "denied"),
    ],
)
def test_a_statement_speaks_of_actions_and_resources(statement: dict[str, Any], said: str) -> None:
    assert allowed(statement, "s3:GetObject", "arn:aws:s3:::demo/a/b") == said


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"a:b": ["x", "y"]}}, {"A__B": "y"}, True),
        ({"StringEquals": {"a:b": "x*"}}, {"a__b": "xy"}, False),
        ({"StringLike": {"a:b": "x*"}}, {"a__b": "xy"}, True),
        ({"StringEquals": {"a:b": "x"}}, {}, False),
        ({"StringNotEquals": {"a:b": "x"}}, {}, True),
        ({"StringEqualsIfExists": {"a:b": "x"}}, {}, True),
        ({"StringEqualsIfExists": {"a:b": "x"}}, {"a__b": "y"}, False),
        ({"NumericLessThanEquals": {"a:b": "10"}}, {"a__b": 10}, True),
        ({"NumericLessThanEquals": {"a:b": "10"}}, {"a__b": 11}, False),
        ({"NumericLessThanEquals": {"a:b": "10"}}, {}, False),
        ({"ForAllValues:StringEquals": {"a:b": ["x", "y"]}}, {"a__b": ["x", "z"]}, False),
        ({"ForAllValues:StringEquals": {"a:b": ["x", "y"]}}, {}, True),
        ({"ForAnyValue:StringEquals": {"a:b": "x"}}, {"a__b": ["x", "z"]}, True),
        ({"ForAnyValue:StringEquals": {"a:b": "x"}}, {}, False),
        ({"Null": {"a:b": "true"}}, {}, True),
        ({"Bool": {"aws:SecureTransport": "false"}}, {"aws__SecureTransport": "true"}, False),
        ({"ArnLike": {"a:b": "arn:aws:iam::*:role/demo-*"}}, {"a__b": "arn:aws:iam::1:role/demo-a"}, True),
    ],
)
def test_a_condition_holds_or_not(condition: dict[str, Any], context: dict[str, Any], holds: bool) -> None:
    statement = {"Action": "*", "Resource": "*", "Condition": condition}
    assert (allowed(statement, "a:B", "*", **context) == "allowed") == holds


def test_a_condition_that_the_stage_does_not_know_is_no_silence() -> None:
    with pytest.raises(AssertionError, match="IpAddress"):
        allowed(
            {"Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
            "a:B",
            "*",
        )


def test_a_denial_outweighs_what_is_allowed() -> None:
    document = {
        "Statement": [{"Effect": effect, "Action": "*", "Resource": "*"} for effect in ("Allow", "Deny")]
    }
    assert policies.verdict([document], "a:B", "*", {}) == "denied"


def test_a_roles_policies_reach_motos_services_too(world: aws.World) -> None:
    role(
        world,
        "reader",
        may=[
            {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::demo/runs/*"},
            {"Action": "ecr:DescribeImages", "Resource": f"arn:aws:ecr:*:{ACCOUNT}:repository/demo/*"},
            {
                "Action": "logs:FilterLogEvents",
                "Resource": f"arn:aws:logs:*:{ACCOUNT}:log-group:/aws/batch/job:*",
            },
        ],
    )
    keys = world.people.session("reader")
    client(world, "s3").put_object(Bucket="demo", Key="runs/1", Body=b"x")
    s3, ecr, logs = (client(world, service, keys) for service in ("s3", "ecr", "logs"))
    assert s3.get_object(Bucket="demo", Key="runs/1")["Body"].read() == b"x"
    world.push("demo/train")
    world.push("other/train")
    client(world, "logs").create_log_group(logGroupName="/aws/batch/job")
    ecr.describe_images(repositoryName="demo/train")
    logs.filter_log_events(logGroupName="/aws/batch/job")
    for ask, code in (
        (lambda: s3.put_object(Bucket="demo", Key="runs/1", Body=b""), "AccessDenied"),
        (lambda: s3.get_object(Bucket="demo", Key="else"), "AccessDenied"),
        (lambda: s3.list_objects_v2(Bucket="demo"), "AccessDenied"),
        (lambda: s3.delete_objects(Bucket="demo", Delete={"Objects": [{"Key": "runs/1"}]}), "AccessDenied"),
        (lambda: ecr.describe_images(repositoryName="other/train"), "AccessDeniedException"),
        (lambda: logs.filter_log_events(logGroupName="/aws/else"), "AccessDeniedException"),
        (lambda: client(world, "iam", keys).list_roles(), "AccessDenied"),
        (
            lambda: client(world, "service-quotas", keys).list_service_quotas(ServiceCode="ec2"),
            "AccessDeniedException",
        ),
    ):
        with refused(code):
            ask()


def test_the_policies_of_a_stacks_role_count_too(world: aws.World) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    may = {"Effect": "Allow", "Action": "sagemaker:ListTrainingJobs", "Resource": "*"}
    properties = {
        "RoleName": "of-a-stack",
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
        "Policies": [{"PolicyName": "may", "PolicyDocument": {"Version": "2012-10-17", "Statement": [may]}}],
    }
    template = {"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}}}
    # Of an update moto takes no policies over: stage.aws.cloudformation has it do so.
    client(world, "cloudformation").create_stack(StackName="roles", TemplateBody=json.dumps(template))
    sagemaker = client(world, "sagemaker", world.people.session("of-a-stack"))
    sagemaker.list_training_jobs()
    with refused("AccessDeniedException", "sagemaker:Search"):
        sagemaker.search(Resource="TrainingJob")


def test_the_policies_of_aws_are_there(world: aws.World) -> None:
    role(world, "container-host", "ec2.amazonaws.com")
    arn = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
    client(world, "iam").attach_role_policy(RoleName="container-host", PolicyArn=arn)
    client(world, "ecr", world.people.session("container-host")).get_authorization_token()
