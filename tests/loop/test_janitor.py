"""The janitor, on the stage of test_loop.py: whatever dies half-way, nothing keeps running and nothing is told twice."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from baking import clean_env
from stage import containers
from stage.github.hub import WorkflowRun
from stage.google.vertex import CANCELLED, SUCCEEDED, TrainingJob
from stage.patience import deadline
from stage.rest import Answer, Request, RequestError, ask
from stage.results import UNSAVED
from stage.scene import Stage

QUEUED = "JOB_STATE_QUEUED"
# A machine whose clock is wrong by some days: Python reads this before any program.
SITECUSTOMIZE = """
import datetime, os, time

ahead = float(os.environ["STAGE_CLOCK_AHEAD"])
real, real_datetime = time.time, datetime.datetime
time.time = lambda: real() + ahead

class Shifted(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)

datetime.datetime = Shifted
"""

pytestmark = pytest.mark.usefixtures("pushed", "all_end")


@pytest.fixture
def all_end(stage: Stage) -> Iterator[None]:
    """After each test every job is told to end."""
    yield
    for job in stage.vertex.jobs():
        job.cancel()
    stage.vertex.capacity.set()
    for job in stage.vertex.jobs():
        job.join()


@pytest.fixture
def waiting(stage: Stage) -> None:
    """There is no machine: jobs stay queued and cost nothing, not even a container."""
    stage.vertex.capacity.clear()


@pytest.fixture
def held(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The answer to who submits a job stays away until the event is set; the job is there."""
    create, free = stage.vertex._create, threading.Event()

    def hold(request: Request, number: str) -> Answer:
        answer = create(request, number)
        free.wait(60)
        return answer

    monkeypatch.setattr(stage.vertex, "_create", hold)
    yield free
    free.set()


def janitor(stage: Stage, *words: str, status: int = 0, **env: str) -> str:
    """What the janitor says, on a laptop."""
    done = stage.run("janitor", *words, check=False, **env)
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "Traceback" not in said
    return said


def record(stage: Stage, run_id: str) -> dict[str, Any]:
    return json.loads(stage.bucket.read(f"runs/.launches/{run_id}.json"))


def entry(stage: Stage, run_id: str) -> dict[str, Any] | None:
    """What the ledger holds for a run."""
    months = [json.loads(stage.bucket.read(name)) for name in stage.bucket.objects("runs/.ledger/")]
    found = [one for month in months for one in month.values() if one["run_id"] == run_id]
    return found[-1] if found else None


def age(job: TrainingJob, **since: float) -> None:
    """Makes a job older than it is."""
    made = datetime.now(UTC) - timedelta(**since)
    job.resource["createTime"] = made.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def until(happens: Callable[[], Any], timeout: float = 120) -> Any:
    end = deadline(timeout)
    while not (found := happens()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)
    return found


# What dies half-way


@pytest.mark.usefixtures("waiting")
def test_killed_between_submit_and_record_a_job_is_adopted(stage: Stage, held: threading.Event) -> None:
    before = stage.submitted()
    command = ["uv", "run", "--no-sync", "launch", "cloud=vertex", "cloud.machine=cpu", "run.id=killed"]
    launch = subprocess.Popen(
        [*command, *UNSAVED],
        cwd=stage.project.folder,
        env=clean_env(**stage.laptop),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: stage.submitted() > before)
    finally:
        os.killpg(launch.pid, signal.SIGKILL)
        launch.wait()
    held.set()
    job = stage.vertex.job("killed")
    assert record(stage, "killed")["job"] is None
    assert f"would adopt run killed: its launch ended before it was recorded; it is {job.name}" in janitor(
        stage, "--dry-run"
    )
    assert record(stage, "killed")["job"] is None
    assert "vertex: adopted run killed" in janitor(stage)
    assert record(stage, "killed")["job"] == job.name
    assert "killed" not in janitor(stage)
    assert job.state == QUEUED


def test_a_workflow_whose_launch_dies_half_way_is_tidied_up_after(
    stage: Stage, held: threading.Event
) -> None:
    """The runner is killed as the job is accepted; the last job of train.yml finds it."""
    stage.vertex.capacity.clear()
    before, killed = stage.submitted(), []

    def kill() -> None:
        try:
            until(lambda: stage.submitted() > before, timeout=300)
            runners = containers.ids(stage.github.label, running_only=True)
            for path in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it has ended meanwhile
                    line, group = (
                        (path / "cmdline").read_text(errors="replace"),
                        (path / "cgroup").read_text(),
                    )
                    wanted = ".venv/bin/launch" in line and "cloud.one_per_branch=true" in line
                    if wanted and any(runner in group for runner in runners):
                        os.kill(int(path.name), signal.SIGKILL)
                        killed.append(line)
        finally:
            held.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    inputs = {"machine": "cpu", "overrides": "run.id=half-way tracking=none"}
    run = stage.github.dispatch("train.yml", "main", inputs=inputs)
    killer.join()
    assert killed, run.log[-5000:]
    assert (run.jobs["launch"], run.jobs["tidy"]) == ("failure", "success"), run.log[-5000:]
    assert "vertex: adopted run half-way" in run.summary
    assert record(stage, "half-way")["job"] == stage.vertex.job("half-way").name


# What nobody knows of


@pytest.mark.usefixtures("waiting")
def test_what_nobody_knows_of_is_stopped_and_what_is_not_ours_is_not_touched(stage: Stage) -> None:
    lost, kept, young = (stage.start(name, *UNSAVED) for name in ("lost", "kept", "young"))
    theirs = [
        submit(stage, lost, labels)
        for labels in ({"project": "another"}, {"run": "lost", "max-seconds": "1"}, {})
    ]
    for job in (lost, kept, *theirs):
        age(job, minutes=20)
    for job in (lost, young):
        stage.bucket.remove(f"runs/.launches/{job.resource['displayName']}.json")
    said = janitor(stage)
    assert "vertex: stopped run lost: there is no record of it\n" in said
    stage.vertex.wait(lost, {CANCELLED})
    assert {job.state for job in (kept, young, *theirs)} == {QUEUED}
    cancelled = [request.path for request in stage.vertex.requests if request.path.endswith(":cancel")]
    assert not [path for path in cancelled if any(job.id in path for job in (kept, young, *theirs))]
    # Nobody can say what it did cost, so it counts in full.
    known = entry(stage, "lost")
    assert known
    assert known["spent_usd"] is None


def submit(stage: Stage, like: TrainingJob, labels: dict[str, str]) -> TrainingJob:
    """Submits a job as somebody else in the same project would."""
    body = {name: like.resource[name] for name in ("displayName", "jobSpec")}
    where = re.sub(r"/customJobs/.*", "/customJobs", like.name)
    status, answer = ask(
        f"{stage.vertex.url}/v1/{where}", stage.identity.token(stage.launcher), body | {"labels": labels}
    )
    assert status == 200, answer
    return stage.vertex.job(answer["name"])


def test_past_its_deadline_a_job_is_stopped_and_its_cost_is_known(stage: Stage) -> None:
    job = stage.start("tarrying", *UNSAVED, "cloud.max_hours=1", "checkpoint.steps=20")
    stage.vertex.wait_for_line(job, r"epoch 1/", timeout=120)
    assert "tarrying" not in janitor(stage)
    age(job, hours=25.5)
    said = janitor(stage)
    assert "vertex: stopped run tarrying: it was made 25.5 hours ago, and may run for 1.00" in said
    stage.vertex.wait(job, {CANCELLED})
    assert stage.vertex.containers() == []
    assert stage.outcome("tarrying")["state"] == "stopped"
    assert "vertex: settled run tarrying: it did cost 0.0" in janitor(stage)
    known = entry(stage, "tarrying")
    assert known
    assert 0 < known["spent_usd"] < known["reserved_usd"]


# What is in its way


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("days", [30, -30])
def test_a_clock_that_is_wrong_changes_nothing(days: int, stage: Stage, tmp_path: Path) -> None:
    run_id = f"clock{days}"
    job, orphan = stage.start(run_id, *UNSAVED), stage.start(f"no-{run_id}", *UNSAVED)
    age(orphan, minutes=20)
    stage.bucket.remove(f"runs/.launches/no-{run_id}.json")
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    said = janitor(stage, PYTHONPATH=str(tmp_path), STAGE_CLOCK_AHEAD=str(days * 86400))
    assert f"stopped run no-{run_id}: there is no record of it" in said
    assert f"run {run_id}:" not in said
    assert job.state == QUEUED
    known = entry(stage, run_id)
    assert known
    assert known["spent_usd"] is None


@pytest.mark.usefixtures("waiting")
def test_a_service_that_does_not_answer_is_one_line_and_the_rest_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage.start("unseen", *UNSAVED)
    age(job, days=9)
    before = len(stage.batch.requests)

    def busy(request: Request, number: str) -> Answer:
        raise RequestError(503, "The service is currently unavailable.")

    with monkeypatch.context() as patch:
        patch.setattr(stage.vertex, "_list", busy)
        said = janitor(stage, status=1)
    assert [line for line in said.splitlines() if line.startswith("vertex: ")] == [said.splitlines()[-1]]
    assert "503" in said
    assert len(stage.batch.requests) > before
    assert entry(stage, "unseen")
    assert "stopped run unseen" in janitor(stage)


def test_without_a_login_it_ends_with_one_sentence(stage: Stage, tmp_path: Path) -> None:
    nobody = str(tmp_path / "none.json")
    (line,) = janitor(stage, status=1, GOOGLE_APPLICATION_CREDENTIALS=nobody).splitlines()
    assert line.startswith("batch, vertex: ")


# What is told


@pytest.fixture(scope="module")
def labelled(stage: Stage, pushed: WorkflowRun) -> Iterator[tuple[str, WorkflowRun]]:
    """A pull request that has been given the label `train`: its head commit, and what that has started."""
    folder = stage.project
    stage.vertex.capacity.set()
    folder.run("git", "switch", "-q", "-c", "idea")
    try:
        path = f"src__{folder.package}__models__cnn_dot_py"
        text = folder.read(f"src/{folder.package}/models/cnn.py") + "\n# an idea\n"
        stage.commit("An idea", **{path: text})
        head = folder.run("git", "rev-parse", "HEAD").stdout.strip()
        [run] = stage.github.pull_request("idea", number=7, action="labeled", label="train")
        yield head, run
    finally:
        folder.run("git", "switch", "-q", "main")


def test_the_label_trains_a_pull_request_and_its_report_comes_once(
    stage: Stage, labelled: tuple[str, WorkflowRun]
) -> None:
    head, run = labelled
    assert run.succeeded, run.log[-5000:]
    job = stage.vertex.wait(stage.vertex.jobs()[-1], {SUCCEEDED}, timeout=300)
    run_id = job.resource["displayName"]
    kept = record(stage, run_id)
    assert (kept["pull_request"], kept["commit"], kept["max_hours"]) == (7, head, 0.5)
    assert job.resource["jobSpec"]["scheduling"]["timeout"] == "1800s"
    janitor(stage)  # a laptop counts what it did cost, and leaves the reports to the workflow
    known = entry(stage, run_id)
    assert known
    assert known["spent_usd"] > 0
    assert stage.github.api.comments[7] == []

    [tidied] = stage.github.schedule(only=["janitor.yml"])
    assert tidied.succeeded, tidied.log[-5000:]
    assert f"reported run {run_id}" in tidied.summary
    (comment,) = stage.github.api.comments[7]
    assert f"Training `{run_id}`: succeeded" in comment
    assert re.search(r"\| `test/accuracy` \| 0\.\d{4} \|", comment)
    assert re.search(r"\| cost \| \d+\.\d\d USD \|", comment)
    assert "```mermaid\nxychart-beta\n" in comment
    assert f"storage/browser/{stage.bucket.name}/runs/{run_id}" in comment
    (status,) = [said for commit, said in stage.github.api.statuses if commit == head]
    assert (status["state"], status["context"]) == ("success", "train")
    assert re.fullmatch(r"succeeded, test/accuracy 0\.\d{4}, \d+\.\d\d USD", status["description"])

    with stage.github.api.token({"statuses": "write", "pull-requests": "write"}) as token:
        api, name = stage.github.api.url, stage.github.name
        janitor(stage, GITHUB_TOKEN=token, GITHUB_REPOSITORY=name, GITHUB_API_URL=api)
    assert len(stage.github.api.comments[7]) == 1
    assert len([commit for commit, _ in stage.github.api.statuses if commit == head]) == 1


def test_nothing_else_on_a_pull_request_spends_money(stage: Stage, labelled: tuple[str, WorkflowRun]) -> None:
    before, asked = stage.submitted(), len(stage.identity.requests)
    for action, label in (("labeled", "bug"), ("synchronize", ""), ("opened", ""), ("unlabeled", "train")):
        runs = stage.github.pull_request("idea", number=7, action=action, label=label, only=["train.yml"])
        assert all(set(run.jobs.values()) <= {"skipped"} for run in runs), action
    [run] = stage.github.pull_request("idea", number=8, action="labeled", label="train", fork=True)
    assert {name for name, result in run.jobs.items() if result != "skipped"} == {"fork"}
    assert stage.submitted() == before
    assert len(stage.identity.requests) == asked
