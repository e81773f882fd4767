"""Versions in SageMaker's registry of models, with its strict stand-in: one package each, approved as long as it is champion."""

from dataclasses import replace
from typing import Any

import pytest
import sagemaker_endpoints
from launcher.errors import UserError
from launcher.mirror import Entry
from launcher.providers import mirror
from launcher.providers.aws import auth
from launcher.providers.aws.sagemaker_endpoint_request import Where
from launcher.providers.aws.sagemaker_models import Registry
from launcher.providers.errors import RefusedError, UnreachableError
from sagemaker_endpoints import ACCOUNT, REGION, TRAINS, image
from sagemaker_jobs import forget
from stage.aws import World
from stage.aws.bench import client, role

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures
GROUP = "demo-digits"
PENDING = "PendingManualApproval"


def entry(version: int = 1, **changes: Any) -> Entry:
    made = Entry(
        model="digits",
        version=version,
        uri=f"s3://demo-bucket/models/digits/v{version}",
        files={"model.onnx": {"sha256": "a" * 64, "size": 1}},
        image=image(version),
        kind="classification",
        run=f"r{version}",
        metrics={"test/accuracy": 0.987654321, "test/loss": 1e-9},
        made={"commit": "c" * 40, "by": "a|b <c@d.example>", "at": None, "dirty": True},
    )
    return replace(made, **changes)


def put(made: Entry) -> str:
    there = registry()
    there.prepare()
    return there.put(made)


def registry() -> Registry:
    return Registry(Where(ACCOUNT, REGION), TRAINS)


def packages(stage: World) -> dict[str, str]:
    """Version -> whether it is approved."""
    return {one.metadata["version"]: one.approval for one in stage.sagemaker.packages.packages.values()}


def test_a_version_is_there_with_all_that_people_ask_of_it(stage: World):
    arn = put(entry())
    assert arn == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{GROUP}/1"
    found = stage.sagemaker.packages.packages[arn]
    assert found.metadata == {
        "version": "v1",
        "uri": "s3://demo-bucket/models/digits/v1",
        "run": "r1",
        "kind": "classification",
        "commit": "c" * 40,
        "by": "a-b -c@d.example-",
        "test/accuracy": "0.987654",
        "test/loss": "1e-09",
    }
    assert found.given["InferenceSpecification"]["Containers"] == [{"Image": image(1)}]
    [group] = stage.sagemaker.packages.groups.values()
    assert group.tags == {"project": "demo", "model": "digits"}


def test_the_same_again_changes_nothing(stage: World):
    assert put(entry()) == put(entry())
    operations = stage.operations("sagemaker")
    assert operations.count("CreateModelPackage") == 1
    assert "UpdateModelPackage" not in operations


def test_exactly_the_champion_is_approved(stage: World):
    put(entry(1))
    assert packages(stage) == {"v1": "PendingManualApproval"}
    put(entry(1, aliases=("champion", "staging")))
    assert packages(stage) == {"v1": "Approved"}
    put(entry(2, aliases=("champion",)))
    assert packages(stage) == {"v1": "PendingManualApproval", "v2": "Approved"}
    put(entry(2))
    assert packages(stage) == {"v1": "PendingManualApproval", "v2": "PendingManualApproval"}


def test_aliases_come_and_go_with_it(stage: World):
    found = stage.sagemaker.packages.packages
    arn = put(entry(aliases=("champion", "staging")))
    assert found[arn].metadata["aliases"] == "champion staging"
    put(entry(aliases=("staging",)))
    assert found[arn].metadata["aliases"] == "staging"
    put(entry())
    assert "aliases" not in found[arn].metadata


def test_another_champion_takes_the_name_from_the_one_before(stage: World):
    found = stage.sagemaker.packages.packages
    first = put(entry(1, aliases=("champion", "staging")))
    second = put(entry(2, aliases=("champion",)))
    assert found[first].metadata["aliases"] == "staging"
    put(entry(3, aliases=("champion",)))
    assert "aliases" not in found[second].metadata
    assert packages(stage) == {"v1": PENDING, "v2": PENDING, "v3": "Approved"}


def test_two_packages_of_one_version_are_both_kept_up_to_date(stage: World):
    arn = put(entry(1))
    group = stage.sagemaker.packages
    [one] = group.packages.values()
    made = client(stage, "sagemaker").create_model_package(
        ModelPackageGroupName=GROUP,
        InferenceSpecification=one.given["InferenceSpecification"],
        CustomerMetadataProperties=one.metadata,
    )
    assert put(entry(1, aliases=("champion",))) == arn
    both = [group.packages[arn], group.packages[made["ModelPackageArn"]]]
    assert [(one.approval, one.metadata["aliases"]) for one in both] == [("Approved", "champion")] * 2
    put(entry(2, aliases=("champion",)))
    assert [one.approval for one in both] == [PENDING] * 2


def test_what_somebody_has_rejected_there_stays_so_unless_it_is_the_champion(stage: World):
    arn = put(entry())
    stage.sagemaker.packages.packages[arn].approval = "Rejected"
    put(entry(aliases=("staging",)))
    assert packages(stage) == {"v1": "Rejected"}
    put(entry(aliases=("champion",)))
    assert packages(stage) == {"v1": "Approved"}


def test_packages_of_other_people_in_the_group_are_left_alone(stage: World):
    arn = put(entry(1))
    other = stage.sagemaker.packages.packages[arn]
    other.metadata, other.approval = {}, "Approved"
    put(entry(2, aliases=("champion",)))
    assert other.approval == "Approved"
    assert len(stage.sagemaker.packages.packages) == 2


@pytest.mark.parametrize("lost", ["CreateModelPackageGroup", "CreateModelPackage", "UpdateModelPackage"])
@pytest.mark.parametrize("again", [True, False])
def test_a_lost_answer_makes_no_second_one(
    lost: str, again: bool, stage: World, monkeypatch: pytest.MonkeyPatch
):
    if again:
        monkeypatch.setattr(auth, "ATTEMPTS", 3)
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
        forget()
    stage.lose("sagemaker", lost)
    for made in (entry(), entry(aliases=("champion",))):
        if again:
            put(made)
            continue
        try:
            put(made)
        except UnreachableError:
            put(made)
    assert packages(stage) == {"v1": "Approved"}


def test_many_versions_are_looked_through_to_the_end(stage: World):
    arns = [put(entry(version)) for version in range(1, 13)]  # a page has ten
    assert [put(entry(version)) for version in range(1, 13)] == arns


def test_a_group_of_somebody_else_is_left_alone(stage: World):
    put(entry())
    [group] = stage.sagemaker.packages.groups.values()
    group.tags = {}
    with pytest.raises(UserError, match="is not of this project"):
        put(entry(2))
    assert len(stage.sagemaker.packages.packages) == 1
    assert list(registry().groups()) == []


def test_what_it_shows_is_removed_with_the_project(stage: World):
    put(entry(1))
    put(entry(2))
    for group in list(registry().groups()):
        registry().remove(group)
        registry().remove(group)
    assert stage.sagemaker.packages.packages == {}
    assert stage.sagemaker.packages.groups == {}


def test_an_image_that_sagemaker_cannot_fetch_is_refused_before_one_is_built(stage: World):
    with pytest.raises(UserError, match=r"and not of registry\.example"):
        Registry(Where(ACCOUNT, REGION), "registry.example/demo/train:main").prepare()
    with pytest.raises(UserError, match="log in to that one"):
        Registry(Where("210987654321", REGION), TRAINS).prepare()
    assert stage.operations("sagemaker") == []


def test_whoever_may_not_write_there_is_told(stage: World, monkeypatch: pytest.MonkeyPatch):
    looks = {"Action": ["sagemaker:List*", "sagemaker:Describe*", "sts:GetCallerIdentity"], "Resource": "*"}
    role(stage, "looker", "ec2.amazonaws.com", may=[looks])
    for key, value in stage.credentials("looker").items():
        monkeypatch.setenv(key, value)
    forget()
    with pytest.raises(RefusedError, match="sagemaker:CreateModelPackageGroup"):
        put(entry())


def test_the_command_finds_it(stage: World):
    found = mirror()
    assert isinstance(found, Registry)
    assert (found.IMAGE, str(found.where)) == (True, f"{ACCOUNT}/{REGION}")
