"""One run of a workflow: act, and what has become of it, read from what act printed."""

import fcntl
import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from baking import clean_env


@dataclass(frozen=True)
class WorkflowRun:
    """One run of one workflow.

    Args:
        workflow: its file's name, such as train.yml.
        jobs: job id -> success, failure or skipped; one that calls a workflow fails with any job of that.
        log: what all steps printed, each line after the job's name.
        summary: the run's summary page, in Markdown.
        errors: what the run's page shows as errors.
    """

    workflow: str
    jobs: dict[str, str]
    log: str
    summary: str
    errors: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return "failure" not in self.jobs.values()

    @property
    def ran(self) -> dict[str, str]:
        """The jobs that were not skipped."""
        return {name: result for name, result in self.jobs.items() if result != "skipped"}

    @property
    def table(self) -> dict[str, str]:
        """What the table of the summary page says of the training."""
        return dict(re.findall(r"^\| (\w+) \| (.+) \|$", self.summary, re.MULTILINE))


def run_act(command: list[str], folder: Path, output: IO[bytes]) -> int:
    """Runs act in a folder to its end, and gives its exit status.

    One at a time on a machine: act calls its containers by nothing but the names of workflow and job, and removes what
    has the same name.
    """
    with Path(tempfile.gettempdir(), "stage-act.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _run_act(command, folder, output)


def _run_act(command: list[str], folder: Path, output: IO[bytes]) -> int:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=clean_env(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        process.wait()
    finally:
        if process.poll() is None:  # a test's time is over, or somebody pressed Ctrl-C
            process.send_signal(signal.SIGINT)  # act then removes what it has started
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    return process.returncode


def read_run(workflow: str, names: Iterable[str], output: str, status: int) -> WorkflowRun:
    """Reads act's lines of JSON.

    Args:
        workflow: its file's name.
        names: of all its jobs.
        output: what act printed.
        status: its exit status.

    Raises:
        AssertionError: act itself has failed, and no job of the workflow.
    """
    jobs = dict.fromkeys(names, "skipped")
    log: list[str] = []
    summaries: list[str] = []
    errors: list[str] = []
    for line in output.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"msg": line}
        # "train/build" of the workflow train, "test/ci/ci" of the workflow ci that the job test calls
        parts = str(entry.get("job", "")).strip().split("/")
        job = parts[0] if len(parts) > 2 else parts[-1]
        log.append(f"{job} | {str(entry.get('msg', '')).rstrip()}")
        if "jobResult" in entry and jobs.get(job) != "failure":
            jobs[job] = entry["jobResult"]
        if entry.get("command") == "summary":
            summaries.append(entry["content"])
        if entry.get("command") == "error":
            errors.append(entry["arg"])
    text = "\n".join(log)
    if status and "failure" not in jobs.values():
        raise AssertionError(f"act could not run {workflow}:\n{text}")
    return WorkflowRun(workflow, jobs, text, "".join(summaries), errors)
