"""This machine as a backend: a job outlives its launch, tells how it is, and ends when it is told to."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launcher import records
from launcher.errors import UserError
from launcher.job import Job, Machine, State
from launcher.providers.local import docker, local
from omegaconf import DictConfig

CLOUD = {
    "backend": "local",
    "bucket": None,
    "image": None,
    "machine": "process",
    "labels": {"project": "test"},
}
END = "open('runs/a/outcome.json', 'w').write('{\"state\": \"succeeded\", \"exit_code\": 0}')"


def job(**values: object) -> Job:
    given = {"run_id": "a", "image": "", "args": (), "machine": Machine("process", "this machine")}
    return Job(**{**given, "spot": False, **values})  # type: ignore[arg-type]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], local.Local]]:
    """Starts a Python program in place of the worker, as run `a`; whatever still runs at the end is killed."""
    monkeypatch.chdir(tmp_path)
    backend = local.connect(DictConfig(CLOUD))

    def begin(program: str) -> local.Local:
        request = {"command": [sys.executable, "-c", program], "env": {"MARK": "1"}}
        monkeypatch.setattr(backend, "request", lambda job: request)
        backend.submit(job())
        return backend

    yield begin
    monkeypatch.setattr(local, "GRACE", 0.0)
    backend.stop("a")


def state(backend: local.Local) -> State | None:
    status = backend.status("a")
    return status.state if status else None


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.02)


def test_a_job_is_followed_to_its_end_and_its_outcome_told(start, capfd):
    backend = start(f"import os; print('mark', os.environ['MARK']); {END}; print('end')")
    assert backend.follow("a") == 0
    assert capfd.readouterr().out == "mark 1\nend\n"
    assert state(backend) is State.succeeded
    assert list(backend.logs("a")) == ["mark 1", "end"]
    assert [status.run_id for status in backend.list()] == ["a"]


def test_a_job_that_ends_without_an_outcome_has_failed(start):
    backend = start("raise SystemExit(3)")
    assert backend.follow("a") == 1
    assert state(backend) is State.failed


def test_a_job_that_saved_when_it_was_told_to_end_is_stopped(start):
    noted = [{"started": "2026-11-29T09:00:00+00:00", "seconds": 5.0, "exit_code": 143}]
    backend = start(f"open('runs/a/attempts.json', 'w').write({json.dumps(noted)!r})")
    backend.follow("a")
    assert state(backend) is State.stopped


def test_the_workers_exit_status_is_that_of_following(start):
    backend = start("open('runs/a/outcome.json', 'w').write('{\"state\": \"failed\", \"exit_code\": 7}')")
    assert backend.follow("a") == 7
    assert state(backend) is State.failed


def test_a_job_has_a_session_of_its_own_so_that_it_outlives_its_launch(start, tmp_path):
    backend = start("import time; time.sleep(600)")
    pid = json.loads((tmp_path / "runs/a" / local.JOB).read_text())["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert state(backend) is State.running
    with pytest.raises(UserError, match="Run a is running here already"):
        backend.submit(job())


def test_a_stopped_job_gets_to_save_and_is_on_record_as_stopped(start, tmp_path):
    backend = start(
        "import signal, time\n"
        "def save(*_): open('saved', 'w').close(); raise SystemExit(143)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    wait_for(lambda: list(backend.logs("a")) == ["ready"])
    backend.stop("a")
    assert (tmp_path / "saved").exists()
    assert state(backend) is State.stopped
    outcome = records.outcome(backend.home, "a")
    assert outcome
    assert outcome["reason"] == "stopped by a person"
    backend.stop("a")  # no error


def test_a_job_that_does_not_listen_is_killed(start, monkeypatch):
    monkeypatch.setattr(local, "GRACE", 0.3)
    backend = start(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    wait_for(lambda: list(backend.logs("a")) == ["ready"])
    backend.stop("a")
    wait_for(lambda: state(backend) is State.stopped)


def test_a_process_that_has_got_the_number_of_an_ended_job_is_left_alone(start, tmp_path):
    backend = start("pass")
    backend.follow("a")
    path = tmp_path / "runs/a" / local.JOB
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": other.pid}))
        assert state(backend) is State.failed
        backend.stop("a")
        assert other.poll() is None
        other.kill()


def test_what_is_missing_here_is_said_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = local.connect(DictConfig(CLOUD))
    problems = backend.check(job(env={"RUN_DATA": "data/digits"}, nodes=2))
    assert [str(problem) for problem in problems] == [
        "data/digits is not here: make it with `make data`, or fetch it with `uv run dvc pull`",
        "this machine is one node: leave cloud.nodes=1",
    ]


def test_without_docker_a_job_is_a_process_and_a_container_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    here = local.connect(DictConfig({**CLOUD, "machine": "here"}))
    assert here.request(job(args=("seed=1",)))["command"][1:] == [
        "-m",
        "launcher.worker",
        "seed=1",
    ]
    container = local.connect(DictConfig({**CLOUD, "machine": "container"}))
    assert "no Docker engine answers" in str(container.check(job())[0])
    with pytest.raises(UserError, match="Docker does not answer"):
        docker.call("ps")


def test_an_image_that_cannot_be_built_leaves_no_run(tmp_path, monkeypatch):
    (tmp_path / "docker").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    backend = local.connect(DictConfig({**CLOUD, "machine": "container"}))
    with pytest.raises(UserError, match="cannot be built"):
        backend.submit(job())
    assert not Path("runs").exists()


def test_a_process_never_lays_the_code_over_itself():
    backend = local.connect(DictConfig(CLOUD))
    request = backend.request(job(env={"RUN_ID": "a", "RUN_CODE": "gs://b/code/1.tar.gz"}))
    assert request["env"] == {"RUN_ID": "a"}


def test_a_container_reads_data_and_writes_runs_as_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    monkeypatch.setattr(docker, "has_gpu", lambda: True)
    backend = local.connect(DictConfig({**CLOUD, "machine": "container", "image": "i@sha256:1"}))
    values = {"image": "i@sha256:1", "args": ("seed=1",), "env": {"RUN_ID": "a", "RUN_DATA": "d"}}
    command = backend.request(job(**values))["command"]
    assert command[-2:] == ["i@sha256:1", "seed=1"]
    text = " ".join(command)
    assert f"--volume {tmp_path}/data:/app/data:ro --volume {tmp_path}/runs:/app/runs" in text
    assert f"--user {os.getuid()}:{os.getgid()}" in text
    assert "--gpus all" in text
    assert "run --rm --name test-a" in text
    assert "--env WANDB_API_KEY --env RUN_ID=a i@" in text
    assert "very-secret" not in text


def test_a_container_with_a_bucket_sees_nothing_of_this_machine_but_its_login(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "login.json"))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:4443")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    cloud = {**CLOUD, "machine": "container", "image": "i:main", "bucket": "gs://b"}
    backend = local.connect(DictConfig(cloud))
    env = {"RUN_OUTPUT": "gs://b/runs/a", "RUN_DATA": "data/digits"}
    text = " ".join(backend.request(job(image="i:main", output="gs://b/runs/a", env=env))["command"])
    assert text.count("--volume") == 1
    assert f"--volume {tmp_path}/login.json:/tmp/key.json:ro" in text
    assert "--network host" in text
    assert "--user" not in text
    assert "--env RUN_DATA=data/digits" in text


def test_apptainer_runs_an_image_with_no_right_and_no_value_among_its_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "hidden")
    monkeypatch.delenv(docker.KEY_FILE, raising=False)
    backend = local.connect(DictConfig({**CLOUD, "machine": "apptainer"}))
    image = backend.image()
    assert image == "demo.sif"
    request = backend.request(job(image=image, args=("name='a b'",), env={"RUN_ID": "a"}))
    shell, option, script = request["command"]
    assert (shell, option) == ("sh", "-c")
    assert "--cleanenv" in script
    assert f"{tmp_path}/runs:/app/runs" in script
    assert "python -m launcher.worker 'name='\"'\"'a b'\"'\"'' &" in script
    assert request["env"] == {"APPTAINERENV_WANDB_API_KEY": "hidden", "APPTAINERENV_RUN_ID": "a"}
    assert [str(problem) for problem in backend.check(job(image=image))] == [
        "there is no program apptainer on this machine's PATH: install it, or give cloud.machine=process",
        "there is no image demo.sif: make it with `make image-sif`",
    ]


def test_singularity_gets_its_variables_by_the_name_that_it_knows(tmp_path, monkeypatch):
    (tmp_path / "singularity").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(docker.KEY_FILE, raising=False)
    backend = local.connect(DictConfig({**CLOUD, "machine": "apptainer", "image": "other.sif"}))
    env = backend.request(job(image=backend.image(), env={"RUN_ID": "a"}))["env"]
    assert env["SINGULARITYENV_RUN_ID"] == "a"


def test_a_folder_in_place_of_a_bucket_is_seen_by_apptainer(monkeypatch):
    monkeypatch.delenv(docker.KEY_FILE, raising=False)
    backend = local.connect(DictConfig({**CLOUD, "machine": "apptainer", "image": "other.sif"}))
    script = backend.request(job(image=backend.image(), output="/shared/x/runs/a"))["command"][2]
    assert "--bind /shared/x " in script
    assert ":/app/runs" not in script
