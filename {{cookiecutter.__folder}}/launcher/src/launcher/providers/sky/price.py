"""What a machine costs by SkyPilot's own table: that which it shows before a launch."""

from __future__ import annotations

import difflib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...job import Machine
from ...money.prices import Price
from . import program, task

SOURCE = "SkyPilot"
CHOSEN = "✔"
UNSOLD = ("slurm", "kubernetes", "k8s", "ssh")  # whose machines have no names to ask for
WHERE = re.compile(r"\(([a-z0-9-]+)\)")  # not one that is shown in part
NEAR = 0.8  # of a word to one of SkyPilot's clouds: new ones are less alike, as lium is to slurm
ZONE = re.compile(r"[a-z]+-[a-z]+-?\d+-?[a-f]")  # as in us-east-1a and us-central1-a


@dataclass(frozen=True)
class Offer:
    """What SkyPilot would take.

    Args:
        machine: what the infra calls it; `-` where it has no names.
        usd: for one node and hour.
        where: region or zone, where SkyPilot shows it whole.
    """

    machine: str
    usd: float
    where: str = ""


def price(cloud: Any, machine: str, dry_run: bool = False) -> Price:
    """Ask SkyPilot what it would take, and what that costs.

    Args:
        cloud: the section of the configuration.
        dry_run: trouble in that is only said, since nothing is started.

    Raises:
        UserError: there is no such machine, or SkyPilot cannot tell.
    """
    infra = infra_of(cloud)
    task.resources(machine, infra, cloud.spot)  # a typing error is told without SkyPilot
    try:
        offers = {spot: offer(machine, infra, spot) for spot in {False, bool(cloud.spot)}}
    except UserError as error:
        if not dry_run:
            raise
        unknown = f"what it costs SkyPilot does not tell here ({error})"
        return Price(_machine(machine, infra), None, 0.0, 0.0, date=unknown)
    taken = offers[bool(cloud.spot)]
    if not taken.usd or task.cloud_of(infra) in UNSOLD:
        found = _machine(machine, infra)
        if not taken.usd:
            return Price(found, None, 0.0, 0.0)
    else:
        found = _machine(machine, f"{_place(infra, taken.where)} {taken.machine}")
    return Price(found, task.cloud_of(infra), offers[False].usd, taken.usd, date=SOURCE)


def _place(infra: str, where: str) -> str:
    """Give the infra with the region or the zone of an offer, so that SkyPilot does not go on to a dearer one."""
    cloud = task.cloud_of(infra)
    if not where or infra.count("/") > 1:
        return infra
    return f"{cloud}/*/{where}" if ZONE.fullmatch(where) else f"{cloud}/{where}"


def infra_of(cloud: Any) -> str:
    """Give where the job is to run.

    Raises:
        UserError: it is not said.
    """
    if not cloud.infra:
        raise UserError(
            "cloud.infra is not given: say where, as in cloud.infra=slurm/mycluster, cloud.infra=kubernetes or "
            "cloud.infra=aws/us-east-1 (`sky check` shows what you have)."
        )
    first = task.cloud_of(str(cloud.infra))
    near = [each for each in task.CLOUDS if sorted(each) == sorted(first)]  # as gpc is for gcp
    near += difflib.get_close_matches(first, task.CLOUDS, n=1, cutoff=NEAR)
    if first not in task.CLOUDS and near:
        raise UserError(f"SkyPilot knows no cloud.infra={cloud.infra}; did you mean {near[0]}?")
    return str(cloud.infra)


def offer(machine: str, infra: str, spot: bool) -> Offer:
    """Give what SkyPilot would take for one node.

    Raises:
        UserError: SkyPilot has nothing of that kind there, or is not there itself.
    """
    wanted = {"resources": task.resources(machine, infra, spot), "run": "true"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "task.yaml")
        path.write_text(program.dumps(wanted), encoding="utf-8")
        return read(program.call("launch", "--dryrun", "--yes", str(path)))


def read(told: str) -> Offer:
    """Read the table that SkyPilot shows before a launch: a frame, and columns that begin where their titles do.

    Raises:
        UserError: there is none, so this SkyPilot shows it otherwise.
    """
    lines = told.splitlines()
    titles = next((each for each in lines if "INFRA" in each and "COST ($)" in each), "")
    row = next((each for each in lines if CHOSEN in each), "")
    match = re.search(r"COST \(\$\)", titles)
    if not match or not row:
        raise program.SkyError(
            "SkyPilot has shown no table of what a machine costs", "look at `sky launch --dryrun`"
        )
    usd, machine = row[match.start() :].split()[0], row[titles.index("INSTANCE") :].split()[0]
    where = WHERE.search(row[: titles.index("INSTANCE")])
    try:
        return Offer(machine.removesuffix("[Spot]"), float(usd), where[1] if where else "")
    except ValueError as error:
        raise program.SkyError(
            f"SkyPilot's table of costs cannot be read ({row.strip()})",
            "look at `sky launch --dryrun`",
        ) from error


def _machine(name: str, kind: str) -> Machine:
    """Give the machine; its type begins with the infra, so that its record says where to launch it again."""
    if task.CPUS.fullmatch(name) or name.startswith("type:"):
        return Machine(name, kind)
    gpu, _, count = name.partition(":")
    return Machine(name, kind, gpu, max(1, int(float(count or 1))))
