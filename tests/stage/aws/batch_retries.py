"""Whether a failed attempt of a job of AWS Batch is followed by another."""

import fnmatch
from collections.abc import Mapping
from typing import Any


def again(strategy: Mapping[str, Any], code: int | None, status_reason: str, reason: str) -> bool:
    """By the first rule that fits; where none fits the job is tried again, by API_EvaluateOnExit.html.

    That `*` fits a reason that is not there follows from the examples of
    https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html, of which it is the last rule.

    Args:
        code: of the container; None where it is not known, as of a lost machine: no pattern of codes fits it.
        reason: the container's own; "" where there is none.
    """
    given = {
        "onExitCode": "" if code is None else str(code),
        "onStatusReason": status_reason,
        "onReason": reason,
    }
    for rule in strategy.get("evaluateOnExit", []):
        wanted = {key: rule[key] for key in given if key in rule}
        unknown = "onExitCode" in wanted and code is None
        if not unknown and all(_fits(pattern, given[key]) for key, pattern in wanted.items()):
            return rule["action"].upper() == "RETRY"
    return True


def _fits(pattern: str, text: str) -> bool:
    """Whether case counts is not said for these; it does not for the actions."""
    return fnmatch.fnmatchcase(text.lower(), pattern.lower())
