"""Training from one file by Apptainer, as somebody without any right: real, from `make image-sif` to the same bits."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from baking import BakedProject, clean_env
from stage.results import LONG, Results, files_of
from stage.slurm.cluster import wait_until

HERE = ("cloud=local", "cloud.machine=apptainer")


class Person(Results):
    """Somebody with a project and its image, and a folder in place of a bucket."""

    def __init__(self, project: BakedProject, path: str) -> None:
        self.project, self.path = project, path
        self.bucket = project.folder.parent / "bucket"

    def run(self, *words: str, check: bool = True) -> str:
        """What a command of the project prints, to either side."""
        done = self.project.run("uv", "run", "--no-sync", *words, check=check, PATH=self.path)
        return done.stdout + done.stderr

    def results(self, run_id: str) -> dict[str, bytes]:
        return files_of(self.bucket / "runs" / run_id)


@pytest.fixture(scope="module")
def person(sif: BakedProject) -> Person:
    """It all, with the data in the folder."""
    return Person(sif, sif.answers["PATH"])


def test_the_image_says_of_which_commit_it_is_and_other_code_is_not_trained_with(person: Person):
    path = person.project.folder / f"src/{person.project.package}/train.py"
    before = path.read_text()
    assert "free" in person.run("launch", *HERE, "experiment=diabetes", "dry_run=true")
    path.write_text(f"{before}\n")
    try:
        told = person.run("launch", *HERE, "experiment=diabetes", "tracking=none", check=False)
        assert f"does not have what has changed in src/{person.project.package}/train.py" in told
        assert "make image-sif" in told
    finally:
        path.write_text(before)


def test_without_a_bucket_it_reads_the_folders_data_and_leaves_results_there(person: Person):
    told = person.run("launch", *HERE, "tracking=none", "trainer.max_epochs=1", "run.id=here")
    assert "epoch 1/1" in told
    folder = person.project.folder / "runs/here"
    assert (folder / "report.md").stat().st_uid == person.project.folder.stat().st_uid
    assert "succeeded" in (folder / "outcome.json").read_text()


def test_newer_code_and_the_data_come_by_the_bucket_and_nothing_stays(person: Person, tmp_path: Path):
    path = person.project.folder / f"src/{person.project.package}/train.py"
    before = path.read_text()
    path.write_text(before + '\n\nprint("this is newer than the image")\n')
    try:
        words = (f"cloud.bucket={person.bucket}", "code=worktree", "trainer.max_epochs=1", "tracking=none")
        told = person.run("launch", *HERE, *words, "run.id=newer")
    finally:
        path.write_text(before)
    assert "this is newer than the image" in told
    assert person.outcome("newer")["state"] == "succeeded"
    assert not list(Path("/tmp").glob("*-newer"))


def test_stopped_it_saves_and_goes_on_to_the_same_bits(person: Person):
    # One thread: with other tests on the machine several wait for each other most of the time.
    words = ("launch", *HERE, f"cloud.bucket={person.bucket}", *LONG, "trainer.threads=1")
    person.run(*words, "run.id=calm")
    command = [person.project.folder / ".venv/bin/launch", *words[1:], "run.id=stopped"]
    env = clean_env(PATH=person.path)
    with subprocess.Popen(command, cwd=person.project.folder, env=env, stdout=sys.stderr) as launch:
        wait_until(lambda: person.checkpoints("stopped"), "nothing is saved", 300)
        launch.send_signal(signal.SIGINT)  # as Ctrl-C does
        assert launch.wait() == 128 + signal.SIGINT
    assert person.outcome("stopped")["state"] == "stopped"
    assert "report.md" not in person.results("stopped")
    person.run(*words, "run.id=stopped")
    assert person.weights_and_log("stopped") == person.weights_and_log("calm")
    assert re.search(r"restored step \d+", person.results("stopped")["worker.log"].decode())


def test_a_training_that_fails_says_so_by_its_exit_status(person: Person):
    told = person.run(
        "launch", *HERE, "experiment=diabetes", "tracking=none", "optimizer.lr=1e30", check=False
    )
    assert "failed" in told
