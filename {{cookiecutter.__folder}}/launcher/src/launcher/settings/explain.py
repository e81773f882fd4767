"""One sentence for each error in settings, whoever has found it: this package, Hydra or OmegaConf."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, get_origin

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    OmegaConfBaseException,
)
from yaml import MarkedYAMLError, YAMLError

from ..errors import UserError

TARGET = re.compile(r"Error locating target '([^']+)'")
BEFORE_QUOTE = re.compile(r'(\\*)("|\Z)')
SEVERAL = re.compile(r"Ambiguous value for argument '(.*)'$", re.MULTILINE)
IN_FILE = re.compile(r"In '((\w+)/[^']+)': ")
EXPECTED = (UserError, HydraException, OmegaConfBaseException, YAMLError)


def explain(error: Exception) -> str:
    """Give the sentence, with the nearest right name if there is one."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, InstantiationException):
        return _explain_instantiation(error)
    if isinstance(error, MarkedYAMLError):
        return _explain_yaml(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"There is no {group}={option}{nearest(option, error.options)}"
    if several := SEVERAL.match(str(error)):
        return ambiguous(several[1])
    cause: BaseException | None = error
    if isinstance(error, ConfigCompositionException):
        cause = error.__cause__ or error.__context__
    if not isinstance(cause, OmegaConfBaseException) or not cause.full_key:
        return " ".join(str(error).split())
    file = IN_FILE.match(str(error))
    if file and cause.full_key == file[2]:
        return (
            f"configs/{file[1]}.yaml needs the line `# @package _global_` at its top, and below it the settings that "
            "it changes."
        )
    return (f"configs/{file[1]}.yaml: " if file else "") + _explain_key(cause)


def _explain_key(cause: OmegaConfBaseException) -> str:
    """Say what is wrong with one key of a configuration."""
    key, first = str(cause.full_key), str(cause).splitlines()[0]
    if isinstance(cause, InterpolationKeyError):
        return f"{key}: {first}; give {key}=..., or choose files that go together."
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return f"{key}: {first}."
    known = getattr(cause.object_type, "__dataclass_fields__", None) or cause.parent_node
    section, _, name = key.rpartition(".")
    names = [str(each) for each in known or () if each != "hydra" and str(each)[:1] != "_"]
    if section and (get_origin(cause.ref_type) is dict or not names):
        return f"{section} has no {name} yet; to add it put + before it, as in +{key}=..."
    return f"There is no {key}{meant(key, [f'{section}.{each}' if section else each for each in names], cause.parent_node)}"


def meant(key: str, known: Sequence[str], config: Any) -> str:
    """End a sentence about an unknown key: optimizer.lr where somebody has typed lr, or else the nearest.

    Args:
        known: the keys that there are where it was looked for.
        config: the sections that these are in.
    """
    sections = (
        OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else None
    )
    deeper: dict[str, list[str]] = {}
    for section, inner in sections.items() if isinstance(sections, dict) and "." not in key else ():
        for name in inner if isinstance(inner, dict) and section != "hydra" else ():
            deeper.setdefault(str(name), []).append(f"{section}.{name}")
    end = nearest(key, known)
    if key not in deeper and not end.startswith("; did"):
        key = next(iter(difflib.get_close_matches(key, deeper, n=1, cutoff=0.7)), key)
    return f"; did you mean {' or '.join(deeper[key])}?" if key in deeper else end


def _explain_yaml(error: MarkedYAMLError) -> str:
    """Name the file and the line that cannot be read."""
    mark = error.problem_mark or error.context_mark
    where = f"{os.path.relpath(mark.name)}, line {mark.line + 1}," if mark else "A file"
    return (
        f"{where} is no YAML: {' '.join(filter(None, (error.context, error.problem)))}; correct it."
    )


def unreadable(word: str) -> str:
    """Say of a word that Hydra cannot read how to type it so that it can, and that a shell leaves it so."""
    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        return f"{word!r} cannot be read: write name=value; --help shows the names."
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
    # Of names in the same section that section says nothing.
    section = name[: name.rfind(".") + 1]
    start = len(section) if all(each.startswith(section) for each in known) else 0
    by_small = {each[start:].lower(): each for each in known}
    close = difflib.get_close_matches(name[start:].lower(), by_small, n=1, cutoff=0.5)
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
    while reason.__cause__ and not isinstance(reason, UserError):
        reason = reason.__cause__
    if isinstance(reason, UserError):
        return str(reason)
    found, _, section = str(error).rpartition("full_key: ")
    section = section if found else "A class"
    if isinstance(reason, ModuleNotFoundError) and (target := TARGET.search(str(error))):
        module, _, name = target[1].rpartition(".")
        # Else the module is there, and something that it imports is not.
        if f"{target[1]}.".startswith(f"{reason.name}."):
            return f"{section}._target_: there is no {name} in {module}{_similar(module, name)}"
    if isinstance(reason, ModuleNotFoundError) and reason.name and "." not in reason.name:
        return (
            f"{section} imports {reason.name}, which is not installed: add the package that has it with `uv add`, or "
            "correct the import. (HYDRA_FULL_ERROR=1 shows where.)"
        )
    return (
        f"{section} cannot be made from its settings: {reason}. (HYDRA_FULL_ERROR=1 shows where.)"
    )


def _similar(module: str, name: str) -> str:
    """End a sentence with the name in the module that is meant, if one is near."""
    end = nearest(name, dir(sys.modules.get(module)) if module in sys.modules else [])
    return end if end.startswith("; did") else "; correct it."
