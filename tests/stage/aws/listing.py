"""Filters, order and pages of SageMaker's List operations."""

from typing import Any

from stage.aws.errors import AwsError


def listed(
    found: list[dict[str, Any]], given: dict[str, Any], name: str, state: str
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Filters and sorts as List operations do: ascending by creation where nothing else is said, 10 a page."""
    tests = {
        "NameContains": lambda one, value: value in one[name],
        "StatusEquals": lambda one, value: one[state] == value,
        "CreationTimeAfter": lambda one, value: one["CreationTime"] > value,
        "CreationTimeBefore": lambda one, value: one["CreationTime"] < value,
        "LastModifiedTimeAfter": lambda one, value: one["LastModifiedTime"] > value,
        "LastModifiedTimeBefore": lambda one, value: one["LastModifiedTime"] < value,
    }
    known = (*tests, "MaxResults", "NextToken", "SortBy", "SortOrder")
    if more := set(given) - set(known):
        raise AwsError("NotImplemented", f"{', '.join(more)} is not part of the stand-in.", 501)
    kept = [one for one in found if all(tests[key](one, given[key]) for key in tests if key in given)]
    keys = {"Name": name, "Status": state, "CreationTime": "CreationTime"}
    kept.sort(key=lambda one: one[keys[given.get("SortBy", "CreationTime")]])
    if given.get("SortOrder") == "Descending":
        kept.reverse()
    return page(kept, given, 10)


def page(found: list[Any], given: dict[str, Any], usual: int) -> tuple[list[Any], dict[str, str]]:
    """One page, and the token of the next where there is one."""
    start, size = int(given.get("NextToken", "0")), given.get("MaxResults", usual)
    return found[start : start + size], (
        {"NextToken": str(start + size)} if start + size < len(found) else {}
    )
