"""Compare the price table with Google's own list: `make prices`, which needs a login.

Exits with 1 if rows differ. The list is the Cloud Billing Catalog API, which has no machines but
SKUs (docs.cloud.google.com/billing/v1/how-tos/catalog-api): the hour of a vCPU, a GiB of memory, a
GPU, each by family, region and kind of use. Their descriptions are for people, so what is looked
for is what others have found there: github.com/dstackai/gpuhunt 0.1.34 (providers/gcp.py) and
SkyPilot 0.14.1 (sky/catalog/data_fetchers/fetch_gcp.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ...money.prices import table
from ..price_list import Difference, differ, report
from . import auth, pricing

SERVICE = "6F81-5844-456A"  # Compute Engine
PAGE = 5000  # SKUs, the most that the API gives at once

# What a SKU of a family is called; vCPUs and GiB for each of what the machine's name counts (vCPUs,
# or GPUs as in `-1g`). Of an A4, the GPU's SKU is the whole machine.
FAMILIES = {
    "e2-standard": ("E2 Instance", 1, 4),
    "n1-standard": ("N1 Predefined Instance", 1, 3.75),
    "g2-standard": ("G2 Instance", 1, 4),
    "g4-standard": ("G4 Instance", 1, 3.75),
    "a2-highgpu": ("A2 Instance", 12, 85),
    "a2-ultragpu": ("A2 Instance", 12, 170),
    "a3-highgpu": ("A3 Instance", 26, 234),
    "a3-ultragpu": ("A3 Instance", 28, 369),
    "a4-highgpu": ("", 0, 0),
}
GPUS = {
    "NVIDIA_TESLA_T4": "Tesla T4 GPU",
    "NVIDIA_L4": "Nvidia L4 GPU",
    "NVIDIA_TESLA_A100": "Tesla A100 GPU",
    "NVIDIA_A100_80GB": "A100 80GB GPU",
    "NVIDIA_H100_80GB": "H100 80GB GPU",
    "NVIDIA_H200_141GB": "H200 141GB GPU",
    "NVIDIA_B200": "A4 Nvidia B200 (1 gpu slice)",
    "NVIDIA_RTX_PRO_6000": "RTX 6000 96GB",
}
# Other ways to get the same thing, at other prices
OTHERS = ("custom", "commitment", "dws", "premium", "reserved", "sole tenancy", "suspended")


@dataclass(frozen=True)
class Sku:
    """One line of the list.

    Args:
        text: its description.
        spot: whether it is of a machine that may be taken away.
        price: USD for one hour of one unit.
    """

    text: str
    spot: bool
    regions: tuple[str, ...]
    price: float


def main() -> None:
    """Print the rows that differ."""
    try:
        skus = list(read())
    except UserError as error:
        sys.exit(str(error))
    rows = table(pricing.TABLE)
    found = list(compare(rows, skus))
    report(found, len(rows), "Google")


def read() -> Iterator[Sku]:
    """Ask for the whole list, page by page.

    Raises:
        ServiceError: there is no login, or Google refuses.
    """
    url = f"{auth.endpoint('cloudbilling')}/v1/services/{SERVICE}/skus"
    page = ""
    while True:
        answer = auth.call("GET", url, params={"pageSize": PAGE, "pageToken": page})
        yield from parse(answer.get("skus", []))
        page = answer.get("nextPageToken", "")
        if not page:
            return


def parse(skus: Iterable[dict[str, Any]]) -> Iterator[Sku]:
    """Pick what is a plain hour of a machine's part, on demand or on spot."""
    for sku in skus:
        category, text = sku["category"], sku["description"]
        usage = category["usageType"]
        if category["resourceFamily"] != "Compute" or usage not in ("OnDemand", "Preemptible"):
            continue
        if any(word in text.lower() for word in OTHERS) or not sku.get("pricingInfo"):
            continue
        # Some SKUs of the B200 say "OnDemand" of spot (fetch_gcp.py), so the text decides too.
        spot = usage == "Preemptible" or "spot preemptible" in text.lower()
        # The last rate is the one that is left when what is free of charge has been used.
        rate = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
        price = int(rate.get("units", 0)) + rate.get("nanos", 0) / 1e9
        yield Sku(text, spot, tuple(sku["serviceRegions"]), price)


def compare(rows: Iterable[dict[str, str]], skus: list[Sku]) -> Iterator[Difference]:
    """Find prices of the table that differ from the list by more than a rounding."""
    for row in rows:
        for tier in ("on_demand", "spot"):
            if not row[tier]:
                continue
            here = [s for s in skus if s.spot == (tier == "spot") and row["region"] in s.regions]
            ours, theirs = float(row[tier]), _compose(row, here)
            if differ(ours, theirs):
                yield Difference((row["machine"], row["region"], tier), ours, theirs)


def _compose(row: dict[str, str], skus: list[Sku]) -> float | None:
    """Add up a machine's parts; None where one is not in the list."""
    family, _, size = row["type"].rpartition("-")
    name, cpus, memory = FAMILIES[family]
    number = int(size.removesuffix("g"))
    parts = [(f"{name} Core", cpus * number), (f"{name} Ram", memory * number)] if name else []
    if row["gpu"]:
        parts.append((GPUS[row["gpu"]], int(row["gpus"])))
    total = 0.0
    for text, amount in parts:
        # Where two lines fit, the dearer one: the other has a discount that not everybody gets.
        unit = max((sku.price for sku in skus if text in sku.text), default=None)
        if unit is None:
            return None
        total += unit * amount
    return total


if __name__ == "__main__":
    main()
