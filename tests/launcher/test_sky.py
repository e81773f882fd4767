"""Jobs of SkyPilot as a backend, against what stands for its program: see test_slurm.py for the real one."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sky_world
from launcher import records
from launcher.errors import UserError
from launcher.job import Machine, NoMachineError, State
from launcher.providers.sky import launch, sky, state
from launcher.providers.sky.program import SkyError
from sky_world import attempt, cloud, job, launched, note

there = sky_world.there  # fixture


def test_a_job_runs_is_listed_and_goes_down_when_stopped(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend, machine=Machine("cpu", "aws/us-east-1"))
    (found,) = backend.list()
    assert (found.run_id, found.state, found.name) == ("a", State.running, "demo-a")
    assert found.labels["max-seconds"] == "3600"
    assert list(backend.logs("a")) == ["epoch 1/3", "epoch 2/3"]
    backend.stop("a")
    status = backend.status("a")
    assert status
    assert (status.state, status.detail) == (State.stopped, "stopped by a person")
    backend.stop("a")  # no job is at work, so the cluster is all there is to end
    assert there.state["clusters"] == {}


def test_a_secret_is_in_no_word_of_a_process(tmp_path, there, monkeypatch):
    monkeypatch.setenv("MINE", "it's hidden")
    launched(sky.connect(cloud(tmp_path)), secrets={"KEY": "MINE"})
    assert there.state["files"] == [{"~/.launcher-secrets": ["600", "KEY='it'\"'\"'s hidden'\n"]}]
    assert "hidden" not in json.dumps(there.state["tasks"] + there.state["calls"])
    assert "set -a && . ~/.launcher-secrets" in there.state["tasks"][0]["run"]


def test_elsewhere_skypilot_takes_a_secret_from_its_environment(tmp_path, there, monkeypatch):
    monkeypatch.setenv("MINE", "hidden")
    machine = Machine("cpu", "kubernetes")
    launched(sky.connect(cloud(tmp_path)), machine=machine, secrets={"KEY": "MINE"})
    assert there.state["secrets"] == [{"KEY": "hidden"}]
    assert "hidden" not in json.dumps(there.state["tasks"] + there.state["calls"])


def test_a_secret_that_is_not_here_is_not_launched_without(tmp_path, there, monkeypatch):
    monkeypatch.delenv("MINE", raising=False)
    with pytest.raises(UserError, match=r"MINE of cloud\.secrets is no variable"):
        launched(sky.connect(cloud(tmp_path)), secrets={"KEY": "MINE"})
    assert there.state["clusters"] == {}


def test_only_the_login_that_reads_the_bucket_goes_along(tmp_path, there):
    backend = sky.connect(cloud(tmp_path, bucket="s3://demo"))
    settings = launch.words(job(), backend.request(job()), backend.cloud, False, {}, tmp_path)
    given = [each for each in settings if "=" in each]
    assert given == [
        "gcp.remote_identity=NO_UPLOAD",
        "azure.remote_identity=NO_UPLOAD",
        "slurm.provision_timeout=86400",
    ]


def test_what_git_knows_and_new_code_go_along_and_no_key(tmp_path, there):
    for name in (
        "src/demo/new.py",
        "src/demo/key.json",
        "data/set.dvc",
        "data/set/big",
        ".env.local",
        "wish",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("assets").mkdir()
    Path("assets/labels.json").write_text("{}")
    subprocess.run(["git", "add", "assets"], check=True)
    launched(sky.connect(cloud(tmp_path)))
    (sent,) = there.state["workdirs"]
    assert {"src/demo/new.py", "data/set.dvc", "assets/labels.json", "uv.lock"} <= set(sent)
    assert not {"src/demo/key.json", "data/set/big", ".env.local", "wish"} & set(sent)


def test_a_cluster_that_is_not_taken_down_is_an_error_and_the_run_goes_on(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    there.set(undead=True)
    with pytest.raises(SkyError, match="has not taken cluster demo-a down"):
        backend.stop("a")
    assert records.outcome(backend.home, "a") is None


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        ("INIT", {"init_kind": "launching"}, State.queued),
        ("INIT", {"init_kind": "unhealthy"}, State.preempted),
        ("STOPPED", {}, State.preempted),
        ("UP", {}, State.running),
    ],
)
def test_a_cluster_without_a_job_is_paid_for_unless_it_comes_up(tmp_path, there, status, more, expected):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    clusters = there.state["clusters"]
    clusters["demo-a"] |= {"status": status, "jobs": [], **more}
    there.set(clusters=clusters)
    (found,) = backend.list()
    assert found.state is expected
    assert (found.seconds > 0) == (expected is State.running)
    assert bool(backend.leftovers()) == (expected is State.preempted)  # if it is not started again


def test_a_run_whose_worker_was_heard_just_now_is_not_started_twice(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    there.set(clusters={})  # of this machine's SkyPilot
    note(backend, "attempts.json", attempt(None))
    status = backend.status("a")
    assert status
    assert status.state is State.running
    with pytest.raises(UserError, match="stop it where it was launched"):
        backend.stop("a")


@pytest.mark.parametrize(
    ("code", "outcome", "expected"),
    [
        (143, None, State.preempted),
        (75, None, State.preempted),
        (None, None, State.preempted),
        (1, None, State.failed),
        (124, {"state": "stopped", "reason": "the time limit was reached"}, State.stopped),
        (0, {"state": "succeeded", "reason": ""}, State.succeeded),
    ],
)
def test_what_became_of_a_run_whose_cluster_is_gone_its_worker_has_noted(
    tmp_path, there, monkeypatch, code, outcome, expected
):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    monkeypatch.setattr(sky.Sky, "now", lambda _: datetime(2999, 1, 2, tzinfo=UTC))
    there.set(clusters={})
    assert backend.status("a") is None  # nobody can tell yet
    note(backend, "attempts.json", attempt(code))
    if outcome:
        note(backend, "outcome.json", outcome)
    status = backend.status("a")
    assert status
    assert (status.state, status.seconds) == (expected, 5.0)


@pytest.mark.parametrize(
    ("word", "code", "expected"),
    [
        ("PENDING", None, State.queued),
        ("SETTING_UP", None, State.running),
        ("RUNNING", None, State.running),
        ("FAILED", None, State.failed),
        ("FAILED", 75, State.preempted),
        ("FAILED", 1, State.failed),
        ("FAILED_SETUP", None, State.failed),
        ("CANCELLED", 143, State.stopped),
        ("SUCCEEDED", 0, State.succeeded),
    ],
)
def test_states_of_a_job(word, code, expected):
    attempts = attempt(code) if code is not None else []
    assert state.state({"status": word}, None, attempts) is expected


def test_a_cluster_that_does_not_tell_is_at_work_while_it_is_there(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    note(backend, "attempts.json", attempt(None))
    there.set(faults={"queue": ["CommandError", "No module named 'sky'"]})
    (found,) = backend.list()
    assert found.state is State.running
    note(backend, "outcome.json", {"state": "succeeded", "reason": ""})
    (found,) = backend.list()
    assert found.state is State.succeeded


def test_a_launch_that_fails_leaves_no_machine(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    there.set(faults={"launch": ["ResourcesUnavailableError", "no node is free"]})
    with pytest.raises(NoMachineError, match="SkyPilot says to `sky launch`: no node is free"):
        launched(backend)
    assert there.state["calls"][-1] == ["down", "--yes", "demo-a"]


def test_machines_that_could_not_be_prepared_are_tried_once_more(tmp_path, there):
    there.set(unprepared=True)
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    (found,) = backend.list()
    assert found.state is State.running


def test_another_project_s_clusters_are_not_listed(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    clusters = there.state["clusters"]
    clusters["demo-a"]["labels"]["project"] = "other"
    there.set(clusters=clusters)
    assert backend.list() == []


def test_without_a_launch_nobody_is_asked(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    assert (backend.list(), backend.status("a")) == ([], None)
    assert there.state["calls"] == []


def test_where_skypilot_is_not_others_look_after_its_runs(tmp_path, there, monkeypatch, caplog):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    note(backend, "attempts.json", attempt(75))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert (backend.list(), backend.status("a")) == ([], None)
    assert "Runs of SkyPilot are looked after where SkyPilot is" in caplog.text
    note(backend, "outcome.json", {"state": "succeeded", "reason": ""})
    status = backend.status("a")
    assert status
    assert status.state is State.succeeded


def test_it_goes_on_with_the_commit_that_it_began_with(tmp_path, there, monkeypatch):
    monkeypatch.setattr(sky, "git_state", lambda: {"commit": "b" * 40, "dirty": False})
    backend = sky.connect(cloud(tmp_path))
    with pytest.raises(
        UserError, match="Run a began with commit aaaaaaaaaaaa, and this folder is at bbbbbbbbbbbb"
    ):
        backend.submit(job(env={"RUN_COMMIT": "a" * 40 + "-dirty"}))
    assert there.state["calls"] == []


def test_a_cluster_that_has_not_gone_down_is_left_over(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    backend.list()
    assert backend.leftovers() == []
    there.job("demo-a", status="FAILED", end_at=1795916708.3)
    assert [status.state for status in backend.list()] == [State.failed]
    (left,) = backend.leftovers()
    assert left.what == "cluster demo-a, whose job is over"
    backend.remove(left)
    backend.remove(left)  # no error
    assert there.state["clusters"] == {}


def test_a_cluster_that_does_not_tell_is_left_over_once_its_run_is_long_over(tmp_path, there):
    backend = sky.connect(cloud(tmp_path))
    launched(backend)
    there.set(faults={"queue": ["CommandError", "No space left on device"]})
    note(backend, "outcome.json", {"state": "succeeded", "time": "2026-11-29T05:00:00+00:00"})
    backend.list()
    (left,) = backend.leftovers()
    assert left.name == "demo-a"
