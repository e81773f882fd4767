"""Finds this project's jobs in a workspace.

A run's jobs are numbered, so each is asked for by its id: what is submitted is there at once. The whole project's are in
the workspace's list, of which nobody says how soon it knows a new job. It is asked for the key of a label only, as it is
documented ("Jobs returned will have this tag key"), so the labels are compared here once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from ... import records
from ...errors import UserError
from ...job import RUN_LABEL, State
from ..errors import MissingError
from . import auth as azure
from . import azureml_request as requests
from . import azureml_state as states
from .azureml_found import SWEEP, Found, trial_name
from .azureml_history import History

# Records older than that are not looked at any more (records/places.py), and neither are the times of such jobs.
OLD = timedelta(days=40)
AT_ONCE = 8  # questions


class Notes:
    """What the workers of this project's runs have left in the bucket; a bucket in trouble hides no job.

    Args:
        bucket: its address; None for nowhere.
    """

    def __init__(self, bucket: str | None) -> None:
        self.home = records.home(bucket) if bucket else ""

    def attempts(self, run_id: str) -> Sequence[dict[str, Any]]:
        """Give what is noted of each start of a run."""
        with suppress(UserError):
            return records.attempts(self.home, run_id) if self.home else ()
        return ()

    def outcome(self, run_id: str) -> State | None:
        """Give how a run ended; None where that is not noted."""
        found: dict[str, Any] = {}
        with suppress(UserError):
            found = (records.outcome(self.home, run_id) if self.home else None) or {}
        return next((state for state in State if state.value == found.get("state")), None)


class Finder:
    """Looks in a workspace for what carries all of these labels.

    Args:
        workspace: gives its path in Azure Resource Manager.
        labels: as tags; with none nothing can be told to be ours.
        notes: what the workers have left in the bucket.
    """

    def __init__(
        self,
        workspace: Callable[[], str],
        labels: Mapping[str, str],
        notes: Notes,
    ) -> None:
        self._workspace, self.labels, self._notes = workspace, dict(labels), notes
        self.history = History(workspace)

    def of_run(self, run_id: str) -> list[Found]:
        """Give the jobs of one run, newest first."""
        found, number = [], 1
        while said := self._said(requests.name(run_id, number)):
            if self._is_ours(said):
                found.append(self._known(said))
            number += 1
        return found[::-1]

    def free(self, run_id: str) -> str:
        """Give the id that the next job of a run has."""
        number = 1
        while self._said(name := requests.name(run_id, number)):
            number += 1
        return name

    def all(self) -> list[Found]:
        """Give all jobs of the project, newest first, trials of sweeps left out."""
        if not self.labels:
            return []
        # Archived ones too: that hides a job, and does not end it.
        query = urlencode({"tag": next(iter(self.labels)), "listViewType": "All"})
        listed = azure.pages(f"{self._workspace()}/jobs?{query}", api=requests.API)
        ours = {str(said["name"]): said for said in listed if self._is_ours(said)}
        sweeps = {name for name, said in ours.items() if said["properties"].get("jobType") == SWEEP}
        jobs = [said for name, said in ours.items() if _sweep_of(name) not in sweeps]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(self._known, jobs))
        return sorted(found, key=lambda job: job.created, reverse=True)

    def named(self, name: str) -> Found | None:
        """Give the job of this id, if there is one and it is ours."""
        said = self._said(name)
        return self._known(said) if said and self._is_ours(said) else None

    def _said(self, name: str) -> dict[str, Any] | None:
        try:
            return azure.call("GET", f"{self._workspace()}/jobs/{name}", api=requests.API)
        except MissingError as error:
            if error.code in ("ResourceGroupNotFound", "SubscriptionNotFound", "ResourceNotFound"):
                raise  # no workspace, which is not to be taken for no job
            return None

    def _is_ours(self, said: Mapping[str, Any]) -> bool:
        tags = said["properties"].get("tags") or {}
        return bool(self.labels) and RUN_LABEL in tags and self.labels.items() <= tags.items()

    def _known(self, said: Mapping[str, Any]) -> Found:
        """Add what run history knows, and the bucket where that does not know enough."""
        job = Found(said)
        if job.has_ended and azure.now() - job.created > OLD:
            return job
        experiment = str(job.of.get("experimentName") or "Default")
        details = self.history.details(experiment, job.name)
        if job.is_sweep:
            trials = self._trials(job, experiment)
            runs = {number: f"{job.run_id}-{number + 1}" for number in trials}
            return Found(said, details, trials, attempts=self._attempts(job, runs))
        noted = None
        if job.status == "Failed" and states.is_silent(states.error_text(details)):
            # The worker notes an end for good before it ends; without a note another start may help.
            noted = self._notes.outcome(job.run_id) or State.preempted
        return Found(said, details, noted=noted, attempts=self._attempts(job, {0: job.run_id}))

    def _attempts(self, job: Found, runs: Mapping[int, str]) -> dict[int, Any]:
        """Give what the workers have noted of their starts, where there may have been more than one."""
        if not job.may_be_taken:
            return {}
        return {number: self._notes.attempts(run_id) for number, run_id in runs.items()}

    def _trials(self, sweep: Found, experiment: str) -> dict[int, dict[str, Any]]:
        """Give what run history knows of a sweep's trials, which are numbered from 0 in the order of their start."""
        most = int((sweep.of.get("limits") or {}).get("maxTotalTrials") or 0)
        found: dict[int, dict[str, Any]] = {}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while len(found) < most:
                numbers = range(len(found), min(most, len(found) + AT_ONCE))
                names = [trial_name(sweep.name, number) for number in numbers]
                asked = pool.map(lambda name: self.history.details(experiment, name), names)
                begun = {number: each for number, each in zip(numbers, asked, strict=True) if each}
                found |= begun
                if len(begun) < len(numbers):
                    break
        return found


def _sweep_of(name: str) -> str:
    found = re.fullmatch(r"(.+)_\d+", name)
    return found[1] if found else ""
