"""The machines of Azure ML as a job's container sees them: its environment, its identity, its folder, its image.

Names of variables: azureml-core (AZUREML_*), azureml-mlflow (MLFLOW_*), how-to-identity-based-service-authentication
(MSI_*, DEFAULT_IDENTITY_CLIENT_ID), how-to-train-distributed-gpu (MASTER_ADDR ...).
"""

import re
import secrets
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stage import containers, rest
from stage.azure.acr import DOMAIN
from stage.azure.entra import RESOURCES
from stage.azure.imds import Metadata
from stage.azure.ml_jobs import Job
from stage.azure.ml_listing import tracking
from stage.azure.node import Network
from stage.azure.other_kinds import REGISTRIES
from stage.azure.people import Principal
from stage.containers import Container
from stage.rest import Answer, Request

if TYPE_CHECKING:
    from stage.azure.runner import Runner
    from stage.azure.world import World

IMDS = "169.254.169.254:80"
MSI = "127.0.0.1:46808"
LIFETIME = 86400  # seconds that a token of the endpoint is good for
BUNDLE = "/etc/stage/certificates.pem"
SHM = "2g"  # the default of shm_size: reference-yaml-job-command
MASTER_PORT = 6105
# The words of https://github.com/Azure/azureml-examples/issues/3463.
UNPULLED = (
    "Failed to pull Docker image {}. This error may occur because the compute could not authenticate with the Docker registry"
    " to pull the image. If using ACR please ensure the ACR has Admin user enabled or a Managed Identity with `AcrPull` access"
    " to the ACR is assigned to the compute. If the ACR Admin user's password was changed recently it may be necessary to"
    " synchronize the workspace keys."
)


def principal_of(world: "World", job: Job) -> Principal | None:
    """The identity that a job's containers have."""
    found = world.ml.identity(job)
    return (
        world.people.by_object(world.arm.resources[found.lower()].properties["principalId"])
        if found
        else None
    )


def may_pull(world: "World", job: Job) -> str:
    """Why the image of a job cannot be fetched; "" where it can.

    That the job's own identity is what counts on serverless compute is believed only; there are people to whom it seemed that
    none does (https://github.com/Azure/azureml-examples/issues/3463).
    """
    image = world.ml.environments.image(job.given["environmentId"])
    host, _, _ = image.partition("/")
    if not host.endswith(DOMAIN):
        return UNPULLED.format(image)
    known = [one for one in world.arm.resources.values() if one.kind.type == REGISTRIES]
    registry = next((one for one in known if f"{one.name.lower()}{DOMAIN}" == host), None)
    who = principal_of(world, job)
    right = f"{REGISTRIES}/pull/read"
    if registry is None or who is None or not world.roles.allows(who, right, registry.id):
        return UNPULLED.format(image)
    return ""


class Identity:
    """The endpoint in a container that gives tokens of its job's identity, and of no other.

    Protocol: msal's managed_identity.py, which had it from azure-identity: no documentation of it is known.

    Args:
        told: whether the service says which identity that is. Documented for clusters only: how-to-identity-based-service-
            authentication. In a serverless job people had to name it themselves, as of
            https://github.com/Azure/azure-sdk-for-python/issues/31071.
    """

    def __init__(self, world: "World", principal: Principal | None, told: bool) -> None:
        self._world, self._principal, self.secret = world, principal, secrets.token_hex(16)
        self._told = told

    @property
    def environment(self) -> dict[str, str]:
        if self._principal is None:
            return {}
        found = {"MSI_ENDPOINT": f"http://{MSI}/MSI/auth", "MSI_SECRET": self.secret}
        # What it holds otherwise: https://github.com/Azure/azure-sdk-for-python/pull/36047.
        return found | {"DEFAULT_IDENTITY_CLIENT_ID": self._principal.client_id if self._told else "clientid"}

    def __call__(self, request: Request) -> Answer:
        query = {name: values[-1] for name, values in request.query.items()}
        if self._principal is None or request.headers.get("secret") != self.secret:
            return Answer({"error": {"code": "Unauthorized", "message": "The secret is not valid."}}, 401)
        # There is no system-assigned identity that could be meant where none is named.
        if query.get("clientid") != self._principal.client_id or query.get("api-version") != "2017-09-01":
            return Answer({"error": {"code": "UserError", "message": "Identity not found."}}, 400)
        resource = query.get("resource", "")
        if resource.rstrip("/") not in RESOURCES:
            return Answer({"error": {"code": "UserError", "message": f"Unknown resource {resource!r}."}}, 400)
        token = self._world.people.token(self._principal, resource, LIFETIME)
        said = {"access_token": token, "expires_on": str(int(time.time()) + LIFETIME), "resource": resource}
        return Answer(said | {"token_type": "Bearer", "client_id": self._principal.client_id})


class Machine:
    """What a job's machines can reach: the stage's proxy, their metadata, their identity."""

    def __init__(self, runner: "Runner", job: Job) -> None:
        world = runner.world
        self.identity = Identity(world, principal_of(world, job), "computeId" in job.given)
        self.metadata = Metadata(f"{job.name}-{job.attempts}", job.size.name, job.region)
        self._servers = ExitStack()
        serve = self._servers.enter_context
        leads = {IMDS: serve(rest.serve(self.metadata)), MSI: serve(rest.serve(self.identity))}
        self.network = Network(runner.stage, leads | {world.url.removeprefix("http://"): world.url})

    def close(self) -> None:
        self.network.close()
        self._servers.close()


def environment(runner: "Runner", job: Job, machine: Machine) -> dict[str, str]:
    """The variables of a job's containers that are the same on all nodes.

    The service's win over the job's own: https://github.com/Azure/azure-sdk-for-python/issues/38813. That MLflow's address
    ends with a question mark: https://github.com/mlflow/mlflow/issues/7806.
    """
    world = runner.world
    parts = job.workspace.split("/")
    experiment = job.given.get("experimentName") or "Default"
    service, token = f"https://{job.region}.api.azureml.ms", world.history.run_token(job)
    workspace = world.arm.get(job.workspace).properties["workspaceId"]
    found = dict(job.given.get("environmentVariables") or {})
    found |= {
        "AZUREML_RUN_ID": job.name,
        "AZUREML_ROOT_RUN_ID": job.parent or job.name,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(time.time()) + 30 * 86400),
        "AZUREML_ARM_SUBSCRIPTION": parts[2],
        "AZUREML_ARM_RESOURCEGROUP": parts[4],
        "AZUREML_ARM_WORKSPACE_NAME": parts[8],
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_EXPERIMENT_SCOPE": f"{job.workspace}/experiments/{experiment}",
        "AZUREML_WORKSPACE_SCOPE": job.workspace,
        "AZUREML_WORKSPACE_ID": workspace,
        "AZUREML_SERVICE_ENDPOINT": service,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{service}/discovery",
        "AZ_BATCHAI_CLUSTER_NAME": "serverless",
        "AZ_BATCHAI_JOB_NAME": job.name,
        "MLFLOW_TRACKING_URI": f"azureml://{tracking(job)}?",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": job.name,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_EXPERIMENT_ID": experiment,
    }
    shared = world.at(None) | dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), BUNDLE)
    shared.pop("AZURE_CONFIG_DIR")
    return found | machine.identity.environment | shared | runner.platform


def ranks(job: Job, node: int) -> dict[str, str]:
    """What PyTorch needs to know on a node: a job that says nothing of its distribution is told nothing."""
    if not job.given.get("distribution"):
        return {}
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(MASTER_PORT), "NODE_RANK": str(node)}
    return found | {"WORLD_SIZE": str(job.machines), "RANK": str(node), "LOCAL_RANK": "0"}


def start(runner: "Runner", job: Job, machine: Machine) -> list[tuple[str, Container]]:
    """Starts the containers of a job; gives each by the name of its file in the run's log.

    The command goes to bash as it is, in a folder of the service's own: the image's entry point and working directory are
    not used. Whose process it is is not documented: `Runner.user`.
    """
    image = runner.pull(runner.world.ml.environments.image(job.given["environmentId"]))
    shared, started = environment(runner, job, machine), []
    # Without a distribution the command runs on the first node only, and the others are paid for nothing.
    nodes = job.machines if job.given.get("distribution") else 1
    machine.network.ready()
    for node in range(nodes):
        folder = runner.folder / f"{job.name}-{job.attempts}-{node}"
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        where = f"/mnt/azureml/cr/j/{secrets.token_hex(16)}/exe/wd"
        size = ((job.given.get("resources") or {}).get("shmSize") or SHM).lower()
        options = [
            "--volume",
            f"{folder}:{where}",
            "--workdir",
            where,
            "--shm-size",
            size,
            "--user",
            runner.user,
        ]
        options += ["--volume", f"{runner.world.certificates}:{BUNDLE}:ro"]
        file = "std_log.txt" if nodes == 1 else f"std_log_process_{node}.txt"
        container = Container(
            image,
            runner.stage,
            shared | ranks(job, node),
            [job.given["command"]],
            ["bash", "-c"],
            options=options,
            network=machine.network.name,
        )
        started.append((f"user_logs/{file}", container))
    return started


def pulled(image: str, registry: str) -> str:
    """Fetches an image of ACR from the registry of this machine; gives the name that the engine knows it by."""
    name = re.sub(rf"^[a-z0-9]+{re.escape(DOMAIN)}/", f"{registry}/", image)
    if problem := containers.pull(name):
        raise LookupError(problem)
    return name
