"""SageMaker's endpoints and its registry as the stand-in has them: what it refuses, and what becomes of what it takes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stage.aws import World, images, serve
from stage.aws.bench import client, policy, refused, role
from stage.aws.endpoint_hosts import Pretended
from stage.aws.people import ACCOUNT, role_of

ARN = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/server"
TAGS = [{"Key": "project", "Value": "demo"}]
ALL = [{"Action": ["ecr:*", "logs:*"], "Resource": "*"}]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serve(tmp_path_factory.mktemp("aws")) as found:
        yield found


@pytest.fixture
def world(account: World) -> World:
    """The account with a role for what serves, and nothing else of SageMaker's."""
    host = Pretended(lambda image, asked: (200, {"image": image, "asked": asked}))
    account.sagemaker.endpoints.__init__(account.clock, host)  # type: ignore[misc]
    account.sagemaker.packages.__init__(account.clock)  # type: ignore[misc]
    if role_of("server") is None:
        role(account, "server", "sagemaker.amazonaws.com", may=ALL)
    document = policy(*ALL)
    client(account, "iam").put_role_policy(RoleName="server", PolicyName="may", PolicyDocument=document)
    return account


def model(world: World, name: str = "m1", image: str = "", **more: Any) -> str:
    image = image or images.put("demo/serve", "us-east-1", tag=name)
    container = {"Image": image}
    client(world, "sagemaker").create_model(
        ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE, Tags=TAGS, **more
    )
    return image


def serverless(model: str = "m1", name: str = "main", **changes: int) -> dict[str, Any]:
    size = {"MemorySizeInMB": 1024, "MaxConcurrency": 1} | changes
    return {"VariantName": name, "ModelName": model, "ServerlessConfig": size}


def machine(model: str = "m1", name: str = "main", weight: float = 1.0, kind: str = "ml.t2.medium") -> Any:
    found = {"VariantName": name, "ModelName": model, "InstanceType": kind}
    return found | {"InitialInstanceCount": 1, "InitialVariantWeight": weight}


def config(world: World, name: str, *variants: dict[str, Any]) -> None:
    client(world, "sagemaker").create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=list(variants), Tags=TAGS
    )


def looked(world: World, name: str = "e") -> dict[str, Any]:
    """The endpoint, once nothing is under way any more."""
    for _ in range(world.sagemaker.endpoints.waits):
        client(world, "sagemaker").describe_endpoint(EndpointName=name)
    return client(world, "sagemaker").describe_endpoint(EndpointName=name)


def made(world: World, *variants: dict[str, Any]) -> Any:
    """An endpoint that answers; gives the client."""
    model(world)
    config(world, "c1", *(variants or (serverless(),)))
    sagemaker = client(world, "sagemaker")
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    assert looked(world)["EndpointStatus"] == "InService"
    return sagemaker


def ask(world: World, session: Any = None, body: bytes = b"{}", **more: str) -> dict[str, Any]:
    runtime = client(world, "sagemaker-runtime", session)
    answer = runtime.invoke_endpoint(EndpointName="e", ContentType="application/json", Body=body, **more)
    return json.loads(answer["Body"].read()) | {"variant": answer["InvokedProductionVariant"]}


def test_an_endpoint_comes_up_answers_and_goes(world: World):
    image = model(world)
    config(world, "c1", serverless())
    sagemaker = client(world, "sagemaker")
    answer = sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c1")
    assert answer["EndpointArn"] == f"{ARN}:endpoint/e"
    found = sagemaker.describe_endpoint(EndpointName="e")
    assert found["EndpointStatus"] == "Creating"
    with refused("ValidationError", "not found"):
        ask(world)
    with refused("ValidationException", "Cannot delete endpoint"):
        sagemaker.delete_endpoint(EndpointName="e")
    assert looked(world)["EndpointStatus"] == "InService"
    assert ask(world, body=b'{"x": 1}') == {"image": image, "asked": {"x": 1}, "variant": "main"}
    sagemaker.delete_endpoint(EndpointName="e")
    with refused("ValidationException", "Could not find endpoint"):
        looked(world)
        looked(world)
    assert world.sagemaker.endpoints.host.running == {}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([serverless("gone")], "Could not find model"),
        ([serverless(), serverless(name="other")], "Multiple production variants"),
        ([serverless(MemorySizeInMB=1500)], "MemorySizeInMB must be one of"),
        ([serverless(MaxConcurrency=201)], "less than or equal to 200"),
        ([serverless() | {"InstanceType": "ml.m5.large"}], "either a ServerlessConfig or an InstanceType"),
        ([machine(), machine()], "must be unique"),
        ([machine(kind="ml.m99.large")], "enum value set"),
        ([machine(weight=0)], "are 0"),
        ([{"VariantName": "a_b", "ModelName": "m1"}], "regular expression pattern"),
    ],
)
def test_variants_that_could_never_start_are_refused(variants: list[Any], words: str, world: World):
    model(world)
    with refused("ValidationException", words):
        config(world, "c1", *variants)


def test_a_model_without_network_is_not_for_serverless(world: World):
    model(world, EnableNetworkIsolation=True)
    config(world, "c1", machine())
    with refused("ValidationException", "isolation"):
        config(world, "c2", serverless())


@pytest.mark.parametrize(
    "image", ["registry.example/x@sha256:" + "0" * 64, f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/x:main"]
)
def test_images_are_of_its_own_ecr(image: str, world: World):
    with refused("ValidationException", "Cannot find the requested image"):
        model(world, image=image)


def test_names_are_taken_once(world: World):
    sagemaker = made(world)
    with refused("ValidationException", "already existing model"):
        model(world)
    with refused("ValidationException", "already existing endpoint configuration"):
        config(world, "c1", serverless())
    with refused("ValidationException", "already existing endpoint"):
        sagemaker.create_endpoint(EndpointName="E", EndpointConfigName="c1")


def test_a_role_that_it_may_not_take_on_is_refused(world: World):
    role(world, "other", "ec2.amazonaws.com")
    image = images.put("demo/serve", "us-east-1")
    arn = ROLE.replace("server", "other")
    with refused("ValidationException", "is invalid"):
        client(world, "sagemaker").create_model(
            ModelName="m1", PrimaryContainer={"Image": image}, ExecutionRoleArn=arn
        )


@pytest.mark.parametrize(
    ("lacks", "words"),
    [("ecr:BatchGetImage", "does not have BatchGetImage"), ("ecr:GetAuthorizationToken", "make sure")],
)
def test_a_role_that_may_not_fetch_makes_an_endpoint_that_fails(lacks: str, words: str, world: World):
    narrow = [*ALL, {"Effect": "Deny", "Action": lacks, "Resource": "*"}]
    iam = client(world, "iam")
    iam.put_role_policy(RoleName="server", PolicyName="may", PolicyDocument=policy(*narrow))
    model(world)
    config(world, "c1", serverless())
    client(world, "sagemaker").create_endpoint(EndpointName="e", EndpointConfigName="c1")
    found = looked(world)
    assert found["EndpointStatus"] == "Failed"
    assert words in found["FailureReason"]


def test_an_update_goes_on_beside_what_answers_and_needs_its_old_configuration(world: World):
    sagemaker = made(world)
    other = model(world, "m2")
    config(world, "c2", serverless("m2"))
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")
    found = sagemaker.describe_endpoint(EndpointName="e")
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "c1")
    assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "c2"
    assert ask(world)["image"] != other
    with refused("ValidationException", "in-progress"):
        sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")
    assert looked(world)["EndpointConfigName"] == "c2"
    assert ask(world)["image"] == other
    sagemaker.delete_endpoint_config(EndpointConfigName="c2")
    assert "c2 was deleted, which e has" in world.sagemaker.endpoints.harm
    with refused("ValidationException", "Could not find endpoint configuration", "c2"):
        sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c1")


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [("silent", "InService", False), ("told", "InService", True), ("Failed", "Failed", True)],
)
def test_an_update_that_fails_ends_as_the_test_says(kind: str, status: str, reason: bool, world: World):
    sagemaker = made(world)
    world.sagemaker.endpoints.failed_update = kind
    world.sagemaker.endpoints.host.broken.add(model(world, "m2"))  # type: ignore[union-attr]
    config(world, "c2", serverless("m2"))
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")
    found = looked(world)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == (status, "c1")
    assert ("ping health check" in found.get("FailureReason", "")) == reason
    if kind == "Failed":
        with refused("ValidationException", "Cannot update failed endpoint"):
            sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        (serverless(), machine(), "cannot be converted"),
        (machine(), serverless(), "cannot be converted"),
        (serverless(), serverless(name="other"), "must have a variant name"),
    ],
)
def test_an_endpoint_keeps_its_kind_and_a_variant(first: Any, then: Any, words: str, world: World):
    sagemaker = made(world, first)
    config(world, "c2", then)
    with refused("ValidationException", words):
        sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")


def test_quotas_count_an_update_besides(world: World):
    sagemaker = made(world, machine())
    config(world, "c2", machine(), machine(name="canary"))
    with refused("ResourceLimitExceeded", "ml.t2.medium for endpoint usage", "is 2", "delta of 2"):
        sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c2")
    config(world, "c3", machine(kind="ml.m5.large"))
    with refused("ResourceLimitExceeded", "ml.m5.large for endpoint usage", "is 0"):
        sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="c3")


def test_several_variants_are_asked_by_their_weights_or_by_name(world: World):
    world.sagemaker.endpoints.machines["ml.t2.medium"] = 4
    model(world, "m2")
    made(world, machine(weight=90), machine("m2", "canary", weight=10))
    asked = [ask(world)["variant"] for _ in range(100)]
    assert asked.count("canary") == 10
    assert ask(world, TargetVariant="canary")["variant"] == "canary"
    with refused("ValidationError", "Variant other not found"):
        ask(world, TargetVariant="other")


def test_what_a_container_refuses_and_what_is_too_large(world: World):
    made(world)
    world.sagemaker.endpoints.host._answer = lambda *_: (400, {"error": "no"})  # type: ignore[union-attr]
    with refused("ModelError", 'Received client error (400) from main with message "{"error": "no"}"'):
        ask(world)
    with refused("ValidationError", "too large"):
        ask(world, body=b" " * (4 * 1024 * 1024 + 1))


def test_whoever_asks_needs_the_right(world: World):
    made(world)
    role(
        world,
        "asker",
        "ec2.amazonaws.com",
        may=[{"Action": "sagemaker:InvokeEndpoint", "Resource": f"{ARN}:endpoint/e"}],
    )
    role(world, "nobody", "ec2.amazonaws.com", may=[{"Action": "sagemaker:List*", "Resource": "*"}])
    assert ask(world, world.people.session("asker"))["variant"] == "main"
    with refused("AccessDeniedException", "sagemaker:InvokeEndpoint"):
        ask(world, world.people.session("nobody"))


def test_deletion_is_bound_to_tags_and_does_not_care_for_who_uses_it(world: World):
    made(world)
    may = [
        {
            "Action": ["sagemaker:Delete*"],
            "Resource": f"{ARN}:*/*",
            "Condition": {"StringEquals": {"aws:ResourceTag/project": "other"}},
        }
    ]
    role(world, "janitor", "ec2.amazonaws.com", may=may)
    theirs = client(world, "sagemaker", world.people.session("janitor"))
    with refused("AccessDeniedException", "sagemaker:DeleteModel"):
        theirs.delete_model(ModelName="m1")
    client(world, "sagemaker").delete_model(ModelName="m1")
    assert world.sagemaker.endpoints.harm == ["m1 was deleted, which c1 has"]
    config_of = world.sagemaker.endpoints.configs["us-east-1", "c1"]
    config_of.tags["project"] = "other"
    theirs.delete_endpoint_config(EndpointConfigName="c1")


def test_tags_of_an_endpoint_come_and_go(world: World):
    sagemaker = made(world)
    arn = f"{ARN}:endpoint/e"
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "until", "Value": "2999-12-31"}])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "until", "Value": "2999-12-31"}]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["until"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == []


# The registry of models


def package(world: World, **changes: Any) -> str:
    image = images.put("demo/serve", "us-east-1")
    given = {
        "ModelPackageGroupName": "g",
        "InferenceSpecification": {
            "Containers": [{"Image": image}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "CustomerMetadataProperties": {"version": "v1"},
    }
    return client(world, "sagemaker").create_model_package(**given | changes)["ModelPackageArn"]


def group(world: World) -> Any:
    sagemaker = client(world, "sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName="g", Tags=TAGS)
    return sagemaker


def test_packages_are_numbered_and_a_number_is_never_given_again(world: World):
    sagemaker = group(world)
    assert package(world) == f"{ARN}:model-package/g/1"
    assert package(world) == f"{ARN}:model-package/g/2"
    sagemaker.delete_model_package(ModelPackageName=f"{ARN}:model-package/g/2")
    assert package(world) == f"{ARN}:model-package/g/3"
    which = {"ModelPackageGroupName": "g", "ModelPackageType": "Versioned"}
    listed = sagemaker.list_model_packages(**which)["ModelPackageSummaryList"]
    assert [one["ModelPackageVersion"] for one in listed] == [1, 3]
    assert sagemaker.list_model_packages()["ModelPackageSummaryList"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Tags": TAGS}, "Tags cannot be given"),
        ({"ModelPackageName": "x"}, "Both ModelPackageName and ModelPackageGroupName"),
        ({"ModelPackageGroupName": "gone"}, "does not exist"),
        ({"CustomerMetadataProperties": {"by": "a|b"}}, "regular expression pattern"),
        ({"CustomerMetadataProperties": {"by": "a" * 257}}, "less than or equal to 256"),
        ({"ModelApprovalStatus": "Fine"}, "enum value set"),
        ({"InferenceSpecification": {"Containers": [{"Image": "x"}]}}, "Cannot find the requested image"),
    ],
)
def test_packages_that_cannot_be_are_refused(changes: dict[str, Any], words: str, world: World):
    group(world)
    with refused("ValidationException", words):
        package(world, **changes)


def test_a_token_makes_one_package(world: World):
    group(world)
    assert package(world, ClientToken="t") == package(world, ClientToken="t")
    with refused("ConflictException", "ClientToken"):
        package(world, ClientToken="t", ModelPackageDescription="another")


def test_a_group_is_made_once_and_goes_when_it_is_empty(world: World):
    sagemaker = group(world)
    with refused("ValidationException", "Model Package Group already exists"):
        group(world)
    arn = package(world)
    with refused("ConflictException", "has model packages"):
        sagemaker.delete_model_package_group(ModelPackageGroupName="g")
    sagemaker.delete_model_package(ModelPackageName=arn)
    sagemaker.delete_model_package_group(ModelPackageGroupName="g")
    with refused("ValidationException", "does not exist"):
        sagemaker.describe_model_package_group(ModelPackageGroupName="g")


def test_metadata_and_approval_change(world: World):
    sagemaker = group(world)
    arn = package(world)
    sagemaker.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        CustomerMetadataProperties={"run": "r1"},
        CustomerMetadataPropertiesToRemove=["version"],
    )
    found = sagemaker.describe_model_package(ModelPackageName=arn)
    assert found["ModelApprovalStatus"] == "Approved"
    assert found["CustomerMetadataProperties"] == {"run": "r1"}
    many = {f"k{number}": "v" for number in range(50)}
    with refused("ValidationException", "at most 50"):
        sagemaker.update_model_package(ModelPackageArn=arn, CustomerMetadataProperties=many)
