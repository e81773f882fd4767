"""Training on a Slurm cluster through SkyPilot: both real, on this machine, from the launch to the last process."""

import functools
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from baking import BakedProject
from conftest import Bake
from launcher.providers.sky.sky import ALIVE
from servers import answers
from stage import apptainer
from stage.slurm.cluster import FREEZER, wait_until
from stage.slurm.scene import TRAINING, Scene, scene
from stage.slurm.sky import PROGRAMS

SLOW = (
    "experiment=slow",
    "checkpoint.steps=20",
    "trainer.log_every=20",
    "trainer.threads=1",
    "trainer.max_epochs=30",
)
LAUNCHES = {
    "pair": ("cloud.nodes=2", "trainer.max_epochs=3", "trainer.batch_size=32"),
    "sealed": ("experiment=digits_cnn", "trainer.max_epochs=1"),  # with an image, and data of its bucket
    "disturbed": (*SLOW, "data.gate=GATE"),  # which waits until it is opened
    "unwanted": (*SLOW[:-1], "trainer.max_epochs=100000"),
}

DIGEST = "sha256:" + "a" * 64
PARSE = """
import sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(wanted,) = task.resources
print(str(wanted.cloud).lower(), task.num_nodes, wanted.extract_docker_image())
"""


@pytest.fixture(scope="module")
def slurm(bake: Bake) -> Iterator[Scene]:
    """The project beside a cluster that is up."""
    # Not pytest's own folders, which are closed to all others: the cluster's programs look at each folder above theirs.
    with tempfile.TemporaryDirectory(prefix="stage-slurm-", dir="/tmp") as name:
        folder = Path(name)
        project = bake().copy(folder / "project/cloud-training")
        project.sync()
        with scene(project, folder) as here:
            yield here


@pytest.fixture(scope="module")
def launched(slurm: Scene, sif: BakedProject) -> Callable[[str], str]:
    """Launches a run the first time that it is asked for, and gives what that has said.

    As few as can be are there at once: on one host SkyPilot's own program of each cluster ends the others' and takes their
    port, and is then started again every few seconds (sky/skylet/attempt_skylet.py), which costs more than all trainings.
    """
    apptainer.install(slurm.cluster.folder / "bin")
    image = f"cloud.image={sif.folder}/cloud-training.sif"

    @functools.cache
    def launch(run_id: str) -> str:
        given = [word.replace("GATE", str(gate(slurm))) for word in LAUNCHES[run_id]]
        return slurm.launch(run_id, *given, *([image] if run_id == "sealed" else []))

    return launch


def take_down(here: Scene, run_id: str) -> None:
    """Takes the cluster of a run that is over down, which it would do itself some minutes later."""
    here.sky("down", "--yes", f"cloud-training-{run_id}")
    here.gone(run_id)


def gate(here: Scene) -> Path:
    """What lets the disturbed run go on, once it is there."""
    return here.bucket / "go-on"


def listed(here: Scene, run_id: str) -> str:
    """The line of `runs list` for a run."""
    said = here.run("runs", "list", check=False)  # a server that is busy now is asked again by who waits
    return next((line for line in said.splitlines() if f" {run_id} " in line), "")


def submitted_again(here: Scene) -> None:
    """Lets the janitor work until it has launched something again; where SkyPilot fails it tries the next time."""
    wait_until(lambda: "submitted again" in here.run("janitor", check=False), "it is not launched again", 120)


def attempts(here: Scene, run_id: str) -> list[int | None]:
    """The exit status of each start of a run."""
    return [attempt["exit_code"] for attempt in json.loads(here.results(run_id)["attempts.json"])]


def test_a_training_ends_and_tells_what_it_learned(slurm: Scene, launched: Callable[[str], str]):
    told = launched("pair")
    assert "free" in told
    assert "API server goes on at http://127.0.0.1:" in told
    assert slurm.ended("pair")["state"] == "succeeded"
    assert "epoch 3/3" in slurm.run("runs", "logs", "pair")
    assert slurm.results("pair")["report.md"]
    assert "succeeded" in listed(slurm, "pair")


def test_two_nodes_train_together(slurm: Scene, launched: Callable[[str], str]):
    launched("pair")
    assert slurm.ended("pair")["state"] == "succeeded"
    assert "node 0 of 2" in slurm.log("pair")
    take_down(slurm, "pair")


def test_an_image_in_a_file_trains_with_apptainer(slurm: Scene, launched: Callable[[str], str]):
    launched("sealed")
    assert slurm.ended("sealed")["state"] == "succeeded"
    assert slurm.results("sealed")["report.md"]
    wait_until(lambda: not list(slurm.cluster.tmp.glob("*-sealed-0")), "its folder stays")


def test_killed_it_goes_on_and_ends_with_the_same_bits(slurm: Scene, launched: Callable[[str], str]):
    launched("disturbed")
    slurm.trained("disturbed", 2)
    slurm.cluster.cancel(slurm.job("disturbed"))  # as a preemption does, which kills at once
    slurm.gone("disturbed")
    # Its worker could be at work for another machine's SkyPilot, until it has not been heard for three minutes.
    # Asking SkyPilot costs seconds of computing each time, and its note tells when that is over.
    wait_until(lambda: slurm.silence("disturbed") > ALIVE, "its worker goes on", 600)
    wait_until(lambda: "preempted" in listed(slurm, "disturbed"), "it counts as being at work")
    submitted_again(slurm)
    gate(slurm).touch()
    assert slurm.ended("disturbed")["state"] == "succeeded"
    # Its worker notes how the run ended before its own end, so that whatever comes between costs nothing.
    wait_until(
        lambda: attempts(slurm, "disturbed")[1:] == [0], "it has not started twice, or its end is not noted"
    )
    assert attempts(slurm, "disturbed")[0] is None or not FREEZER.exists()
    assert re.search(r"restored step \d+", slurm.log("disturbed"))
    take_down(slurm, "disturbed")
    slurm.run("train", *SLOW, "data.pause=0", "tracking=none", "run.id=calm")  # the same, here
    here = replace(slurm, bucket=slurm.project.folder)
    assert slurm.weights_and_log("disturbed") == here.weights_and_log("calm")


def test_near_its_limit_it_is_told_and_saves_and_goes_on(slurm: Scene, launched: Callable[[str], str]):
    launched("unwanted")
    slurm.trained("unwanted", 2)
    assert "running" in listed(slurm, "unwanted")
    assert slurm.cluster.limit(slurm.job("unwanted")) == "2:20:00"
    slurm.cluster.end_soon(slurm.job("unwanted"))
    wait_until(lambda: attempts(slurm, "unwanted") == [143], "it is not told", 240)
    # Its last words come after that.
    wait_until(lambda: "is taken away (status 143)" in slurm.log("unwanted"), "its log does not say so")
    slurm.gone("unwanted")
    submitted_again(slurm)
    wait_until(lambda: attempts(slurm, "unwanted") == [143, None], "it does not go on", 240)


def test_stop_lets_it_save_and_ends_the_allocation(slurm: Scene, launched: Callable[[str], str]):
    before = slurm.checkpoints("unwanted")
    wait_until(lambda: slurm.checkpoints("unwanted") != before, "nothing new is saved", 120)
    slurm.run("runs", "stop", "unwanted")
    assert slurm.ended("unwanted")["reason"] == "stopped by a person"
    wait_until(lambda: attempts(slurm, "unwanted") == [143, 143], "it was not let save")
    slurm.gone("unwanted")


def test_a_price_of_ones_own_counts_against_the_cap(slurm: Scene):
    config = Path(slurm.env["HOME"], ".sky/config.yaml")
    before = config.read_text()
    config.write_text(f"{before}  pricing: {{cpu: 2.0, memory: 0.5}}\n")
    try:
        cheap = slurm.launch("priced", "dry_run=true")
        assert "price     2.50 USD an hour and node on spot, 2.50 on demand" in cheap
        dear = slurm.run("launch", "cloud=sky", *TRAINING, "cloud.max_hours=10", "dry_run=true", check=False)
        assert "could cost 25.00 USD" in dear
    finally:
        config.write_text(before)


@pytest.mark.parametrize("infra", ["slurm/stage", "kubernetes", "aws/us-east-1", "ibm"])
def test_skypilots_own_parser_takes_the_task(slurm: Scene, infra: str, tmp_path: Path):
    machine, image = ("cpu:1", "null") if infra.startswith("slurm") else ("A100:2", f"demo/train@{DIGEST}")
    settings = (f"cloud.infra={infra}", f"cloud.machine={machine}", f"cloud.image={image}", "cloud.nodes=2")
    command = ("uv", "run", "--no-sync", "launch", "cloud=sky", *TRAINING, *settings, "dry_run=true")
    told = slurm.project.run(*command, **slurm.env).stdout
    path = tmp_path / "task.yaml"
    path.write_text(told)
    done = slurm.project.run(str(PROGRAMS / "python"), "-c", PARSE, str(path), **slurm.env)
    name, nodes, docker = done.stdout.split()
    assert (name, nodes) == (infra.partition("/")[0], "2")
    assert docker == ("None" if infra.startswith("slurm") else f"demo/train@{DIGEST}")


def test_at_the_end_nothing_goes_on_but_the_server_which_is_told_how_to_end(slurm: Scene):
    for run_id in LAUNCHES:
        slurm.gone(run_id)  # one of them by itself
    # A line for people may stand before the JSON, such as one of a cluster that was found gone just now.
    told = re.search(
        r"^[\[{].*", slurm.sky("status", "--refresh", "--output", "json"), re.MULTILINE | re.DOTALL
    )
    assert not told or json.loads(told[0]) == []
    port = int(slurm.env["SKYPILOT_API_SERVER_LOCAL_PORT"])
    assert answers(port)
    slurm.sky("api", "stop")
    wait_until(lambda: not answers(port), "its server goes on")
