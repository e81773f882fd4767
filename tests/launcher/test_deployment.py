"""What all places where a model can answer say of numbers, days and money."""

from datetime import UTC, datetime, timedelta

import pytest
from launcher.deployment import MONTH, Order, hours_left, refuse_above, whole
from launcher.errors import UserError


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.5", "many", "²", "٣", "9" * 5000])
def test_what_is_no_whole_number_in_its_bounds_is_refused(text):
    with pytest.raises(UserError, match=r"traffic=.* is no number from 1 to 100; correct it\."):
        whole({"traffic": text}, "traffic", 100)


def test_a_number_is_what_is_given_or_else_what_is_usual():
    assert whole({"traffic": "100"}, "traffic", 100) == 100
    assert whole({}, "port", 65535, "8080") == 8080


@pytest.mark.parametrize("day", ["", "tomorrow", "2026-W53-1", "20261231", "2020-01-01"])
def test_what_is_no_day_to_come_is_refused(day):
    with pytest.raises(UserError, match="is no day to come; give one such as"):
        hours_left({"until": day})


def test_a_day_counts_to_its_end_and_a_month_at_most():
    assert 23 <= hours_left({"until": f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"}) <= 48
    assert hours_left({"until": "2999-12-31"}) == hours_left({}) == MONTH


@pytest.mark.parametrize(
    ("most", "said"),
    [("nan", "nan are the most"), ("9.99", "give max_usd=11,"), ("a lot", "no number of USD")],
)
def test_more_than_somebody_allows_is_refused(most, said):
    with pytest.raises(UserError, match=said):
        refuse_above(Order("digits", 1, "", {"max_usd": most}), 10.0, 1000.0, "could cost about 10.00 USD")
    with pytest.raises(UserError, match="digits@v1 costs 10 USD, and 5 are the most"):
        refuse_above(Order("digits", 1, ""), 10.0, 5.0, "costs 10 USD")
    refuse_above(Order("digits", 1, "", {"max_usd": "10"}), 10.0, 5.0, "costs 10 USD")
