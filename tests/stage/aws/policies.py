"""Whether policies allow an action on a resource: the evaluation of IAM, as far as this project's policies reach.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and, for the conditions,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html. moto's own check
looks at neither resources nor conditions (it says so at the head of moto/iam/access_control.py).
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Context = Mapping[str, Any]
ALLOWED, DENIED, SILENT = "allowed", "denied", "silent"


def verdict(documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context) -> str:
    """Of policies together: one Deny outweighs every Allow, and what nobody allows is not allowed.

    Args:
        resource: ARN; "*" for an action that has none, which only a statement on "*" allows.
        context: keys of conditions, with one value or a list.

    Returns:
        `ALLOWED`, `DENIED` (by a statement) or `SILENT` (no statement speaks of it).
    """
    said = SILENT
    for document in documents:
        for statement in listed(document["Statement"]):
            if not applies(statement, action, resource, context):
                continue
            if statement["Effect"] == "Deny":
                return DENIED
            said = ALLOWED
    return said


def applies(statement: Mapping[str, Any], action: str, resource: str | None, context: Context) -> bool:
    """Whether a statement speaks of an action; None as resource is for trust policies, which have none."""
    if "NotAction" in statement:
        if _any(statement["NotAction"], action, fold=True):
            return False
    elif not _any(statement["Action"], action, fold=True):
        return False
    if resource is not None:
        if "NotResource" in statement:
            if _any(statement["NotResource"], resource):
                return False
        elif not _any(statement["Resource"], resource):
            return False
    return conditions_hold(statement.get("Condition", {}), context)


def mentions(documents: Iterable[Mapping[str, Any]], action: str) -> bool:
    """Whether any statement allows an action, on whatever resource and condition."""
    return any(
        one["Effect"] == "Allow" and "Action" in one and _any(one["Action"], action, fold=True)
        for document in documents
        for one in listed(document["Statement"])
    )


def listed(value: Any) -> list[Any]:
    """A single element of a policy may stand without its brackets."""
    return value if isinstance(value, list) else [value]


def matches(wanted: str, value: str, fold: bool = False) -> bool:
    """`*` and `?` as in policies, where * goes over / and : too."""
    expression = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in wanted)
    return re.fullmatch(expression, value, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def _any(wanted: Any, value: str, fold: bool = False) -> bool:
    return any(matches(one, value, fold) for one in listed(wanted))


def _number(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda value, wanted: test(float(value), float(wanted))


def _date(test: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def compare(value: str, wanted: str) -> bool:
        moment = datetime.datetime.fromisoformat(wanted).timestamp()
        return test(float(value), moment)

    return compare


TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": lambda value, wanted: matches(wanted, value),
    "ArnEquals": lambda value, wanted: matches(wanted, value),
    "ArnLike": lambda value, wanted: matches(wanted, value),
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "NumericEquals": _number(lambda a, b: a == b),
    "NumericLessThan": _number(lambda a, b: a < b),
    "NumericLessThanEquals": _number(lambda a, b: a <= b),
    "NumericGreaterThan": _number(lambda a, b: a > b),
    "NumericGreaterThanEquals": _number(lambda a, b: a >= b),
    "DateLessThan": _date(lambda a, b: a < b),
    "DateGreaterThan": _date(lambda a, b: a > b),
}
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
}


def conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """All conditions of a statement; what the context does not have fits none but a negated one.

    Raises:
        AssertionError: an operator is not modelled here.
    """
    known = {key.lower(): [str(one) for one in listed(value)] for key, value in context.items()}
    return all(
        _holds(operator, known.get(key.lower()), [str(one) for one in listed(wanted)])
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, values: list[str] | None, wanted: list[str]) -> bool:
    quantifier, _, name = operator.rpartition(":")
    if name == "Null":
        return str(values is None).lower() == wanted[0].lower()
    lenient, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    negated = name in NEGATED
    test = TESTS.get(NEGATED.get(name, name))
    if test is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise AssertionError(f"The stage does not know the condition {operator}.")
    if values is None:
        # ForAllValues is true without any value, which the page on multivalued keys warns of.
        return lenient or negated or quantifier == "ForAllValues"
    fits = [any(test(value, one) for one in wanted) != negated for value in values]
    return any(fits) if quantifier == "ForAnyValue" else all(fits)
