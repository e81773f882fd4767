"""Expressions of Azure Resource Manager's templates: "[format('{0}-x', parameters('name'))]".

https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stage.azure.errors import AzureError

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[()\[\].,]))"
)
Functions = Mapping[str, Callable[..., Any]]


def invalid(text: str) -> AzureError:
    """A refusal of a whole template."""
    return AzureError(400, "InvalidTemplate", f"Deployment template validation failed: '{text}'.")


@dataclass(frozen=True)
class Asked:
    """A function and its arguments, which are texts, numbers, or the same again."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Part:
    """A part of a value: a name, a number, or an expression of one."""

    whole: Any
    key: Any


def is_expression(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.startswith("[")
        and value.endswith("]")
        and not value.startswith("[[")
    )


def read(text: str) -> Any:
    """The tree of an expression, which stands in brackets."""
    tokens: list[tuple[str, str]] = []
    place, inside = 0, text[1:-1]
    while place < len(inside.rstrip()):
        found = TOKEN.match(inside, place)
        if not found:
            raise invalid(f"Unable to parse language expression '{inside}' at position {place}")
        kind = found.lastgroup or ""
        tokens.append((kind, found[kind]))
        place = found.end()
    tree = _expression(tokens, inside)
    if tokens:
        raise invalid(
            f"Unable to parse language expression '{inside}': expected end of string, found '{tokens[0][1]}'"
        )
    return tree


def _next(tokens: list[tuple[str, str]], inside: str, *wanted: str) -> tuple[str, str]:
    if not tokens or (wanted and tokens[0][1] not in wanted):
        found = tokens[0][1] if tokens else "EndOfData"
        raise invalid(f"Unable to parse language expression '{inside}': unexpected token '{found}'")
    return tokens.pop(0)


def _expression(tokens: list[tuple[str, str]], inside: str) -> Any:
    kind, text = _next(tokens, inside)
    if kind == "text":
        tree: Any = text[1:-1].replace("''", "'")
    elif kind == "number":
        tree = int(text)
    elif kind == "name":
        _next(tokens, inside, "(")
        arguments = []
        while tokens and tokens[0][1] != ")":
            arguments.append(_expression(tokens, inside))
            if tokens and tokens[0][1] == ",":
                tokens.pop(0)
        _next(tokens, inside, ")")
        tree = Asked(text, tuple(arguments))
    else:
        raise invalid(f"Unable to parse language expression '{inside}': unexpected token '{text}'")
    while tokens and tokens[0][1] in (".", "["):
        if tokens.pop(0)[1] == ".":
            tree = Part(tree, _next(tokens, inside)[1])
        else:
            tree = Part(tree, _expression(tokens, inside))
            _next(tokens, inside, "]")
    return tree


def worth(tree: Any, functions: Functions) -> Any:
    """The value of a tree; names of functions count without case."""
    if isinstance(tree, Part):
        whole, key = worth(tree.whole, functions), worth(tree.key, functions)
        if isinstance(whole, dict):
            known = {str(name).lower(): value for name, value in whole.items()}
            if str(key).lower() not in known:
                names = ", ".join(map(str, whole))
                text = f"The language expression property '{key}' doesn't exist, available properties are '{names}'"
                raise invalid(text)
            return known[str(key).lower()]
        if isinstance(whole, (list, str)) and isinstance(key, int) and key < len(whole):
            return whole[key]
        raise invalid(f"The language expression property '{key}' can't be evaluated")
    if not isinstance(tree, Asked):
        return tree
    name = tree.name.lower()
    if name == "if":
        chosen = tree.arguments[1 if worth(tree.arguments[0], functions) else 2]
        return worth(chosen, functions)
    if name not in functions:
        raise invalid(f"The template function '{tree.name}' is not valid")
    try:
        return functions[name](*(worth(one, functions) for one in tree.arguments))
    except (TypeError, ValueError, IndexError) as error:
        raise invalid(f"Unable to evaluate the template function '{tree.name}': {error}") from error


def filled(value: Any, functions: Functions) -> Any:
    """A value of a template with each expression in it, names of fields too, replaced by what it is worth."""
    if isinstance(value, dict):
        return {filled(name, functions): filled(one, functions) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, functions) for one in value]
    if is_expression(value):
        return worth(read(value), functions)
    return value[1:] if isinstance(value, str) and value.startswith("[[") else value
