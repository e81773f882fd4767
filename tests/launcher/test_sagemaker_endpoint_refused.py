"""Models at endpoints of SageMaker where a right is missing, the image is not there, or a quota has no room."""

from typing import Any

import pytest
import sagemaker_endpoints
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers.errors import QuotaError, RefusedError
from sagemaker_endpoints import (
    ACCOUNT,
    NAME,
    REGION,
    SERVER,
    answers,
    deploy,
    left,
    there,
)
from sagemaker_jobs import forget
from stage.aws import World
from stage.aws.bench import client, policy, role
from test_sagemaker_endpoint_on_stage import MACHINE

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (("BatchGetImage",), "does not have BatchGetImage permission for the image"),
        (("GetAuthorizationToken",), "make sure all images included"),
    ],
)
def test_a_role_that_may_not_fetch_the_image_is_told(missing: tuple[str], why: str, stage: World):
    iam, kept = client(stage, "iam"), SERVER
    narrow = [
        {**one, "Action": [each for each in _listed(one["Action"]) if each.partition(":")[2] not in missing]}
        for one in kept
    ]
    narrow = [one for one in narrow if one["Action"]]
    iam.put_role_policy(RoleName="demo-server", PolicyName="may", PolicyDocument=policy(*narrow))
    try:
        with pytest.raises(UserError, match=why):
            deploy(1)
    finally:
        iam.put_role_policy(RoleName="demo-server", PolicyName="may", PolicyDocument=policy(*kept))
    assert left(stage) == []


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_an_image_that_is_not_there_is_told(stage: World):
    gone = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo/serve@sha256:{'0' * 64}"
    with pytest.raises(UserError, match="make sure all images included"):
        there().deploy(Order("digits", 1, gone), lambda ask: None)
    assert left(stage) == []


@pytest.mark.parametrize(
    ("settings", "name"), [(MACHINE, "ml.m5.large for endpoint usage"), ({"max": "11"}, "total")]
)
def test_a_quota_that_is_too_small_is_told_and_leaves_nothing(
    settings: dict[str, str], name: str, stage: World
):
    stage.sagemaker.endpoints.machines.clear()
    with pytest.raises(QuotaError, match=f"{name}.*ask for more at"):
        deploy(1, **settings)
    assert left(stage) == []


def test_an_update_that_the_quota_has_no_room_for_leaves_the_one_before(stage: World):
    stage.sagemaker.endpoints.machines["ml.m5.large"] = 1
    deploy(1, **MACHINE)
    with pytest.raises(QuotaError):
        deploy(2, **MACHINE)
    assert answers(stage) == {1: 100}


def as_role(stage: World, name: str, may: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process has a role with these rights."""
    role(stage, name, "ec2.amazonaws.com", may=may)
    for key, value in stage.credentials(name).items():
        monkeypatch.setenv(key, value)
    forget()


def test_whoever_deploys_and_may_not_ask_is_told(stage: World, monkeypatch: pytest.MonkeyPatch):
    actions = [f"sagemaker:{verb}" for verb in ("Create*", "Describe*", "Delete*", "List*", "AddTags")]
    looks = ["iam:PassRole", "iam:GetRole", "ecr:DescribeRepositories", "sts:GetCallerIdentity"]
    as_role(stage, "deployer", [{"Action": [*actions, *looks], "Resource": "*"}], monkeypatch)
    with pytest.raises(RefusedError, match=rf"sagemaker:InvokeEndpoint.*endpoint/{NAME}"):
        deploy(1)
    assert left(stage) == []


@pytest.mark.parametrize("lacks", ["iam:PassRole", "sagemaker:AddTags", "sagemaker:CreateEndpoint"])
def test_whoever_may_not_make_it_is_told_which_right_is_missing(
    lacks: str, stage: World, monkeypatch: pytest.MonkeyPatch
):
    all_of = {"Action": ["sagemaker:*", "iam:*", "ecr:*", "sts:*"], "Resource": "*"}
    as_role(
        stage, f"x{lacks[-5:]}", [all_of, {"Effect": "Deny", "Action": lacks, "Resource": "*"}], monkeypatch
    )
    with pytest.raises(RefusedError, match=lacks):
        deploy(1)
    assert left(stage) == []
