"""The table of Google's prices is compared with Google's own list."""

import json
from pathlib import Path

import pytest
from google_server import google_server
from launcher.errors import UserError
from launcher.providers.google import check_prices
from launcher.providers.google import pricing as google
from test_prices import ROWS

# The comparison with Google's list


def sku(text: str, usd: float, *regions: str, usage: str = "OnDemand", family: str = "Compute") -> dict:
    """One SKU by docs.cloud.google.com/billing/v1/how-tos/catalog-api; `units` is a text (int64)."""
    units, nanos = divmod(round(usd * 1e9), 10**9)
    money = {"currencyCode": "USD", "units": str(units), "nanos": nanos}
    expression = {
        "usageUnit": "h",
        "displayQuantity": 1,
        "tieredRates": [{"startUsageAmount": 0, "unitPrice": money}],
    }
    return {
        "name": f"services/{check_prices.SERVICE}/skus/0000-0000-0000",
        "skuId": "0000-0000-0000",
        "description": text,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {"summary": "", "pricingExpression": expression, "effectiveTime": "2026-11-26T00:00:00Z"}
        ],
        "serviceProviderName": "Google",
    }


L4 = {
    "machine": "l4",
    "type": "g2-standard-8",
    "gpu": "NVIDIA_L4",
    "gpus": "1",
    "region": "us-central1",
    "on_demand": "0.854",
    "spot": "0.437",
}
LIST = [
    sku("G2 Instance Core running in Americas", 0.024988, "us-central1", "us-east1"),
    sku("G2 Instance Ram running in Americas", 0.002927, "us-central1", "us-east1"),
    sku("Nvidia L4 GPU running in Americas", 0.560040, "us-central1", "us-east1"),
    sku("G2 Instance Core running in Tokyo", 9, "asia-northeast1"),
    sku("G2 Custom Instance Core running in Americas", 9, "us-central1"),
    sku("Nvidia L4 GPU attached to DWS Defined Duration VMs running in Americas", 9, "us-central1"),
    sku("Commitment v1: Nvidia L4 GPU running in Americas for 1 Year", 9, "us-central1", usage="Commit1Yr"),
    sku("Nvidia L4 GPU running in Americas", 9, "us-central1", family="License"),
    sku("Spot Preemptible G2 Instance Core running in Americas", 0.01277, "us-central1", usage="Preemptible"),
    sku("Spot Preemptible G2 Instance Ram running in Americas", 0.001496, "us-central1", usage="Preemptible"),
    sku(
        "Nvidia L4 GPU attached to Spot Preemptible VMs running in Americas",
        0.2862,
        "us-central1",
        usage="OnDemand",
    ),
]


def test_a_row_that_is_as_google_lists_it_is_no_difference():
    assert list(check_prices.compare([L4], list(check_prices.parse(LIST)))) == []


@pytest.mark.parametrize(
    ("tier", "ours"), [("on_demand", "0.850"), ("on_demand", "0.858"), ("spot", "0.341")]
)
def test_a_row_that_differs_by_more_than_a_rounding_is_found(tier, ours):
    (found,) = check_prices.compare([L4 | {tier: ours}], list(check_prices.parse(LIST)))
    assert (*found.place, found.ours) == ("l4", "us-central1", tier, float(ours))
    assert found.theirs == pytest.approx(float(L4[tier]), abs=0.001)


def test_of_two_prices_for_a_part_the_dearer_counts():
    skus = list(check_prices.parse([*LIST, sku("Nvidia L4 GPU running in Americas", 0.25, "us-central1")]))
    assert list(check_prices.compare([L4], skus)) == []


def test_a_part_that_google_does_not_list_is_a_difference_and_no_price_is_none():
    skus = list(check_prices.parse(LIST[1:]))
    (found,) = check_prices.compare([L4], skus)
    assert (found.place[-1], found.theirs) == ("on_demand", None)
    assert list(check_prices.compare([L4 | {"on_demand": ""}], skus)) == []


def test_every_machine_of_the_table_can_be_composed():
    for each in ROWS:
        name, cpus, memory = check_prices.FAMILIES[each["type"].rpartition("-")[0]]
        assert (cpus > 0) == (memory > 0) == bool(name)
        assert not each["gpu"] or each["gpu"] in check_prices.GPUS


def test_all_pages_are_read_and_the_exit_status_tells(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "prices.csv").write_text(",".join(L4) + "\n" + ",".join(L4.values()) + "\n")
    monkeypatch.setattr(google, "TABLE", tmp_path / "prices.csv")
    with google_server(tmp_path, monkeypatch) as server:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING", f"http://{server.host}/")
        path = f"/v1/services/{check_prices.SERVICE}/skus"
        server.say("GET", path, {"skus": LIST[:2], "nextPageToken": "more"})
        server.say("GET", path, {"skus": json.loads(json.dumps(LIST[2:])), "nextPageToken": ""})
        with pytest.raises(SystemExit) as ended:
            check_prices.main()
        assert ended.value.code == 0
        assert [asked["query"].get("pageToken", [""])[0] for asked in server.sent("GET", path)] == [
            "",
            "more",
        ]
        # The second page alone lacks the machine's core
        with pytest.raises(SystemExit) as ended:
            check_prices.main()
        assert ended.value.code == 1
        assert "l4 us-central1 on_demand table 0.854 Google absent" in " ".join(
            capsys.readouterr().out.split()
        )


def test_without_a_login_it_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(check_prices.auth, "call", _no_login)
    with pytest.raises(SystemExit, match="no login"):
        check_prices.main()


def _no_login(*args, **kwargs):
    raise UserError("There is no login to Google Cloud here; run `gcloud auth application-default login`.")
