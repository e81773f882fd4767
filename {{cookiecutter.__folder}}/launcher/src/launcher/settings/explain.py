"""One sentence for each error in settings, whoever has found it: this package, Hydra or OmegaConf."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ..errors import UserError

BEFORE_QUOTE = re.compile(r'(\\*)("|\Z)')
SEVERAL = re.compile(r"Ambiguous value for argument '(.*)'$", re.MULTILINE)
EXPECTED = (UserError, HydraException, OmegaConfBaseException)


def explain(error: Exception) -> str:
    """Give the sentence, with the nearest right name if there is one."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, InstantiationException):
        return _explain_instantiation(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"There is no {group}={option}{nearest(option, error.options)}"
    if several := SEVERAL.match(str(error)):
        return ambiguous(several[1])
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        parent = cause.parent_node
        known = [str(key) for key in parent if key != "hydra"] if OmegaConf.is_dict(parent) else []
        section = cause.full_key.rpartition(".")[0]
        names = [f"{section}.{key}" if section else key for key in known]
        return f"There is no {cause.full_key}{nearest(cause.full_key, names)}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}."
    return " ".join(str(error).split())


def unreadable(word: str) -> str:
    """Say of a word that Hydra cannot read how to type it so that it can, and that a shell leaves it so."""
    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        return f"{word!r} cannot be read: write name=value, as in trainer.max_epochs=5."
    if value.startswith("~/"):
        return (
            f"{word!r} cannot be read: a shell expands ~ only at the beginning of a word; "
            f"type {_quoted(key, os.path.expanduser(value))}."
        )
    return f"{word!r} cannot be read: quote the value, as in {_quoted(key, value)}."


def ambiguous(word: str) -> str:
    """Say of a value with a comma how to type it as a list, and how as a text."""
    key, _, value = word.partition("=")
    return (
        f"{word!r} may be a list or a text: put a list in brackets, as in {_for_shell(f'{key}=[{value}]')}, and a text "
        f"in quotes, as in {_quoted(key, value)} (`uv run train --multirun` tries each)."
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """Give the end of a sentence about an unknown name: the nearest one that is known, or all of them."""
    by_small = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), by_small, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {by_small[close[0]]}?"
    return f"; there are {', '.join(sorted(known))}." if known else "."


def _quoted(key: str, value: str) -> str:
    """Quote a value for Hydra, and the whole word for a shell."""
    plain = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
    # Hydra takes a backslash for itself, but not before a quote, where it wants two.
    escaped = BEFORE_QUOTE.sub(lambda found: 2 * found[1] + (found[2] and '\\"'), plain)
    return _for_shell(f'{key}="{escaped}"')


def _for_shell(word: str) -> str:
    return "'{}'".format(word.replace("'", "'\\''"))


def _explain_instantiation(error: InstantiationException) -> str:
    """Say which section's class refused its settings, in the class's own words."""
    reason: BaseException = error
    while reason.__cause__:
        reason = reason.__cause__
    if isinstance(reason, UserError):
        return str(reason)
    section = str(error).rpartition("full_key: ")[2]
    return (
        f"{section} cannot be made from its settings: {reason}. (HYDRA_FULL_ERROR=1 shows where.)"
    )
