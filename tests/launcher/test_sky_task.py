"""The task that SkyPilot is given, machines as it names them, and how a worker finds its place."""

import signal
import subprocess

import pytest
from launcher.errors import UserError
from launcher.job import Machine
from launcher.providers.sky import sky, task
from launcher.worker.cluster import Node, this_node
from sky_world import DIGEST, cloud, job


def test_a_task_for_slurm_makes_its_environment_and_slurm_ends_it(tmp_path):
    found = sky.connect(cloud(tmp_path)).request(job(nodes=2, max_hours=1.0))
    assert found["num_nodes"] == 2
    assert found["resources"]["cpus"] == "4+"
    assert found["resources"]["autostop"] == {"idle_minutes": 1, "down": True, "wait_for": "jobs"}
    assert found["config"] == {"slurm": {"sbatch_options": {"time": "01:20:00"}}}
    assert "uv sync --quiet --locked" in found["run"]
    assert '"$work/venv/bin/python" -m launcher.worker seed=1 run.id=a &' in found["run"]
    assert "timeout --kill-after" not in found["run"]
    assert "squeue --noheader --jobs" in found["run"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("date -d '+2 minutes' +%FT%T", True),
        ("date -d '+1 hour' +%FT%T", False),
        ("echo N/A", False),
        ("true", False),
        ("exit 1", False),
    ],
)
def test_only_an_end_that_slurm_tells_ends_a_job(tmp_path, answer, told):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{answer}\n")
    # Two rounds without waiting, and no third.
    (tmp_path / "sleep").write_text(
        f"#!/bin/sh\necho >>{tmp_path}/rounds; [ $(wc -l <{tmp_path}/rounds) -lt 3 ]\n"
    )
    for name in ("squeue", "sleep"):
        (tmp_path / name).chmod(0o755)
    watch = task.WATCH.format(notice=task.NOTICE)
    text = f"/bin/sleep 60 & worker=$!\n{watch}wait $!\nkill -VTALRM $worker; wait $worker\n"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "1"}
    done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, check=False)
    # Of two signals that wait the one of the lower number comes first: TERM, where it was told.
    assert done.returncode == 128 + (signal.SIGTERM if told else signal.SIGVTALRM)


def test_a_start_is_as_long_as_the_queue_allows(tmp_path):
    found = sky.connect(cloud(tmp_path, attempt_hours=0.5)).request(job(max_hours=48.0))
    assert found["config"]["slurm"]["sbatch_options"]["time"] == "00:30:00"


def test_elsewhere_the_job_ends_itself(tmp_path):
    request = sky.connect(cloud(tmp_path)).request(
        job(machine=Machine("A100:8", "kubernetes"), image=DIGEST, secrets={"KEY": "MINE"})
    )
    assert request["resources"]["image_id"] == f"docker:{DIGEST}"
    assert request["resources"]["accelerators"] == "A100:8"
    assert "timeout --kill-after=180 3600 python -m launcher.worker" in request["run"]
    assert "workdir" not in request
    assert request["config"]["kubernetes"]["pod_config"]["spec"]["securityContext"] == {"runAsUser": 0}
    assert "PYTHONPATH=/app/src:/app/launcher/src" in request["run"]
    assert request["secrets"] == {"KEY": None}


def test_a_sif_is_run_by_apptainer_with_no_right(tmp_path):
    found = sky.connect(cloud(tmp_path)).request(job(image="/images/demo.sif"))
    assert '--bind "$work/app:/app" --pwd /app' in found["run"]
    assert "/images/demo.sif python -m launcher.worker" in found["run"]
    assert "workdir" not in found
    with pytest.raises(UserError, match=r"demo\.sif is a path on the cluster: give all of it"):
        task.kind(job(image="demo.sif"))


def test_what_was_priced_is_what_is_launched(tmp_path):
    machine = Machine("L4", "aws/us-east-1 g6.xlarge", "L4", 1)
    found = sky.connect(cloud(tmp_path)).request(job(machine=machine, image=DIGEST))
    assert found["resources"]["infra"] == "aws/us-east-1"
    assert found["resources"]["instance_type"] == "g6.xlarge"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("cpu", {"cpus": "4+"}),
        ("cpu:8", {"cpus": "8+"}),
        ("cpu:8:32", {"cpus": "8+", "memory": "32+"}),
        ("L4", {"accelerators": "L4:1"}),
        ("H100:8", {"accelerators": "H100:8"}),
        ("type:p3.8xlarge", {"instance_type": "p3.8xlarge"}),
    ],
)
def test_machines_are_named_as_skypilot_names_them(machine, expected):
    assert task.resources(machine, "aws", False) == {"infra": "aws", **expected}


def test_a_machine_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"8 gpus is no machine of SkyPilot's: give cpu"):
        task.resources("8 gpus", "aws", False)


def test_an_image_by_tag_is_refused():
    with pytest.raises(UserError, match="give it by its digest"):
        task.kind(job(image="demo/train:main"))


def test_the_worker_learns_its_place_from_the_task():
    env = {"RUN_FIRST": "10.0.0.1:20001", "RUN_RANK": "1", "RUN_NODES": "2"}
    args = ["trainer.device=cpu"]
    assert this_node(env, args) == Node(1, 2, ("10.0.0.1", 20001), 1)
    with pytest.raises(UserError, match="Which node this is cannot be understood: RUN_FIRST=x"):
        this_node({"RUN_FIRST": "x"}, args)
