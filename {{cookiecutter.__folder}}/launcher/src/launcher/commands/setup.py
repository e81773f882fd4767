"""`uv run cloud setup|destroy|first-day`: prepares cloud and repository for this project, takes it back, tries it all."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

from ..errors import UserError, readers_may_leave
from ..project import project
from ..providers import folder

SWITCHES = ("DRY_RUN", "KEEP", "YES")
OFF = ("0", "no", "false", "off")


def main() -> None:
    """Run what is typed; settings are environment variables, as the heads of the scripts and modules say."""
    parser = argparse.ArgumentParser(prog="cloud", description=(__doc__ or "").split(": ")[1])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        (
            "setup",
            "prepare project and repository; again whenever you like (PROJECT=..., DRY_RUN=1)",
        ),
        ("destroy", "remove what setup made, after asking; the data only with DATA=delete"),
        (
            "first-day",
            "try it all on a real account for 2 USD at most (PROJECT=..., KEEP=1, YES=1)",
        ),
    ):
        commands.add_parser(name, help=text, description=text)
    command = parser.parse_args().command
    try:
        settle_switches()
        if command == "first-day":
            from . import first_day

            sys.exit(1 if first_day.main() else 0)
        with readers_may_leave():
            run(command)
    except UserError as error:
        sys.exit(str(error))


def settle_switches() -> None:
    """Take switches that are off out of the environment, where scripts ask only whether they are there.

    Raises:
        UserError: a variable is nearly DRY_RUN, and what was meant as a trial would be real.
    """
    for name in SWITCHES:
        if os.environ.get(name, "").lower() in OFF:
            del os.environ[name]
    others = {name.upper(): name for name in os.environ if name != "DRY_RUN"}
    if slips := difflib.get_close_matches("DRY_RUN", others, 1, 0.8):
        raise UserError(
            f"{others[slips[0]]} is no setting here: give DRY_RUN=1 for a trial, or take it out of the environment."
        )


def run(command: str) -> None:
    """Become the script `setup/<command>` of the project's cloud, or call that function of its module `setup`.

    Raises:
        UserError: this cloud has none yet, or there is no bash.
    """
    here = project()
    where = folder(here.cloud)
    if function := _function(where, command):
        os.chdir(here.root)
        function()
        return
    if not where or not (script := files(where) / "setup" / command).is_file():
        raise UserError(f"There is no `cloud {command}` for {here.cloud} yet.")
    os.chdir(here.root)
    names = {
        "SLUG": here.slug,
        "REGION": here.region,
        "BUCKET": here.bucket,
        "ACCOUNT": here.account,
        "REGIONS": " ".join(_regions() if command == "destroy" else [here.region]),
    }
    sys.stdout.flush()
    with as_file(script) as path:
        shown = _from(here.root, path)
        try:
            os.execvpe("bash", ["bash", str(shown)], {**os.environ, **names})  # noqa: S606 - it takes our place
        except OSError as error:
            raise UserError(f"bash cannot be started ({error}); install it.") from error


def _function(where: str, command: str) -> Callable[[], None] | None:
    """Give what a provider's module `setup` has for a command; None where scripts do it, or nothing."""
    if not where or not find_spec(f"{where}.setup"):
        return None
    return getattr(importlib.import_module(f"{where}.setup"), command, None)


def _regions() -> list[str]:
    """Give the project's region and those that launches of the last weeks have named: there may still be jobs."""
    from .. import records
    from ..providers import log_in
    from ..records.places import places, with_regions

    found = [project().region]
    if os.environ.get("DRY_RUN"):  # which asks nobody
        return found
    try:
        for place in places():
            if place.region:
                log_in(place.service)
                regions = with_regions([place], records.read_all(place.home))
                found += [each.region for each in regions if each.region]
    except UserError as error:
        print(f"Only jobs in {found[0]} are looked for: {error}", file=sys.stderr)
    return list(dict.fromkeys(found))


def _from(root: Path, path: Path) -> Path:
    """Give a path as a person in the project's folder would write it: what a dry run prints is to be read."""
    try:
        return path.resolve().relative_to(root.resolve())
    except ValueError:  # the package is installed elsewhere
        return path


if __name__ == "__main__":
    main()
