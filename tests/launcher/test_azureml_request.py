"""What is sent to Azure ML: held against the service's own description of it, and read by people in a dry run."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azureml_jobs import IMAGE, T4, WORKSPACE, backend, cloud, job, notebook, sweep
from launcher.errors import UserError
from launcher.job import Job
from launcher.providers.azure import auth, azureml_notebook, azureml_request, login
from stage.azure import ml_shapes
from stage.azure.ml_rules import check_name

pytestmark = pytest.mark.cloud("azure")
NAME = azureml_request.name("run-1", 1)
ENVIRONMENT = "environments/demo/versions/0123456789ab-8f1c"
KINDS = {"jobs": "JobBase", "environments": "EnvironmentVersion", "computes": "ComputeResource"}


def sent(asked: Job, **changes: Any) -> dict[str, Any]:
    """What is sent for a job, by the last part of what it is sent to; each fits the service's description."""
    found = backend(**changes).request(asked)
    for path, body in found.items():
        ml_shapes.check(KINDS[path.partition("/")[0]], body)
    return {path.partition("/")[0]: body for path, body in found.items()}


def properties(asked: Job, **changes: Any) -> dict[str, Any]:
    return sent(asked, **changes)["jobs"]["properties"]


def test_a_request_is_exactly_what_the_service_documents():
    asked = job(machine=T4, nodes=2, secrets={"WANDB_API_KEY": "wandb"})
    found = backend().request(asked)
    [environment, name] = found
    assert name == f"jobs/{NAME}"
    assert environment.startswith("environments/demo/versions/0123456789ab-")
    assert found[environment] == {"properties": {"image": IMAGE, "osType": "Linux"}}
    assert properties(asked) == {
        "jobType": "Command",
        "displayName": "run-1",
        "experimentName": "demo",
        "command": "cd /app && exec python -m launcher.worker trainer.max_epochs=2 run.id=run-1",
        "environmentId": f"{WORKSPACE}/{environment}",
        "environmentVariables": {
            "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
            "RUN_ID": "run-1",
            "RUN_MAX_SECONDS": "5400",
            "RUN_MAX_ATTEMPTS": "3",
            "RUN_SECRETS": "WANDB_API_KEY=https://kv-demobucket.vault.azure.net/secrets/wandb",
            "RUN_NODES": "2",
            "RUN_EVENTS": "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01",
        },
        "identity": {"identityType": "Managed", "clientId": "00000000-0000-0000-0000-000000000000"},
        "limits": {"jobLimitsType": "Command", "timeout": "PT1H30M"},
        "resources": {"instanceCount": 2, "shmSize": "8g", "instanceType": "Standard_NC4as_T4_v3"},
        "tags": {"project": "demo", "run": "run-1", "max-seconds": "5400"},
        "queueSettings": {"jobTier": "Spot"},
        "distribution": {"distributionType": "PyTorch", "processCountPerInstance": 1},
    }


def test_a_request_needs_neither_network_nor_login(monkeypatch):
    monkeypatch.setattr(auth, "request", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.setattr(login, "token", lambda *a, **k: pytest.fail("logged in"))
    for each in (job(), sweep(), job(args=("${{x}}",))):
        assert json.dumps(backend().request(each)) == json.dumps(backend().request(each))


def test_on_demand_nothing_is_asked_about_the_machine_s_end():
    found = properties(job(spot=False))
    assert found["queueSettings"] == {"jobTier": "Standard"}
    assert "RUN_EVENTS" not in found["environmentVariables"]
    assert "distribution" not in found


def test_a_cluster_has_its_own_machines_and_tier():
    found = properties(job(), compute="small")
    assert found["computeId"] == f"{WORKSPACE}/computes/small"
    assert "queueSettings" not in found
    assert "instanceType" not in found["resources"]


AWKWARD = ("name='a b'", 'x="$HOME"', "y=`id`", "z=a;b&c|d>e", "q=it's", "w=*", "data.note=ü", "!x", "e=\\n")


def test_arguments_reach_the_worker_word_by_word(tmp_path):
    """As bash hands them on; what the command starts is a program that shows what it was given."""
    line = azureml_request.command(AWKWARD)
    show = f"{sys.executable} -c 'import json,sys; print(json.dumps(sys.argv[1:]))'"
    line = line.replace("/app", str(tmp_path)).replace(azureml_request.PROGRAM, show)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert tuple(json.loads(done.stdout)) == AWKWARD


@pytest.mark.parametrize(
    "argument", ["a=${{inputs.x}}", "a=${{", "a=$[[x]]", "a={inputs.x}", "a=two\nlines", "x=" + "1" * 33_000]
)
def test_what_the_service_would_change_travels_by_the_bucket(argument):
    asked = job(args=("a=1", argument))
    handed = backend()._hand(asked)
    found = properties(asked)
    assert found["command"] == "cd /app && exec python -m launcher.worker"
    assert found["environmentVariables"]["RUN_MORE"] == f"{asked.output}/arguments.json"
    assert json.loads(handed.more) == {"args": ["a=1", argument], "env": {}}
    assert "${{" not in json.dumps(found)


def test_a_variable_that_the_service_would_change_travels_by_the_bucket():
    asked = job(env={"RUN_COMMIT": "${{x}}", "RUN_ID": "run-1"})
    found = properties(asked)
    assert "RUN_COMMIT" not in found["environmentVariables"]
    assert json.loads(backend()._hand(asked).more) == {"args": None, "env": {"RUN_COMMIT": "${{x}}"}}
    assert "trainer.max_epochs=2" in found["command"]


def test_without_a_bucket_what_does_not_fit_is_refused_by_its_name():
    with pytest.raises(UserError, match=r"Azure ML does not take RUN_COMMIT, .* give cloud.bucket"):
        backend().request(job(output=None, env={"RUN_COMMIT": "${{x}}"}))


def test_an_image_has_one_version_for_good_and_another_registry_another():
    version = azureml_request.environment_version
    assert version(IMAGE, "demo") == version(IMAGE, "demo")
    assert version(IMAGE, "demo")[1].startswith("0123456789ab-")
    elsewhere = IMAGE.replace("demobucketimages", "other")
    assert len({version(each, "demo") for each in (IMAGE, elsewhere, IMAGE[:-12] + "f" * 12)}) == 2
    assert version("demo.azurecr.io/train:main", "demo")[1].startswith("unresolved-")


@pytest.mark.parametrize("run_id", ["run-1", "Run.1", "run_1", "a" * 300, "2026-11-26T10.00_x", "---"])
def test_the_id_of_a_job_is_one_that_the_service_takes_and_no_other_run_s(run_id):
    name = azureml_request.name(run_id, 12)
    check_name(name)
    assert name.endswith("-12")
    assert azureml_request.name(run_id + "x", 12) != name
    assert azureml_request.name(run_id, 12) == name


def test_runs_that_look_alike_have_jobs_of_different_names():
    names = {azureml_request.name(run_id, 1) for run_id in ("run-1", "run.1", "run_1", "Run-1")}
    assert len(names) == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5400, "PT1H30M"),
        (0.2, "PT1S"),
        (60, "PT1M"),
        (3600, "PT1H"),
        (86400 * 2 + 1, "PT48H1S"),
        (36.000001, "PT36S"),
    ],
)
def test_times_are_written_as_the_service_reads_them(seconds, text):
    assert azureml_request.duration(seconds) == text
    assert azureml_request.seconds_of(text) == ml_shapes.seconds(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("P1D", 86400), ("PT0.5S", 0.5), ("P1DT1H1M1S", 90061), ("7200", None), ("P", None), ("PT", None)],
)
def test_times_of_the_service_are_read(text, seconds):
    assert azureml_request.seconds_of(text) == seconds


# Notebooks


def instance(**changes: Any) -> dict[str, Any]:
    return sent(notebook(**changes))["computes"]


def test_a_notebook_ends_by_itself_when_nobody_uses_it_and_by_a_schedule(monkeypatch):
    monkeypatch.setattr(auth, "now", lambda: datetime(2026, 11, 28, 22, 15, 30, tzinfo=UTC))
    found = instance(machine=T4, max_hours=2.0)
    assert found["location"] == "eastus"
    assert found["tags"] == {"project": "demo", "run": "run-1", "max-seconds": "5400"}
    assert found["properties"] == {
        "computeType": "ComputeInstance",
        "description": "run-1",
        "properties": {
            "vmSize": "Standard_NC4as_T4_v3",
            "applicationSharingPolicy": "Personal",
            "computeInstanceAuthorizationType": "personal",
            "sshSettings": {"sshPublicAccess": "Disabled"},
            "idleTimeBeforeShutdown": "PT30M",
            "schedules": {
                "computeStartStop": [
                    {
                        "action": "Stop",
                        "status": "Enabled",
                        "triggerType": "Cron",
                        "cron": {"timeZone": "UTC", "expression": "16 0 * * *"},
                    }
                ]
            },
        },
    }


@pytest.mark.parametrize("hours", [0.01, 1.0, 22.99, 23.0, 23.01, 48.0, 144.0])
def test_the_schedule_comes_when_the_hours_are_over_and_not_before(hours):
    from stage.azure.ml_schedules import check_schedules, next_time

    now = datetime(2026, 11, 28, 22, 15, 30, tzinfo=UTC)
    made = azureml_notebook.body(
        notebook(max_hours=hours), region="eastus", tags={}, idle_minutes=30, now=now
    )
    [schedule] = made["properties"]["properties"]["schedules"]["computeStartStop"]
    check_schedules([schedule])
    comes = next_time(schedule, now.timestamp())
    assert comes is not None
    late = comes - (now + timedelta(hours=hours)).timestamp()
    assert 0 <= late <= 60


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"idle_minutes": 14.0}, "give cloud.idle_minutes=15"),
        ({"idle_minutes": 5000.0}, "give cloud.idle_minutes=4320"),
        ({"max_hours": 145.0}, "give cloud.max_hours=144 or less"),
    ],
)
def test_an_end_that_the_service_cannot_keep_is_refused(changes, problem):
    idle = changes.pop("idle_minutes", 30.0)
    [found] = azureml_notebook.check(notebook(**changes), idle)
    assert problem in str(found)


def test_the_name_of_a_notebook_s_machine_is_one_that_the_service_takes():
    from stage.azure.ml_compute_api import NAME as RULE

    workspaces = [WORKSPACE, WORKSPACE + "2"]
    slugs = ["demo", "a-very-long-name-of-a-project", "a-2", "x"]
    names = {
        azureml_notebook.name(workspace, run_id, slug, number)
        for workspace in workspaces
        for slug in slugs
        for run_id in ("run-1", "Run.1")
        for number in (1, 12)
    }
    assert len(names) == 2 * 4 * 2 * 2
    assert all(RULE.fullmatch(name) and 3 <= len(name) <= 24 for name in names), names


def test_settings_name_a_group_and_a_workspace():
    with pytest.raises(UserError, match=r"give cloud.workspace=GROUP/WORKSPACE"):
        backend(workspace="demo-ml").check_names()
    assert backend().path == WORKSPACE
    assert cloud().compute is None


# As a person types it


def dry_run(project: Path, *words: str) -> tuple[dict[str, Any], str]:
    """What is printed as JSON, and what is said beside."""
    typed = ["cloud=azureml", "dry_run=true", "cloud.project=11111111-2222-3333-4444-555555555555", *words]
    program = [sys.executable, "-m", "launcher.commands.launch", *typed]
    nobody = {"AZURE_CONFIG_DIR": str(project / "nobody"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        program, check=False, capture_output=True, text=True, cwd=project, env={**os.environ, **nobody}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for path, body in found.items():
        ml_shapes.check(KINDS[path.partition("/")[0]], body)
    return found, done.stderr


def test_a_dry_run_prints_what_the_service_takes_and_the_worst_case_of_all_starts(project):
    found, said = dry_run(project, "cloud.machine=cpu", "cloud.max_hours=1", "cloud.max_attempts=2")
    given = next(body for path, body in found.items() if path.startswith("jobs/"))["properties"]
    assert given["limits"]["timeout"] == "PT1H"
    assert given["environmentVariables"]["RUN_MAX_ATTEMPTS"] == "2"
    assert given["environmentVariables"]["RUN_OUTPUT"].startswith(
        "abfss://training@demobucket.dfs.core.windows.net/runs/"
    )
    assert given["tags"]["project"] == "demo"
    assert "1 node, 2 x 1 hours" in said
    assert "The digest of demobucketimages.azurecr.io/demo/train:main is looked up" in said


def test_a_dry_run_of_the_project_s_own_sweep_prints_what_the_service_takes(project):
    found, _ = dry_run(project, "sweep=lr", "cloud.machine=cpu", "cloud.max_cost_usd=100", "cloud.parallel=4")
    given = next(body for path, body in found.items() if path.startswith("jobs/"))["properties"]
    assert given["samplingAlgorithm"] == {"samplingAlgorithmType": "Bayesian"}
    assert given["searchSpace"]["ln_optimizer_lr"][0] == "uniform"
    assert given["limits"]["maxConcurrentTrials"] == 4


def test_a_dry_run_of_a_notebook_prints_what_the_service_takes(project):
    found, said = dry_run(project, "job=notebook", "cloud.machine=cpu", "cloud.max_cost_usd=100")
    [(path, body)] = found.items()
    assert path.startswith("computes/nb1-demo-h")
    assert body["properties"]["properties"]["vmSize"] == "Standard_F8s_v2"
    assert "spot" not in said.splitlines()[0]
    assert "1 node, 2 hours" in said  # nobody starts it again


def test_a_notebook_on_several_machines_is_refused(project):
    with pytest.raises(AssertionError, match="A notebook is one machine, not 2"):
        dry_run(project, "job=notebook", "cloud.machine=cpu", "cloud.nodes=2", "cloud.max_cost_usd=100")
