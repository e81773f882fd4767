"""What is known of a launched run, beside its results: `launch.json`, written by launch, and what the worker adds.

`home` is where all runs are: `<bucket>/runs`, or the folder `runs` when there is no bucket.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from ..errors import UserError
from ..storage import StorageUnavailable, list_files, read_text, remove, write_text
from .job import State

log = logging.getLogger(__name__)

RECORD, ATTEMPTS, OUTCOME, LOG = "launch.json", "attempts.json", "outcome.json", "worker.log"
LOCAL_HOME = "runs"
PATIENCE = 10.0  # seconds; a person is waiting


@dataclass(frozen=True)
class Record:
    """One launch.

    Args:
        hourly_usd: for one node, the provider's fee included.
        worst_case_usd: of this launch, for all nodes until the time limit.
        earlier_seconds: how long the run had been running when this launch continued it.
        job: the provider's name of the job; None until it was submitted.
    """

    run_id: str
    backend: str
    launched: str
    machine: str
    type: str
    gpu: str | None
    gpus: int
    nodes: int
    spot: bool
    region: str | None
    project: str | None
    hourly_usd: float
    worst_case_usd: float
    prices: str
    max_hours: float
    image: str
    args: list[str]
    code: str | None
    commit: str | None
    dirty: bool | None
    branch: str | None
    earlier_seconds: float = 0.0
    job: str | None = None
    url: str = ""


def home(bucket: str | None) -> str:
    """Give where the runs are whose results go to `bucket`."""
    return f"{bucket.rstrip('/')}/runs" if bucket else LOCAL_HOME


def write(home: str, record: Record) -> None:
    """Write a run's record, in place of an earlier one."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_text(f"{home}/{record.run_id}/{RECORD}", text, patience=PATIENCE)


def read(home: str, run_id: str) -> Record | None:
    """Read a run's record; None where there is none, or none that this code understands."""
    values = _read_json(f"{home}/{run_id}/{RECORD}", {})
    known = {field.name for field in fields(Record)}
    try:
        return Record(**{name: value for name, value in values.items() if name in known})
    except TypeError:
        if values:
            log.warning("%s/%s/%s is not a record of this code; passed over.", home, run_id, RECORD)
        return None


def read_all(home: str) -> list[Record]:
    """Read all records, newest launch first."""
    try:
        names = list_files(home, patience=PATIENCE)
    except StorageUnavailable:
        raise
    except UserError as error:
        if error.__cause__ is not None:  # a refusal; without a cause there is just nothing yet
            raise
        return []
    ids = [name.removesuffix(f"/{RECORD}") for name in names if name.endswith(f"/{RECORD}")]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda run_id: read(home, run_id), ids))
    known = [record for record in found if record]
    return sorted(known, key=lambda record: record.launched, reverse=True)


def attempts(home: str, run_id: str) -> list[dict[str, Any]]:
    """Give what the worker noted of each start of the run."""
    return [
        attempt
        for attempt in _read_json(f"{home}/{run_id}/{ATTEMPTS}", [])
        if isinstance(attempt, dict)
    ]


def seconds(attempts: list[dict[str, Any]]) -> float:
    """Add up how long a run has been running."""
    return sum(float(attempt.get("seconds") or 0.0) for attempt in attempts)


def outcome(home: str, run_id: str) -> dict[str, Any] | None:
    """Give how a run ended; None when it has not."""
    return _read_json(f"{home}/{run_id}/{OUTCOME}", {}) or None


def reopen(home: str, run_id: str) -> None:
    """Let an ended run go on: the worker does nothing where there is an outcome."""
    remove(f"{home}/{run_id}/{OUTCOME}", patience=PATIENCE)


def close(home: str, run_id: str, state: State, exit_code: int, reason: str) -> None:
    """Note how a run ended, unless its worker has done so."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    values = {"state": state.value, "exit_code": exit_code, "reason": reason, "time": time}
    with suppress(UserError):  # the worker has, in the meantime
        write_text(f"{home}/{run_id}/{OUTCOME}", json.dumps(values) + "\n", True, PATIENCE)


def _read_json(uri: str, default: Any) -> Any:
    """Read a JSON file; `default` where there is none, or where it is of another kind."""
    text = read_text(uri, patience=PATIENCE)
    try:
        value = json.loads(text) if text else default
    except ValueError:
        value = default
    return value if isinstance(value, type(default)) else default
