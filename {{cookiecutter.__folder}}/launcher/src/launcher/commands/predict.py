"""`uv run predict model=NAME[@ALIAS|@vN] input=FILES output=FOLDER`: predictions of many inputs, here or in a bucket."""

from __future__ import annotations

import argparse
import logging
import sys

from ..errors import UserError, readers_may_leave

WORDS = ("model", "run", "folder", "input", "output", "arrays", "once")


def main() -> None:
    """Do what the command line says; the status is 1 where something could not be read."""
    parser = argparse.ArgumentParser(prog="predict", description=(__doc__ or "").split(": ", 1)[1])
    text = (
        "model=NAME (its champion), NAME@v3, or run=ID; input= and output= a folder, a file or a URI; arrays=true for "
        "numbers; once=true: each input once, by whichever version, and a folder in the output for each version"
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help=text)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        with readers_may_leave():
            run(parser.parse_args().words)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def run(words: list[str]) -> None:
    """Do it.

    Raises:
        UserError: a setting is missing or wrong, or nothing could be predicted.
    """
    from .models import read
    from .serve import find

    named, given = read(words, WORDS)
    missing = [name for name in ("input", "output") if name not in given]
    if named or missing:
        raise UserError("Say what and where: uv run predict model=NAME input=FOLDER output=FOLDER.")
    try:
        from ..serving.batch import predict
        from ..serving.model import Model
        from ..serving.waiting import folder
    except ImportError as error:
        raise UserError(
            f"What predicts is not installed ({error}); install it with `uv sync --group serve`."
        ) from error
    for name in ("arrays", "once"):
        if given.get(name, "false") not in ("true", "false"):
            raise UserError(f"{name}={given[name]} is neither true nor false.")
    place, version = find(given)
    root, model = given["output"].rstrip("/"), Model(place, version, threads=0)
    once = given.get("once") == "true"
    output = folder(root, model.version, once)
    plain, source = given.get("arrays") == "true", given["input"].rstrip("/")
    tally = predict(model, source, output, plain, root if once else None)
    before = ""
    if tally.before:
        before = f", of {tally.before} files there were some before (a file is told by its name)"
    print(f"{output}: {tally.done} predictions{before}")
    for row in tally.bad[:10]:
        line = f", line {row['line']}" if "line" in row else ""
        print(f"not predicted: {row['file']}{line}: {row['error']}", file=sys.stderr)
    if far := model.drift.said():
        print(far, file=sys.stderr)
    if tally.bad:
        raise UserError(
            f"{len(tally.bad)} inputs could not be read; {output}/predictions says which and why. Give one that you have "
            "put right another name, or choose another output=, for what is there is not read again."
        )


if __name__ == "__main__":
    main()
