"""A run that is over, told where people look: at its commit, and on its pull request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .. import records
from ..job import Kind, State
from ..providers import browse
from ..storage import read_text
from .github import COMMIT, CONTEXT
from .report import Facts, headline, markdown

if TYPE_CHECKING:
    from .github import GitHub
    from .survey import Launch

PREDICTIONS = "predict"  # the commit status that tells of them, beside that of its training
STATES = {State.succeeded.value: "success", State.failed.value: "failure"}


def publish(home: str, launch: Launch, github: GitHub) -> str:
    """Set the status of a run's commit and comment on its pull request; give where, for people.

    Raises:
        CommitMissingError: the commit is not there; the comment is.
        GitHubError: something else does not work; it can be tried again as a whole.
    """
    record, said = launch.record, []
    if record.kind == Kind.notebook.value:
        return " (a notebook: nowhere)"
    facts = gather(home, launch)
    context = PREDICTIONS if record.kind == Kind.predict.value else CONTEXT
    if record.pull_request:
        marker = f"<!-- run {record.run_id} {record.launched} -->"
        github.comment(record.pull_request, marker, markdown(facts))
        said.append(f"pull request {record.pull_request}")
    if record.commit and COMMIT.fullmatch(record.commit):  # of a changed tree it would be wrong
        state = STATES.get(launch.end, "error")
        github.set_status(
            record.commit, state, headline(facts), facts.results or record.url, context
        )
        said.append(f"commit {record.commit[:12]}")
    return f" ({' and '.join(said) or 'nowhere: it has neither commit nor pull request'})"


def gather(home: str, launch: Launch) -> Facts:
    """Read what a report says of a run."""
    folder = f"{home}/{launch.record.run_id}"
    record = launch.record
    metrics = _parse(read_text(f"{folder}/{records.METRICS}", patience=records.PATIENCE) or "")
    lines = read_text(f"{folder}/{records.CURVES}", patience=records.PATIENCE) or ""
    return Facts(
        run_id=record.run_id,
        state=launch.end,
        reason=launch.reason if launch.end != State.succeeded.value else "",
        metrics=metrics if isinstance(metrics, dict) else {},
        curves=[line for text in lines.splitlines() if isinstance(line := _parse(text), dict)],
        machine=f"{record.nodes} x {record.machine}{', spot' * record.spot}",
        hours=launch.seconds / 3600,
        usd=record.cost(launch.seconds),
        commit=record.commit or "",
        settings=[word for word in record.args if not word.startswith("run.id=")],
        results=browse(folder),
        job=record.url,
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
