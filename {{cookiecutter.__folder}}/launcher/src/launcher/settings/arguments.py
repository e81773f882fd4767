"""Whether a section gives what its class takes, read in the class's source: importing it would import torch."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .explain import nearest

HYDRAS = {"_target_", "_partial_", "_recursive_", "_convert_"}
Definition = ast.ClassDef | ast.FunctionDef
Place = tuple[Path, Definition]  # the file, and what it defines


@dataclass(frozen=True)
class Takes:
    """The names that something can be called with."""

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    passed_on: str | None = None  # the name of its **settings


def check_arguments(
    config: DictConfig, source: Path, besides: Mapping[str, Collection[str]] | None = None
) -> None:
    """Refuse a `_target_` of one's own that is not there, and names that it does not take or does not get.

    What the source does not tell (a decorator, a base class from elsewhere) is left to the training.

    Args:
        source: the folder that the project's own package is in.
        besides: section -> names in it that are not for its class.

    Raises:
        UserError: naming the key, the class and its file.
    """
    for where, section in _targets(OmegaConf.to_container(config, resolve=False), ""):
        place = _find(f"{where}._target_", section["_target_"], source)
        takes = _takes(place, source) if place else None
        if not place or takes is None or "_args_" in section:
            continue
        path, definition = place
        name = f"{definition.name} ({path.relative_to(source.parent)})"
        own = set(section) - HYDRAS - set((besides or {}).get(where, ()))
        for key in sorted(map(str, own - takes.names)):
            raise UserError(
                f"There is no {where}.{key}: {name} does not take it{nearest(key, sorted(takes.names))}"
            )
        missing = ", ".join(sorted(takes.required - own))
        if missing and not section.get("_partial_"):
            first = missing.partition(",")[0]
            raise UserError(
                f"{where} lacks {missing}, which {name} needs; add it to the section's file, or +{where}.{first}=..."
            )


def _targets(node: Any, where: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Find all sections that name a class or a function, by their keys."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield where, node
        for key, value in node.items():
            yield from _targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _targets(value, f"{where}[{number}]")


def _find(key: str, target: str, source: Path) -> Place | None:
    """Find what `package.module.Name` defines; None where it is another's, or the source does not tell.

    Raises:
        UserError: there is no such module or name.
    """
    package, *parts = target.split(".")
    if not (source / package).is_dir():
        return None
    folder, module = source / package, source / package / "__init__.py"
    while parts:
        name = parts[0]
        file = folder / f"{name}.py"
        if file.is_file() or (folder / name).is_dir():
            folder = folder / name
            module = file if file.is_file() else folder / "__init__.py"
            parts = parts[1:]
            continue
        known = _names(module)
        if known is not None and name not in known:
            modules = {path.stem for path in folder.glob("*") if path.suffix in ("", ".py")}
            end = nearest(name, sorted(known | modules))
            raise UserError(
                f"{key}={target}: there is no {name} in {module.relative_to(source.parent)}"
                f"{end if end.startswith('; did') else '; correct it.'}"
            )
        return _defined(module, name, source) if len(parts) == 1 else None
    return None


@cache
def _read(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None  # who imports it says where it is broken


def _names(path: Path) -> set[str] | None:
    """Give every name that a file may define; None where it may define any."""
    tree = _read(path)
    if tree is None:
        return None if path.is_file() else set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if {"*", "__getattr__"} & names else names


def _defined(path: Path, name: str, source: Path) -> Place | None:
    """Give a file's class or function, or that of the project's own file from which it is imported."""
    tree = _read(path)
    for node in reversed(tree.body if tree else []):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return path, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and (file := _imported(path, node, source)):
                    return _defined(file, alias.name, source)
    return None


def _imported(path: Path, node: ast.ImportFrom, source: Path) -> Path | None:
    """Give the file of the project that `from ... import` reads."""
    folder = path.parents[node.level - 1] if node.level else source
    module = folder.joinpath(*(node.module or "").split("."))
    for file in (module.with_suffix(".py"), module / "__init__.py"):
        if file.is_file() and file != path:
            return file
    return None


def _takes(place: Place, source: Path) -> Takes | None:
    """Give what it can be called with; None where the source does not tell."""
    path, definition = place
    if definition.decorator_list:
        return None
    if isinstance(definition, ast.FunctionDef):
        takes = _signature(definition.args, skip=0)
        return None if takes.passed_on else takes
    methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
    if "__new__" in methods or definition.keywords:
        return None
    init = methods.get("__init__")
    if init is None:
        return _of_base(path, definition, source)
    if init.decorator_list:
        return None
    takes = _signature(init.args, skip=1)
    if takes.passed_on is None:
        return takes
    given = _given_to_base(init, takes.passed_on)
    base = None if given is None else _of_base(path, definition, source)
    if base is None or given is None:
        return None
    return Takes(takes.names | (base.names - given), takes.required | (base.required - given))


def _signature(args: ast.arguments, skip: int) -> Takes:
    plain = [*args.posonlyargs, *args.args]
    required = plain[skip : len(plain) - len(args.defaults)]
    for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        required += [each] if default is None else []
    return Takes(
        frozenset(each.arg for each in [*plain[skip:], *args.kwonlyargs]),
        frozenset(each.arg for each in required),
        args.kwarg.arg if args.kwarg else None,
    )


def _given_to_base(init: ast.FunctionDef, settings: str) -> frozenset[str] | None:
    """Give what `super().__init__(name=..., **settings)` adds; None where `settings` goes another way as well."""
    found: frozenset[str] | None = None
    uses = 0
    for node in ast.walk(init):
        uses += isinstance(node, ast.Name) and node.id == settings
        if (
            not isinstance(node, ast.Call)
            or ast.unparse(node.func) != "super().__init__"
            or node.args
        ):
            continue
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if words.pop(None, "") == settings:
            found = frozenset(filter(None, words))
    return found if uses == 1 else None


def _of_base(path: Path, definition: ast.ClassDef, source: Path) -> Takes | None:
    """Give what the base class takes, if there is one and it is the project's own."""
    if not definition.bases:
        return Takes()
    base = definition.bases[0]
    if len(definition.bases) > 1 or not isinstance(base, ast.Name):
        return None
    place = _defined(path, base.id, source)
    return _takes(place, source) if place else None
