"""`cloud destroy` and what answers or is shared in the project: models end first, and others keep what is theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from baking import BakedProject

from stage.google.project import NUMBER, PROJECT
from stage.google.setup import google_setup
from stage.setup_runs import AGENTS, BUCKET, on_github, take


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject], tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    return on_github(bake(), tmp_path_factory.mktemp("setup") / "cloud-training")


def deployed(name: str, slug: str, region: str = "us-central1") -> dict:
    """A model that answers on Cloud Run, as version 1 of its API tells it."""
    labels = {"project": slug, "model": name, "cloud.googleapis.com/location": region}
    about = {"name": name, "namespace": NUMBER, "labels": labels}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": about,
        "spec": {},
        "status": {},
    }


def test_destroy_ends_models_that_answer_before_it_deletes_what_knows_of_them(
    project: BakedProject, tmp_path: Path
) -> None:
    with google_setup(tmp_path / "stage") as stage:
        stage.project.services.add("run.googleapis.com")
        stage.resources[BUCKET] = {"name": BUCKET[1], "location": "US-CENTRAL1"}
        server = f"cloud-training-server@{PROJECT}.iam.gserviceaccount.com"
        stage.resources["account", server] = {"email": server}
        for name, slug in (("ours", "cloud-training"), ("theirs", "other"), ("like", "cloud-training-two")):
            stage.resources["runServices", name] = deployed(name, slug)
        step = take(stage, project, "destroy", PROJECT=PROJECT, YES="1", DATA="delete")
        assert step.code == 0, step.errors
        assert stage.project.names("runServices") == {"theirs", "like"}
        assert ("account", server) not in step.resources
        ended, bucket = (
            next(i for i, line in enumerate(step.written) if line.startswith("DELETE ") and part in line)
            for part in ("/services/ours", f"/b/{BUCKET[1]}")
        )
        assert ended < bucket


def test_where_services_cannot_be_listed_destroy_says_so_and_goes_on(
    project: BakedProject, tmp_path: Path
) -> None:
    with google_setup(tmp_path / "stage") as stage:
        assert "Cloud Run is off" in take(stage, project, "destroy", PROJECT=PROJECT, YES="1").output
        stage.project.services.add("run.googleapis.com")
        stage.faults.append((r"GET https://run\.googleapis\.com/", 403))
        step = take(stage, project, "destroy", PROJECT=PROJECT, YES="1")
        assert step.code == 0, step.errors
        assert "you may not list them, so look at https://console.cloud.google.com/run" in step.output


def test_others_who_use_vertex_ai_in_the_same_project_keep_its_accounts(
    project: BakedProject, tmp_path: Path
) -> None:
    """Without their roles no image would be pulled for anybody."""
    with google_setup(tmp_path / "stage") as stage:
        bindings = [{"role": role, "members": [member]} for role, member in sorted(AGENTS)]
        other = {"role": "roles/aiplatform.user", "members": ["serviceAccount:other@example.org"]}
        policy = {"version": 1, "etag": "BwAA", "bindings": [*bindings, other]}
        stage.project.policies["project", PROJECT] = policy
        step = take(stage, project, "destroy", PROJECT=PROJECT, YES="1")
        assert step.code == 0, step.errors
        assert step.roles["project", PROJECT] > AGENTS
        assert "the roles of Vertex AI's own accounts stay" in step.output


def endpoint(name: str, slug: str, *numbers: str) -> dict:
    """An endpoint of Vertex AI, where the first that is deployed has all requests and the others are kept."""
    path = f"projects/{NUMBER}/locations/us-central1"
    return {
        "name": f"{path}/endpoints/{name}",
        "labels": {"project": slug, "model": name},
        "deployedModels": [{"id": number, "model": f"{path}/models/{slug}-{name}"} for number in numbers],
        "trafficSplit": {numbers[0]: 100} if numbers else {},
    }


def test_destroy_ends_endpoints_and_then_their_models(project: BakedProject, tmp_path: Path) -> None:
    with google_setup(tmp_path / "stage") as stage:
        stage.project.services.add("aiplatform.googleapis.com")
        for name, slug, numbers in (
            ("ours", "cloud-training", ("1", "2")),
            ("empty", "cloud-training", ()),
            ("theirs", "other", ("3",)),
        ):
            stage.resources["endpoints", name] = endpoint(name, slug, *numbers)
            path = f"projects/{NUMBER}/locations/us-central1/models/{slug}-{name}"
            labels = {"project": slug, "model": name}
            stage.resources["models", f"{slug}-{name}"] = {"name": path, "labels": labels, "lateRelease": 2}
        step = take(stage, project, "destroy", PROJECT=PROJECT, YES="1")
        assert step.code == 0, step.errors
        assert stage.project.names("endpoints") == {"theirs"}
        assert stage.project.names("models") == {"other-theirs"}
