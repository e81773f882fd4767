"""Search's expressions: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Search.html."""

from typing import Any

from stage.aws.errors import AwsError


def fits(expression: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether a resource fits a search expression."""
    tests = [_filter(one, found) for one in expression.get("Filters", [])]
    tests += [fits(one, found) for one in expression.get("SubExpressions", [])]
    if "NestedFilters" in expression:
        raise AwsError("NotImplemented", "NestedFilters are not part of the stand-in.", 501)
    return any(tests) if expression.get("Operator", "And") == "Or" else all(tests)


def _filter(wanted: dict[str, str], found: dict[str, Any]) -> bool:
    operator = wanted.get("Operator", "Equals")
    value = _value(wanted["Name"], found)
    given = wanted.get("Value")
    if operator in ("Exists", "NotExists"):
        if given is not None:
            raise AwsError("ValidationException", f"{operator} takes no Value.")
        return (value is not None) == (operator == "Exists")
    if given is None:
        raise AwsError("ValidationException", f"{operator} needs a Value.")
    if operator == "NotEquals":
        return value != given
    if value is None:
        return False
    if operator == "Equals":
        return value == given
    if operator == "Contains":
        return given in value
    if operator == "In":
        return value in given.split(",")
    tests = {
        "GreaterThan": lambda a, b: a > b,
        "GreaterThanOrEqualTo": lambda a, b: a >= b,
        "LessThan": lambda a, b: a < b,
        "LessThanOrEqualTo": lambda a, b: a <= b,
    }
    try:
        return tests[operator](float(value), float(given))
    except ValueError as error:
        raise AwsError("ValidationException", f"{operator} compares numbers only in the stand-in.") from error


def _value(name: str, found: dict[str, Any]) -> str | None:
    if name.startswith("Tags."):
        tags = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
        return tags.get(name.removeprefix("Tags."))
    value: Any = found
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else str(value)
