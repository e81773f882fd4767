"""Containers of Azure ML on the stage: started, killed and repeated as by the service."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from stage import azure, containers, registry
from stage.azure import runner
from stage.azure.ml_bench import bench

pytestmark = pytest.mark.engine

TRAP = "trap 'echo got SIGTERM; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
# bash alone, for the image has no curl: METHOD-less GET of a place, with headers.
ASK = r"""
ask() { exec 3<>"/dev/tcp/$1"; printf 'GET %s HTTP/1.0\r\n%s\r\n\r\n' "$2" "$3" >&3; while IFS= read -r line <&3 || [ "$line" ]; do
echo "$line"; done; }
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("azure")
    with registry.registry(folder / "registry") as host, azure.serve(folder) as world:
        digest = registry.push_bash(host).partition("@")[2]
        here = bench(world, f"demostoreimages.azurecr.io/stage/bash@{digest}")
        with runner.running(world, host, folder / "jobs", {"OMP_NUM_THREADS": "1"}, speed=5) as runs:
            yield SimpleNamespace(world=world, runs=runs, here=here, host=host, folder=folder)


def run(stage: SimpleNamespace, name: str, command: str, **changes: Any) -> str:
    stage.here.submit(name, command=command, **changes)
    return name


def test_the_command_runs_by_bash_in_a_folder_of_the_service(stage: SimpleNamespace) -> None:
    name = run(
        stage,
        "c1",
        'echo "$0" $RUN_ID $OMP_NUM_THREADS; pwd; echo $UID; echo a > here && echo wrote; exec env -0 >/dev/null',
    )
    job = stage.runs.wait(name)
    assert job.status == "Completed"
    first, where, user, wrote = job.lines
    assert (first, user, wrote) == ("bash r1 1", "0", "wrote")
    assert where.startswith("/mnt/azureml/cr/j/")
    assert where.endswith("/exe/wd")


def test_the_job_knows_who_it_is(stage: SimpleNamespace) -> None:
    script = "echo $AZUREML_RUN_ID $AZUREML_ARM_WORKSPACE_NAME $MLFLOW_RUN_ID $DEFAULT_IDENTITY_CLIENT_ID; echo $MLFLOW_TRACKING_URI"
    job = stage.runs.wait(run(stage, "c2", script))
    address = f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{stage.here.workspace}?"
    assert job.lines == ["c2 demo-ml c2 clientid", address]


def test_its_log_is_in_run_history_and_its_address_needs_no_token(stage: SimpleNamespace) -> None:
    stage.runs.wait(run(stage, "c3", "echo out; echo err >&2"))
    files = stage.here.history("c3")["logFiles"]
    where = {"proxies": {"https": stage.world.url}, "verify": str(stage.world.certificates), "timeout": 60}
    text = requests.get(files["user_logs/std_log.txt"], **where).text
    assert sorted(text.splitlines()) == ["err", "out"]


def test_the_endpoint_gives_tokens_of_the_jobs_identity_only(stage: SimpleNamespace) -> None:
    script = ASK + (
        "place=${MSI_ENDPOINT#http://}; host=${place%%/*}; path=/${place#*/}?api-version=2017-09-01\n"
        'for tail in "resource=https://storage.azure.com&clientid=$AZURE_CLIENT_ID" "resource=https://storage.azure.com"'
        ' "resource=https://elsewhere.com&clientid=$AZURE_CLIENT_ID"; do\n'
        'ask "${host/://}" "$path&$tail" "secret: $MSI_SECRET"; done; ask "${host/://}" "$path&resource=a" "secret: no"'
    )
    variables = {"AZURE_CLIENT_ID": stage.here.trainer.client_id}
    job = stage.runs.wait(run(stage, "c4", script, environmentVariables=variables))
    codes = [line.split()[1] for line in job.lines if line.startswith("HTTP/")]
    assert codes == ["200", "400", "400", "401"], job.lines
    given = json.loads(next(line for line in job.lines if "access_token" in line))
    claims = stage.world.people.read(given["access_token"])
    assert (claims["oid"], claims["aud"]) == (stage.here.trainer.object_id, "https://storage.azure.com")


def test_a_job_without_a_managed_identity_has_no_endpoint(stage: SimpleNamespace) -> None:
    world = stage.world
    name = run(stage, "c5", "echo has=$MSI_ENDPOINT", identity={"identityType": "AMLToken"})
    assert stage.runs.wait(name).status == "Failed"  # nobody pulls its image
    assert "AcrPull" in world.ml.job("c5").error["message"]


def test_an_image_that_the_identity_may_not_pull_fails_the_job(stage: SimpleNamespace) -> None:
    registry_id = f"{stage.here.workspace.partition('/providers/')[0]}/providers/Microsoft.ContainerRegistry/registries/demostoreimages"
    stage.world.roles.revoke(stage.here.trainer, "AcrPull", registry_id)
    try:
        job = stage.runs.wait(run(stage, "c6", "echo ran"))
    finally:
        stage.world.make.role(stage.here.trainer, "AcrPull", registry_id)
    assert (job.status, job.lines) == ("Failed", [])
    assert "Failed to pull Docker image demostoreimages.azurecr.io/stage/bash@sha256:" in job.error["message"]


def test_an_image_that_is_not_there_fails_the_job(stage: SimpleNamespace) -> None:
    image = f"demostoreimages.azurecr.io/stage/bash@sha256:{'0' * 64}"
    path = "environments/gone/versions/1"
    stage.here.ask("PUT", path, {"properties": {"image": image, "osType": "Linux"}})
    job = stage.runs.wait(run(stage, "c7", "echo ran", environmentId=f"{stage.here.workspace}/{path}"))
    assert (job.status, job.lines) == ("Failed", [])
    assert image in job.error["message"]


@pytest.mark.parametrize("code", [1, 75])
def test_an_exit_status_fails_the_job_for_good(stage: SimpleNamespace, code: int) -> None:
    job = stage.runs.wait(run(stage, f"c8-{code}", f"echo last words; exit {code}"))
    assert (job.status, job.attempts) == ("Failed", 1)
    assert f"exited with status code {code}." in job.error["message"]
    assert "last words" in job.error["message"]


def test_two_nodes_know_of_each_other_and_have_a_log_each(stage: SimpleNamespace) -> None:
    script = "echo $NODE_RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT rank $RANK $LOCAL_RANK"
    resources = {"instanceType": "Standard_F2s_v2", "instanceCount": 2}
    distribution = {"distributionType": "PyTorch", "processCountPerInstance": 1}
    job = stage.runs.wait(run(stage, "c9", script, resources=resources, distribution=distribution))
    assert job.logs == {
        f"user_logs/std_log_process_{node}.txt": [f"{node} of 2 at 127.0.0.1:6105 rank {node} 0"]
        for node in (0, 1)
    }


def test_without_a_distribution_one_node_works_and_two_are_paid(stage: SimpleNamespace) -> None:
    resources = {"instanceType": "Standard_F2s_v2", "instanceCount": 2}
    job = stage.runs.wait(run(stage, "c10", "echo rank=$NODE_RANK", resources=resources))
    assert (job.lines, job.machines) == (["rank="], 2)


def test_a_lost_machine_gives_no_signal_and_the_next_attempt_is_new(stage: SimpleNamespace) -> None:
    name = run(
        stage, "c11", f"[ -e /here ] && echo old; [ -e here ] && echo old; echo > /here; echo > here; {TRAP}"
    )
    stage.runs.until_line(name, "ready")
    stage.runs.lose(name)
    job = stage.world.ml.job(name)
    stage.runs.until(lambda: job.lines.count("ready") == 2, name)
    assert (job.attempts, job.lines, job.logs["user_logs/std_log.txt"]) == (2, ["ready", "ready"], ["ready"])
    stage.here.ask("POST", f"jobs/{name}/cancel")
    stage.runs.wait(name)


def test_the_machine_itself_announces_its_end(stage: SimpleNamespace) -> None:
    script = ASK + (
        'echo ready; while sleep 0.2; do seen=$(ask 169.254.169.254/80 "/metadata/scheduledevents?api-version=2020-07-01"'
        ' "Metadata: true"); case $seen in *Preempt*) echo noticed; break;; esac; done; sleep 600'
    )
    name = run(stage, "c12", script)
    stage.runs.until_line(name, "ready")
    stage.runs.announce(name)
    stage.runs.until_line(name, "noticed")
    stage.runs.lose(name, restarts=False)
    job = stage.runs.wait(name)
    assert (job.status, job.lines) == ("Failed", ["ready", "noticed"])


def test_a_notice_may_be_revoked(stage: SimpleNamespace) -> None:
    script = ASK + (
        'seen() { case $(ask 169.254.169.254/80 "/metadata/scheduledevents?api-version=2020-07-01" "Metadata: true") in'
        " *Preempt*) return 0;; esac; return 1; }; until seen; do sleep 0.1; done; echo noticed; while seen; do sleep 0.1; done;"
        " echo revoked"
    )
    name = run(stage, "c13", script)
    stage.runs.until(lambda: name in stage.runs.running, name)
    stage.runs.announce(name)
    stage.runs.until_line(name, "noticed")
    stage.runs.revoke(name)
    assert stage.runs.wait(name).lines == ["noticed", "revoked"]


def test_a_cancelled_job_is_killed_without_a_signal(stage: SimpleNamespace) -> None:
    name = run(stage, "c14", TRAP)
    stage.runs.until_line(name, "ready")
    stage.here.ask("POST", f"jobs/{name}/cancel")
    job = stage.runs.wait(name)
    assert (job.status, job.lines) == ("Canceled", ["ready"])


def test_a_job_over_its_time_is_killed(stage: SimpleNamespace) -> None:
    name = run(stage, "c15", TRAP, limits={"jobLimitsType": "Command", "timeout": "PT1H"})
    stage.runs.until_line(name, "ready")
    stage.world.pass_time(3700)
    assert stage.runs.wait(name).status == "Canceled"


def test_nothing_but_the_stage_can_be_reached(stage: SimpleNamespace) -> None:
    address, _, port = stage.host.partition(":")
    job = stage.runs.wait(run(stage, "c16", f"echo > /dev/tcp/{address}/{port} || echo alone"))
    assert "alone" in job.lines


def test_azure_is_reached_at_its_own_hosts(stage: SimpleNamespace) -> None:
    name = f"{stage.host}/stage/python:3"
    containers.docker("tag", "python:3.13-slim", name)
    containers.docker("push", name)
    containers.docker("rmi", name)
    path = "environments/python/versions/1"
    image = {"properties": {"image": "demostoreimages.azurecr.io/stage/python:3", "osType": "Linux"}}
    stage.here.ask("PUT", path, image).raise_for_status()
    program = (
        "import json, urllib.request as u; print(json.load(u.urlopen("
        "'https://westeurope.api.azureml.ms/discovery'))['api'])"
    )
    where = f"{stage.here.workspace}/{path}"
    job = stage.runs.wait(run(stage, "c19", f'python3 -c "{program}"', environmentId=where))
    assert job.lines == ["https://westeurope.api.azureml.ms"]


def test_shared_memory_is_as_large_as_was_asked(stage: SimpleNamespace) -> None:
    script = "while read -r line; do case $line in *' /dev/shm '*) echo $line;; esac; done < /proc/mounts"
    for name, given, size in (("c20", "64m", 65536), ("c21", None, 2 * 1024**2)):
        resources = {"instanceType": "Standard_F2s_v2"} | ({"shmSize": given} if given else {})
        job = stage.runs.wait(run(stage, name, script, resources=resources))
        assert f"size={size}k" in job.lines[0]


def test_without_capacity_a_job_is_queued(stage: SimpleNamespace) -> None:
    stage.runs.capacity.clear()
    name = run(stage, "c17", "echo ran")
    stage.runs.until(lambda: stage.here.status(name) == "Queued", name)
    stage.runs.capacity.set()
    assert stage.runs.wait(name).lines == ["ran"]


def test_another_user_may_be_tried(stage: SimpleNamespace) -> None:
    with runner.running(stage.world, stage.host, stage.folder / "other", user="1000") as runs:
        stage.runs.capacity.clear()
        try:
            job = runs.wait(
                run(stage, "c18", "echo $UID; echo a > here && echo wrote; echo a > /here || echo not there")
            )
        finally:
            stage.runs.capacity.set()
    assert {"1000", "wrote", "not there"} <= set(job.lines)


def test_trials_run_with_the_values_drawn_for_them(stage: SimpleNamespace) -> None:
    body = stage.here.sweep_body(
        samplingAlgorithm={"samplingAlgorithmType": "Grid"},
        searchSpace={"name": ["choice", [["adam", "sgd"]]]},
        identity={"identityType": "Managed", "clientId": stage.here.trainer.client_id},
        trial={
            "command": "echo ${{search_space.name}} $AZUREML_SWEEP_name $AZUREML_RUN_ID $AZUREML_ROOT_RUN_ID"
        },
    )
    stage.here.submit("s1", body)
    sweep = stage.runs.wait("s1")
    assert sweep.status == "Completed"
    assert [trial.lines for trial in sweep.trials] == [["adam adam s1_0 s1"], ["sgd sgd s1_1 s1"]]
