"""What a machine costs: a table with a date, so that a price can be said before anything is started.

The rows of `prices.csv` are prices of Compute Engine in USD for one node and hour, GPUs included, rounded up to a
tenth of a cent, taken from SkyPilot's public catalogue (skypilot-org/skypilot-catalog, catalogs/v8/gcp/vms.csv,
commit 006059e). Where the catalogue gives a price with a commitment (it is then below half of what other regions
pay), the row holds the price without one. To correct or add a machine, edit the CSV file and the date here.

Vertex AI adds a management fee for training. Its share of the price on demand is the column `fee`, rounded up. How
much of it is asked on a spot machine is not documented, so all of it is counted. To each machine comes its boot disk,
and to a virtual machine its address: `EXTRA`, of Google's public price lists, rounded up to a cent.
"""

from __future__ import annotations

import csv
import difflib
import functools
import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .job import Machine

DATE = "2026-11-22"
FREE = ("local",)  # backends that cost nothing
WITH_FEE = ("vertex",)
# USD an hour: 100 GB of SSD; 100 GB of balanced disk and an address
EXTRA = {"vertex": 0.03, "gce": 0.02}
TABLE = Path(__file__).with_name("prices.csv")


@dataclass(frozen=True)
class Price:
    """What one node of a machine costs in one region.

    Args:
        region: None for the machine this runs on.
        on_demand: USD an hour, the provider's fee included.
        spot: the same on a machine that may be taken away.
        extra: USD an hour that both prices hold for disk, address and the provider's management fee.
    """

    machine: Machine
    region: str | None
    on_demand: float
    spot: float
    extra: float = 0.0

    def hourly(self, spot: bool) -> float:
        """Give USD for one node and hour."""
        return self.spot if spot else self.on_demand

    def worst_case(self, spot: bool, hours: float, nodes: int) -> float:
        """Give USD for all nodes when the job runs until its time limit, rounded up to a cent."""
        return math.ceil(round(self.hourly(spot) * hours * nodes * 100, 6)) / 100


def price(backend: str, machine: str, region: str | None) -> Price:
    """Find a machine in the table.

    Raises:
        UserError: there is no such machine, or it is not in that region; names the nearest machine or the regions.
    """
    if backend in FREE:
        return Price(Machine(machine, "this machine"), None, 0.0, 0.0)
    rows = [row for row in _table() if row["machine"] == machine]
    if not rows:
        raise UserError(f"There is no machine {machine}{_nearest(machine)}")
    for row in rows:
        if row["region"] == region:
            return _price(row, EXTRA.get(backend, 0.0), fee=backend in WITH_FEE)
    regions = ", ".join(row["region"] for row in rows)
    raise UserError(
        f"The price table of {DATE} has no {machine} in {region}, only in {regions}: choose one of these with "
        "cloud.region=... or another machine with cloud.machine=..."
    )


def machines() -> list[str]:
    """Give the names of all machines, smallest first."""
    return list(dict.fromkeys(row["machine"] for row in _table()))


def _price(row: dict[str, str], extra: float, fee: bool) -> Price:
    on_demand, spot = float(row["on_demand"]), float(row["spot"])
    added = extra + (on_demand * float(row["fee"]) if fee else 0.0)
    machine = Machine(row["machine"], row["type"], row["gpu"] or None, int(row["gpus"]))
    return Price(machine, row["region"], on_demand + added, spot + added, added)


@functools.cache
def _table() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _nearest(machine: str) -> str:
    close = difflib.get_close_matches(machine, machines(), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(machines())}."
