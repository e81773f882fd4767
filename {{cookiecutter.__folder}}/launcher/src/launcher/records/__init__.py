"""What is known of a launched run: its record, written by launch, and what the worker adds beside the results.

`home` is where all runs are: `<bucket>/runs`, or the folder `runs` when there is no bucket. The records are in a folder
of their own, `home/.launches`, so that finding all of them does not mean listing all that the runs have left.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from ..errors import UserError
from ..job import Job, Kind, Machine, State
from ..storage import NothingThereError, list_files, read_text, remove, write_text

log = logging.getLogger(__name__)

LAUNCHES = ".launches"  # no run can be called that
ATTEMPTS, OUTCOME, LOG = "attempts.json", "outcome.json", "worker.log"
METRICS, CURVES = "metrics.json", "metrics.jsonl"  # at the end, and while it trains
RUN = "run.json"  # what it is, and `kept`: the validation of the weights that it keeps
TRIALS = "trials"  # in the folder of a sweep's run; the worker of each trial writes a file there
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
        kind: one of job.Kind.
        max_wait_hours: for a machine, before its first start and after each preemption.
        pull_request: number of the one that it was launched for.
        env, secrets, labels, output: of the job, so that it can be submitted again.
        token: tells two launches of one run in the same second apart.
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
    kind: str = Kind.train.value
    pull_request: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    output: str | None = None
    token: str = ""
    max_wait_hours: float = 24.0

    @property
    def key(self) -> str:
        """Its entry in the ledger: each launch of a run has one of its own."""
        return f"{self.run_id} {self.token} {self.launched}"

    def cost(self, seconds: float) -> float:
        """Give USD for so many seconds of running, of all nodes."""
        return seconds / 3600 * self.hourly_usd * self.nodes


def home(bucket: str | None) -> str:
    """Give where the runs are whose results go to `bucket`."""
    return f"{bucket.rstrip('/')}/runs" if bucket else LOCAL_HOME


def job(record: Record) -> Job:
    """Give the job of a record, to be submitted again. Of a sweep the search is missing: a service continues it itself."""
    return Job(
        run_id=record.run_id,
        image=record.image,
        args=tuple(record.args),
        machine=Machine(record.machine, record.type, record.gpu, record.gpus),
        nodes=record.nodes,
        spot=record.spot,
        max_hours=record.max_hours,
        env=record.env,
        secrets=record.secrets,
        labels=record.labels,
        output=record.output,
        kind=Kind(record.kind),
    )


def write(home: str, record: Record) -> None:
    """Write a run's record, in place of an earlier one."""
    text = json.dumps(asdict(record), indent=2) + "\n"
    write_text(f"{home}/{LAUNCHES}/{record.run_id}.json", text, patience=PATIENCE)


def read(home: str, run_id: str) -> Record | None:
    """Read a run's record; None where there is none, or none that this code understands."""
    uri = f"{home}/{LAUNCHES}/{run_id}.json"
    values = _read_json(uri, {})
    known = {field.name for field in fields(Record)}
    try:
        return Record(**{name: value for name, value in values.items() if name in known})
    except TypeError:
        if values:
            log.warning("%s is not a record of this code; passed over.", uri)
        return None


def read_all(home: str) -> list[Record]:
    """Read all records, newest launch first."""
    try:
        names = list_files(f"{home}/{LAUNCHES}", patience=PATIENCE)
    except NothingThereError:
        return []
    ids = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda run_id: read(home, run_id), ids))
    known = [record for record in found if record]
    return sorted(known, key=lambda record: record.launched, reverse=True)


def mark(home: str, record: Record, what: str) -> bool:
    """Put a mark on a launch; true for the one caller who was the first to do so, whoever else tries."""
    uri = _mark(home, record, what)
    who = f"{datetime.now(UTC).isoformat()} {secrets.token_hex(8)}"
    try:
        write_text(uri, who, new=True, patience=PATIENCE)
    except UserError:
        if read_text(uri, patience=PATIENCE) is None:
            raise
        return False
    return True


def unmark(home: str, record: Record, what: str) -> None:
    """Take a mark away again: what it stands for could not be done."""
    remove(_mark(home, record, what), patience=PATIENCE)


def marks(files: Iterable[str], record: Record) -> frozenset[str]:
    """Give the marks of a launch, from the names of all files in `home/.launches`."""
    prefix = _marked(record, "")
    return frozenset(file.removeprefix(prefix) for file in files if file.startswith(prefix))


def _mark(home: str, record: Record, what: str) -> str:
    return f"{home}/{LAUNCHES}/{_marked(record, what)}"


def _marked(record: Record, what: str) -> str:
    return f"{record.run_id}/{record.launched}.{what}"


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


def has_result(home: str, run_id: str) -> bool:
    """Tell whether a run has left its metrics."""
    return read_text(f"{home}/{run_id}/{METRICS}", patience=PATIENCE) is not None


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
