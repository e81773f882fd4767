"""The ledger: launches at the same moment cannot slip under the cap together, and nothing is counted twice."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_backend import record
from launcher import records
from launcher.atomic import update_text
from launcher.errors import UserError
from launcher.money import ledger

NOW = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)


def key(run_id: str) -> str:
    return f"{run_id} {NOW.isoformat()}"


def reserve(home: Path, run_id: str, usd: float, cap: float = 10.0) -> None:
    ledger.reserve(str(home), key(run_id), run_id, usd, cap, NOW)


def test_what_was_spent_and_what_is_reserved_count_against_the_cap(tmp_path):
    reserve(tmp_path, "a", 6.0)
    with pytest.raises(UserError, match=r"spent 0.00 and are reserved 6.00"):
        reserve(tmp_path, "b", 4.01)
    reserve(tmp_path, "b", 4.0)
    ledger.settle(str(tmp_path), key("a"), 1.5)
    with pytest.raises(UserError, match=r"spent 1.50 and are reserved 4.00"):
        reserve(tmp_path, "c", 4.51)
    ledger.release(str(tmp_path), key("b"))
    reserve(tmp_path, "c", 8.5)
    month = ledger.month(str(tmp_path), "2026-11")
    assert (month.spent, month.reserved) == (1.5, 8.5)


def test_a_launch_counts_in_its_own_month_and_only_once(tmp_path):
    reserve(tmp_path, "a", 6.0)
    reserve(tmp_path, "a", 6.0)  # tried again, as the answer of the bucket was lost
    assert ledger.month(str(tmp_path), "2026-11").reserved == 6.0
    assert ledger.month(str(tmp_path), "2026-12").entries == {}


def test_settling_what_was_never_reserved_changes_nothing(tmp_path):
    ledger.settle(str(tmp_path), key("a"), 1.0)
    ledger.release(str(tmp_path), key("a"))
    assert list(tmp_path.rglob("*.json")) == []


def test_many_launches_at_the_same_moment_stay_under_the_cap_together(tmp_path):
    refused = []

    def launch(number: int) -> None:
        try:
            reserve(tmp_path, f"run-{number}", 1.0, cap=7.0)
        except UserError:
            refused.append(number)

    threads = [threading.Thread(target=launch, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 13
    assert ledger.month(str(tmp_path), "2026-11").reserved == 7.0


def test_what_a_change_refuses_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "file"
    update_text(str(file), lambda text: (text or "") + "one")

    def refuse(text: str | None) -> str:
        raise UserError("No.")

    with pytest.raises(UserError, match=r"No\."):
        update_text(str(file), refuse)
    assert file.read_text() == "one"


def test_a_bucket_that_cannot_compare_versions_is_refused_by_name():
    with pytest.raises(UserError, match="memory://a/b cannot be shared"):
        update_text("memory://a/b", lambda text: "x")


def test_a_mark_is_put_by_one_of_many(tmp_path):
    one = record("first")
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(records.mark(str(tmp_path), one, "told")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    records.unmark(str(tmp_path), one, "told")
    assert records.mark(str(tmp_path), one, "told")
    assert records.read_all(str(tmp_path)) == []  # marks are not taken for records


def test_a_job_can_be_made_of_its_record_again():
    made = records.job(record("first", env={"A": "b"}, labels={"run": "first"}, args=["x=1"]))
    assert (made.run_id, made.args, made.nodes) == ("first", ("x=1",), 2)
    assert (made.machine.name, made.machine.gpus) == ("l4", 1)
    assert (made.env, made.labels) == ({"A": "b"}, {"run": "first"})
