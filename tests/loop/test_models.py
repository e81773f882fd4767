"""From a trained run to an answer by HTTP, a better version, and back: the registry, its workflow, and Cloud Run.

The tests follow each other. The containers that answer are those of the images that the workflow has pushed.
"""

import base64
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from stage import containers
from stage.github.hub import WorkflowRun
from stage.google.vertex import SUCCEEDED
from stage.registry import manifest
from stage.scene import Stage

SERVICE = "cloud-training-digits"
# What docs/models.md says that the workflow's login needs besides, where SERVE_TO is set.
DEPLOYS = {"roles/run.admin", "roles/iam.serviceAccountUser", "roles/iam.serviceAccountCreator"}


@pytest.fixture(scope="module")
def deploying(stage: Stage) -> Iterator[Stage]:
    """The stage, whose workflow may deploy and is told where."""
    may = set(stage.launcher.roles)
    stage.launcher.roles |= DEPLOYS
    stage.github.variables["SERVE_TO"] = "cloudrun max=1 max_usd=200"
    yield stage
    del stage.github.variables["SERVE_TO"]
    stage.launcher.roles.intersection_update(may)


@pytest.fixture(scope="module")
def weak(stage: Stage, pushed: WorkflowRun) -> str:
    """A run that has learned little."""
    job = stage.start("weak", "trainer.max_epochs=1", "optimizer.lr=0.00001")
    stage.vertex.wait(job, {SUCCEEDED}, timeout=200)
    return "weak"


def registered(stage: Stage, run: str) -> str:
    """Registers a run in the bucket, as a person on a laptop; gives its version."""
    said = stage.run("models", "register", f"run={run}", "name=digits", "to=bucket").stdout
    (found,) = re.findall(r"^(digits@v\d+) is registered in ", said, re.MULTILINE)
    return found


def promoted(stage: Stage, model: str, **inputs: str) -> WorkflowRun:
    return stage.github.dispatch("serve.yml", inputs={"model": model, **inputs})


def ask(stage: Stage, path: str, body: Any = None, who: str = "") -> tuple[int, Any]:
    """Asks the service as an account with its identity token."""
    url = stage.services.url
    claims = {"email": who or stage.launcher.email, "aud": f"{url}/at/{SERVICE}/main"}
    word = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()
    headers = {"Authorization": f"Bearer {word}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(f"{url}/at/{SERVICE}/main{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        return error.code, None


def digits(stage: Stage) -> tuple[list[Any], list[int]]:
    """Test images of the project, and which digits they are."""
    script = (
        "import json; from sklearn.datasets import load_digits; d = load_digits(); "
        "print(json.dumps([d.images[:40].astype(int).reshape(-1, 1, 8, 8).tolist(), d.target[:40].tolist()]))"
    )
    return tuple(json.loads(stage.run("python", "-c", script).stdout))


def right(stage: Stage) -> tuple[str, float]:
    """Which version answers, and how many of the digits it knows."""
    images, wanted = digits(stage)
    status, found = ask(stage, "/predict", {"instances": images})
    assert status == 200, found
    told = [int(one["class"]) for one in found["predictions"]]
    return found["registry_version"], sum(a == b for a, b in zip(told, wanted, strict=True)) / len(wanted)


def test_a_promotion_builds_pushes_and_deploys_the_first_version(deploying: Stage, weak: str) -> None:
    assert registered(deploying, weak) == "digits@v1"
    run = promoted(deploying, "digits@v1")
    assert run.succeeded, run.log[-8000:]
    digest, _ = manifest(
        deploying.registry, deploying.image.partition("/")[2].replace("/train", "/serve"), "digits-v1"
    )
    assert f"/serve@{digest}" in run.summary
    assert "digits@champion is digits@v1 now" in run.summary
    template = deploying.services.services[SERVICE].message.template
    assert template.containers[0].image.endswith(f"/serve@{digest}")
    version, accuracy = right(deploying)
    assert version == "digits@v1"
    assert accuracy < 0.9


def test_nobody_else_may_ask(deploying: Stage) -> None:
    assert deploying.services.invokers(SERVICE) == []
    assert ask(deploying, "/health", who=deploying.trainer.email)[0] == 403


def test_a_better_one_takes_its_place(deploying: Stage, pushed: WorkflowRun) -> None:
    assert registered(deploying, pushed.table["run"]) == "digits@v2"
    run = promoted(deploying, "digits@v2")
    assert run.succeeded, run.log[-8000:]
    version, accuracy = right(deploying)
    assert version == "digits@v2"
    assert accuracy > 0.95


def test_a_worse_one_is_refused_with_both_numbers_and_answers_nowhere(deploying: Stage) -> None:
    run = promoted(deploying, "digits@v1")
    assert run.jobs["image"] == "success"
    assert run.jobs["promote"] == "failure"
    assert re.search(r"test/loss \d\.\d+, and 0\.\d+ before", run.summary)
    assert right(deploying)[0] == "digits@v2"


def test_a_rollback_brings_the_one_before_back_and_the_history_says_so(deploying: Stage) -> None:
    deploying.run("models", "rollback", "digits", "to=cloudrun")
    assert right(deploying)[0] == "digits@v1"
    deploying.run("models", "rollback", "digits@champion")
    assert "digits@champion" not in deploying.run("models", "show", "bucket:digits@v2").stderr
    listed = deploying.run("models", "list", "digits").stdout.splitlines()
    (leads,) = [line for line in listed if "champion" in line]
    assert leads.startswith("digits@v1")


def test_from_the_laptop_it_is_deployed_again_and_undeployed_without_a_trace(deploying: Stage) -> None:
    deploying.run(
        *("models", "deploy", "bucket:digits@v2", "to=cloudrun", "max=1", "max_usd=200"),
        PATH=containers.path(),
    )
    assert right(deploying)[0] == "digits@v2"
    assert "digits@v2" in deploying.run("models", "deployments").stdout
    assert "is removed from cloudrun" in deploying.run("models", "undeploy", "digits", "to=cloudrun").stdout
    assert deploying.services.services == {}
    assert not [name for name in deploying.bucket.objects("models/") if ".deployed" in name]
    deploying.served.close()
    assert containers.ids(deploying.served.stage) == []
