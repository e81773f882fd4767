"""`uv run models export|register|list|show|promote|rollback|fetch|remove|image|deploy|...`: the registry of this project's models."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError, readers_may_leave
from . import deploy

SETTINGS = {
    "export": ("run",),
    "register": ("run", "name", "to"),
    "list": (),
    "show": (),
    "promote": ("alias", "force"),
    "rollback": ("to",),
    "fetch": ("to",),
    "remove": (),
    **deploy.SETTINGS,
}
HELP = {
    "export": "run=ID: its best weights as ONNX in runs/ID/export, compared with PyTorch on the test split",
    "register": "run=ID [name=NAME] [to=here|bucket]: make a version of it, with weights, ONNX, signature and card",
    "list": "[NAME]: the models, or the versions of one and where its aliases lead",
    "show": "NAME[@ALIAS|@vN]: the card of a version, and what it takes and gives",
    "promote": 'NAME@vN [alias=champion] [force="why"]: let an alias lead to it, unless it is worse',
    "rollback": "NAME[@ALIAS] [to=PLACE]: let an alias lead to where it led before, or what is deployed answer as before",
    "fetch": "NAME[@ALIAS|@vN] [to=FOLDER]: copy a version's files here",
    "remove": "NAME@vN: remove a version that no alias leads to",
    **deploy.HELP,
}


def main() -> None:
    """Do what the command line says; end with one sentence and status 1 when it cannot be done."""
    parser = argparse.ArgumentParser(prog="models", description=(__doc__ or "").split(": ")[1])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in HELP.items():
        command = commands.add_parser(name, help=text, description=text.replace("%", "%%"))
        command.add_argument("words", nargs="*", metavar="WORD")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        with readers_may_leave():
            model, settings = read(arguments.words, SETTINGS[arguments.command])
            COMMANDS[arguments.command](model, settings)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def read(words: Sequence[str], known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Part the model from the settings of a command line.

    Raises:
        UserError: there is a setting that the command does not have, or more than one model.
    """
    settings: dict[str, str] = {}
    models = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            models.append(word)
        elif name not in known or not value:
            listed = ", ".join(f"{each}=..." for each in known) or "none"
            raise UserError(f"{word} is no setting of this command; it has {listed}.")
        else:
            settings[name] = value
    if len(models) > 1:
        raise UserError(f"Name one model, not {' and '.join(models)}.")
    return (models[0] if models else ""), settings


def _export(model: str, settings: Mapping[str, str]) -> None:
    from ..models import register

    run_id = _needed(settings, "run", "export")
    register.find_run(run_id)
    register.export(run_id)


def _register(model: str, settings: Mapping[str, str]) -> None:
    from ..models import places, register, versions

    run_id = _needed(settings, "run", "register")
    home = register.find_run(run_id)
    if to := settings.get("to"):
        home = {"here": versions.HERE, "bucket": places.bucket()}.get(to)
        if not home:
            raise UserError(
                f"to={to} is no place for a model; give to=here, or to=bucket where one is configured."
            )
    name = settings.get("name") or register.default_name(run_id)
    version, new = register.register(home, name, run_id)
    made = "is registered in" if new else "was registered before, in"
    print(f"{version} {made} {version.uri}")
    print(f"`uv run models promote {version}` makes it the champion.")


def _list(model: str, settings: Mapping[str, str]) -> None:
    from ..models import aliases, places, versions

    shown, silent = 0, None
    for home in places.homes():
        try:
            found = [name for name in versions.models(home) if model in ("", name)]
        except UserError as error:  # what is here can be told without the bucket
            silent = error
            continue
        for name in found:
            leads = aliases.of(home, name)
            for version in versions.all_of(home, name):
                names = [alias for alias, number in leads.items() if number == version.number]
                metric = version.gate.get("metric", "")
                value = version.metrics.get(metric)
                said = f"{metric} {value:.4f}" if value is not None else "not measured"
                print(
                    f"{version!s:<30} {said:<26} run {version.run:<30} {', '.join(names):<12} {home}"
                )
                shown += 1
    if silent:
        raise silent
    if not shown:
        print(
            f"There is no model{f' {model}' if model else ''} yet; `uv run models register run=ID` makes one of a run."
        )


def _show(model: str, settings: Mapping[str, str]) -> None:
    from ..models import aliases, names, places
    from ..storage import read_text

    version = places.find(names.parse(_model(model, "show")))
    print(read_text(f"{version.uri}/README.md") or "")
    for alias in aliases.of(version.home, version.name):
        for move in aliases.history(version.home, version.name, alias):
            why = f", {move.reason}" if move.reason else ""
            print(f"{alias}: v{move.previous} -> v{move.version} by {move.by}, {move.at}{why}")
    print(f"\n{version.uri}: {', '.join(version.files)}")


def _promote(model: str, settings: Mapping[str, str]) -> None:
    from ..models import aliases, changes, gate, names, places, versions

    reference = names.parse(_model(model, "promote"))
    if "@" not in model:
        places.home_of(reference)
        raise UserError(
            f"Name the version to promote, as in {reference.name}@v1; `uv run models list {reference.name}` shows them."
        )
    version = places.find(reference)
    alias = settings.get("alias", names.CHAMPION)
    names.check(alias, "alias")
    seen = aliases.history(version.home, version.name, alias)
    number = seen[-1].version if seen else 0
    if number == version.number:
        print(f"{version.name}@{alias} is {version} already.")
        return
    old = versions.read(version.home, version.name, number) if number else None
    found: dict[str, Any] = {}
    reason = ""
    try:
        if number and not old:
            raise gate.GateError(
                f"{version.name}@v{number}, which is {alias}, cannot be read, so nothing can be compared with it; "
                'run the same again, or give force="why it is taken all the same".'
            )
        found = gate.compare(version, old)
    except gate.GateError as error:
        reason = settings.get("force", "")
        if not reason:
            raise
        found = {"passed_over": str(error)}
    changes.lead(version, alias, seen, reason, found)
    print(f"{version.name}@{alias} is {version} now{f', and was v{number}' if number else ''}.")


def _rollback(model: str, settings: Mapping[str, str]) -> None:
    from ..models import aliases, changes, names, places, versions

    if "to" in settings:
        deploy.rollback(model, settings)
        return
    reference = names.parse(_model(model, "rollback"))
    if not reference.alias:
        raise UserError(
            f"{reference} is a version; name an alias, as in {reference.name}@champion."
        )
    home = places.home_of(reference)
    seen = aliases.history(home, reference.name, reference.alias)
    number = aliases.before(seen)
    if not number:
        raise UserError(f"{reference} has led nowhere before; there is nothing to go back to.")
    version = versions.need(home, reference.name, number)
    changes.lead(version, reference.alias, seen, aliases.ROLLBACK)
    print(f"{reference} is {version} again.")


def _fetch(model: str, settings: Mapping[str, str]) -> None:
    from ..models import names, places, versions

    version = places.find(names.parse(_model(model, "fetch")))
    if to := settings.get("to"):
        folder = Path(to)
        versions.download(version, folder)
    else:
        folder = versions.cached(version)
    print(f"{folder}: {version}, {len(version.files)} files")


def _remove(model: str, settings: Mapping[str, str]) -> None:
    from ..models import changes, names, places, versions

    reference = names.parse(_model(model, "remove"))
    if reference.version is None:
        raise UserError(
            f"{reference} moves; name the version to remove, as in {reference.name}@v1."
        )
    for home in places.homes(reference.place):
        if versions.read(home, reference.name, reference.version):
            break
        if changes.clear(home, reference.name, reference.version):
            print(f"What was left of {reference}, never finished, is removed from {home}.")
            return
    version = places.find(reference)
    changes.erase(version)
    print(f"{version} is removed from {version.home}; its number is not given again.")


def _needed(settings: Mapping[str, str], name: str, command: str) -> str:
    if name not in settings:
        raise UserError(
            f"Say which: uv run models {command} {name}=ID, one of those in runs/ or `uv run runs list`."
        )
    return settings[name]


def _model(model: str, command: str) -> str:
    if not model:
        raise UserError(
            f"Say which: uv run models {command} {HELP[command].split()[0].rstrip(':')}; `uv run models list` shows them."
        )
    return model


COMMANDS = {
    "export": _export,
    "register": _register,
    "list": _list,
    "show": _show,
    "promote": _promote,
    "rollback": _rollback,
    "fetch": _fetch,
    "remove": _remove,
    **deploy.COMMANDS,
}

if __name__ == "__main__":
    main()
