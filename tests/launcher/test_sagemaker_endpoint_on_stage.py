"""Models at endpoints of SageMaker, with its strict stand-in: private, a version at a time or two by parts, and back."""

from datetime import UTC, datetime, timedelta

import pytest
import sagemaker_endpoints
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target
from launcher.providers.aws.sagemaker_endpoint_price import machines
from launcher.providers.aws.sagemaker_endpoint_request import Where, check_image, endpoint_name
from sagemaker_endpoints import (
    ACCOUNT,
    ARN,
    NAME,
    REGION,
    answers,
    deploy,
    image,
    left,
    there,
)
from stage.aws import World
from stage.aws.bench import client

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures
WEEK = f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%d}"
MACHINE = {"machine": "ml.m5.large", "until": WEEK}


def test_the_first_version_costs_nothing_while_nobody_asks_and_has_a_role_of_its_own(
    stage: World, capsys: pytest.CaptureFixture[str]
):
    made = deploy(1)
    url = f"https://runtime.sagemaker.{REGION}.amazonaws.com/endpoints/{NAME}/invocations"
    assert (str(made), made.percent, made.url) == ("digits@v1", 100, url)
    [config] = stage.sagemaker.endpoints.configs.values()
    [variant] = config.given["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    [model] = stage.sagemaker.endpoints.models.values()
    assert model.given["ExecutionRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/demo-server"
    [endpoint] = stage.sagemaker.endpoints.endpoints.values()
    assert endpoint.tags == {"project": "demo", "model": "digits", "version": "v1"}
    assert "0.0000200 USD for each second" in capsys.readouterr().out
    assert answers(stage) == {1: 100}


def test_a_new_version_takes_the_place_of_the_one_before_and_goes_back(stage: World):
    deploy(1)
    deploy(2, memory="2048", max="3")
    assert answers(stage) == {2: 100}
    deploy(3)
    assert len(left(stage)) == 1 + 2 + 2, "the one that answers, and the one before"
    assert str(there().rollback("digits")) == "digits@v2"
    assert answers(stage) == {2: 100}
    assert len(left(stage)) == 3
    with pytest.raises(UserError, match="has no version before"):  # v3 was rejected
        there().rollback("digits")


def test_with_a_machine_two_versions_may_divide_the_requests(stage: World):
    deploy(1, **MACHINE)
    assert "10 % of the requests" in deploy(2, traffic="10", **MACHINE).state
    assert answers(stage) == {1: 90, 2: 10}
    told = [(str(one), one.percent, one.until) for one in there().deployments()]
    assert told == [("digits@v1", 90, WEEK), ("digits@v2", 10, WEEK)]
    deploy(2, traffic="60", **MACHINE)
    assert answers(stage) == {1: 40, 2: 60}
    deploy(2, **MACHINE)
    assert answers(stage) == {2: 100}
    assert str(there().rollback("digits")) == "digits@v1"
    assert answers(stage) == {1: 100}
    [model] = stage.sagemaker.endpoints.models.values()
    assert model.given["EnableNetworkIsolation"] is True


def test_the_same_version_again_keeps_the_one_before(stage: World):
    for version in (1, 2, 2):
        deploy(version)
    assert str(there().rollback("digits")) == "digits@v1"


def test_undeploying_leaves_nothing_and_doing_so_again_is_no_error(stage: World):
    deploy(1)
    deploy(2)
    groups = client(stage, "logs").describe_log_groups()["logGroups"]
    assert [one["logGroupName"] for one in groups] == [f"/aws/sagemaker/Endpoints/{NAME}"]
    assert there().remove("digits") is True
    assert left(stage) == []
    assert client(stage, "logs").describe_log_groups()["logGroups"] == []
    assert there().remove("digits") is False


def test_the_last_day_is_told_by_the_endpoint_too_and_goes_with_a_version_that_has_none(stage: World):
    deploy(1, until="2999-12-31")
    assert [one.until for one in there().deployments()] == ["2999-12-31"]
    deploy(2)
    assert [one.until for one in there().deployments()] == [""]
    deploy(3, until=WEEK)
    there().rollback("digits")
    assert [one.until for one in there().deployments()] == [WEEK]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"allow": "role/x"}, rf"sagemaker:InvokeEndpoint on {ARN}:endpoint/{NAME}"),
        ({"traffic": "10"}, "has one version at a time"),
        ({"traffic": "0"}, "traffic=0 is no number from 1 to 100"),
        ({"max": "201"}, "max=201 is no number from 1 to 200"),
        ({"memory": "1000"}, "memory=1000 is none"),
        ({"memory": "2Gi"}, "give 1024, 2048"),
        ({"machine": "ml.m5.large"}, r"say its last day by until=YYYY-MM-DD"),
        ({"machine": "ml.g5.xlarge", "until": WEEK}, "machine=ml.g5.xlarge is none .* ml.m5.large"),
        ({**MACHINE, "memory": "1024"}, "memory= is of endpoints without a machine"),
        ({**MACHINE, "max": "2"}, "max= is of endpoints without a machine"),
        ({"until": "2020-01-31"}, "until=2020-01-31 is no day to come"),
        ({"until": "2999-W01-1"}, "is no day to come"),
        ({"max_usd": "none"}, "no number of USD"),
        ({"max_usd": "nan"}, "nan are the most"),
        ({"max_usd": "10"}, r"could cost about 52\.56 USD a month.*max_usd=54"),
        ({"max": "3", "max_usd": "100"}, r"157\.68 USD a month"),
        ({**MACHINE, "max_usd": "10"}, r"USD a month, were it busy"),
    ],
)
def test_what_sagemaker_or_the_cap_would_refuse_is_refused_before(
    settings: dict[str, str], why: str, stage: World
):
    with pytest.raises(UserError, match=why):
        deploy(1, **settings)
    assert stage.operations("sagemaker") == []


def test_the_version_before_counts_with_the_machine_that_it_has(
    stage: World, capsys: pytest.CaptureFixture[str]
):
    stage.sagemaker.endpoints.machines["ml.m5.2xlarge"] = 4
    deploy(1, **MACHINE | {"machine": "ml.m5.2xlarge"})
    capsys.readouterr()
    usd = there().prepare(Order("digits", 2, image(2), MACHINE | {"traffic": "10"}))
    known, said = machines(REGION), capsys.readouterr().out
    assert f"{known['ml.m5.2xlarge'] + known['ml.m5.large']:.3f} USD an hour" in said
    assert f"at most about {usd:.2f} USD a month" in said


def test_what_setup_has_not_made_is_said_before_an_image_is_built(stage: World):
    client(stage, "ecr").delete_repository(repositoryName="demo/serve", force=True)
    with pytest.raises(UserError, match=r"no repository demo/serve in ECR; run `make cloud-setup`"):
        there().prepare(_order())
    iam = client(stage, "iam")
    iam.delete_role_policy(RoleName="demo-server", PolicyName="may")
    iam.delete_role(RoleName="demo-server")
    with pytest.raises(UserError, match=r"no role demo-server; run `make cloud-setup`"):
        there().prepare(_order())


def _order() -> Order:
    return Order("digits", 1, "", {})


@pytest.mark.parametrize("first", [{}, MACHINE])
def test_an_endpoint_stays_with_or_without_a_machine(first: dict[str, str], stage: World):
    deploy(1, **first)
    with pytest.raises(UserError, match=r"first: uv run models undeploy digits to=sagemaker"):
        deploy(2, **({} if first else MACHINE))
    assert answers(stage) == {1: 100}


def test_an_endpoint_of_somebody_else_is_left_alone(stage: World):
    deploy(1)
    [endpoint] = stage.sagemaker.endpoints.endpoints.values()
    endpoint.tags["project"] = "another"
    for do in (lambda: deploy(2), lambda: there().remove("digits"), lambda: there().rollback("digits")):
        with pytest.raises(UserError, match="is not of this project"):
            do()
    assert there().deployments() == []
    assert answers(stage) == {1: 100}


def test_models_whose_names_begin_alike_do_not_meet(stage: World):
    for model in ("digits", "digits-v2", "digits-v2-v1-abcde"):
        there().deploy(Order(model, 1, image(1)), lambda ask: None)
    there().remove("digits")
    there().remove("digits-v2")
    assert [one.model for one in there().deployments()] == ["digits-v2-v1-abcde"]
    assert len(left(stage)) == 3


def test_lists_are_read_to_their_end(stage: World):
    stage.sagemaker.endpoints.concurrency = 20
    names = [f"m{number}" for number in range(12)]  # a page has ten
    for model in names:
        there().deploy(Order(model, 1, image(1)), lambda ask: None)
    assert sorted(one.model for one in there().deployments()) == sorted(names)


def test_it_is_found_again_in_the_account_and_region_that_were_noted(stage: World):
    assert there().where == f"{ACCOUNT}/{REGION}"
    deploy(1)
    elsewhere = there().at(f"{ACCOUNT}/eu-west-1")
    assert elsewhere.deployments() == []
    assert elsewhere.at(f"{ACCOUNT}/{REGION}").remove("digits") is True
    with pytest.raises(UserError, match="log in to that one"):
        there().at(f"210987654321/{REGION}").remove("digits")


def test_the_configuration_says_where_and_the_command_finds_it(stage: World):
    found = target("sagemaker")
    assert (found.where, found.REMOTE) == (f"{ACCOUNT}/{REGION}", True)


def test_names_prices_and_images_that_cannot_be():
    with pytest.raises(UserError, match="at most 46 characters"):
        endpoint_name("a" * 50)
    with pytest.raises(UserError, match=r"and not of registry\.example"):
        check_image("registry.example/demo/train:main", Where(ACCOUNT, REGION))
    assert machines("us-east-1")["ml.m5.large"] < machines("eu-west-1")["ml.m5.large"]
    assert "ml.m7i.xlarge" in machines("eu-west-1")
