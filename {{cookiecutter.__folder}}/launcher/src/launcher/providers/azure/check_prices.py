"""Compare the price table with Azure's own list: `make prices CLOUD=azure`, which needs no login.

Exits with 1 if rows differ. The list is the Retail Prices API
(learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices). It has several lines
for a machine in a region: with Linux and with Windows, on demand, on Spot, and low-priority ones, which
are no longer sold. Which of them is which, only their texts tell; that was found in public programs:
github.com/Azure/karpenter-provider-azure (pkg/providers/pricing/pricing.go) and
github.com/skypilot-org/skypilot (sky/catalog/data_fetchers/fetch_azure.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from ...errors import UserError
from ...money.prices import table
from ..price_list import Difference, differ, report
from . import auth, pricing

LIST = "https://prices.azure.com/api/retail/prices"
API = "2023-01-01-preview"  # from this one on, texts are compared with their case
OTHERS = (" Spot", " Low Priority")  # ends of the name of what is no plain hour
PRODUCTS = (" Win", "CloudServices", "Cloud Services")  # parts of the names of other products

Prices = dict[tuple[str, str], float]  # by type and region


def main() -> None:
    """Print the rows that differ."""
    rows = table(pricing.TABLE)
    try:
        prices = read(rows)
    except UserError as error:
        sys.exit(str(error))
    found = list(compare(rows, prices))
    report(found, len(rows), "Azure")


def read(rows: Iterable[dict[str, str]]) -> Prices:
    """Ask for the prices on demand of each machine of the table, in all regions.

    Raises:
        ServiceError: the list cannot be had.
    """
    found: Prices = {}
    for kind in dict.fromkeys(row["type"] for row in rows):
        wanted = {
            "serviceName": "Virtual Machines",
            "priceType": "Consumption",
            "armSkuName": kind,
        }
        chosen = " and ".join(f"{name} eq '{value}'" for name, value in wanted.items())
        query = {"api-version": API, "$filter": chosen}
        for place, price in parse(_items(f"{LIST}?{urlencode(query)}")):
            # Where two lines fit, the dearer one counts
            found[place] = max(price, found.get(place, 0.0))
    return found


def _items(url: str) -> Iterator[dict[str, Any]]:
    while url:
        answer = auth.call("GET", url, scope="")
        yield from answer.get("Items") or ()
        url = answer.get("NextPageLink") or ""


def parse(items: Iterable[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], float]]:
    """Pick type, region and price of what is a plain hour of a machine with Linux."""
    for item in items:
        names = (item["skuName"], item["meterName"])
        if any(name.endswith(OTHERS) for name in names):
            continue
        if any(word in item["productName"] for word in PRODUCTS):
            continue
        price = float(item["retailPrice"])
        if item["unitOfMeasure"] == "1 Hour" and item["type"] == "Consumption" and price:
            yield (item["armSkuName"], item["armRegionName"]), price


def compare(rows: Iterable[dict[str, str]], prices: Prices) -> Iterator[Difference]:
    """Find prices on demand that differ from the list by more than a rounding.

    Those on spot are the same: `pricing.py`.
    """
    for row in rows:
        ours, theirs = float(row["on_demand"]), prices.get((row["type"], row["region"]))
        if differ(ours, theirs):
            yield Difference((row["machine"], row["region"]), ours, theirs)


if __name__ == "__main__":
    main()
