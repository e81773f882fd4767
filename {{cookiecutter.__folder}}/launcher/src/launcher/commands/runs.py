"""`uv run runs list|logs|stop|fetch|cost|sweep`: the launched runs, wherever they are."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, readers_may_leave

if TYPE_CHECKING:
    from ..records.places import Place, Run

log = logging.getLogger(__name__)
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def main() -> None:
    """Do what the command line says; end with one sentence and status 1 when it cannot be done."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    from ..records.places import places  # only now: --help need not wait for it

    try:
        with readers_may_leave():
            arguments.do(arguments, places())
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runs", description=(__doc__ or "").split(": ")[1])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    optional = {"list": False, "logs": True, "stop": "?", "fetch": True, "cost": "?", "sweep": True}
    for name, do, text in (
        ("list", show, "all runs: state, hours, cost so far and what they may still cost"),
        ("logs", logs, "what a run has printed"),
        ("stop", stop, "end a run; launched again with the same run.id, it goes on"),
        ("fetch", fetch, "copy a run's folder from the bucket into runs/"),
        ("cost", cost, "what runs have cost"),
        ("sweep", sweep, "the trials of a sweep, best first: table, CSV and plot in runs/sweeps/"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do, run_id=None)
        if many := optional[name]:
            nargs = "?" if many == "?" else None
            command.add_argument("run_id", metavar="ID", nargs=nargs, help="the id of a run")
        if name == "stop":
            command.add_argument("--all", action="store_true", help="end everything that runs")
        if name == "cost":
            text = "this month's launches (or those of MONTH, as in 2026-11) against the cap"
            command.add_argument("--month", metavar="MONTH", nargs="?", const="", help=text)
    return parser


def show(arguments: argparse.Namespace, where: list[Place]) -> None:
    """Print a table of all runs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..records.places import runs

    table = Table(box=box.SIMPLE)
    for column in ("run", "where", "state", "machine", "hours", "USD so far", "may still cost"):
        table.add_column(
            column, justify="left" if column in ("run", "where") else "right", overflow="fold"
        )
    waiting = []
    for run in runs(where):
        record = run.record
        machine = f"{record.nodes} x {record.machine}{', spot' * record.spot}" if record else "?"
        table.add_row(
            run.run_id,
            run.place.name,
            run.state,
            machine,
            f"{run.seconds / 3600:.2f}",
            _usd(run.cost),
            _usd(run.remaining if record else None),
        )
        if run.state == "queued" and run.status and run.status.detail:
            waiting.append(f"{run.run_id} waits: {run.status.detail}")
    if table.row_count:
        # In a pipe nothing may be cut to the width of a terminal that is not there.
        Console(width=None if sys.stdout.isatty() else 200).print(table)
        print("\n".join(waiting), end="\n" * bool(waiting))
    _refuse_silence()
    if not table.row_count:
        print("No run has been launched yet; `uv run launch --help` says how.")


def logs(arguments: argparse.Namespace, where: list[Place]) -> None:
    """Print what a run has printed: as the provider has it, else as the worker kept it beside the results."""
    from .. import records
    from ..records.places import find
    from ..storage import read_text

    run = find(arguments.run_id, where)
    lines: Iterable[str] = ()
    try:
        for line in run.place.service.logs(run.run_id):
            lines = (line,)
            print(line)
    except UserError as error:
        log.warning("%s: %s", run.place.name, error)
    if not lines:
        text = read_text(f"{run.place.home}/{run.run_id}/{records.LOG}", patience=records.PATIENCE)
        print(text if text else f"Run {run.run_id} has not printed anything yet ({run.state}).")


def stop(arguments: argparse.Namespace, where: list[Place]) -> None:
    """End a run, or all that are not over."""
    from ..records.places import find, runs

    if arguments.all == bool(arguments.run_id):
        raise UserError("Say which: `uv run runs stop ID`, or `uv run runs stop --all`.")
    if not arguments.all:
        _stop(find(arguments.run_id, where))
        return
    going = [run for run in runs(where) if run.status and not run.over]
    failed = 0
    for run in going:
        try:
            _stop(run)
        except UserError as error:
            failed += 1
            log.warning("%s: %s", run.run_id, error)
    if failed:
        raise UserError(f"{failed} of {len(going)} runs could not be stopped; try again.")
    _refuse_silence()
    if not going:
        print("Nothing is running.")


def _stop(run: Run) -> None:
    from .. import records
    from ..job import EXIT_STOPPED, State

    if run.over:
        print(f"Run {run.run_id} is not running ({run.state}).")
        return
    if (
        run.state == State.preempted.value
    ):  # no job is there to be stopped; now nobody submits it again
        records.close(
            run.place.home, run.run_id, State.stopped, EXIT_STOPPED, "stopped by a person"
        )
        print(
            f"Run {run.run_id} is stopped: it waited for another machine, and is not tried again."
        )
        return
    run.place.service.stop(run.run_id)
    print(
        f"Run {run.run_id} is told to stop; it saves what it has. The same run.id launches it again."
    )


def fetch(arguments: argparse.Namespace, where: list[Place]) -> None:
    """Copy a run's folder from the bucket into runs/."""
    from .. import records
    from ..records.places import find
    from ..records.results import fetch_run

    run = find(arguments.run_id, where)
    folder = Path(records.LOCAL_HOME, run.run_id)
    if run.place.home == records.LOCAL_HOME:
        print(f"Run {run.run_id} is here: {folder}")
        return
    count, size = fetch_run(f"{run.place.home}/{run.run_id}", folder)
    print(f"{folder}: {count} files fetched, {size / 1e6:.1f} MB ({run.state})")


def cost(arguments: argparse.Namespace, where: list[Place]) -> None:
    """Print what one run, or each of them and all together, has cost; or a month's launches and their cap."""
    from ..records.places import find, runs

    if arguments.month is not None:
        _cost_of_month(arguments.month, where)
        return
    found = [find(arguments.run_id, where)] if arguments.run_id else list(runs(where))
    for run in found:
        price = (
            f"{run.record.hourly_usd:.2f} USD/h x {run.record.nodes}"
            if run.record
            else "no price known"
        )
        print(
            f"{run.run_id:<40} {run.seconds / 3600:>8.2f} h  {price:<18} {_usd(run.cost):>10}  {run.state}"
        )
    total = sum(run.cost or 0.0 for run in found)
    going = sum(run.state in ("queued", "running") for run in found)
    print(f"{'all together':<70} {total:>10.2f} USD{f', {going} not over' * bool(going)}")
    if not arguments.run_id:
        _refuse_silence()


def _cost_of_month(month: str, where: list[Place]) -> None:
    from ..money import ledger
    from ..records.places import ask, has_login

    if month and not MONTH.fullmatch(month):
        raise UserError(f"{month} is no month; write it as in 2026-11.")
    by_home = {place.home: place for place in where if place.cap and has_login(place)}
    for home, place in by_home.items():
        name = month or f"{ask(place, place.service.now, datetime.now(UTC)):%Y-%m}"
        found = ask(place, lambda home=home, name=name: ledger.month(home, name), None)
        if not found:
            continue
        for entry in sorted(found.entries.values(), key=lambda entry: entry.since):
            over = entry.spent_usd is not None
            usd = f"{entry.spent_usd:.2f}" if over else f"up to {entry.reserved_usd:.2f}"
            print(f"{entry.run_id:<40} {entry.since[:16]}  {usd:>12} USD")
        print(
            f"{home} in {name}: {found.spent:.2f} USD spent, up to {found.reserved:.2f} more for what is not over, "
            f"of cloud.max_month_usd={place.cap:g}"
        )
    if by_home and not month:
        _say_deployed(next(iter(by_home.values())))
    _refuse_silence()
    if not by_home:
        print("No place here costs anything.")


def _say_deployed(place: Place) -> None:
    """Print what models that answer may cost, which no launch is, and how to end them."""
    from ..models import deployed
    from ..records.places import ask

    notes, troubles = ask(place, deployed.notes, ([], []))
    for note in notes:
        usd = "price unknown" if note.usd is None else f"up to {note.usd:.2f} USD a month"
        print(
            f"{f'{note.model}@v{note.version}':<40} to={note.place} until {note.until or 'undeploy'}: {usd}"
        )
    if notes:
        print(
            "Models that answer are not counted in cloud.max_month_usd; uv run models undeploy MODEL to=PLACE ends one."
        )
    for trouble in troubles:
        log.warning("%s", trouble)


def sweep(arguments: argparse.Namespace, where: list[Place]) -> None:
    """Print the trials of a sweep, and keep table and plot in runs/sweeps/."""
    from ..records.places import find
    from ..sweeps.results import show_sweep

    run = find(arguments.run_id, where)
    show_sweep(run.place, run)


def _refuse_silence() -> None:
    """End with a sentence where a place could not be asked, which was said: what was printed is not all then.

    Raises:
        UserError: naming the places.
    """
    from ..records.places import silent

    if missing := silent():
        raise UserError(
            f"What is in {' and '.join(missing)} is not known; put right what is said above, and ask again."
        )


def _usd(cost: float | None) -> str:
    return "?" if cost is None else f"{cost:.2f}"


if __name__ == "__main__":
    main()
