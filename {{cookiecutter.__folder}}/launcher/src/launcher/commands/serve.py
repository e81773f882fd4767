"""`uv run serve model=NAME[@ALIAS|@vN]`: one model by HTTP, with a page for people at /."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from ..errors import UserError

WORDS = ("model", "run", "folder", "host", "port")
NEEDED = (
    "model.onnx",
    "signature.json",
)  # of a version; the weights for PyTorch are as large again


def main() -> None:
    """Serve what the command line names; in a container of a service, what lies there."""
    parser = argparse.ArgumentParser(prog="serve", description=(__doc__ or "").split(": ", 1)[1])
    text = (
        "model=NAME (its champion), model=NAME@v3, run=ID or folder=PATH; port=8080, host=127.0.0.1"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help=text)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        run(parser.parse_args().words)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def run(words: list[str]) -> None:
    """Do it.

    Raises:
        UserError: there is no such model, or what serves is not installed.
    """
    from .models import read

    # A container of one of the services is started with the single word `serve`.
    named, given = read([word for word in words if word != "serve"], WORDS)
    if named:
        raise UserError(f"{named} is no setting; write model={named}, or run={named}.")
    try:
        from ..serving import settings
        from ..serving.model import Model
        from ..serving.server import serve
    except ImportError as error:
        raise UserError(
            f"What serves a model is not installed ({error}); install it with `uv sync --group serve`."
        ) from error
    port = given.get("port")
    if port and not (port.isdecimal() and 0 < int(port[:6]) < 65536):
        raise UserError(f"port={port} is no port; give one such as port=8080.")
    folder, version = find(given)
    limits = settings.read(os.environ, host=given.get("host"), port=int(port) if port else None)
    serve(Model(folder, version), limits)


def find(given: dict[str, str]) -> tuple[Path, str]:
    """Give the folder of the model, and what it is called.

    Raises:
        UserError: there is none.
    """
    if len(set(given) & {"model", "run", "folder"}) > 1:
        raise UserError("Give one of model=, run= and folder=.")
    if set(given) & {"model", "run"}:
        return _registered(given)
    from ..serving.model import find_folder

    return find_folder(Path(given["folder"]) if "folder" in given else None), ""


def _registered(given: dict[str, str]) -> tuple[Path, str]:
    # Not above: an image that serves one model has nothing of the registry.
    from ..models import names, places, register, versions

    if name := given.get("model"):
        version = places.find(names.parse(name))
        return versions.cached(version, NEEDED), str(version)
    register.find_run(given["run"])
    return register.export(given["run"]), given["run"]


if __name__ == "__main__":
    main()
