"""The one address for AWS: who asks, what they may, what goes wrong on the way; quotas; and what moto answers."""

import datetime
import email.utils
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError, HTTPClientError

from stage import aws
from stage.aws import journal, policies
from stage.aws.bench import client, policy, refused, role, training
from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.shapes import check, model
from stage.aws.tokens import ISSUER, Issuer

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


# What goes wrong


def test_the_next_calls_of_an_operation_fail_as_a_test_wants(world: aws.World) -> None:
    sagemaker = client(world, "sagemaker")
    world.fail(
        "sagemaker", "ListTrainingJobs", "ThrottlingException", message="Rate exceeded", status=400, times=2
    )
    for _ in range(2):
        with refused("ThrottlingException", "Rate exceeded"):
            sagemaker.list_training_jobs()
    sagemaker.list_training_jobs()
    world.fail("s3", "GetObject", "SlowDown", times=None)
    for _ in range(3):
        with refused("SlowDown"):
            client(world, "s3").get_object(Bucket="demo", Key="a")
    world.server.heal()


def test_an_answer_is_lost_and_the_call_was_carried_out(world: aws.World) -> None:
    role(world, "demo-trainer", "sagemaker.amazonaws.com")
    sagemaker = client(world, "sagemaker")
    world.lose("sagemaker", "CreateTrainingJob")
    with pytest.raises(HTTPClientError):
        sagemaker.create_training_job(**training(world.push("demo/train"), "lost"))
    assert sagemaker.describe_training_job(TrainingJobName="lost")["TrainingJobStatus"] == "InProgress"
    world.lose("s3", "PutObject")
    with pytest.raises(HTTPClientError):
        client(world, "s3").put_object(Bucket="demo", Key="lost", Body=b"x")
    client(world, "s3").head_object(Bucket="demo", Key="lost")


def test_calls_are_remembered(world: aws.World) -> None:
    before = len(world.asked)
    client(world, "sagemaker").list_training_jobs(MaxResults=1)
    client(world, "s3").head_bucket(Bucket="demo")
    first, second = world.asked[before:]
    assert (first.service, first.operation, first.given) == (
        "sagemaker",
        "ListTrainingJobs",
        {"MaxResults": 1},
    )
    assert (second.service, second.operation) == ("s3", "HeadBucket")


@pytest.mark.parametrize("service", ["sts", "s3"])
def test_the_date_is_the_worlds(world: aws.World, service: str) -> None:
    world.pass_time(3 * 86400)
    asked = client(world, service)
    answer = asked.get_caller_identity() if service == "sts" else asked.head_bucket(Bucket="demo")
    date = email.utils.parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert date == datetime.datetime.fromtimestamp(world.clock.now(), datetime.UTC)


def test_time_does_not_go_back(world: aws.World) -> None:
    with pytest.raises(ValueError, match="back"):
        world.pass_time(-1)


def test_an_operation_that_is_not_modelled_says_so(world: aws.World) -> None:
    with refused("NotImplemented", "ListModels"):
        client(world, "sagemaker").list_models()


def test_an_unknown_member_is_refused() -> None:
    operation = model("sagemaker").operation_model("ListTrainingJobs")
    with pytest.raises(AwsError, match="Unknown member at 'nameContain'"):
        check(operation, {"NameContain": "a"})


@pytest.mark.parametrize(("key", "fine"), [("größe", True), ("a b", True), ("a\tb", False), ("a{b", False)])
def test_javas_classes_of_characters_are_pythons(key: str, fine: bool) -> None:
    operation = model("sagemaker").operation_model("AddTags")
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/a"
    given = {"ResourceArn": arn, "Tags": [{"Key": key, "Value": ""}]}
    if fine:
        check(operation, given)
    else:
        with pytest.raises(AwsError, match="regular expression"):
            check(operation, given)


# What moto answers


def test_the_buckets_conditions_are_kept(world: aws.World) -> None:
    s3 = client(world, "s3")
    tag = s3.put_object(Bucket="demo", Key="ledger", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed"):
        s3.put_object(Bucket="demo", Key="ledger", Body=b"2", IfNoneMatch="*")
    s3.put_object(Bucket="demo", Key="ledger", Body=b"2", IfMatch=tag)
    with refused("PreconditionFailed"):
        s3.put_object(Bucket="demo", Key="ledger", Body=b"3", IfMatch=tag)


@pytest.mark.parametrize("key", ["a b", "ü", "a+b", "a%20b", "a//b"])
def test_any_name_of_an_object_passes(world: aws.World, key: str) -> None:
    s3 = client(world, "s3")
    s3.put_object(Bucket="demo", Key=f"names/{key}", Body=key.encode())
    assert s3.get_object(Bucket="demo", Key=f"names/{key}")["Body"].read() == key.encode()
    listed = s3.list_objects_v2(Bucket="demo", Prefix="names/")["Contents"]
    assert f"names/{key}" in [one["Key"] for one in listed]


def test_large_objects_pass_in_parts(world: aws.World, tmp_path: Any) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"0123456789abcdef" * 2**20)
    s3 = client(world, "s3")
    s3.upload_file(str(path), "demo", "large")
    s3.download_file("demo", "large", str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


# Logs


def test_lines_are_found_by_the_beginning_of_their_stream_in_the_order_of_time(world: aws.World) -> None:
    now = world.clock.now()
    journal.write("us-east-1", "/g", "job-1/algo-2-1", ["second"], now + 2)
    journal.write("us-east-1", "/g", "job-1/algo-1-1", ["first", "third"], now + 1)
    journal.write("us-east-1", "/g", "job-11/algo-1-1", ["other"], now)
    logs = client(world, "logs")
    asked: dict[str, Any] = {"logGroupName": "/g", "logStreamNamePrefix": "job-1/"}
    page = logs.filter_log_events(**asked)
    assert page["events"] == []  # as it may be, with a token
    page = logs.filter_log_events(**asked, nextToken=page["nextToken"], limit=2)
    assert [event["message"] for event in page["events"]] == ["first", "third"]
    page = logs.filter_log_events(**asked, nextToken=page["nextToken"], limit=2)
    assert [event["message"] for event in page["events"]] == ["second"]
    assert "nextToken" not in page
    later = logs.filter_log_events(**asked, startTime=round(now * 1000) + 2000)
    assert [event["message"] for event in later["events"]] == ["second"]
    named = logs.filter_log_events(logGroupName="/g", logStreamNames=["job-11/algo-1-1"])
    assert [event["message"] for event in named["events"]] == ["other"]


def test_logs_that_are_not_there_are_said_to_be(world: aws.World) -> None:
    logs = client(world, "logs")
    with refused("ResourceNotFoundException", "group"):
        logs.filter_log_events(logGroupName="/nothing")
    journal.write("us-east-1", "/h", "a", ["a"], world.clock.now())
    with refused("ResourceNotFoundException", "stream"):
        logs.filter_log_events(logGroupName="/h", logStreamNames=["b"])
    with refused("InvalidParameterException"):
        logs.filter_log_events(logGroupName="/h", logStreamNames=["a"], logStreamNamePrefix="a")


# Quotas


def test_quotas_are_listed_in_pages_with_what_a_new_account_has(world: aws.World) -> None:
    quotas = client(world, "service-quotas")
    pages = list(quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker"))
    assert len(pages) > 1
    known = {one["QuotaName"]: one for page in pages for one in page["Quotas"]}
    assert known["ml.g5.xlarge for spot training job usage"]["Value"] == 0
    quota = known["ml.g5.xlarge for training job usage"]
    world.quotas.set(quota["QuotaName"], 2)
    asked = {"ServiceCode": "sagemaker", "QuotaCode": quota["QuotaCode"]}
    assert quotas.get_service_quota(**asked)["Quota"]["Value"] == 2
    assert quotas.get_aws_default_service_quota(**asked)["Quota"]["Value"] == 0


def test_quotas_of_plain_machines_are_vcpus(world: aws.World) -> None:
    quotas = client(world, "service-quotas")
    for code, value in (("L-DB2E81BA", 0), ("L-3819A6DF", 0), ("L-7212CCBC", 0), ("L-34B43A08", 5)):
        assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"] == value


def test_a_quota_is_of_its_region(world: aws.World) -> None:
    world.quotas.set("L-DB2E81BA", 8, "eu-west-1")
    for region, value in (("eu-west-1", 8), ("us-east-1", 0)):
        quotas = client(world, "service-quotas", region=region)
        assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-DB2E81BA")["Quota"]["Value"] == value


def test_what_is_not_there_and_what_is_no_increase_is_refused(world: aws.World) -> None:
    quotas = client(world, "service-quotas")
    with refused("NoSuchResourceException"):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")
    with refused("NoSuchResourceException"):
        quotas.list_service_quotas(ServiceCode="ec3")
    asked = {"ServiceCode": "ec2", "QuotaCode": "L-34B43A08"}
    with refused("IllegalArgumentException"):
        quotas.request_service_quota_increase(**asked, DesiredValue=5)
    quotas.request_service_quota_increase(**asked, DesiredValue=64)
    assert world.quotas.wanted == [("us-east-1", "L-34B43A08", 64)]
    with pytest.raises(KeyError):
        world.quotas.set("nothing", 1)


def test_an_error_is_botos_own_exception(world: aws.World) -> None:
    batch = client(world, "batch")
    with pytest.raises(batch.exceptions.ClientException):
        batch.describe_jobs(jobs=[])
    with pytest.raises(ClientError):
        batch.list_jobs(jobQueue="nothing")
