"""The price table: plausible, complete for a first user, and never too low."""

import pytest

from {{ cookiecutter.package_name }}.cloud import prices
from {{ cookiecutter.package_name }}.cloud.prices import machines, price
from {{ cookiecutter.package_name }}.errors import UserError

ROWS = prices._table()


def test_every_row_is_plausible():
    for row in ROWS:
        on_demand, spot, gpus = float(row["on_demand"]), float(row["spot"]), int(row["gpus"])
        assert 0.05 * on_demand < spot < on_demand < 120, row
        assert bool(row["gpu"]) == (gpus > 0), row
        assert 0.15 <= float(row["fee"]) <= 0.25, row
    places = [(row["machine"], row["region"]) for row in ROWS]
    assert len(places) == len(set(places))


def test_a_machine_costs_about_the_same_in_all_regions():
    for machine in machines():
        rows = [float(row["on_demand"]) for row in ROWS if row["machine"] == machine]
        assert max(rows) < 1.6 * min(rows), machine


@pytest.mark.parametrize("region", ["us-central1", "europe-west4", "asia-southeast1"])
@pytest.mark.parametrize("machine", ["cpu", "t4", "l4", "a100", "h100", "h100x8"])
def test_what_a_first_user_meets_has_a_price(machine, region):
    found = price("vertex", machine, region)
    assert found.machine.name == machine
    assert found.hourly(spot=True) < found.hourly(spot=False)


def test_eight_gpus_cost_eight_times_one():
    one, eight = (price("vertex", name, "us-central1") for name in ("h100", "h100x8"))
    assert eight.machine.gpus == 8 * one.machine.gpus
    assert eight.on_demand == pytest.approx(8 * one.on_demand, rel=0.01)


def test_disk_address_and_the_fee_of_the_service_are_in_both_prices():
    (row,) = (row for row in ROWS if (row["machine"], row["region"]) == ("l4", "us-central1"))
    plain, managed = (price(backend, "l4", "us-central1") for backend in ("gce", "vertex"))
    assert plain.extra == prices.EXTRA["gce"]
    assert managed.extra > plain.extra + 0.1 * float(row["on_demand"])
    for cost in (plain, managed):
        assert cost.on_demand == pytest.approx(float(row["on_demand"]) + cost.extra)
        assert cost.spot == pytest.approx(float(row["spot"]) + cost.extra)


def test_the_worst_case_is_rounded_up_to_a_cent():
    cost = prices.Price(prices.Machine("m", "t"), "r", on_demand=1.0001, spot=0.5)
    assert cost.worst_case(spot=False, hours=1, nodes=1) == 1.01
    assert cost.worst_case(spot=True, hours=3, nodes=2) == 3.0


def test_an_unknown_machine_names_the_nearest():
    with pytest.raises(UserError, match="no machine a10; did you mean a100"):
        price("vertex", "a10", "us-central1")


def test_a_machine_that_is_not_in_a_region_names_those_where_it_is():
    with pytest.raises(UserError, match=r"no a100-80 in us-west1, only in .*us-central1"):
        price("vertex", "a100-80", "us-west1")


def test_this_machine_is_free():
    assert price("local", "here", None).worst_case(spot=False, hours=24, nodes=1) == 0
