"""SkyPilot's program, its prices, what is looked at before a launch, and what a launch says."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sky_world
from launcher.errors import UserError
from launcher.job import Job, Kind, Machine
from launcher.providers.errors import MissingError
from launcher.providers.sky import price as prices
from launcher.providers.sky import program, sky
from launcher.providers.sky.program import SkyError
from omegaconf import OmegaConf
from sky_world import cloud, job

there, nowhere = sky_world.there, sky_world.nowhere  # fixtures


def first_command(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a script in the place of `sky`, and no command has gone before."""
    path = folder / "sky"
    path.write_text(script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(program, "_gone", threading.Event())


# As three at once do in an empty home: each starts an API server, and all but one find its port taken (seen with 0.14.1).
STARTS_A_SERVER = """\
#!/bin/sh
cd "${0%/*}"
[ -e up ] && exit 0
mkdir starting || { echo "RuntimeError: SkyPilot API server process exited unexpectedly." >&2; exit 1; }
sleep 0.3
touch up
"""


def test_commands_at_once_start_one_server(tmp_path, monkeypatch):
    first_command(STARTS_A_SERVER, tmp_path, monkeypatch)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(program.call, ["status", "check", "show-gpus"])) == ["", "", ""]


# As on a machine that is busy: the command gives its server a minute, which goes on starting.
STARTS_SLOWLY = """\
#!/bin/sh
cd "${0%/*}"
[ -e third ] && exit 0
[ -e second ] && touch third
touch second
echo "RuntimeError: Failed to start SkyPilot API server at http://127.0.0.1:46580" >&2
exit 1
"""


def test_a_server_that_starts_slowly_is_waited_for(tmp_path, monkeypatch):
    first_command(STARTS_SLOWLY, tmp_path, monkeypatch)
    assert program.call("status") == ""


def test_a_queue_of_a_cluster_that_is_gone_is_an_error(there):
    with pytest.raises(MissingError, match="Cluster 'demo-a' does not exist"):
        program.ask("queue", "demo-a")


def test_what_it_prints_in_place_of_json_is_told(there, monkeypatch):
    monkeypatch.setattr(program, "call", lambda *_: "{ what")
    with pytest.raises(SkyError, match="sky status has printed no JSON"):
        program.ask("status")


def test_what_costs_nothing_is_free(tmp_path, there):
    found = prices.price(cloud(tmp_path), "cpu")
    assert (found.region, found.machine.type, found.worst_case(False, 10, 1)) == (None, "slurm/stage", 0.0)


def test_a_price_is_that_of_skypilots_table(tmp_path, there):
    there.set(prices=[1.2, 0.4], machine="g6.xlarge")
    found = prices.price(cloud(tmp_path, infra="aws/us-east-1", spot=True), "L4")
    assert (found.hourly(True), found.hourly(False)) == (0.4, 1.2)
    assert found.machine == Machine("L4", "aws/us-east-1 g6.xlarge", "L4", 1)
    assert [("use_spot" in str(call)) for call in there.state["tasks"]] == []  # nothing was started


def test_where_there_is_no_skypilot_only_a_dry_run_goes_on(tmp_path, nowhere):
    with pytest.raises(UserError, match="sky is not on this machine's PATH"):
        prices.price(cloud(tmp_path), "cpu")
    assert "SkyPilot does not tell here" in prices.price(cloud(tmp_path), "cpu", dry_run=True).date


def test_a_table_that_looks_otherwise_is_no_price():
    with pytest.raises(SkyError, match="no table of what a machine costs"):
        prices.read("nothing of that kind")


def said(tmp_path: Path, one: Job | None = None, **values: object) -> list[str]:
    settings = cloud(tmp_path, **values)
    one = one or job()
    return [str(problem) for problem in sky.connect(settings).check(one) if problem.fatal]


def test_all_is_well_but_for_the_server_that_goes_on(tmp_path, there):
    (problem,) = sky.connect(cloud(tmp_path)).check(job())
    assert not problem.fatal
    assert str(problem) == (
        "SkyPilot's API server goes on at http://127.0.0.1:46580, on this machine only: "
        "`sky api stop` ends it, once no run is at work"
    )


def test_what_is_missing_is_said_with_its_remedy(tmp_path, there, monkeypatch):
    monkeypatch.delenv("MINE", raising=False)
    there.set(version="0.11.2")
    one = job(machine=Machine("cpu", "ssh"), spot=True, secrets={"KEY": "MINE"}, kind=Kind.predict)
    assert said(tmp_path, one) == [
        "SkyPilot's tasks here are trainings, not job=predict: give another cloud=..., or train",
        "ssh knows no spot: give cloud.spot=false",
        f"cloud.bucket={tmp_path}/shared is a folder, which ssh does not have: give the address of a bucket",
        "MINE of cloud.secrets is no variable of this environment: export it, or leave it out of cloud.secrets",
        "SkyPilot 0.11 is too old: install 0.12 or newer: uv tool upgrade skypilot",
        "SkyPilot cannot use ssh here: `sky check ssh` says what is missing",
    ]


def test_a_server_that_others_reach_is_said(tmp_path, there):
    there.set(server="https://sky.example.com")
    (problem,) = sky.connect(cloud(tmp_path)).check(job())
    assert "is https://sky.example.com, for all who have its address" in problem.what


def test_without_skypilot_the_doctor_says_how_to_get_it(tmp_path, nowhere):
    Path("uv.lock").touch()
    assert "uv tool install 'skypilot[slurm,kubernetes]'" in said(tmp_path)[0]


def dry_run(*words: str) -> subprocess.CompletedProcess[str]:
    """A launch by a program of its own, in the project."""
    command = [sys.executable, "-m", "launcher.commands.launch", "cloud=sky", "dry_run=true", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_launch_names_where(project, there):
    done = dry_run()
    assert done.returncode == 1
    assert "cloud.infra is not given: say where, as in cloud.infra=slurm/mycluster" in done.stderr
    assert there.state["calls"] == []


@pytest.mark.parametrize(
    ("infra", "meant"), [("slum/mine", "slurm"), ("Kubernets", "kubernetes"), ("gpc", "gcp")]
)
def test_a_slip_in_where_is_told_without_skypilot(project, nowhere, infra, meant):
    done = dry_run(f"cloud.infra={infra}")
    assert done.returncode == 1
    assert f"SkyPilot knows no cloud.infra={infra}; did you mean {meant}?" in done.stderr


@pytest.mark.parametrize("infra", ["hyperstack", "spheron", "lium"])
def test_a_cloud_that_is_newer_than_this_package_is_left_to_skypilot(infra):
    assert prices.infra_of(OmegaConf.create({"infra": infra})) == infra


def test_a_dry_run_prints_the_task_wherever_skypilot_is(project, nowhere):
    done = dry_run("cloud.infra=kubernetes", "run.id=a")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["resources"]["infra"] == "kubernetes"
    assert found["envs"]["RUN_OUTPUT"] == "gs://demo-bucket/runs/a"
    assert "what it costs SkyPilot does not tell here" in done.stderr


def test_a_launch_above_its_cap_is_refused(project, there):
    there.set(prices=[30.0, 30.0], machine="p5.48xlarge")
    done = dry_run("cloud.infra=aws", "cloud.machine=H100:8")
    assert done.returncode == 1
    assert "could cost 60.00 USD" in done.stderr
