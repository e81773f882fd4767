"""Of a list of machines the first that can be had is taken, and each that was passed over gets its reason."""

from types import SimpleNamespace

import pytest
from launcher.errors import UserError
from launcher.money.prices import machines, price
from launcher.planning.machines import UNKNOWN, choose, table
from omegaconf import OmegaConf

REGION = "us-central1"


def settings(machine, **cloud):
    given = {
        "backend": "vertex",
        "region": REGION,
        "machine": machine,
        "spot": True,
        "nodes": 1,
        "max_hours": 1.0,
        "max_cost_usd": 100.0,
    }
    return OmegaConf.create({"cloud": {**given, **cloud}})


def allowing(**counts):
    """The quota of an account: of the machines named so many on spot, of others none."""
    by_type = {price("vertex", name, REGION).machine: count for name, count in counts.items()}
    return lambda machine, spot: by_type.get(machine, 0) if spot else 0


def test_the_first_that_the_account_may_have_is_taken_and_the_others_are_explained():
    choice = choose(settings(["l4", "t4", "cpu"]), 1, 1, allowing(t4=1))
    assert choice.name == "t4"
    assert choice.passed == (f"l4: the account's quota allows 0 on spot in {REGION}, and 1 is needed",)
    assert choice.text().startswith("chosen    t4 (l4: ")


def test_one_machine_is_no_choice_and_nobody_is_asked():
    def never(machine, spot):
        raise AssertionError("asked")

    choice = choose(settings("l4"), 1, 1, never)
    assert (choice.name, choice.text()) == ("l4", "")
    assert choose(settings(["l4"]), 1, 1, never).name == "l4"


def test_all_nodes_need_quota_at_the_same_time():
    assert choose(settings(["l4", "t4"]), 2, 1, allowing(l4=1, t4=2)).name == "t4"


def test_what_the_cap_does_not_allow_is_passed_over_with_every_start_counted():
    l4 = price("vertex", "l4", REGION).worst_case(True, 1.0, 1)
    enough = settings(["l4", "t4"], max_cost_usd=l4 * 1.01)
    assert choose(enough, 1, 1, None).name == "l4"
    choice = choose(settings(["l4", "cpu"], max_cost_usd=l4 * 1.01), 1, 2, None)
    assert choice.name == "cpu"
    assert f"could cost {2 * l4:.2f} USD" in choice.passed[0]


def test_what_the_region_does_not_have_is_passed_over():
    choice = choose(settings(["l4", "t4"], region="europe-west2"), 1, 1, None)
    assert choice.name == "t4"
    assert choice.passed[0].startswith("l4: For cloud=vertex the price table")
    assert choice.passed[0].endswith("cloud.machine=...")


def test_where_none_can_be_had_every_reason_is_told_and_what_to_do():
    with pytest.raises(UserError) as refused:
        choose(settings(["l4", "t4"]), 1, 1, allowing())
    said = str(refused.value)
    assert said.startswith("None of cloud.machine=[l4,t4] can be had: l4: ")
    assert "; t4: " in said
    assert "doctor_only=true" in said
    assert "max_hours" not in said


def test_where_all_cost_too_much_the_cap_and_the_hours_are_what_to_change():
    with pytest.raises(UserError) as refused:
        choose(settings(["l4", "t4"], max_cost_usd=0.01), 1, 1, allowing())
    remedy = str(refused.value).rpartition("cloud.max_cost_usd=0.01. ")[2]
    assert remedy == (
        "Give a lower cloud.max_hours or a higher cloud.max_cost_usd, "
        "or another cloud.machine (cpu trains without a GPU)."
    )


def test_each_reason_has_its_remedy_once():
    with pytest.raises(UserError) as refused:
        choose(settings(["a100", "l4", "t4"], max_cost_usd=1), 1, 1, allowing())
    remedy = str(refused.value).rpartition(". Give ")[2]
    assert remedy.startswith(
        "a lower cloud.max_hours or a higher cloud.max_cost_usd, another cloud.region or"
    )
    assert remedy.count("quota") == 1


@pytest.mark.parametrize("names", [["l4", "l5"], ["l5", "l4"], ["l5"]])
def test_a_list_with_a_machine_that_nobody_has_is_refused_as_that_alone_is(names):
    with pytest.raises(UserError, match=r"^There is no machine l5; did you mean l4\?$"):
        choose(settings(names), 1, 1, None)


def test_quotas_that_cannot_be_read_forbid_nothing():
    def fails(machine, spot):
        raise UserError("no permission")

    assert choose(settings(["l4", "t4"]), 1, 1, fails).name == "l4"
    assert choose(settings(["l4", "t4"]), 1, 1, lambda *_: None).name == "l4"


def test_on_demand_asks_for_that_quota():
    asked = []

    def allowance(machine, spot):
        asked.append(spot)
        return 1

    choose(settings(["l4", "t4"], spot=False), 1, 1, allowance)
    assert asked == [False]


def test_the_table_shows_each_machine_of_the_region_with_prices_and_quota():
    cloud = SimpleNamespace(backend="vertex", region=REGION)
    head, *rows = table(cloud, allowing(t4=1))
    by_name = {row.split()[0]: row.split() for row in rows}
    offered = []
    for name in machines("vertex"):
        try:
            price("vertex", name, REGION)
            offered.append(name)
        except UserError:
            pass
    assert list(by_name) == offered
    assert "may have: spot" in head
    t4 = price("vertex", "t4", REGION)
    assert by_name["t4"][1:] == [t4.machine.type, f"{t4.spot:.2f}", f"{t4.on_demand:.2f}", "1", "0"]
    assert len({len(row) for row in (head, *rows)}) == 1


def test_the_table_says_where_a_quota_cannot_be_told_and_what_is_spot_only():
    cloud = SimpleNamespace(backend="vertex", region=REGION)
    rows = {row.split()[0]: row for row in list(table(cloud, None))[1:]}
    assert rows["l4"].count(UNKNOWN) == 2
    only = [name for name in rows if price("vertex", name, REGION).on_demand is None]
    assert only
    assert all(rows[name].rstrip().endswith("spot only") for name in only)
