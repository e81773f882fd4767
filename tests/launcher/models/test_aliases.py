"""Aliases move by compare-and-swap, keep their history, and are guarded by the gate."""

import re
from pathlib import Path
from typing import Any

import pytest
from launcher.errors import UserError
from launcher.models import aliases, gate, names
from launcher.models.names import Reference
from launcher.models.versions import Version


def version(number: int, value: float | None = 0.9, **judged: Any) -> Version:
    metrics = {} if value is None else {"test/accuracy": value}
    by = {"metric": "test/accuracy", "more_is_better": True, "test_data": "same", **judged}
    return Version("models", "digits", number, "r", {}, metrics, by)


def test_an_alias_leads_where_it_was_moved_last(tmp_path: Path):
    home = str(tmp_path)
    for number in (1, 2, 1):
        aliases.move(home, "digits", "champion", aliases.history(home, "digits", "champion"), number, "me")
    assert aliases.target(home, "digits", "champion") == 1
    assert [(one.previous, one.version) for one in aliases.history(home, "digits", "champion")] == [
        (0, 1),
        (1, 2),
        (2, 1),
    ]
    assert aliases.of(home, "digits") == {"champion": 1}


def test_a_second_rollback_goes_back_further_and_not_to_what_was_bad(tmp_path: Path):
    home, led = str(tmp_path), []
    for number in (1, 2, 3):
        aliases.move(home, "digits", "champion", aliases.history(home, "digits", "champion"), number, "me")
    while number := aliases.before(seen := aliases.history(home, "digits", "champion")):
        aliases.move(home, "digits", "champion", seen, number, "me", aliases.ROLLBACK)
        led.append(number)
    assert led == [2, 1]
    aliases.move(home, "digits", "champion", aliases.history(home, "digits", "champion"), 3, "me")
    assert aliases.before(aliases.history(home, "digits", "champion")) == 1


def test_of_two_who_move_it_at_once_one_is_told_to_look_again(tmp_path: Path):
    home = str(tmp_path)
    seen = aliases.history(home, "digits", "champion")
    aliases.move(home, "digits", "champion", seen, 1, "first")
    with pytest.raises(aliases.MovedError, match="run the same again"):
        aliases.move(home, "digits", "champion", seen, 1, "first")  # even where both say the same
    assert len(aliases.history(home, "digits", "champion")) == 1


def test_a_better_version_passes_the_gate_and_a_worse_one_is_refused_with_both_numbers():
    assert gate.compare(version(2, 0.95), version(1, 0.9))["old"] == 0.9
    with pytest.raises(UserError, match=r"0\.8500, and 0\.9000 before"):
        gate.compare(version(2, 0.85), version(1, 0.9))


def test_the_gate_knows_metrics_of_which_less_is_better():
    less = {"more_is_better": False}
    gate.compare(version(2, 0.1, **less), version(1, 0.2, **less))
    with pytest.raises(UserError, match="more is worse"):
        gate.compare(version(2, 0.3, **less), version(1, 0.2, **less))


@pytest.mark.parametrize(
    ("other", "why"),
    [({"test_data": "another"}, "test data differ"), ({"metric": "test/loss"}, "judged by")],
)
def test_what_was_measured_otherwise_cannot_be_compared(other: dict[str, Any], why: str):
    with pytest.raises(UserError, match=why):
        gate.compare(version(2), version(1, 0.9, **other))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_was_not_measured_does_not_pass(value: float | None):
    with pytest.raises(UserError, match="has no test/accuracy on the test split"):
        gate.compare(version(1, value), None)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("digits", Reference("digits", alias="champion")),
        ("digits@v3", Reference("digits", 3)),
        ("digits@3", Reference("digits", 3)),
        ("my-model@staging", Reference("my-model", alias="staging")),
        ("bucket:digits@v3", Reference("digits", 3, place="bucket")),
        ("here:digits", Reference("digits", alias="champion", place="here")),
    ],
)
def test_a_model_is_named_by_alias_or_version(text: str, meant: Reference):
    assert names.parse(text) == meant


@pytest.mark.parametrize(
    "text",
    ["", "Digits", "a/b", "../x", "digits@", "digits@v0", "digits@A", "a" * 64, "moon:digits", ":digits:"],
)
def test_what_can_be_no_name_is_refused(text: str):
    with pytest.raises(UserError, match=re.escape("name")):
        names.parse(text)
