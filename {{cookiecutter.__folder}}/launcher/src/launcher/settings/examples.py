"""What is wrong with a composed configuration, as far as its own files and dataclasses tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .explain import meant


def check_config(config: DictConfig, choices: Mapping[str, Any], configs: Path) -> None:
    """Refuse missing values, unknown names in typed sections, and values of another type than the section's file has.

    A section without a dataclass is typed by example: an override must have the type of the value in its YAML file.

    Args:
        choices: each group -> the file chosen in it.
        configs: the folder of these files.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    for key, known in _unknown(config, ""):
        raise UserError(f"There is no {key}{meant(key, known, config)}")
    for section in config:
        example = configs / str(section) / f"{choices.get(str(section))}.yaml"
        if example.is_file() and not _is_typed(config, section):
            check_types(str(section), OmegaConf.load(example), config[section])
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"Give a value for {', '.join(missing)}, for example {missing[0]}=...")


def check_types(where: str, example: Any, actual: Any) -> None:
    """Refuse a value of another type than the example's.

    Raises:
        UserError: naming the key.
    """
    if not OmegaConf.is_dict(example):
        return
    if not OmegaConf.is_dict(actual):
        choice = "" if "." in where else f"choose a file of configs/{where}/, or "
        raise UserError(
            f"{where}={actual} is {_kind(actual)}; {choice}change {where}.<setting>=..., or leave it out with ~{where}."
        )
    for key in example:
        # What a file leaves to be given, or takes from elsewhere, is an example of nothing.
        if OmegaConf.is_interpolation(example, key) or OmegaConf.is_missing(example, key):
            continue
        if key not in actual or OmegaConf.is_missing(actual, key):
            continue
        expected, value = example[key], actual[key]
        name = f"{where}.{key}" if where else str(key)
        if OmegaConf.is_dict(expected):
            check_types(name, expected, value)
        elif expected is not None and not _fits(expected, value):
            raise UserError(
                f"{name}={value} is {_kind(value)}; give {_kind(expected)}, such as {name}={expected}{_ways(expected)}"
            )


def _unknown(config: DictConfig, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """Find keys that a dataclass does not have: `+name=value` would add them, and nobody would read them."""
    kind = OmegaConf.get_type(config)
    known = list(getattr(kind, "__dataclass_fields__", ()))
    for key in config:
        name = f"{prefix}{key}"
        if known and str(key) not in known:
            yield name, [f"{prefix}{each}" for each in known]
        elif not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(
            config, str(key)
        ):
            value = config[key]
            if isinstance(value, DictConfig) and not value._is_none():
                yield from _unknown(value, f"{name}.")


def _is_typed(config: DictConfig, section: Any) -> bool:
    if OmegaConf.is_missing(config, section) or config[section] is None:
        return False
    return hasattr(OmegaConf.get_type(config[section]), "__dataclass_fields__")


def _ways(expected: Any) -> str:
    """End a sentence about a value with what its file would have to say for another kind to be right."""
    if isinstance(expected, int) and not isinstance(expected, bool):
        return f" (any number will do where its file says {expected}.0)."
    return "."


def _fits(expected: Any, value: Any) -> bool:
    if isinstance(expected, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if OmegaConf.is_list(expected):
        return OmegaConf.is_list(value)
    return type(value) is type(expected)


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "nothing",
    }
    return names.get(type(value), "a list or mapping")
