"""The one address for AWS: what goes wrong on the way; quotas; and what moto answers."""

import datetime
import email.utils
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from stage import aws
from stage.aws import journal
from stage.aws.bench import client, refused, role, training
from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT
from stage.aws.shapes import check, model


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    with aws.serve(tmp_path_factory.mktemp("aws")) as world:
        client(world, "s3").create_bucket(Bucket="demo")
        yield world


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
    with refused("NotImplemented", "ListPipelines"):
        client(world, "sagemaker").list_pipelines()


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
