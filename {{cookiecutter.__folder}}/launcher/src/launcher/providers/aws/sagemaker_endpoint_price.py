"""What an endpoint of SageMaker costs: nothing while nobody asks, or the same each hour. Asks nobody.

Prices are of us-east-1, in USD, rounded up, without the free tier and traffic; those of machines are the highest that several
public projects have for hosting (read on 2026-11-29), and of other CPUs those of `prices.csv`. Elsewhere they are counted as
much dearer as the price table's smallest machine is there: an estimate, which `make prices` does not compare.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from typing import Any

from ...deployment import Order, hours_left, refuse_above
from . import pricing

# For a GB of memory and second of an answer being computed, which no list was found for: compare it with
# aws.amazon.com/sagemaker/pricing. For a GB in or out: github.com/aws-samples/sagemaker-ssh-helper, Sample_Costs.md.
SERVERLESS, TRAFFIC = 0.00002, 0.016
HOSTING = {
    "ml.t2.medium": 0.065,
    "ml.m5.large": 0.115,
    "ml.m5.xlarge": 0.23,
    "ml.m5.2xlarge": 0.461,
    "ml.c5.large": 0.102,
    "ml.c5.xlarge": 0.204,
    "ml.c5.2xlarge": 0.408,
}
DISK = 0.01  # an hour, of a machine's volume
HOME = "us-east-1"


@cache
def _table(region: str) -> dict[str, float]:
    """Give the price of each of the table's machines without a GPU: what serves computes on the CPU."""
    with pricing.TABLE.open(newline="", encoding="utf-8") as file:
        return {
            f"ml.{row['type']}": float(row["on_demand"])
            for row in csv.DictReader(file)
            if row["region"] == region and "sagemaker" in row["backends"].split() and not row["gpu"]
        }


def machines(region: str) -> dict[str, float]:
    """Give the machines that an endpoint may have, each with its price of an hour."""
    share = _share(region)
    hosting = {name: each * share + DISK for name, each in HOSTING.items()}
    return hosting | {name: each + DISK for name, each in _table(region).items()}


def _share(region: str) -> float:
    """Give how much dearer a region is than the one that prices are known of."""
    there, here = _table(region), _table(HOME)
    return max([1.0, *(there[name] / here[name] for name in set(there) & set(here))])


def standing(variant: Mapping[str, Any] | None, region: str) -> float | None:
    """Give the price of an hour of a variant that goes on beside a new one; None where there is none.

    One whose price is not known here counts as the dearest that is.
    """
    if not variant or "InstanceType" not in variant:
        return None
    known = machines(region)
    each = known.get(variant["InstanceType"], max(known.values()))
    return each * int(variant.get("InitialInstanceCount", 1))


def hourly(order: Order, region: str, beside: float | None = None) -> float:
    """Give USD for an hour, busy all of it; arguments as of `said`."""
    if machine := order.settings.get("machine"):
        # While the requests are divided, the old version keeps its own machine.
        return machines(region)[machine] + (beside or 0)
    size = int(order.settings.get("memory", "1024")) / 1024
    return SERVERLESS * _share(region) * size * 3600 * int(order.settings.get("max", "1"))


def most_usd(order: Order, region: str, beside: float | None = None) -> float:
    """Give USD to its end, a month at most, busy day and night; arguments as of `said`."""
    return hourly(order, region, beside) * hours_left(order.settings)


def said(order: Order, region: str, cap: float, beside: float | None = None) -> str:
    """Say what it costs.

    Args:
        cap: USD a month.
        beside: USD an hour of the version before, where the requests are divided.

    Raises:
        UserError: it would pass the cap, were it busy day and night.
    """
    hour, month = hourly(order, region, beside), most_usd(order, region, beside)
    if "machine" in order.settings:
        what = f"{hour:.3f} USD an hour{', both versions together' if beside else ''}, whoever asks"
    else:
        second = hour / 3600 / int(order.settings.get("max", "1"))
        gb = TRAFFIC * _share(region)
        what = (
            f"{second:.7f} USD for each second in which a request is answered and {gb:.3f} USD for a GB in or out, "
            "nothing while nobody asks"
        )
    busy = f"could cost about {month:.2f} USD a month, were it busy day and night"
    refuse_above(order, month, cap, busy)
    return f"It costs about {what}: at most about {month:.2f} USD a month, without traffic."
