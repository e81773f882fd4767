"""What a machine costs: a table with a date, so that a price is said before anything is started.

Each provider keeps its own, in `providers/<folder>/`: `prices.csv`, and `pricing.py`, which says
where the rows come from and what a backend adds to them. The table's columns:

    machine     name for `cloud.machine`
    type        what the provider calls it
    gpu, gpus   which GPU, as the provider calls it, and how many
    region      where
    on_demand   USD for one node and hour, GPUs included; empty where it is only to be had on spot
    spot        the same on a machine that may be taken away
    fee         share of the price on demand that a managed service adds
    backends    those that have this machine in this region
    source      key of a source, explained in `pricing.py`
"""

from __future__ import annotations

import csv
import difflib
import functools
import importlib
import importlib.util
import math
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from .. import providers
from ..errors import UserError
from ..job import Machine
from ..project import project

FREE = ("local",)  # backends that cost nothing


class Pricing(Protocol):
    """What the module `pricing` of a provider's folder holds.

    Args:
        DATE: of the table, as text.
        TABLE: the CSV file.
        EXTRA: USD an hour that a backend adds to every machine (disk, address).
        FEE: the backends that also ask the share in the column `fee`.
    """

    DATE: str
    TABLE: Path
    EXTRA: Mapping[str, float]
    FEE: tuple[str, ...]

    def added(self, backend: str, machine_type: str) -> float:
        """Give USD an hour that a backend adds to this machine, its fee left out."""
        ...


@dataclass(frozen=True)
class Price:
    """What one node of a machine costs in one region.

    Args:
        region: None for what costs nothing, as the machine this runs on.
        on_demand: USD an hour, the provider's fee included; None: it is only to be had on spot.
        spot: the same on a machine that may be taken away.
        extra: USD an hour that both prices hold for disks, address and the provider's fee.
        date: of the price table; without a region, why it is not known whether it costs anything.
    """

    machine: Machine
    region: str | None
    on_demand: float | None
    spot: float
    extra: float = 0.0
    date: str = ""

    def hourly(self, spot: bool) -> float:
        """Give USD for one node and hour.

        Raises:
            UserError: it is asked for on demand, and is only to be had on spot.
        """
        if spot:
            return self.spot
        if self.on_demand is None:
            raise UserError(
                f"{self.machine.name} ({self.machine.type}) is only to be had on spot: give "
                "cloud.spot=true, or choose another machine with cloud.machine=... (a notebook is "
                "never on spot)."
            )
        return self.on_demand

    def worst_case(self, spot: bool, hours: float, nodes: int) -> float:
        """Give USD for all nodes when the job runs until its time limit, rounded up to a cent.

        Raises:
            UserError: as `hourly`.
        """
        return math.ceil(round(self.hourly(spot) * hours * nodes * 100, 6)) / 100

    def text(self) -> str:
        """Say both prices."""
        demand = f"{self.on_demand:.2f} on demand" if self.on_demand is not None else "only on spot"
        return f"{self.spot:.2f} USD an hour and node on spot, {demand}"


def price(
    backend: str, machine: str, region: str | None, cloud: object = None, dry_run: bool = False
) -> Price:
    """Find a machine in the table of a backend's provider, or ask a backend that knows its prices itself.

    Args:
        cloud: the section of the configuration, for such a backend.
        dry_run: nothing is to be started, so such a backend may leave a price open.

    Raises:
        UserError: there is no such machine, or this backend does not have it in that region; names
            the nearest machine, or the regions and backends that have it. Also if the backend has
            no prices.
    """
    if backend in FREE:
        return Price(Machine(machine, "this machine"), None, 0.0, 0.0)
    if own := _own(backend):
        return own(cloud, machine, dry_run)
    source = pricing(backend)
    rows = _rows(source, machine, backend)
    for row in rows:
        if row["region"] == region and backend in row["backends"].split():
            return _price(row, source, backend)
    raise UserError(_elsewhere(rows, source.DATE, backend, region))


def _own(backend: str) -> Callable[[object, str, bool], Price] | None:
    """Give what a backend tells its prices by, where it knows them itself."""
    with suppress(UserError):
        return getattr(providers.find(backend), "price", None)
    return None


def check_machine(backend: str, machine: str) -> None:
    """Refuse a machine that the table of a backend's provider does not have at all.

    Raises:
        UserError: naming the nearest. Also if the backend has no prices.
    """
    if backend not in FREE and not _own(backend):
        _rows(pricing(backend), machine, backend)


def machines(backend: str | None = None) -> list[str]:
    """Give the names of all machines, smallest first; of one backend, or of all.

    Raises:
        UserError: the backend has no prices.
    """
    sources = [pricing(backend)] if backend else _providers(project().cloud)
    rows = (row for source in sources for row in table(source.TABLE))
    return list(
        dict.fromkeys(
            row["machine"] for row in rows if not backend or backend in row["backends"].split()
        )
    )


def pricing(backend: str) -> Pricing:
    """Give the module `pricing` of the provider whose backend this is: the first that has it in
    `EXTRA`, among those that are not another cloud's.

        Raises:
            UserError: there is none.
    """
    for source in _providers(project().cloud):
        if backend in source.EXTRA:
            return source
    raise UserError(
        f"What cloud.backend={backend} costs is not known: no pricing.py in a folder of "
        f"{providers.__name__} has it in EXTRA."
    )


@functools.cache
def table(path: Path) -> list[dict[str, str]]:
    """Read a table; all values are texts."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _providers(cloud: str) -> list[Pricing]:
    # Two clouds may have a backend of the same name
    others = {folder for name, folder in providers.FOLDERS.items() if name != cloud}
    names = [
        f"{providers.__name__}.{each.name}.pricing"
        for each in pkgutil.iter_modules(providers.__path__)
        if each.ispkg and each.name not in others
    ]
    return [
        cast(Pricing, importlib.import_module(name))
        for name in names
        if importlib.util.find_spec(name)
    ]


def _rows(source: Pricing, machine: str, backend: str) -> list[dict[str, str]]:
    rows = [row for row in table(source.TABLE) if row["machine"] == machine]
    if not rows:
        raise UserError(f"There is no machine {machine}{_nearest(machine, backend)}")
    return rows


def _price(row: dict[str, str], source: Pricing, backend: str) -> Price:
    spot = float(row["spot"])
    on_demand = float(row["on_demand"]) if row["on_demand"] else None
    added = source.added(backend, row["type"])
    if backend in source.FEE:
        added += _listed(row, source) * float(row["fee"])
    machine = Machine(row["machine"], row["type"], row["gpu"] or None, int(row["gpus"]))
    whole = None if on_demand is None else on_demand + added
    return Price(machine, row["region"], whole, spot + added, added, source.DATE)


def _listed(row: dict[str, str], source: Pricing) -> float:
    """Give what the fee is a share of: the price on demand, be it that of a larger machine with the
    same GPU."""
    if row["on_demand"]:
        return float(row["on_demand"])
    for other in table(source.TABLE):
        same = (other["gpu"], other["region"]) == (row["gpu"], row["region"])
        if same and other["on_demand"]:
            return float(other["on_demand"]) * int(row["gpus"]) / int(other["gpus"])
    return float(row["spot"])  # nothing else is known


def _elsewhere(rows: list[dict[str, str]], date: str, backend: str, region: str | None) -> str:
    """Say where a machine is, when it is not here."""
    machine = rows[0]["machine"]
    regions = [row["region"] for row in rows if backend in row["backends"].split()]
    others = [row["backends"].split() for row in rows if row["region"] == region]
    there = f"only in {', '.join(regions)}" if regions else "nor in any other region"
    choices = ["one of these with cloud.region=..."] if regions else []
    choices += [f"cloud={other}, which has it there" for other in others[0]] if others else []
    choices.append("another machine with cloud.machine=...")
    return (
        f"For cloud={backend} the price table of {date} has no {machine} in {region}, {there}: "
        f"choose {' or '.join(choices)}."
    )


def _nearest(machine: str, backend: str) -> str:
    names = machines(backend)
    close = difflib.get_close_matches(machine.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}."
