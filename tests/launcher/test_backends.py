"""What every backend promises in `cloud/job.py`, asked of each of them."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aws_batch_world import on_stage
from azureml_world import Place, fast, workspace
from google_server import GoogleServer, google_server
from launcher import providers as backends
from launcher.errors import UserError
from launcher.job import Handle, Job, Kind, Leftover, Machine, State
from launcher.project import project
from launcher.providers.azure import registry as azure_registry
from launcher.providers.google import vertex
from launcher.providers.local import local
from launcher.settings.schema import CloudConfig, register_resolver
from omegaconf import OmegaConf
from sagemaker_jobs import forget
from stage.aws import bench
from stage.aws.people import ACCOUNT
from stage.aws.world import World as AwsWorld

BACKENDS = ("local", "vertex", "batch")
ON_AWS = ("sagemaker", "batch")
ON_AZURE = ("azureml",)
ALL = [
    *BACKENDS,
    *(pytest.param(f"aws {name}", id=f"aws-{name}", marks=pytest.mark.cloud("aws")) for name in ON_AWS),
    *(pytest.param(f"azure {name}", id=name, marks=pytest.mark.cloud("azure")) for name in ON_AZURE),
]
AT_WORK = (State.queued, State.running)
GONE = {
    "local": Leftover("none", "nothing"),
    "azureml": Leftover("nb1-none-h000000", "nothing"),
}


class World:
    """A backend, and what stands in its provider's place.

    Args:
        name: of the backend.
        asked: what the provider was asked, so far.
    """

    def __init__(self, name: str, bucket: Path | None, asked: list[Any]) -> None:
        register_resolver()
        loaded = OmegaConf.load(project().configs / "cloud" / f"{name}.yaml")
        changes: dict[str, Any] = {"bucket": str(bucket) if bucket else None, "labels": LABELS}
        self.image, self.machine = "", Machine("cpu", "n1-standard-8")
        if name == "local":
            changes["machine"] = "process"
        elif project().cloud == "aws":
            self.machine = Machine("l4", "g6.xlarge", "L4", 1)
            changes |= {"bucket": "s3://demo-bucket", "project": ACCOUNT}
        elif project().cloud == "azure":
            self.image = f"demobucketimages.azurecr.io/demo/train@sha256:{'a' * 64}"
            self.machine = Machine("t4", "Standard_NC4as_T4_v3", "T4", 1)
        else:
            self.image = f"host.pkg.dev/p/train@sha256:{'a' * 64}"
            changes |= {"project": "my-project", "region": "us-central1"}
        cloud = OmegaConf.merge(OmegaConf.structured(CloudConfig), loaded, changes)
        self.name, self.asked = name, asked
        self.settle: Callable[[], None] = lambda: None  # until what was asked for is done
        self.backend = backends.connect(cloud)

    def job(self, run_id: str = "run-1") -> Job:
        return Job(
            run_id=run_id,
            image=self.image,
            args=(f"run.id={run_id}",),
            machine=self.machine,
            output=f"s3://demo-bucket/runs/{run_id}" if project().cloud == "aws" else None,
            env={"RUN_ID": run_id},
            labels={"run": run_id, "max-seconds": "3600"},
        )

    def submit(self, run_id: str = "run-1") -> Handle:
        return self.backend.submit(self.job(run_id))


LABELS = {"project": "slug"}


def on_vertex(server: GoogleServer) -> None:
    """Custom jobs that run until they are cancelled."""
    base = "/v1/projects/my-project/locations/us-central1"
    jobs: list[dict[str, Any]] = []

    def make(asked: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        name = f"{base[4:]}/customJobs/{len(jobs)}"
        times = {"createTime": now, "startTime": now}
        jobs.append({**asked["body"], **times, "name": name, "state": "JOB_STATE_RUNNING"})
        server.say("POST", f"/v1/{name}:cancel", lambda _, job=jobs[-1]: cancel(job))
        return jobs[-1]

    def cancel(job: dict[str, Any]) -> dict[str, Any]:
        job |= {"state": "JOB_STATE_CANCELLED", "endTime": datetime.now(UTC).isoformat()}
        return {}

    def find(asked: dict[str, Any]) -> dict[str, Any]:
        [condition] = asked["query"]["filter"]
        name = re.search(r'display_?[nN]ame="(.*?)"', condition)
        return {"customJobs": [job for job in jobs if not name or job["displayName"] == name[1]]}

    server.say("POST", f"{base}/customJobs", make)
    server.say("GET", f"{base}/customJobs", find)
    server.say("GET", f"{base}/hyperparameterTuningJobs", {})
    server.say("POST", "/v2/entries:list", {})


def on_batch(server: GoogleServer) -> None:
    """Jobs that run until they are cancelled, and then are there."""
    base = "/v1/projects/my-project/locations/us-central1/jobs"
    jobs: list[dict[str, Any]] = []

    def make(asked: dict[str, Any]) -> dict[str, Any]:
        [name] = asked["query"]["jobId"]
        created = datetime.now(UTC) + timedelta(seconds=len(jobs))
        job = {
            **asked["body"],
            "name": f"{base.removeprefix('/v1/')}/{name}",
            "uid": f"{name}-uid",
            "status": {"state": "RUNNING"},
            "createTime": created.isoformat(),
        }
        jobs.insert(0, job)
        server.say("GET", f"{base}/{name}", lambda _: job)
        server.say("POST", f"{base}/{name}:cancel", lambda _: job["status"].update(state="CANCELLED") or {})
        return job

    server.say("POST", base, make)
    server.say("GET", base, lambda _: {"jobs": jobs})
    server.say("POST", "/v2/entries:list", {})


@pytest.fixture
def local_world(tmp_path, monkeypatch) -> Iterator[World]:
    """Its worker sleeps until it is told to stop."""
    monkeypatch.chdir(tmp_path)
    world = World("local", None, [])
    request = world.backend.request
    sleep = [sys.executable, "-c", "import time; print('at work', flush=True); time.sleep(300)"]
    monkeypatch.setattr(world.backend, "request", lambda job: {**request(job), "command": sleep})
    yield world
    monkeypatch.setattr(local, "GRACE", 0.0)
    for status in world.backend.list():
        world.backend.stop(status.run_id)


@pytest.fixture(scope="module")
def account(tmp_path_factory) -> Iterator[AwsWorld]:
    """An account of AWS with the project's roles, bucket, queues for l4 and quota."""
    with on_stage(tmp_path_factory.mktemp("aws")) as made:
        bench.role(made, "demo-sagemaker", "sagemaker.amazonaws.com")
        bench.client(made, "s3").create_bucket(Bucket="demo-bucket")
        for tier in ("", "spot "):
            made.quotas.set(f"ml.g6.xlarge for {tier}training job usage", 100)
        yield made


def on_aws(name: str, account: AwsWorld, monkeypatch: pytest.MonkeyPatch) -> World:
    """The account without a job, and a backend in it."""
    for variable, value in account.environment.items():
        monkeypatch.setenv(variable, value)
    for jobs in (account.batch.jobs, account.sagemaker.jobs):
        jobs.clear()
    account.clock._now = float(round(time.time()))
    forget()
    world = World(name, None, account.asked)
    if name == "sagemaker":
        vars(world.backend)["cloud"].service_account = "demo-sagemaker"
    world.image, world.settle = account.push("demo/train"), lambda: account.pass_time(180)
    account.asked.clear()
    return world


@pytest.fixture(scope="module")
def azure_place(tmp_path_factory) -> Iterator[Place]:
    """A workspace of Azure ML with the project's identity, and quota for t4."""
    with workspace(tmp_path_factory.mktemp("azure")) as made:
        yield made


def on_azure(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> World:
    """The workspace without a job, and a backend in it."""
    fast(monkeypatch)
    place.clear()
    place.world.clock._now = float(round(time.time()))
    # What a registry says of an image is other tests' matter.
    monkeypatch.setattr(azure_registry, "resolve", lambda reference: reference)
    monkeypatch.setattr(azure_registry, "revision", lambda image: None)
    world = World(name, None, place.world.asked)
    here = {"project": place.world.subscription, "region": place.world.region, "workspace": "demo/demo-ml"}
    vars(world.backend)["cloud"].merge_with({**here, "service_account": "demo-trainer"})
    world.settle = lambda: place.world.pass_time(180)
    return world


@pytest.fixture(params=ALL)
def world(request, tmp_path, monkeypatch) -> Iterator[World]:
    """Each backend, one after the other."""
    if request.param == "local":
        yield request.getfixturevalue("local_world")
        return
    if request.param.startswith("aws "):
        name = request.param.removeprefix("aws ")
        yield on_aws(name, request.getfixturevalue("account"), monkeypatch)
        forget()
        return
    if request.param.startswith("azure "):
        place = request.getfixturevalue("azure_place")
        yield on_azure(request.param.removeprefix("azure "), place, monkeypatch)
        return
    monkeypatch.setattr(vertex, "SUBMIT_DELAYS", (0, 0))
    prepare: dict[str, Callable[[GoogleServer], None]] = {"vertex": on_vertex, "batch": on_batch}
    with google_server(tmp_path, monkeypatch) as server:
        prepare[request.param](server)
        yield World(request.param, tmp_path / "bucket", server.asked)


def test_a_request_can_be_printed_and_needs_nobody(world, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
    job = world.job()
    assert json.dumps(world.backend.request(job)) == json.dumps(world.backend.request(job))
    assert world.asked == []


def test_a_notebook_is_refused_where_nobody_could_reach_it(world):
    found = [str(each) for each in world.backend.check(replace(world.job(), kind=Kind.notebook))]
    refused = [each for each in found if "notebook" in each and "cloud=batch" in each]
    assert len(refused) == (0 if world.name in ("batch", "azureml") else 1)


def test_nothing_is_asked_of_the_provider_before_it_has_to_be(world):
    assert isinstance(world.backend.reference(), str)
    assert world.asked == []


def test_an_unknown_run_has_no_status_and_no_lines(world):
    assert world.backend.status("never") is None
    assert list(world.backend.logs("never")) == []
    assert world.backend.list() == []


def test_a_submitted_job_is_at_work_and_called_as_its_handle_says(world):
    handle = world.submit()
    status = world.backend.status("run-1")
    assert status.state in AT_WORK
    assert (status.run_id, status.name) == ("run-1", handle.name)
    assert abs(datetime.now(UTC) - status.created) < timedelta(minutes=10)
    assert 0 <= status.seconds < 600
    assert handle.url


def test_the_provider_keeps_the_labels_of_a_job(world):
    world.submit()
    expected = {"project": "slug", "run": "run-1", "max-seconds": "3600"}
    if world.name == "local":  # nobody else is on it, and nothing has to be told apart
        expected = {}
    assert world.backend.status("run-1").labels == expected


def test_a_stopped_job_is_over_and_may_be_stopped_again(world):
    world.submit()
    world.backend.stop("run-1")
    world.settle()
    status = world.backend.status("run-1")
    assert status.state is State.stopped
    assert status.state.over
    world.backend.stop("run-1")
    assert world.backend.status("run-1").state is State.stopped


def test_stopping_an_unknown_run_does_no_harm(world):
    world.submit()
    with suppress(UserError):  # some say that there is none
        world.backend.stop("never")
    assert world.backend.status("run-1").state in AT_WORK


def test_jobs_are_listed_newest_first(world):
    for run_id in ("run-1", "run-2"):
        world.submit(run_id)
    listed = world.backend.list()
    assert sorted(status.run_id for status in listed) == ["run-1", "run-2"]
    assert listed == sorted(listed, key=lambda status: status.created, reverse=True)


def test_a_job_at_work_is_no_leftover(world):
    world.submit()
    assert world.backend.leftovers() == []


def test_removing_what_is_gone_is_no_error(world):
    if world.name not in GONE:  # these leave nothing over
        with pytest.raises(UserError, match="knows no"):
            world.backend.remove(Leftover("x", "disk x"))
        return
    world.backend.remove(GONE[world.name])


def test_the_time_has_a_zone(world):
    world.backend.list()
    now = world.backend.now()
    assert now.tzinfo is not None
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=10)  # the least that a zone could be off is 15


@pytest.mark.parametrize(
    "expected",
    [
        (*BACKENDS, "sky"),  # test_sky.py: it promises less than these do
        pytest.param(("local", "sky", *ON_AWS), marks=pytest.mark.cloud("aws")),
        pytest.param(("local", "sky", *ON_AZURE), marks=pytest.mark.cloud("azure")),
    ],
)
def test_every_file_of_settings_has_its_backend(expected):
    names = {path.stem for path in (project().configs / "cloud").glob("*.yaml")}
    assert names == set(expected)
