"""Whether a section gives what its class takes, read in the class's source: importing it would import torch.

Only what the source plainly tells is refused. A decorator, a base class from elsewhere, a name that is bound twice or made on
the way are left to the training.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .explain import nearest

HYDRAS = {"_target_", "_partial_", "_recursive_", "_convert_"}
MADE_ON_THE_WAY = re.compile(r"import \*|\b(__getattr__|__path__|globals|vars|setattr|exec)\b")
MAKES_ITSELF = ("__new__", "__init_subclass__")
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
            word = "" if "[" in where else f", or +{where}.{missing.partition(',')[0]}=..."
            raise UserError(
                f"{where} lacks {missing}, which {name} needs; add it to the section's file{word}"
            )


def _targets(node: Any, where: str) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Find all sections that Hydra makes something of, by their keys."""
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield where, node
        if node.get("_recursive_", True) is not True:
            return  # its class makes the parts, and may add to what they are given
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
    if "${" in target:
        return None
    package, *parts = target.split(".")
    if not parts or not all(each.isidentifier() for each in (package, *parts)):
        raise UserError(f"{key}={target!r} names no class; write package.module.Name.")
    if not (source / package).is_dir():
        _refuse_slip(key, target, source)
        return None
    folder, module = source / package, source / package / "__init__.py"
    for number, name in enumerate(parts, 1):
        tree = _read(module)
        if tree and _bindings(tree)[name]:  # Python looks there before it looks for a file
            return _defined(module, name, source) if number == len(parts) else None
        inner = _module(folder / name)
        if inner is None:
            _refuse_unknown(f"{key}={target}", name, module, source)
            return None
        folder, module = folder / name, inner
    raise UserError(
        f"{key}={target} is a file; name a class or a function in it, as in {target}.Name."
    )


def _module(path: Path) -> Path | None:
    """Give the file of a module as Python finds it; one that is missing for a folder without."""
    package = path / "__init__.py"
    if package.is_file():
        return package
    file = path.with_name(f"{path.name}.py")
    return file if file.is_file() else package if path.is_dir() else None


def _refuse_slip(key: str, target: str, source: Path) -> None:
    """Refuse a package that is nearly the project's own, and a module of the project's without its package."""
    package, _, rest = target.partition(".")
    with suppress(ValueError, ImportError):
        found = importlib.util.find_spec(package)
        if found and found.origin:  # a folder such as data/ is found as well, and holds no module
            return
    own = [path.name for path in source.iterdir() if (path / "__init__.py").is_file()]
    close = difflib.get_close_matches(package, own, n=1, cutoff=0.85)
    meant = [f"{each}.{rest}" for each in close]
    for each in own:
        inside = target.removeprefix("src.").removeprefix(f"{each}.")
        if inside != rest or package == "src":
            meant += (
                [f"{each}.{inside}"] if _module(source / each / inside.partition(".")[0]) else []
            )
    if meant:
        raise UserError(f"{key}={target}: did you mean {meant[0]}?")


def _refuse_unknown(word: str, name: str, module: Path, source: Path) -> None:
    """Refuse a name that a file of the project's does not even mention."""
    text = module.read_text(encoding="utf-8", errors="replace") if module.is_file() else ""
    beside = {path.stem for path in module.parent.glob("*") if path.suffix in ("", ".py")}
    compiled = any(module.parent.glob(f"{name}.*"))
    if compiled or MADE_ON_THE_WAY.search(text) or re.search(rf"\b{re.escape(name)}\b", text):
        return
    tree = _read(module)
    known = set(_bindings(tree)) if tree else set()
    if module.name == "__init__.py":
        known |= beside
    end = nearest(name, sorted(known))
    raise UserError(
        f"{word}: there is no {name} in {module.relative_to(source.parent)}"
        f"{end if end.startswith('; did') else '; correct it.'}"
    )


@cache
def _read(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise UserError(
            f"{os.path.relpath(path)}, line {error.lineno}, is no Python: {error.msg}; correct it."
        ) from error
    except (OSError, ValueError):
        return None


def _bindings(node: ast.AST) -> Counter[str]:
    """Count what gives a name a value, or an attribute, however deep."""
    found: Counter[str] = Counter()
    for each in ast.walk(node):
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[each.name] += 1
        elif isinstance(each, ast.alias):
            found[(each.asname or each.name).partition(".")[0]] += 1
        elif isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            found[each.id] += 1
        elif isinstance(each, ast.Attribute) and not isinstance(each.ctx, ast.Load):
            found[ast.unparse(each.value)] += 1
    return found


def _defined(path: Path, name: str, source: Path) -> Place | None:
    """Give a file's class or function, or that of the project's own file from which it is imported."""
    tree = _read(path)
    if tree is None or _bindings(tree)[name] != 1:
        return None
    for node in tree.body:
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
    file = _module(folder.joinpath(*(node.module or "").split(".")))
    return file if file and file.is_file() and file != path else None


def _takes(place: Place, source: Path) -> Takes | None:
    """Give what it can be called with; None where the source does not tell."""
    path, definition = place
    if isinstance(definition, ast.ClassDef) and _is_dataclass(definition):
        return _fields(definition)
    if definition.decorator_list:
        return None
    if isinstance(definition, ast.FunctionDef):
        takes = _signature(definition.args, skip=0)
        return None if takes.passed_on else takes
    names = _bindings(definition)
    if definition.keywords or names["__init__"] > 1 or any(names[each] for each in MAKES_ITSELF):
        return None
    places = [_base(path, base, source) for base in definition.bases]
    bases = [_takes(place, source) if place else None for place in places]
    if any(place and takes is None for place, takes in zip(places, bases, strict=True)):
        return None
    base = {0: [Takes()], 1: bases}.get(len(bases), [None])[0]
    if not names["__init__"]:
        return base
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
    init = next((each for each in methods if each.name == "__init__"), None)
    if init is None or init.decorator_list:
        return None
    takes = _signature(init.args, skip=1)
    if takes.passed_on is None:
        return takes
    given = _given_to_base(init, takes.passed_on)
    if base is None or given is None:
        return None
    return Takes(takes.names | (base.names - given), takes.required | (base.required - given))


def _is_dataclass(definition: ast.ClassDef) -> bool:
    """Tell a plain one, which takes its fields; one that is asked for anything else may take something else."""
    decorators = [ast.unparse(each) for each in definition.decorator_list]
    return decorators in (["dataclass"], ["dataclasses.dataclass"]) and not definition.bases


def _fields(definition: ast.ClassDef) -> Takes | None:
    names: set[str] = set()
    required: set[str] = set()
    bound = _bindings(definition)
    if definition.keywords or any(bound[each] for each in ("__init__", *MAKES_ITSELF)):
        return None
    for line in definition.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        kind = ast.unparse(line.annotation)
        if "ClassVar" in kind:
            continue
        if "KW_ONLY" in kind or isinstance(
            line.value, ast.Call
        ):  # field(...), which may be anything
            return None
        names.add(line.target.id)
        required |= set() if line.value else {line.target.id}
    return Takes(frozenset(names), frozenset(required))


def _base(path: Path, base: ast.expr, source: Path) -> Place | None:
    place = _defined(path, base.id, source) if isinstance(base, ast.Name) else None
    return place if place and isinstance(place[1], ast.ClassDef) else None


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
    """Give what a line `super().__init__(name=..., **settings)` adds; None where `settings` goes another way as well."""
    uses = sum(isinstance(node, ast.Name) and node.id == settings for node in ast.walk(init))
    for line in init.body:
        call = line.value if isinstance(line, ast.Expr) else None
        if (
            not isinstance(call, ast.Call)
            or ast.unparse(call.func) != "super().__init__"
            or call.args
        ):
            continue
        spread = [ast.unparse(word.value) for word in call.keywords if word.arg is None]
        if spread == [settings] and uses == 1:
            return frozenset(word.arg for word in call.keywords if word.arg)
    return None
