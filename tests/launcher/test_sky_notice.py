"""A job of Slurm is told to save before SkyPilot ends it, whatever it is called and whoever does not answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sky_world
from launcher import records
from launcher.errors import UserError
from launcher.providers.sky import sky, slurm
from launcher.storage import StorageUnavailable
from sky_world import Program, attempt, cloud, launched, note

there = sky_world.there  # fixture


# What Slurm says there; a step of a job that is not ours never gets through.
SQUEUE = """\
echo "$*" >>{0}/asked
echo '7 demo-my-run-1-other-0badcafe'  # for all that can be told by its name
echo '8 demo-my-run-10badcafe'
echo '9 {1}'
"""
SRUN = """\
echo "$*" >>{0}/asked
case "$*" in *--jobid=7\\ *) exec sleep 600;; *--jobid=9\\ *) sed -i s/null/143/ {0}/shared/runs/{1}/attempts.json;; *) exit 1;; esac
"""


@pytest.fixture
def login(tmp_path: Path, there: Program, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A login node, by ssh, where a job of a name runs; gives what Slurm was asked there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm/config").touch()
    (tmp_path / ".profile").write_text(f"PATH={tmp_path}/slurm:$PATH\n")
    (tmp_path / "slurm").mkdir()
    (tmp_path / "programs/ssh").unlink()

    def runs(name: str, run_id: str) -> str:
        programs = {
            "slurm/squeue": SQUEUE.format(tmp_path, name),
            "slurm/srun": SRUN.format(tmp_path, run_id),
        }
        programs["programs/ssh"] = 'for last; do :; done; exec sh -c "$last"\n'
        for path, text in programs.items():
            (tmp_path / path).write_text(f"#!/bin/sh\n{text}")
            (tmp_path / path).chmod(0o755)
        return str(tmp_path / "asked")

    return runs


def at_work(tmp_path: Path, project: str = "demo", run_id: str = "a") -> sky.Sky:
    """The backend of a job whose worker has begun."""
    backend = sky.connect(cloud(tmp_path, labels={"project": project}))
    launched(backend, run_id=run_id)
    note(backend, "attempts.json", attempt(None), run_id)
    return backend


@pytest.mark.parametrize("faults", [{}, {"queue": ["CommandError", "No module named 'sky'"]}])
@pytest.mark.parametrize(
    ("project", "run_id", "name"),
    [
        ("demo", "My_run.1", "demo-my-run-1-0badcafe"),
        ("demo", "a", "demo-a-sa-ci-bot"),  # as SKYPILOT_USER_ID says
        ("d" * 63, "a" * 64, f"{'d' * 63}-{'a' * 44}-x7-0badcafe"),  # cut at 120 letters
    ],
)
def test_a_job_of_slurm_gets_a_notice_and_saves_before_its_allocation_ends(
    tmp_path, there, login, monkeypatch, faults, project, run_id, name
):
    """Also where SkyPilot's own programs on the node do not tell whether there is one."""
    monkeypatch.setattr(slurm, "STEP", 5)
    asked = login(name, run_id)
    backend = at_work(tmp_path, project, run_id)
    there.set(faults=faults)
    backend.stop(run_id)
    said = Path(asked).read_text()
    assert said.startswith("--me ")
    assert f"pkill -TERM -f ^[^ ]*python[0-9.]* -m launcher.worker .*run.id={re.escape(run_id)}( |$)" in said
    assert "--jobid=8" not in said
    assert records.attempts(backend.home, run_id)[-1]["exit_code"] == 143
    assert there.state["clusters"] == {}


def test_a_job_of_slurm_that_cannot_be_told_ends_all_the_same_and_it_is_said(tmp_path, there, login, caplog):
    login("somebody-elses", "a")
    at_work(tmp_path).stop("a")
    assert "Run a could not be told to save; it would go on from its last checkpoint." in caplog.text
    assert there.state["clusters"] == {}


def test_a_bucket_in_trouble_does_not_keep_a_job_of_slurm(tmp_path, there, login, monkeypatch):
    login("demo-a-0badcafe", "a")
    backend = at_work(tmp_path)
    monkeypatch.setattr(sky, "SAVING", 0.0)

    def trouble(*_, **__):
        raise StorageUnavailable("The bucket does not answer.")

    monkeypatch.setattr(records, "read_text", trouble)
    with pytest.raises(UserError, match=r"run a is ended, but .* give `runs stop` again .*does not answer"):
        backend.stop("a")
    assert json.loads((Path(backend.home) / "a/attempts.json").read_text())[-1]["exit_code"] == 143
    assert there.state["clusters"] == {}
