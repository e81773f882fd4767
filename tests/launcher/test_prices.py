"""The price table: plausible, complete for a first user, and never too low; and what it is compared with."""

import pytest
from launcher import providers
from launcher.errors import UserError
from launcher.job import Machine
from launcher.money import prices
from launcher.money.prices import Price, machines, price, pricing
from launcher.providers.aws import pricing as aws
from launcher.providers.azure import pricing as azure
from launcher.providers.google import pricing as google

ROWS = prices.table(google.TABLE)
SPOT_ONLY = ("a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g", "a3-ultragpu-8g", "a4-highgpu-8g")
# Of the audit; A100-80 is everywhere where Compute Engine has it
NOT_ON_VERTEX = {
    "NVIDIA_TESLA_T4": {"asia-east1", "europe-west1", "us-east4", "us-west4"},
    "NVIDIA_L4": {
        "asia-east1",
        "asia-northeast1",
        "europe-west1",
        "europe-west2",
        "europe-west3",
        "us-west4",
    },
    "NVIDIA_TESLA_A100": {"asia-northeast1", "us-east1", "us-west1", "us-west4"},
    "NVIDIA_H100_80GB": {"asia-east1", "asia-south1", "europe-west1", "europe-west3", "us-west4"},
}
LATER = {"asia-northeast3", "northamerica-northeast2", "us-east5"}


def row(machine: str, region: str) -> dict[str, str]:
    (found,) = (each for each in ROWS if (each["machine"], each["region"]) == (machine, region))
    return found


def test_every_row_is_plausible():
    for each in ROWS:
        spot, gpus = float(each["spot"]), int(each["gpus"])
        assert 0.01 < spot < 70, each
        if each["on_demand"]:
            assert 0.05 * float(each["on_demand"]) < spot < float(each["on_demand"]) < 120, each
        assert bool(each["gpu"]) == (gpus > 0), each
        assert 0.15 <= float(each["fee"]) <= 0.25, each
        assert each["backends"] in ("vertex batch", "batch"), each
    places = [(each["machine"], each["region"]) for each in ROWS]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("provider", [google, aws, azure])
def test_the_rows_of_a_machine_are_together_and_sorted_by_region(provider):
    rows = prices.table(provider.TABLE)
    names = list(dict.fromkeys(each["machine"] for each in rows))
    assert [each["machine"] for each in rows] == sorted((each["machine"] for each in rows), key=names.index)
    for machine in names:
        regions = [each["region"] for each in rows if each["machine"] == machine]
        assert regions == sorted(regions), machine


@pytest.mark.parametrize("provider", [google, aws, azure])
def test_every_source_is_explained(provider):
    for source in {each["source"] for each in prices.table(provider.TABLE)}:
        assert f"\n    {source} " in (provider.__doc__ or ""), source


def test_a_machine_costs_about_the_same_in_all_regions():
    for machine in machines():
        rows = [float(each["on_demand"] or 0) for each in ROWS if each["machine"] == machine]
        assert max(rows) <= 1.6 * min(rows), machine


@pytest.mark.parametrize("region", ["us-central1", "europe-west4", "asia-southeast1"])
@pytest.mark.parametrize("machine", ["cpu", "t4", "l4", "a100", "h100x8"])
def test_what_a_first_user_meets_has_a_price(machine, region):
    for backend in ("vertex", "batch"):
        found = price(backend, machine, region)
        assert found.machine.name == machine
        assert found.hourly(spot=True) < found.hourly(spot=False)


@pytest.mark.parametrize(
    ("machine", "kind", "gpus"),
    [
        ("cpu-small", "e2-standard-4", 0),
        ("t4x2", "n1-standard-16", 2),
        ("t4x4", "n1-standard-32", 4),
        ("l4x2", "g2-standard-24", 2),
        ("rtx6000", "g4-standard-48", 1),
        ("h100x2", "a3-highgpu-2g", 2),
        ("h100x4", "a3-highgpu-4g", 4),
        ("h200x8", "a3-ultragpu-8g", 8),
        ("b200x8", "a4-highgpu-8g", 8),
    ],
)
def test_what_users_ask_for_has_a_row(machine, kind, gpus):
    found = price("batch", machine, "us-central1").machine
    assert (found.type, found.gpus) == (kind, gpus)


@pytest.mark.parametrize(
    ("machine", "region"),
    [
        ("a100-80", "us-east5"),
        ("l4", "northamerica-northeast2"),
        ("l4", "asia-northeast3"),
        ("t4", "asia-northeast3"),
    ],
)
def test_the_later_regions_have_gpus(machine, region):
    assert price("batch", machine, region).region == region


def test_the_names_that_were_there_stay():
    names = ["cpu", "t4", "l4", "l4x4", "a100", "a100x8", "a100-80", "a100-80x8", "h100", "h100x8"]
    assert set(names) <= set(machines())


def test_a_cheap_machine_is_cheaper():
    for region in ("us-central1", "europe-west4", "asia-east1"):
        small, medium, usual = (
            price("batch", name, region).on_demand or 0 for name in ("cpu-small", "cpu-medium", "cpu")
        )
        assert 0 < small < medium < usual


@pytest.mark.parametrize(("one", "many"), [("h100", "h100x8"), ("t4", "t4x4"), ("rtx6000", "rtx6000x8")])
def test_more_gpus_cost_as_many_times_one(one, many):
    first, all_ = (price("batch", name, "us-central1") for name in (one, many))
    assert all_.spot == pytest.approx(all_.machine.gpus * first.spot, rel=0.05)


def test_disk_address_and_the_fee_of_the_service_are_in_both_prices():
    listed = row("l4", "us-central1")
    plain, managed = (price(backend, "l4", "us-central1") for backend in ("batch", "vertex"))
    assert plain.extra == google.EXTRA["batch"]
    assert managed.extra > plain.extra + 0.1 * float(listed["on_demand"])
    for cost in (plain, managed):
        assert cost.on_demand == pytest.approx(float(listed["on_demand"]) + cost.extra)
        assert cost.spot == pytest.approx(float(listed["spot"]) + cost.extra)
        assert cost.date == google.DATE


def test_local_ssd_that_comes_with_a_machine_is_in_the_price_of_batch():
    # What is commonly named for us-central1: 88.49 for a3-highgpu-8g with 6 TB, 5.07 for a2-ultragpu-1g
    assert price("batch", "h100x8", "us-central1").hourly(False) >= 88.49
    assert price("batch", "a100-80", "us-central1").hourly(False) >= 5.07
    assert google.added("vertex", "a3-highgpu-8g") == google.EXTRA["vertex"]
    assert google.added("batch", "g2-standard-8") == google.EXTRA["batch"]


def test_the_fee_of_a_machine_on_spot_is_of_the_price_on_demand():
    one, eight = (price("vertex", name, "us-central1") for name in ("h100", "h100x8"))
    assert eight.extra - google.EXTRA["vertex"] == pytest.approx(8 * (one.extra - google.EXTRA["vertex"]))


def test_the_worst_case_is_rounded_up_to_a_cent():
    cost = Price(Machine("m", "t"), "r", on_demand=1.0001, spot=0.5)
    assert cost.worst_case(spot=False, hours=1, nodes=1) == 1.01
    assert cost.worst_case(spot=True, hours=3, nodes=2) == 3.0


def test_what_is_only_on_spot_has_no_price_on_demand():
    assert {each["type"] for each in ROWS if not each["on_demand"]} == set(SPOT_ONLY)
    for backend in ("vertex", "batch"):
        cost = price(backend, "h100", "us-central1")
        assert cost.on_demand is None
        assert cost.worst_case(spot=True, hours=1, nodes=1) > 5
        assert cost.text().endswith("only on spot")
        only = r"h100 \(a3-highgpu-1g\) is only to be had on spot: .*cloud\.spot=true"
        with pytest.raises(UserError, match=only):
            cost.hourly(spot=False)
        with pytest.raises(UserError, match=only):
            cost.worst_case(spot=False, hours=1, nodes=1)


def test_both_prices_are_said():
    assert (
        Price(Machine("m", "t"), "r", 1.0, 0.5).text() == "0.50 USD an hour and node on spot, 1.00 on demand"
    )


def test_vertex_does_not_have_every_machine_everywhere():
    for each in ROWS:
        if each["gpu"] in NOT_ON_VERTEX:
            gone = NOT_ON_VERTEX[each["gpu"]] | LATER
            assert ("vertex" in each["backends"].split()) == (each["region"] not in gone), each
    before = ("t4", "l4", "l4x4", "a100", "a100x8", "h100", "h100x8")
    missing = [each for each in ROWS if each["machine"] in before and each["backends"] == "batch"]
    assert len([each for each in missing if each["region"] not in LATER]) == 34


def test_a_pair_that_a_backend_lacks_names_its_regions_and_who_has_it():
    with pytest.raises(UserError) as refused:
        price("vertex", "l4", "europe-west1")
    text = str(refused.value)
    there = text.partition(", only in ")[2].partition(":")[0].split(", ")
    assert "For cloud=vertex the price table of" in text
    assert "no l4 in europe-west1" in text
    assert there == [r["region"] for r in ROWS if r["machine"] == "l4" and "vertex" in r["backends"]]
    assert "or cloud=batch, which has it there" in text
    assert price("batch", "l4", "europe-west1").region == "europe-west1"


def test_a_machine_that_a_backend_has_nowhere():
    with pytest.raises(
        UserError, match=r"no b200x8 in us-central1, nor in any other region: choose cloud=batch"
    ):
        price("vertex", "b200x8", "us-central1")
    assert "b200x8" not in machines("vertex")
    assert "b200x8" in machines("batch")


def test_a_machine_that_is_not_in_a_region_names_those_where_it_is():
    with pytest.raises(UserError, match=r"no a100-80 in us-west1, only in .*us-central1") as refused:
        price("vertex", "a100-80", "us-west1")
    assert "cloud=batch" not in str(refused.value)


def test_an_unknown_machine_names_the_nearest():
    with pytest.raises(UserError, match="no machine a10; did you mean a100"):
        price("vertex", "a10", "us-central1")
    with pytest.raises(UserError, match=r"no machine supercomputer; there are cpu-small, .*b200x8"):
        price("batch", "supercomputer", "us-central1")


def test_this_machine_is_free():
    assert price("local", "here", None).worst_case(spot=False, hours=24, nodes=1) == 0


def test_a_backend_that_no_provider_prices():
    with pytest.raises(UserError, match=r"cloud\.backend=abacus costs is not known"):
        price("abacus", "cpu", "us-central1")


def test_the_first_provider_that_names_a_backend_prices_it(tmp_path, monkeypatch):
    """Another provider is one more folder: nothing in `money/` names one."""
    folder = tmp_path / "abacus"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "prices.csv").write_text(
        "machine,type,gpu,gpus,region,on_demand,spot,fee,backends,source\n"
        "beads,b1,,0,here,2.0,1.0,0.5,counting,own\n"
    )
    (folder / "pricing.py").write_text(
        "from pathlib import Path\nDATE = '2026-01-01'\nTABLE = Path(__file__).parent / 'prices.csv'\n"
        "EXTRA = {'counting': 0.25}\nFEE = ()\n"
        "def added(backend, machine_type):\n    return EXTRA[backend]\n"
    )
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    prices._providers.cache_clear()
    try:
        cost = price("counting", "beads", "here")
        assert pricing("vertex") is google
    finally:
        prices._providers.cache_clear()
    assert (cost.on_demand, cost.spot, cost.date) == (2.25, 1.25, "2026-01-01")


@pytest.mark.parametrize(
    ("kind", "batch", "vertex"),
    [
        ("n1-standard-8", "pd-balanced", "pd-ssd"),
        ("a2-ultragpu-1g", "pd-balanced", "pd-ssd"),
        ("a3-highgpu-8g", "pd-balanced", "pd-ssd"),
        ("a3-ultragpu-8g", "hyperdisk-balanced", "hyperdisk-balanced"),
        ("a4-highgpu-8g", "hyperdisk-balanced", "hyperdisk-balanced"),
        ("g4-standard-48", "hyperdisk-balanced", "hyperdisk-balanced"),
    ],
)
def test_boot_disks(kind, batch, vertex):
    assert google.boot_disk(kind) == google.boot_disk(kind, "batch") == batch
    assert google.boot_disk(kind, "vertex") == vertex
