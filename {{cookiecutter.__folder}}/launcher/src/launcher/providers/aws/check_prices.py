"""Compare the price table with AWS's own list: `make prices`, which needs a login.

Exits with 1 if rows differ. The list is that of the Pricing API, whose products are documents with
attributes; which of them tell an hour of training was found in public programs: for EC2 in
github.com/aws/karpenter-provider-aws (pkg/providers/pricing/pricing.go). Of SageMaker an attribute
says what the instance is for, `component` or, with some, `platoinstancetype`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import UserError
from ...money.prices import table
from ..price_list import Difference, differ, report
from . import auth, pricing

HOME = "us-east-1"  # one of the few regions where the API is; it knows the prices of all
SERVICES = {
    "batch": ("AmazonEC2", "instanceType", ""),
    "sagemaker": ("AmazonSageMaker", "instanceName", "ml."),
}
PLAIN = {
    "batch": {
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "tenancy": "Shared",
    },
    "sagemaker": {"productFamily": "ML Instance"},
}
PURPOSES = ("component", "platoinstancetype")

Prices = dict[tuple[str, str, str], float]  # by backend, type and region


def main() -> None:
    """Print the rows that differ."""
    rows = table(pricing.TABLE)
    try:
        prices = read(rows)
    except UserError as error:
        sys.exit(str(error))
    found = list(compare(rows, prices))
    report(found, len(rows), "AWS")


def read(rows: Iterable[dict[str, str]]) -> Prices:
    """Ask for the prices on demand of each machine of the table, in all regions.

    Raises:
        ServiceError: there is no login, or AWS refuses.
    """
    found: Prices = {}
    for backend, kind in dict.fromkeys((row["backends"], row["type"]) for row in rows):
        service, key, prefix = SERVICES[backend]
        wanted = {key: prefix + kind, **PLAIN[backend]}
        filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
        listed = auth.pages(
            "pricing", "get_products", "PriceList", HOME, ServiceCode=service, Filters=filters
        )
        for region, price in parse(backend, listed):
            # Where two lines fit, the dearer one counts
            place = (backend, kind, region)
            found[place] = max(price, found.get(place, 0.0))
    return found


def parse(backend: str, documents: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Pick region and price of what is a plain hour of an instance, for training where that is said."""
    for document in documents:
        one: dict[str, Any] = json.loads(document)
        attributes = one["product"]["attributes"]
        purposes = {str(attributes.get(key, "")) for key in PURPOSES}
        if backend == "sagemaker" and "Training" not in purposes:
            continue
        for term in one["terms"].get("OnDemand", {}).values():
            for line in term["priceDimensions"].values():
                price = float(line["pricePerUnit"].get("USD", 0))
                if line["unit"] == "Hrs" and price:
                    yield attributes["regionCode"], price


def compare(rows: Iterable[dict[str, str]], prices: Prices) -> Iterator[Difference]:
    """Find prices on demand that differ from the list by more than a rounding.

    Those on spot are made of them: `pricing.py`.
    """
    for row in rows:
        backend, ours = row["backends"], float(row["on_demand"])
        theirs = prices.get((backend, row["type"], row["region"]))
        if differ(ours, theirs):
            yield Difference((row["machine"], backend, row["region"]), ours, theirs)


if __name__ == "__main__":
    main()
