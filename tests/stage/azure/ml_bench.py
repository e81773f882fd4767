"""What tests of the stand-ins for Azure ML share: a workspace, who may ask, and requests."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.world import World

API = "2025-12-01"
SIZE, GPU = "Standard_F8s_v2", "Standard_NC4as_T4_v3"
DIGEST = "sha256:" + "5" * 64
JOB: dict[str, Any] = {
    "jobType": "Command",
    "displayName": "r1",
    "experimentName": "demo",
    "command": "python -m demo",
    "environmentVariables": {"RUN_ID": "r1"},
    "identity": {"identityType": "Managed"},
    "limits": {"jobLimitsType": "Command", "timeout": "PT2H"},
    "resources": {"instanceType": SIZE, "instanceCount": 1, "shmSize": "8g"},
    "queueSettings": {"jobTier": "Spot"},
    "tags": {"project": "demo", "run": "r1"},
}
SWEEP: dict[str, Any] = {
    "jobType": "Sweep",
    "experimentName": "demo",
    "identity": {"identityType": "Managed"},
    "resources": {"instanceType": SIZE},
    "objective": {"goal": "Maximize", "primaryMetric": "val/accuracy"},
    "samplingAlgorithm": {"samplingAlgorithmType": "Random", "seed": 1},
    "searchSpace": {"lr": ["loguniform", [-6, -1]], "name": ["choice", [["adam", "sgd"]]]},
    "trial": {
        "command": "train lr=${{search_space.lr}} name=${{search_space.name}}",
        "resources": {"instanceType": SIZE},
    },
    "limits": {
        "jobLimitsType": "Sweep",
        "maxTotalTrials": 4,
        "maxConcurrentTrials": 2,
        "trialTimeout": "PT1H",
        "timeout": "PT8H",
    },
    "queueSettings": {"jobTier": "Spot"},
    "tags": {"run": "s1"},
}


@dataclass
class Bench:
    """A workspace with an environment, and a principal who may submit.

    Args:
        workspace: ARM id.
        environment: ARM id of a version.
        trainer: the identity that jobs have.
        who: who asks, where a test names nobody else.
    """

    world: World
    workspace: str
    environment: str
    trainer: Principal
    who: Principal

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        who: Principal | None = None,
        audience: str = "https://management.azure.com",
        query: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Sends one request; a path is below the workspace, unless it is a whole address or begins with /."""
        base = "https://management.azure.com"
        url = (
            path
            if path.startswith("https:")
            else base + (path if path[0] == "/" else f"{self.workspace}/{path}")
        )
        own = {} if "api-version=" in url or not url.startswith(base) else {"api-version": API}
        query = own | dict(query or {})
        token = self.world.token(who or self.who, audience)
        return requests.request(
            method,
            url,
            params=query,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            proxies={"https": self.world.url},
            verify=str(self.world.certificates),
            timeout=60,
        )

    def get(self, path: str, **how: Any) -> Any:
        """The JSON of a GET; raises AzureError where it is refused."""
        return said(self.ask("GET", path, **how))

    def body(self, **changes: Any) -> dict[str, Any]:
        """A request for a job, with changes of its properties; None takes one away."""
        given = copy.deepcopy(JOB) | {"environmentId": self.environment} | changes
        given["identity"] = changes.get(
            "identity", {"identityType": "Managed", "clientId": self.trainer.client_id}
        )
        return {"properties": {key: value for key, value in given.items() if value is not None}}

    def sweep_body(self, **changes: Any) -> dict[str, Any]:
        """A request for a sweep; changes of its trial are under that name."""
        given = copy.deepcopy(SWEEP) | {key: value for key, value in changes.items() if key != "trial"}
        given["trial"] |= {"environmentId": self.environment} | changes.get("trial", {})
        return {"properties": {key: value for key, value in given.items() if value is not None}}

    def submit(self, name: str, body: Any = None, **changes: Any) -> Any:
        """Submits a job; gives the answer, or raises what was said."""
        return said(self.ask("PUT", f"jobs/{name}", body or self.body(**changes)))

    def started(self, name: str, **changes: Any) -> str:
        """Submits a job and has it run; gives the name."""
        self.submit(name, **changes)
        self.world.ml.start(name)
        return name

    def status(self, name: str) -> str:
        return self.get(f"jobs/{name}")["properties"]["status"]

    def refused(self, name: str, body: Any) -> str:
        """What is said to a job that is refused; "" where it is taken."""
        answer = self.ask("PUT", f"jobs/{name}", body)
        return "" if answer.ok else answer.text

    def history(self, name: str, what: str = "/details", **how: Any) -> Any:
        """What run history says of a job."""
        host = f"https://{self.world.region}.api.azureml.ms"
        return self.get(f"{host}/history/v1.0{self.workspace}/runs/{name}{what}", **how)

    def log(self, name: str, key: str, value: float, **how: Any) -> requests.Response:
        """Logs a metric of a run."""
        host = f"https://{self.world.region}.api.azureml.ms"
        url = f"{host}/mlflow/v1.0{self.workspace}/api/2.0/mlflow/runs/log-metric"
        body = {"run_id": name, "key": key, "value": value, "timestamp": 1, "step": 1}
        return self.ask("POST", url, body, **how)


def said(answer: requests.Response) -> Any:
    """The JSON of an answer; raises AzureError where it is a refusal."""
    found = answer.json() if answer.content else {}
    if not answer.ok:
        error = found.get("error") or {}
        raise AzureError(answer.status_code, error.get("code", ""), error.get("message", answer.text))
    return found


def bench(world: World, image: str = "") -> Bench:
    """Lays out a workspace, an identity that may pull, an environment, and one who may submit."""
    workspace = world.make.workspace()
    registry = f"{workspace.partition('/providers/')[0]}/providers/Microsoft.ContainerRegistry/registries/demostoreimages"
    world.make.role("demo-trainer", "AcrPull", registry)
    world.make.role("demo-trainer", "AzureML Data Scientist", workspace)
    launcher = world.make.principal("demo-launcher", ("AzureML Data Scientist", workspace))
    world.make.role(launcher, "Reader", f"/subscriptions/{world.subscription}")
    environment = f"{workspace}/environments/demo/versions/1"
    made = Bench(world, workspace, environment, world.people.named("demo-trainer"), launcher)
    image = image or f"demostoreimages.azurecr.io/demo/train@{DIGEST}"
    said(made.ask("PUT", "environments/demo/versions/1", {"properties": {"image": image, "osType": "Linux"}}))
    return made
