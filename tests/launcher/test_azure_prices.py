"""Azure's price table: plausible, never too low on Spot, of the project's own cloud; and what it is compared with."""

from pathlib import Path
from typing import Any

import pytest
from azure_logins import logged_in
from launcher.errors import UserError
from launcher.money import prices
from launcher.money.prices import machines, price, pricing
from launcher.providers.azure import check_prices
from launcher.providers.azure import pricing as azure
from stage.azure import retail
from stage.azure.world import serve

pytestmark = pytest.mark.cloud("azure")
ROWS = prices.table(azure.TABLE)


def row(machine: str, region: str) -> dict[str, str]:
    (found,) = (each for each in ROWS if (each["machine"], each["region"]) == (machine, region))
    return found


def test_every_row_is_plausible():
    for each in ROWS:
        assert 0.08 < float(each["on_demand"]) < 200, each
        assert bool(each["gpu"]) == (int(each["gpus"]) > 0), each
        assert each["type"].startswith("Standard_"), each
        assert each["backends"] in ("azureml", "online", "azureml online"), each
        assert float(each["fee"]) == 0, each
    places = [(each["machine"], each["region"]) for each in ROWS]
    assert len(places) == len(set(places))


def test_what_is_for_endpoints_only_is_offered_to_no_job():
    assert machines("online") == ["cpu-tiny", "cpu-small", "cpu"]
    assert "cpu-tiny" not in machines("azureml")
    tiny, small = (price("online", name, "westeurope") for name in ("cpu-tiny", "cpu-small"))
    assert tiny.hourly(False) == small.hourly(False) / 2 == 0.097


def test_a_name_is_one_machine_everywhere():
    for machine in machines("azureml"):
        rows = [each for each in ROWS if each["machine"] == machine]
        assert len({(each["type"], each["gpu"], each["gpus"]) for each in rows}) == 1, machine


def test_a_machine_costs_about_the_same_in_all_regions():
    for machine in machines("azureml"):
        rows = [float(each["on_demand"]) for each in ROWS if each["machine"] == machine]
        assert max(rows) <= 2 * min(rows), machine


def test_spot_is_never_less_than_azure_may_ask_for_it():
    # The price of Spot machines changes, and Azure ML takes no upper bound but that on demand.
    for each in ROWS:
        assert each["spot"] == each["on_demand"], each
    cost = price("azureml", "h100", "eastus")
    assert cost.worst_case(spot=True, hours=3, nodes=2) == cost.worst_case(spot=False, hours=3, nodes=2)


@pytest.mark.parametrize(
    ("one", "many"), [("a100-80", "a100-80x2"), ("a100-80x2", "a100-80x4"), ("h100", "h100x2")]
)
def test_twice_as_many_gpus_cost_twice_as_much(one, many):
    for each in ROWS:
        if each["machine"] == one:
            assert float(row(many, each["region"])["on_demand"]) == pytest.approx(
                2 * float(each["on_demand"]), rel=0.001
            )


@pytest.mark.parametrize(
    "region", ["eastus", "westus2", "westeurope", "northeurope", "swedencentral", "uksouth"]
)
@pytest.mark.parametrize("machine", ["cpu-small", "cpu", "t4", "t4x4", "a100-80"])
def test_what_a_first_user_meets_has_a_price(machine, region):
    found = price("azureml", machine, region)
    assert found.machine.name == machine
    assert found.extra == azure.EXTRA["azureml"]
    assert found.on_demand == pytest.approx(float(row(machine, region)["on_demand"]) + found.extra)
    assert found.date == azure.DATE


@pytest.mark.parametrize(
    ("machine", "kind", "gpu", "gpus"),
    [
        ("cpu", "Standard_F8s_v2", None, 0),
        ("t4x4", "Standard_NC64as_T4_v3", "T4", 4),
        ("a100x8", "Standard_ND96asr_v4", "A100", 8),
        ("a100-80x8", "Standard_ND96amsr_A100_v4", "A100-80GB", 8),
        ("h100x8", "Standard_ND96isr_H100_v5", "H100-80GB", 8),
    ],
)
def test_what_a_machine_is(machine, kind, gpu, gpus):
    found = price("azureml", machine, "eastus").machine
    assert (found.type, found.gpu, found.gpus) == (kind, gpu, gpus)


def test_a_machine_that_is_not_in_a_region_names_those_where_it_is():
    with pytest.raises(UserError, match=r"no a100x8 in northeurope, only in .*eastus.*westeurope"):
        price("azureml", "a100x8", "northeurope")


def test_prices_are_of_the_projects_own_cloud():
    assert pricing("azureml") is azure
    with pytest.raises(UserError, match=r"cloud\.backend=batch costs is not known"):
        price("batch", "t4", "eastus")


@pytest.mark.cloud("gcp")
def test_a_project_of_another_cloud_does_not_see_them():
    with pytest.raises(UserError, match=r"cloud\.backend=azureml costs is not known"):
        price("azureml", "t4", "eastus")


# The comparison with Azure's list


def item(kind: str, region: str, usd: float, **other: str) -> dict[str, Any]:
    """A line as learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices shows one."""
    plain = kind.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": usd,
        "unitPrice": usd,
        "armRegionName": region,
        "location": region,
        "meterName": plain,
        "productName": "Virtual Machines NCasT4 v3 Series",
        "skuName": plain,
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": kind,
        **other,
    }


T4 = row("t4", "eastus")
KIND = T4["type"]
LISTED = item(KIND, "eastus", 0.526)


def test_a_row_that_is_as_azure_lists_it_is_no_difference():
    assert list(check_prices.compare([T4], {(KIND, "eastus"): 0.5264})) == []


@pytest.mark.parametrize("theirs", [0.5, 0.6, None])
def test_a_row_that_differs_or_is_not_there_is_found(theirs):
    listed = {} if theirs is None else {(KIND, "eastus"): theirs}
    (found,) = check_prices.compare([T4], listed)
    assert (*found.place, found.ours, found.theirs) == ("t4", "eastus", 0.526, theirs)


@pytest.mark.parametrize(
    "other",
    [
        {"productName": "Virtual Machines NCasT4 v3 Series Windows"},
        {"productName": "Virtual Machines NCCadsv5 Srs Win"},
        {"productName": "NCasT4 v3 Series Cloud Services"},
        {"skuName": "NC4as T4 v3 Spot", "meterName": "NC4as T4 v3 Spot"},
        {"skuName": "NC4as T4 v3 Low Priority", "meterName": "NC4as T4 v3 Low Priority"},
        {"type": "DevTestConsumption"},
        {"unitOfMeasure": "1/Month"},
    ],
)
def test_only_a_plain_hour_with_linux_counts(other):
    listed = [item(KIND, "eastus", 9.99, **other), LISTED, item(KIND, "eastus", 0.0)]
    assert list(check_prices.parse(listed)) == [((KIND, "eastus"), 0.526)]


def test_all_pages_are_asked_for_without_a_login_and_the_exit_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu = row("cpu", "westeurope")
    monkeypatch.setattr(check_prices, "table", lambda path: [T4, cpu])
    monkeypatch.setattr(retail, "PAGE", 1)
    with serve(tmp_path / "azure") as world, logged_in(world, None):
        world.retail.items = [
            item(KIND, "westus", 0.631),
            LISTED | {"type": "Reservation", "retailPrice": 2000.0},
            LISTED,
            item(cpu["type"], "westeurope", 0.388),
            item(cpu["type"], "westeurope", 0.1),
            item(cpu["type"], "westeurope", 9.9, serviceName="Virtual Machines Licenses"),
        ]
        with pytest.raises(SystemExit) as ended:
            check_prices.main()
        assert ended.value.code == 0
        assert len(world.paths("retail")) == 4
        assert all("authorization" not in call.headers for call in world.asked)
        world.retail.items[3]["retailPrice"] = 0.4
        with pytest.raises(SystemExit) as ended:
            check_prices.main()
    assert ended.value.code == 1
    assert "cpu westeurope table 0.388 Azure 0.400" in " ".join(capsys.readouterr().out.split())


def test_where_the_list_cannot_be_had_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_prices.auth.time, "sleep", lambda seconds: None)
    with serve(tmp_path / "azure") as world, logged_in(world, None):
        world.fail("retail", "GET", times=None)
        with pytest.raises(SystemExit, match=r"prices\.azure\.com answers 503"):
            check_prices.main()
