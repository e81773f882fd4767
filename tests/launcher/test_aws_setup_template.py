"""The stack's template: what cfn-lint says of it, that no right is wider than it must be, and that a dry run asks nobody."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import botocore.client
import pytest
import yaml
from cfnlint.api import lint
from launcher.commands import setup
from launcher.providers import repository
from launcher.providers.aws import pricing
from launcher.providers.aws.setup import template

pytestmark = pytest.mark.cloud("aws")
REGIONS = ["us-east-1", "eu-west-1", "eu-north-1", "ap-northeast-3"]
# What cfn-lint knows of the services' own reference (docs.aws.amazon.com/service-authorization/latest/reference).
SERVICES = json.loads(files("cfnlint").joinpath("data/AdditionalSpecs/Policies.json").read_text())
# Metrics have no resource: what the reference lists for it are datasets, which no training writes to.
WITHOUT = {"cloudwatch:PutMetricData"}


def whole(region: str) -> dict[str, Any]:
    types = [f"ml.{row.type}" for row in template.rows(region, "sagemaker")]
    return template.template("a" * 22, template.rows(region, "batch"), types)


def statements(found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of each role, with the role's name."""
    for name, resource in found["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in resource["Properties"]["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("region", REGIONS)
def test_cfn_lint_has_nothing_against_it(region):
    found = lint(template.readable(whole(region)), regions=[region])
    assert [str(each) for each in found] == []


@pytest.mark.parametrize("region", REGIONS)
def test_it_fits_into_one_request_and_its_policies_into_their_roles(region):
    found = whole(region)
    assert len(template.compact(found)) <= 51_200, "the most of CreateStack's TemplateBody"
    assert len(found["Resources"]) <= 500
    for name in ("Launcher", "Trainer", "Server", "Machine"):
        own = found["Resources"][name]["Properties"]["Policies"]
        text = json.dumps([each["PolicyDocument"] for each in own], separators=(",", ":"))
        assert len(text) <= 10_240, "the most of a role's inline policies"


def test_no_right_is_wider_than_its_service_can_say():
    for role, statement in statements(whole("us-east-1")):
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            service, _, name = action.partition(":")
            assert "*" not in action, f"{role}: {action}"
            known = SERVICES[service]["Actions"]
            assert name.lower() in known, f"{role}: there is no {action}"
            if statement["Resource"] == "*" and action not in WITHOUT:
                resources = known[name.lower()].get("Resources")
                assert not resources, f"{role}: {action} could be bounded to {resources}"


def test_every_right_on_all_is_of_one_region_or_can_spend_and_change_nothing():
    harmless = re.compile(
        r"ecr:GetAuthorizationToken|ecs:DiscoverPollEndpoint|ec2:DescribeTags|ssmmessages:.*|cloudwatch:PutMetricData"
    )
    for role, statement in statements(whole("us-east-1")):
        if statement["Resource"] == "*":
            bounded = "aws:RequestedRegion" in json.dumps(statement.get("Condition", {}))
            assert bounded or all(harmless.fullmatch(action) for action in listed(statement["Action"])), role


def test_only_machines_of_the_price_table_can_be_paid_for():
    found = whole("eu-west-1")
    environments = [
        each["Properties"]
        for each in found["Resources"].values()
        if each["Type"] == "AWS::Batch::ComputeEnvironment"
    ]
    names = {each["ComputeEnvironmentName"].rsplit("-", 2)[1] for each in environments}
    assert "l4" not in names, "which eu-west-1 has not"
    for each in environments:
        (kind,) = each["ComputeResources"]["InstanceTypes"]
        spot = each["ComputeEnvironmentName"].endswith("-spot")
        assert each["ComputeResources"].get("BidPercentage") == (pricing.spot_percent(kind) if spot else None)
        assert each["ComputeResources"]["MaxvCpus"] == 4 * template.vcpus(kind)
    (create,) = [each for _, each in statements(found) if each.get("Sid") == "Create"]
    types = create["Condition"]["ForAllValues:StringEquals"]["sagemaker:InstanceTypes"]
    assert "ml.g5.xlarge" in types
    assert "ml.g6.xlarge" not in types


@pytest.mark.parametrize(("kind", "cpus"), [("g5.xlarge", 4), ("m7i.2xlarge", 8), ("p5.48xlarge", 192)])
def test_a_size_says_how_many_cpus(kind, cpus):
    assert template.vcpus(kind) == cpus


def test_each_queue_ends_what_can_never_start():
    queues = [
        each["Properties"]
        for each in whole("us-east-1")["Resources"].values()
        if each["Type"] == "AWS::Batch::JobQueue"
    ]
    for queue in queues:
        actions = {each["Reason"]: each for each in queue["JobStateTimeLimitActions"]}
        # docs.aws.amazon.com/batch/latest/userguide/job_stuck_in_runnable.html: other reasons match nothing
        assert set(actions) == {
            "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
            "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
        }
        assert all(600 <= each["MaxTimeSeconds"] <= 86400 for each in actions.values())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can be asked: no AWS, and no gh."""

    def asked(*words: Any) -> None:
        pytest.fail(f"asked {words[1:]}")

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", asked)
    monkeypatch.setattr(repository, "_gh", asked)
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("GITHUB_REPO", "octo-org/leaves")


def test_a_dry_run_is_a_template_that_cfn_lint_takes_and_asks_nobody(alone, monkeypatch, capsys):
    settings = {"WANDB_API_KEY": "hidden", "BUDGET": "50", "MAIL": "a@b.c", "REVIEWER": "octo-cat"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    setup.run("setup")
    said = capsys.readouterr().out
    assert lint(said, regions=["us-east-1"]) == []
    assert "demo-t4-spot" in said
    assert "hidden" not in said
    comments = [line for line in said.splitlines() if line.startswith("#")]
    for call in ("create_service_linked_role", "create_stack", "put_secret_value", "create_budget"):
        assert any(call in line for line in comments)
    assert (
        "# gh variable set CLOUD_IMAGE --body ACCOUNT_ID.dkr.ecr.us-east-1.amazonaws.com/demo/train" in said
    )
    assert yaml.safe_load(said)["Resources"]["Bucket"]


@pytest.mark.parametrize("data", ["", "delete"])
def test_a_dry_run_of_destroy_shows_what_would_go_and_asks_nobody(alone, monkeypatch, capsys, data):
    monkeypatch.setenv("DATA", data)
    setup.run("destroy")
    said = capsys.readouterr().out
    assert all(line.startswith("#") for line in said.splitlines())
    assert "delete_stack StackName=demo" in said
    assert "stop_training_job" in said
    assert ("delete_bucket" in said) == bool(data)


WRONG = {
    "BUDGET": [("5O", "is no budget"), ("50", "somebody who is told")],
    "MAIL": [("you@example.org", "needs an amount")],
    "MAX_HOURS": [("a day", "is no limit"), ("0", "is no limit"), ("999", "is no limit")],
    "MACHINES": [("cpu k80", "there is no k80 in us-east-1")],
    "GITHUB_REPO": [("leaves", "is no repository")],
}


@pytest.mark.parametrize(
    ("name", "value", "said"), [(name, *each) for name, some in WRONG.items() for each in some]
)
def test_a_setting_that_means_nothing_is_refused_before_anybody_is_asked(
    alone, monkeypatch, name, value, said
):
    monkeypatch.setenv(name, value)
    with pytest.raises(setup.UserError, match=said) as refused:
        setup.run("setup")
    assert "\n" not in str(refused.value)


def test_destroy_refuses_another_word_than_delete(alone, monkeypatch):
    monkeypatch.setenv("DATA", "yes")
    with pytest.raises(setup.UserError, match="write DATA=delete"):
        setup.run("destroy")


@pytest.mark.parametrize("region", ["cn-north-1", "us-gov-west-1", "eusc-de-east-1", "sa-east-1"])
@pytest.mark.parametrize("command", ["setup", "destroy"])
def test_parts_of_aws_with_accounts_of_their_own_and_regions_without_machines_are_refused(
    alone, monkeypatch, region, command
):
    from dataclasses import replace

    from launcher.project import project
    from launcher.providers.aws.setup import make, remove

    elsewhere = replace(project(), region=region)
    for module in (make, remove):
        monkeypatch.setattr(module, "project", lambda: elsewhere)
    if region == "sa-east-1" and command == "destroy":
        setup.run(command)  # what an older price table had is taken back
        return
    with pytest.raises(setup.UserError, match=region):
        setup.run(command)
