"""What a setup in Python says as it goes: each step on a line, and in a dry run what it would have done."""

from __future__ import annotations

import os
import re
import shlex
import sys

from ..errors import UserError


class Steps:
    """The lines of one setup. In a dry run all are comments, so that what stands between them can be used as it is.

    Args:
        dry: whether nothing is asked or changed.
        changes: how many calls have changed something.
    """

    def __init__(self, dry: bool):
        self.dry = dry
        self.changes = 0

    def say(self, what: str, text: str) -> None:
        """Print what has become of something."""
        print(f"{'# ' if self.dry else ''}{what:<9} {text}", flush=True)

    def show(self, *words: str) -> None:
        """Print a command so that it can be pasted into a shell."""
        print(f"# {shlex.join(words)}", flush=True)

    def ask(self, question: str, answer: str) -> None:
        """Let a person type a word before something is lost.

        Raises:
            UserError: another word was typed.
        """
        print(f"{question}\nType {answer} to go on: ", end="", flush=True)
        if sys.stdin.readline().strip() != answer:
            raise UserError("Nothing was removed.")


def option(name: str, default: str = "") -> str:
    """Give a setting, which is an environment variable: an empty one is none."""
    return os.environ.get(name, "").strip() or default


def budget_options() -> tuple[str, str]:
    """Give BUDGET, an amount a month, and MAIL, who is told; both empty for none.

    Raises:
        UserError: they mean nothing, or one is given without the other.
    """
    budget, mail = option("BUDGET"), option("MAIL")
    if budget and not re.fullmatch(r"[1-9]\d*", budget):
        raise UserError(f"'{budget}' is no budget: write a whole number, such as BUDGET=50.")
    if bool(budget) != bool(mail) or (mail and not re.fullmatch(r"[^@\s]+@[^@\s]+", mail)):
        raise UserError(
            "A budget needs an amount and somebody who is told: write BUDGET=50 MAIL=you@example.org."
        )
    return budget, mail


def data_option(what: str) -> bool:
    """Tell whether DATA=delete was given.

    Args:
        what: stays without it.

    Raises:
        UserError: another word was given.
    """
    data = option("DATA")
    if data not in ("", "delete"):
        raise UserError(
            f"'{data}' is no choice: write DATA=delete, or leave it out to keep the {what}."
        )
    return bool(data)
