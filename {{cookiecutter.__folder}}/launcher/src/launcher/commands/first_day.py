"""`uv run cloud first-day`: does the cloud do what this package says of it? For the first day with a real account.

It sets up, trains ten minutes at most on the cheapest machine without and the cheapest with a GPU, stops a third job,
and ends with a table to be pasted into an issue. The parts are the commands that everybody types.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .. import records
from ..errors import UserError
from ..identity import git_state, make_run_id

if TYPE_CHECKING:
    from ..job import Status
    from ..records.places import Place

CAP = 2.0  # USD, all of it together
JOBS = 4  # that are paid for
MAX_HOURS = 0.16  # of each job
WAIT_HOURS = 0.5  # for a machine
POLL = float(os.environ.get("FIRST_DAY_POLL", "15"))  # seconds between two questions
UNCHANGED = "nothing was changed"
SHORT = ("tracking=none", "trainer.max_epochs=2")
ENDLESS = ("tracking=none", "trainer.max_epochs=100000", "checkpoint.steps=20")
GPU = re.compile(r"(?P<gpu>[^:\n]*), driver (?P<driver>\d[\d.]*)")


@dataclass
class Table:
    """What was expected and what was seen.

    Args:
        say: takes each row at once: whoever waits wants to see that it goes on.
    """

    say: Callable[[str], None]
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def row(self, what: str, expected: str, seen: object, good: bool | None = None) -> bool:
        """Add a row; without `good` what was seen is only told. Give whether it was as expected."""
        text = " ".join(str(seen).split())[:160] or "nothing"
        mark = {True: "as we say", False: "**not**", None: "told"}[good]
        self.rows.append((what, expected, text, mark))
        self.say(f"{mark:<10} {what}: {text}")
        return good is not False

    def markdown(self) -> str:
        """Give all of it, for an issue."""
        cells = (
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows
        )
        return "\n".join(["| what | we say | seen | |", "|---|---|---|---|", *cells])

    @property
    def wrong(self) -> int:
        """How many rows are not as we say."""
        return sum(row[-1] == "**not**" for row in self.rows)


def main() -> int:
    """Do all of it; give how many things were not as this package says.

    With KEEP=1 the cloud stays as it was set up, and with YES=1 nothing is asked.

    Raises:
        UserError: it cannot begin: nobody agrees, or there is no image yet.
    """
    keep = bool(os.environ.get("KEEP"))
    if not keep:
        _ask()
    where = own_places()
    table = Table(lambda line: print(line, flush=True))
    table.row("the project's commit", "", (git_state()["commit"] or "unknown")[:12])
    for what, expected in (("cloud setup", ""), ("cloud setup again", UNCHANGED)):
        said = _program("commands.setup", "setup")
        good, seen = said.returncode == 0, expected if expected in said.stdout else _last(said)
        table.row(
            what, expected or "status 0", seen or _last(said), good and expected in said.stdout
        )
        if not good:
            print(f"\n{table.markdown()}\n")
            return table.wrong
    _need_image(where)
    launched: list[str] = []
    try:
        _try_all(where, table, launched)
    finally:  # whatever has happened, nothing that was started here goes on
        for run_id in launched:
            _program("commands.runs", "stop", run_id)
        if not keep:
            said = _program("commands.setup", "destroy", YES="1", DATA="")
            table.row("cloud destroy", "status 0", _last(said), said.returncode == 0)
        print(f"\n{table.markdown()}\n")
    print(
        f"{table.wrong} of {len(table.rows)} not as we say. Please paste the table into an issue."
    )
    return table.wrong


def own_places() -> list[Place]:
    """Give the places that `cloud setup` prepares: of this project's cloud, not of others that SkyPilot knows."""
    from ..records.places import places

    return [place for place in places() if place.cap and place.region]


def _ask() -> None:
    """Have a person agree to what will be gone."""
    if os.environ.get("YES"):
        return
    print(
        f"This trains for {CAP:g} USD at most, and then removes what `cloud setup` has made: images, identities and\n"
        "GitHub's variables; the bucket stays. With KEEP=1 nothing is removed.\nType yes to go on: ",
        end="",
        flush=True,
    )
    if sys.stdin.readline().strip() != "yes":
        raise UserError("Nothing was done.")


def _try_all(where: list[Place], table: Table, launched: list[str]) -> None:
    """Train on each backend without a GPU, on one GPU, and stop a job; note each run that was launched."""
    for place in where:
        _train(place, table, "cpu", _cheapest(place, gpu=False), launched)
    _train_on_gpu(where, table, launched)
    _stop(where[0], table, launched)
    said = _program("commands.janitor", "--dry-run")
    good = said.returncode == 0 and "would stop" not in said.stdout
    table.row(
        "janitor --dry-run", "nothing to stop", _last(said) if said.stdout else "nothing", good
    )


def _need_image(where: list[Place]) -> None:
    """Refuse to begin without an image: it is built by GitHub, on the first push after the setup."""
    if not where:
        raise UserError(
            "This project trains in no cloud; configs/cloud/ has none that costs anything."
        )
    try:
        where[0].service.image()
    except UserError as error:
        raise UserError(
            f"{error} Push once, wait until the workflow `train` has built the image (the training that it starts "
            "may be refused, which is no trouble here), and run this again."
        ) from error


def _cheapest(place: Place, gpu: bool) -> list[str]:
    """Give the machines of the price table that a place has, with or without a GPU, the cheapest on spot first."""
    from ..money.prices import machines, price
    from ..project import project

    found = []
    for name in machines(place.service_name):
        try:
            cost = price(place.service_name, name, project().region)
        except UserError:
            continue
        if bool(cost.machine.gpu) == gpu and cost.spot:
            found.append((cost.spot, name))
    return [name for _, name in sorted(found)]


def _train_on_gpu(where: list[Place], table: Table, launched: list[str]) -> None:
    """Train on the cheapest GPU that the account may have, wherever that is."""
    for place in where:
        names = _cheapest(place, gpu=True)
        done = _launch(place, "gpu", names, SHORT, launched)
        if done.returncode == 0:
            _watch(place, table, _run_id(done.stdout), "gpu")
            return
        table.row(f"{place.name}: a GPU", "taken, or refused with a reason", _last(done), None)
    table.row("any GPU", "quota for one", "none: ask for quota, as the rows above say", None)


def _train(place: Place, table: Table, what: str, names: list[str], launched: list[str]) -> None:
    done = _launch(place, what, names[:1], SHORT, launched)
    if table.row(f"{place.name}: launch on {what}", "status 0", _last(done), done.returncode == 0):
        _watch(place, table, _run_id(done.stdout), what)


def _watch(place: Place, table: Table, run_id: str, what: str) -> None:
    """Wait for a job's end and look at all that it has left."""
    status = _last_status(_until(place, run_id, lambda status: status.state.over))
    name = f"{place.name}, {what}"
    if not status:
        table.row(f"{name}: job", "known to the service", "it is not", False)
        return
    table.row(
        f"{name}: state",
        "succeeded",
        f"{status.state.value} {status.detail}",
        status.state.value == "succeeded",
    )
    ours = place.labels.items() <= status.labels.items() and "run" in status.labels
    table.row(f"{name}: labels", "the project's and the run's", dict(status.labels), ours)
    outcome = records.outcome(place.home, run_id) or {}
    table.row(
        f"{name}: exit status",
        "0",
        outcome.get("exit_code", "none noted"),
        outcome.get("exit_code") == 0,
    )
    log = list(place.service.logs(run_id))
    table.row(
        f"{name}: log",
        "the training's lines",
        log[-1] if log else "",
        any("epoch" in line for line in log),
    )
    if what == "gpu":
        found = next((match for line in log if (match := GPU.search(line))), None)
        table.row(
            f"{name}: GPU and driver", "named in the log", found[0] if found else "", bool(found)
        )
    metrics = records.has_result(place.home, run_id)
    table.row(
        f"{name}: results in the bucket",
        records.METRICS,
        "there" if metrics else "missing",
        metrics,
    )
    record = records.read(place.home, run_id)
    cost = record.cost(status.seconds) if record else 0.0
    most = record.worst_case_usd if record else 0.0
    table.row(
        f"{name}: cost",
        f"at most {most:.2f} USD",
        f"{cost:.3f} USD, {status.seconds:.0f} s",
        cost <= most,
    )


def _stop(place: Place, table: Table, launched: list[str]) -> None:
    """Stop a job that would go on for ever."""
    done = _launch(place, "stop", _cheapest(place, gpu=False)[:1], ENDLESS, launched)
    if not table.row(
        f"{place.name}: launch to be stopped", "status 0", _last(done), done.returncode == 0
    ):
        return
    run_id = _run_id(done.stdout)
    _last_status(_until(place, run_id, lambda status: status.seconds > 0 or status.state.over))
    said = _program("commands.runs", "stop", run_id)
    status = _last_status(_until(place, run_id, lambda status: status.state.over))
    seen = status.state.value if status else "unknown"
    good = said.returncode == 0 and seen == "stopped"
    table.row(f"{place.name}: runs stop", "stopped", f"{seen} {_last(said)}", good)


def _launch(
    place: Place, what: str, machines: list[str], settings: tuple[str, ...], launched: list[str]
) -> subprocess.CompletedProcess[str]:
    run_id = f"first-day-{what}-{make_run_id()[-4:]}"
    launched.append(run_id)  # before, for it may be at work although its launch has failed
    cloud = (
        *(f"cloud={place.name}", f"cloud.machine=[{','.join(machines)}]", f"run.id={run_id}"),
        *(
            f"cloud.max_hours={MAX_HOURS}",
            f"cloud.max_wait_hours={WAIT_HOURS}",
            "cloud.max_attempts=1",
        ),
        f"cloud.max_cost_usd={CAP / JOBS}",
    )
    return _program("commands.launch", *cloud, *settings)


def _until(place: Place, run_id: str, reached: Callable[[Status], bool]) -> Iterator[Status]:
    """Give a job's status again and again until something is reached, or it must have ended by its own limits."""
    ends = time.monotonic() + 3600 * (MAX_HOURS + WAIT_HOURS) + 1800
    while time.monotonic() < ends:
        if status := place.service.status(run_id):
            yield status
            if reached(status):
                return
        time.sleep(POLL)


def _last_status(statuses: Iterator[Status]) -> Status | None:
    last = None
    for last in statuses:  # noqa: B007 - the last one counts
        pass
    return last


def _program(module: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run one of the launcher's programs as a person would, in a process of its own."""
    print(f"$ {module.rpartition('.')[2]} {' '.join(words)}", flush=True)
    return subprocess.run(
        [sys.executable, "-m", f"launcher.{module}", *words],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """Give the line that says most: the last one; of a failure all that fits."""
    lines = done.stdout.strip().splitlines() or [f"status {done.returncode}"]
    return lines[-1] if done.returncode == 0 else " / ".join(lines[-3:])


def _run_id(said: str) -> str:
    found = re.search(r"^run\s+(\S+)$", said, re.MULTILINE)
    if not found:
        raise UserError(f"The launch named no run: {said[-300:]}")
    return found[1]
