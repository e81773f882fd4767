"""What is found before a launch: each check finds its own trouble, says what to do, and is silent otherwise."""

from types import SimpleNamespace
from typing import Any

import pytest
from launcher.job import Job, Machine, Problem
from launcher.providers.google import doctor, vertex, vertex_quotas

BUCKET = "/storage/v1/b/my-bucket"
OBJECTS = f"{BUCKET}/o/dvc%2Ffiles%2Fmd5%2F"
DIGEST = "sha256:" + "a" * 64
QUOTA = (
    "/v1beta1/projects/my-project/services/aiplatform.googleapis.com/consumerQuotaMetrics/"
    "aiplatform.googleapis.com%2Fcustom_model_training_"
)
JOBS = "/v1/projects/my-project/locations/us-central1/customJobs"
TUNING = JOBS.replace("customJobs", "hyperparameterTuningJobs")
L4 = Machine("l4", "g2-standard-8", "NVIDIA_L4", 1)
LOCK = """schema: '2.0'
stages:
  prepare@digits:
    cmd: uv run prepare data=digits
    outs:
    - path: data/digits
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      size: 10
"""
FILES = [
    {"md5": "aa" + "1" * 30, "relpath": "train.npz"},
    {"md5": "bb" + "2" * 30, "relpath": "test.npz"},
]


def job(machine: Machine = L4, **changes: Any) -> Job:
    settings: dict[str, Any] = {"run_id": "run-1", "image": "", "args": (), "machine": machine}
    return Job(**{**settings, **changes})


def only(problems: list[Problem]) -> Problem:
    [problem] = problems
    return problem


# -- the bucket ----------------------------------------------------------------------------------


def place_bucket(server: Any, location: str, permissions: Any = doctor.NEEDED, **more: Any) -> None:
    server.say("GET", f"{BUCKET}/iam/testPermissions", {"permissions": list(permissions)})
    server.say("GET", BUCKET, {"location": location, **more})


@pytest.mark.parametrize(
    ("location", "region"),
    [
        ("US-CENTRAL1", "us-central1"),
        ("US", "us-west4"),
        ("EU", "europe-west4"),
        ("ASIA", "asia-east1"),
        ("NAM4", "us-east1"),
    ],
)
def test_a_bucket_where_the_machines_are_is_fine(server, location, region):
    place_bucket(server, location)
    assert doctor.check_bucket("gs://my-bucket", region) == []


def test_a_bucket_in_two_regions_of_ones_own_choice_is_fine_in_both(server):
    regions = {"dataLocations": ["US-EAST1", "US-WEST1"]}
    place_bucket(server, "US", customPlacementConfig=regions)
    assert doctor.check_bucket("gs://my-bucket", "us-west1") == []


@pytest.mark.parametrize(
    ("location", "region"),
    [("EUROPE-WEST4", "us-central1"), ("EU", "europe-west2"), ("NAM4", "us-west1")],
)
def test_a_bucket_elsewhere_is_said_but_forbids_nothing(server, location, region):
    place_bucket(server, location)
    problem = only(doctor.check_bucket("gs://my-bucket", region))
    assert not problem.fatal
    assert f"is in {location}, the job in {region}" in problem.what


def test_a_bucket_that_does_not_say_where_it_is_is_fine(server):
    place_bucket(server, "US")
    server.forget("GET", BUCKET)
    server.refuse("GET", BUCKET, 403, "no storage.buckets.get")
    assert doctor.check_bucket("gs://my-bucket", "us-central1") == []


def test_a_bucket_that_is_not_there_names_what_makes_it(server):
    problem = only(doctor.check_bucket("gs://my-bucket", "us-central1"))
    assert problem.fatal
    assert "no bucket gs://my-bucket" in problem.what
    assert "make cloud-setup" in problem.remedy


def test_a_bucket_that_may_not_be_written_says_what_is_missing(server):
    place_bucket(server, "US", ["storage.objects.get", "storage.objects.list"])
    problem = only(doctor.check_bucket("gs://my-bucket", "us-central1"))
    assert problem.fatal
    assert "may not create, delete objects" in problem.what
    assert "roles/storage.objectUser" in problem.remedy


# -- secrets -------------------------------------------------------------------------------------

NEWEST = "/v1/projects/my-project/secrets/my-wandb/versions/latest"


def test_a_secret_with_a_value_is_fine_and_not_read(server):
    server.say("GET", NEWEST, {"state": "ENABLED"})
    assert doctor.check_secret("my-project", "WANDB_API_KEY", "my-wandb") == []
    assert not [sent for sent in server.asked if "access" in sent["path"].rpartition("/")[2]]


def test_a_secret_without_a_value_says_how_to_give_it_one(server):
    problem = only(doctor.check_secret("my-project", "WANDB_API_KEY", "my-wandb"))
    assert problem.fatal
    assert "gcloud secrets versions add my-wandb" in problem.remedy


def test_a_disabled_secret_is_found(server):
    server.say("GET", NEWEST, {"state": "DISABLED"})
    problem = only(doctor.check_secret("my-project", "WANDB_API_KEY", "my-wandb"))
    assert "my-wandb, for WANDB_API_KEY, is disabled" in problem.what


def test_a_secret_that_only_the_job_may_see_is_a_note(server):
    server.refuse("GET", NEWEST, 403, "no")
    problem = only(doctor.check_secret("my-project", "WANDB_API_KEY", "my-wandb"))
    assert not problem.fatal
    assert "cannot be seen by this login" in problem.what


# -- quotas --------------------------------------------------------------------------------------


def limits(**by_region: int) -> dict[str, Any]:
    """Quotas as the service gives them; `default` is for all regions without one of their own."""

    def limit(count: int) -> dict[str, str]:
        return {"effectiveLimit": str(count)} if count else {}  # a 0 is left out of its JSON

    buckets: list[dict[str, Any]] = [
        {**limit(count), "dimensions": {"region": region.replace("_", "-")}}
        for region, count in by_region.items()
        if region != "default"
    ]
    if "default" in by_region:
        buckets.insert(0, limit(by_region["default"]))
    return {"consumerQuotaLimits": [{"quotaBuckets": buckets}]}


@pytest.mark.parametrize(
    ("given", "enough"),
    [
        ({"default": 0, "us_central1": 2}, True),
        ({"default": 8, "us_central1": 0}, False),
        ({"default": 1, "us_west1": 8}, False),
        ({"default": 0}, False),
        ({"default": -1}, True),
        ({}, True),
    ],
)
def test_the_quota_of_the_region_decides(server, given, enough):
    server.say("GET", f"{QUOTA}preemptible_nvidia_l4_gpus", limits(**given))
    problems = vertex_quotas.check_gpu_quota("my-project", "us-central1", job(nodes=2))
    assert (problems == []) is enough
    # Without it, regions that have what everybody has are not shown.
    [asked] = server.sent("GET", f"{QUOTA}preemptible_nvidia_l4_gpus")
    assert asked["query"] == {"view": ["FULL"]}


@pytest.mark.parametrize(
    ("gpu", "spot", "metric"),
    [
        ("NVIDIA_TESLA_T4", True, "preemptible_nvidia_t4_gpus"),
        ("NVIDIA_TESLA_A100", False, "nvidia_a100_gpus"),
        ("NVIDIA_A100_80GB", False, "nvidia_a100_80gb_gpus"),
        ("NVIDIA_H100_80GB", True, "preemptible_nvidia_h100_gpus"),
    ],
)
def test_each_gpu_has_a_quota_of_its_own(server, gpu, spot, metric):
    server.say("GET", QUOTA + metric, limits(default=1))
    wanted = job(Machine("some", "type", gpu, 8), spot=spot)
    problem = only(vertex_quotas.check_gpu_quota("my-project", "us-central1", wanted))
    assert problem.fatal
    assert f"custom_model_training_{metric} in us-central1 is 1, and the job needs 8" in problem.what
    assert "iam-admin/quotas?project=my-project" in problem.remedy


def test_the_processors_of_a_cheap_machine_have_a_quota_too(server):
    server.say("GET", f"{QUOTA}preemptible_cpus", limits(default=1))
    machine = Machine("t4", "n1-standard-4", "NVIDIA_TESLA_T4", 1)
    problem = only(vertex_quotas.check_cpu_quota("my-project", "us-central1", job(machine)))
    assert "is 1, and the job needs 4" in problem.what


def test_a_quota_that_may_not_be_read_is_left_to_the_service(server):
    server.refuse("GET", f"{QUOTA}preemptible_nvidia_l4_gpus", 403, "no")
    assert vertex_quotas.check_gpu_quota("my-project", "us-central1", job()) == []


# -- all together --------------------------------------------------------------------------------


def cloud(server: Any) -> SimpleNamespace:
    return SimpleNamespace(
        project="my-project",
        region="us-central1",
        bucket="gs://my-bucket",
        image=f"{server.host}/slug/train@{DIGEST}",
        repository="slug/train",
        service_account="slug-trainer",
        labels={"project": "slug"},
    )


def set_up(server: Any) -> Job:
    """A cloud in which nothing is wrong, and a job for it."""
    place_bucket(server, "US")
    server.say("GET", TUNING, {})
    server.say("GET", JOBS, {})
    server.say("GET", NEWEST, {"state": "ENABLED"})
    commit = "f" * 40
    config = {"config": {"Labels": {"org.opencontainers.image.revision": commit}}}
    manifest = {"config": {"digest": "sha256:config"}}
    server.say("GET", f"/v2/slug/train/manifests/{DIGEST}", manifest)
    server.say("GET", "/v2/slug/train/blobs/sha256:config", config)
    env = {"RUN_CODE": "gs://my-bucket/code/x.tar.gz"}
    return job(
        image=f"{server.host}/slug/train@{DIGEST}",
        env=env,
        secrets={"WANDB_API_KEY": "my-wandb"},
    )


def test_nothing_is_found_where_nothing_is_wrong(server):
    ready = set_up(server)
    fatal = [problem for problem in vertex.connect(cloud(server)).check(ready) if problem.fatal]
    assert fatal == []
    assert len(server.sent("GET", NEWEST)) == 1
    assert len(server.sent("GET", JOBS)) == 1


def test_everything_that_is_wrong_is_found_at_once(server):
    ready = set_up(server)
    for path in (
        BUCKET,
        f"{BUCKET}/iam/testPermissions",
        NEWEST,
        f"/v2/slug/train/manifests/{DIGEST}",
    ):
        server.forget("GET", path)
    found = vertex.connect(cloud(server)).check(ready)
    whole = "\n".join(map(str, found))
    for part in ("no bucket", "no value", "no image"):
        assert part in whole


def test_without_a_login_that_is_all_that_is_found(server, monkeypatch, tmp_path):
    ready = set_up(server)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    problem = only(vertex.connect(cloud(server)).check(ready))
    assert "gcloud auth application-default login" in problem.remedy
    assert not server.asked


def test_two_jobs_never_share_a_run_folder(server):
    ready = set_up(server)
    server.forget("GET", JOBS)
    active = {"name": "jobs/1", "displayName": "run-1", "state": "JOB_STATE_PENDING"}
    server.say("GET", JOBS, {"customJobs": [{**active, "createTime": "2026-01-01T00:00:00Z"}]})
    found = [problem for problem in vertex.connect(cloud(server)).check(ready) if problem.fatal]
    assert "run-1 is queued" in only(found).what
    assert "runs stop run-1" in only(found).remedy


def test_a_project_that_cannot_be_reached_is_a_finding(server, monkeypatch):
    ready = set_up(server)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", "http://127.0.0.1:9")
    found = [problem for problem in vertex.connect(cloud(server)).check(ready) if problem.fatal]
    assert "127.0.0.1:9 cannot be reached" in only(found).what
