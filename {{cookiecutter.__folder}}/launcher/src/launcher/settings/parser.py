"""Hydra's command-line parser, made such that every Python can build it."""

from __future__ import annotations

import argparse
import importlib
from types import SimpleNamespace
from typing import Any

SHELL_COMPLETION = "Install or uninstall shell completion"


class TextHelpParser(argparse.ArgumentParser):
    """A parser whose help is text, whatever it is given.

    Hydra up to 1.3.8 gives `--shell-completion` an object that becomes text when it is shown. Since Python 3.14
    argparse looks into each help as it is added and refuses what is no text (facebookresearch/hydra#3121).
    """

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        if not isinstance(options.get("help", ""), str):
            options["help"] = SHELL_COMPLETION
        return super().add_argument(*names, **options)


def mend() -> None:
    """Have Hydra make its parser of `TextHelpParser`."""
    utils = importlib.import_module("hydra._internal.utils")
    utils.argparse = SimpleNamespace(  # type: ignore[attr-defined]
        ArgumentParser=TextHelpParser, Namespace=argparse.Namespace
    )
