"""AWS's price table: plausible, derived as it says, of the project's own cloud; and what it is compared with."""

import json
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from aws_calls import calls
from launcher.errors import UserError
from launcher.money import prices
from launcher.money.prices import machines, price, pricing
from launcher.providers.aws import auth, check_prices
from launcher.providers.aws import pricing as aws

ROWS = prices.table(aws.TABLE)
BATCH = [each for each in ROWS if each["backends"] == "batch"]
SAGEMAKER = [each for each in ROWS if each["backends"] == "sagemaker"]


@pytest.fixture
def in_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is one of AWS."""
    values = {"package": "demo", "slug": "demo", "cloud": "aws", "region": "us-east-1", "bucket": "b"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (tmp_path / "pyproject.toml").write_text("\n".join(["[tool.launcher]", *lines]))
    monkeypatch.setattr("launcher.project.find_root", lambda folder: tmp_path)


def row(machine: str, region: str, backend: str) -> dict[str, str]:
    wanted = (machine, region, backend)
    (found,) = (each for each in ROWS if (each["machine"], each["region"], each["backends"]) == wanted)
    return found


def test_every_row_is_plausible():
    for each in ROWS:
        assert 0.1 < float(each["spot"]) <= float(each["on_demand"]) < 100, each
        assert bool(each["gpu"]) == (int(each["gpus"]) > 0), each
        assert each["backends"] in ("batch", "sagemaker"), each
        assert float(each["fee"]) == 0, each
    places = [(each["machine"], each["region"], each["backends"]) for each in ROWS]
    assert len(places) == len(set(places))


def test_both_services_know_every_type():
    session: Any = botocore.session.get_session()
    training = session.get_service_model("sagemaker").shape_for("TrainingInstanceType").enum
    plain = session.get_service_model("ec2").shape_for("InstanceType").enum
    for kind in {each["type"] for each in ROWS}:
        assert f"ml.{kind}" in training
        assert kind in plain


def test_no_region_is_in_a_part_of_aws_that_is_not_supported():
    ordinary = botocore.session.get_session().get_available_regions("batch", partition_name="aws")
    for region in {each["region"] for each in ROWS}:
        auth.check_region(region)
        assert region in ordinary


@pytest.mark.usefixtures("in_aws")
def test_a_machine_costs_about_the_same_in_all_regions():
    for machine in machines():
        rows = [float(each["on_demand"]) for each in BATCH if each["machine"] == machine]
        assert max(rows) <= 1.5 * min(rows), machine


def test_spot_is_what_batch_lets_pay_at_most():
    for each in BATCH:
        share, listed = aws.spot_percent(each["type"]) / 100, float(each["on_demand"])
        assert share * (listed - 0.001) <= float(each["spot"]) <= share * listed + 0.001, each


def test_what_batch_lets_pay_is_a_percentage():
    # `bidPercentage` is a whole number of 100 at most: docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html
    for kind in {each["type"] for each in BATCH}:
        share = aws.spot_percent(kind)
        assert isinstance(share, int)
        assert 0 < share <= 100


@pytest.mark.usefixtures("in_aws")
def test_sagemaker_has_no_price_of_its_own_on_spot_and_costs_more():
    for each in BATCH:
        managed, plain = (price(name, each["machine"], each["region"]) for name in ("sagemaker", "batch"))
        assert managed.hourly(spot=True) == managed.hourly(spot=False)
        assert 1.13 < managed.hourly(spot=False) / plain.hourly(spot=False) < 1.41, each


def test_sagemakers_share_is_the_same_in_all_regions():
    for each in SAGEMAKER:
        here = float(each["on_demand"]) / float(row(each["machine"], each["region"], "batch")["on_demand"])
        home = row(each["machine"], "us-east-1", "sagemaker")
        there = float(home["on_demand"]) / float(row(each["machine"], "us-east-1", "batch")["on_demand"])
        assert here == pytest.approx(there, abs=0.01), each


@pytest.mark.usefixtures("in_aws")
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "eu-central-1", "ap-northeast-1"])
@pytest.mark.parametrize("machine", ["cpu-small", "cpu", "t4", "a10g", "a100x8"])
def test_what_a_first_user_meets_has_a_price(machine, region):
    for backend in ("sagemaker", "batch"):
        found = price(backend, machine, region)
        assert found.machine.name == machine
        assert not found.machine.type.startswith("ml.")
        assert found.extra == aws.EXTRA[backend]
        assert found.date == aws.DATE


@pytest.mark.usefixtures("in_aws")
@pytest.mark.parametrize(
    ("machine", "kind", "gpu", "gpus"),
    [
        ("cpu", "m7i.2xlarge", None, 0),
        ("t4x4", "g4dn.12xlarge", "T4", 4),
        ("a10gx4", "g5.12xlarge", "A10G", 4),
        ("l4", "g6.xlarge", "L4", 1),
        ("l40s", "g6e.xlarge", "L40S", 1),
        ("h100", "p5.4xlarge", "H100", 1),
        ("h100x8", "p5.48xlarge", "H100", 8),
    ],
)
def test_what_a_machine_is(machine, kind, gpu, gpus):
    found = price("batch", machine, "us-east-1").machine
    assert (found.type, found.gpu, found.gpus) == (kind, gpu, gpus)


def test_half_a_machine_costs_half():
    for each in BATCH:
        if each["machine"] == "cpu-small":
            whole = row("cpu", each["region"], "batch")
            assert 2 * float(each["on_demand"]) == pytest.approx(float(whole["on_demand"]), abs=0.002)


@pytest.mark.usefixtures("in_aws")
def test_disk_and_address_are_in_both_prices():
    listed = row("a10g", "us-east-1", "batch")
    cost = price("batch", "a10g", "us-east-1")
    assert cost.on_demand == pytest.approx(float(listed["on_demand"]) + aws.EXTRA["batch"])
    assert cost.spot == pytest.approx(float(listed["spot"]) + aws.EXTRA["batch"])


@pytest.mark.usefixtures("in_aws")
def test_a_machine_that_is_not_in_a_region_names_those_where_it_is():
    with pytest.raises(UserError, match=r"no l4 in eu-west-1, only in .*eu-central-1.*us-east-1") as refused:
        price("batch", "l4", "eu-west-1")
    regions = str(refused.value).partition("only in ")[2].partition(":")[0].split(", ")
    assert len(regions) == len(set(regions))


@pytest.mark.usefixtures("in_aws")
def test_prices_are_of_the_projects_own_cloud():
    assert pricing("batch") is aws
    assert "b200x8" not in machines()
    with pytest.raises(UserError, match=r"cloud\.backend=vertex costs is not known"):
        price("vertex", "l4", "us-central1")


def test_a_project_of_another_cloud_does_not_see_them():
    assert pricing("batch") is not aws
    with pytest.raises(UserError, match=r"cloud\.backend=sagemaker costs is not known"):
        price("sagemaker", "l4", "us-east-1")
    assert "a10g" not in machines()


# The comparison with AWS's list


def document(kind: str, region: str, usd: str, unit: str = "Hrs", **attributes: str) -> str:
    """One product, as docs.aws.amazon.com/cli/latest/reference/pricing/get-products.html shows one."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}, "beginRange": "0", "endRange": "Inf"}
    term = {"priceDimensions": {"S.T.R": dimension}, "sku": "S", "termAttributes": {}}
    attributes |= {"regionCode": region, "instanceType": kind}
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "sku": "S", "attributes": attributes},
            "terms": {"OnDemand": {"S.T": term}},
        }
    )


A10G = row("a10g", "us-east-1", "batch")
ML = row("a10g", "us-east-1", "sagemaker")


def test_a_row_that_is_as_aws_lists_it_is_no_difference():
    listed = {("batch", "g5.xlarge", "us-east-1"): 1.006, ("sagemaker", "g5.xlarge", "us-east-1"): 1.4084}
    assert list(check_prices.compare([A10G, ML], listed)) == []


@pytest.mark.parametrize("theirs", [1.002, 1.02, None])
def test_a_row_that_differs_or_is_not_there_is_found(theirs):
    listed = {} if theirs is None else {("batch", "g5.xlarge", "us-east-1"): theirs}
    (found,) = check_prices.compare([A10G], listed)
    assert found.place == ("a10g", "batch", "us-east-1")
    assert (found.ours, found.theirs) == (1.006, theirs)


def test_only_an_hour_of_training_counts_with_sagemaker():
    listed = [
        document("ml.g5.xlarge", "us-east-1", "1.41", component="Training"),
        document("ml.g5.xlarge", "us-west-2", "1.41", platoinstancetype="Training"),
        document("ml.g5.xlarge", "us-east-1", "9.99", component="Hosting"),
        document("ml.g5.xlarge", "us-east-1", "0.14", unit="GB-Mo", component="Training"),
        document("ml.g5.xlarge", "us-east-1", "0.0000000000", component="Training"),
    ]
    assert list(check_prices.parse("sagemaker", listed)) == [("us-east-1", 1.41), ("us-west-2", 1.41)]


def test_a_product_without_a_price_on_demand_is_passed_over():
    reserved = {"product": {"attributes": {"regionCode": "us-east-1"}}, "terms": {"Reserved": {}}}
    assert list(check_prices.parse("batch", [json.dumps(reserved)])) == []


@pytest.mark.usefixtures("in_aws")
def test_all_pages_are_asked_for_where_the_api_is_and_the_exit_status_tells(monkeypatch, capsys):
    monkeypatch.setattr(check_prices, "table", lambda path: [A10G, ML])
    aws_calls = calls(monkeypatch)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        wanted = {each["Field"]: each["Value"] for each in asked["Filters"]}
        assert all(each["Type"] == "TERM_MATCH" for each in asked["Filters"])
        if asked["ServiceCode"] == "AmazonEC2":
            assert (wanted["instanceType"], wanted["tenancy"]) == ("g5.xlarge", "Shared")
            if "NextToken" not in asked:
                return {"PriceList": [document("g5.xlarge", "eu-west-1", "1.123")], "NextToken": "more"}
            return {"PriceList": [document("g5.xlarge", "us-east-1", "1.0060000000")]}
        assert wanted["instanceName"] == "ml.g5.xlarge"
        price = "1.41" if aws_calls.count("GetProducts") < 5 else "1.6"
        return {"PriceList": [document("ml.g5.xlarge", "us-east-1", price, component="Training")]}

    aws_calls.answers["GetProducts"] = answer
    with pytest.raises(SystemExit) as ended:
        check_prices.main()
    assert ended.value.code == 0
    assert {region for region, _, _ in aws_calls.asked} == {"us-east-1"}
    with pytest.raises(SystemExit) as ended:
        check_prices.main()
    assert ended.value.code == 1
    assert "a10g sagemaker us-east-1 table 1.410 AWS 1.600" in " ".join(capsys.readouterr().out.split())


def test_without_a_login_it_says_so(monkeypatch):
    def no_login(*args: Any, **kwargs: Any) -> Any:
        raise UserError("There is no login to AWS here; run `aws sso login`.")

    monkeypatch.setattr(check_prices.auth, "pages", no_login)
    with pytest.raises(SystemExit, match="no login"):
        check_prices.main()
