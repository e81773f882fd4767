"""What Vertex AI refuses in a request because of who sends it, to where, and what the region has."""

from collections.abc import MutableMapping
from typing import Any

from stage.google.identity import Identity
from stage.google.project import PROJECT, Project
from stage.google.vertex_rules import DOCKER_HUB, gpus
from stage.rest import Request, RequestError

Agents = MutableMapping[str, set[str]]

# GPUs -> regions of Vertex AI that do not have them, in November 2026:
# https://docs.cloud.google.com/vertex-ai/docs/general/locations#accelerators
A100 = ("asia-northeast1", "us-east1", "us-west1", "us-west4")
LACKING = {
    "NVIDIA_TESLA_T4": ("asia-east1", "europe-west1", "us-east4", "us-west4"),
    "NVIDIA_L4": (
        *("asia-east1", "asia-northeast1", "europe-west1", "europe-west2", "europe-west3"),
        "us-west4",
    ),
    "NVIDIA_TESLA_A100": A100,
    "NVIDIA_A100_80GB": A100,
    "NVIDIA_H100_80GB": ("asia-east1", "asia-south1", "europe-west1", "europe-west3", "us-west4"),
}

# The roles by which an account may pull from a repository of the project:
# https://docs.cloud.google.com/iam/docs/roles-permissions/aiplatform#aiplatform.customCodeServiceAgent and
# https://docs.cloud.google.com/artifact-registry/docs/access-control#roles
AGENT_ROLE = "roles/aiplatform.customCodeServiceAgent"
PULLS = {
    AGENT_ROLE,
    *(f"roles/artifactregistry.{role}" for role in ("reader", "writer", "repoAdmin", "admin")),
}


def check_place(identity: Identity, region: str, project: str, location: str) -> None:
    """Refuses what is not asked of this project, in the region of this endpoint."""
    if not identity.is_project(project):
        raise RequestError(403, f"Permission denied on resource project {project}.")
    if location != region:
        text = f"The location {location!r} is not that of the endpoint, {region!r}."
        raise RequestError(400, text, [("parent", text)])
    if "aiplatform.googleapis.com" in identity.disabled_services:
        text = f"Vertex AI API has not been used in project {project} before or it is disabled."
        raise RequestError(403, text)


def check_account(identity: Identity, request: Request, email: str) -> None:
    """Who submits a job needs to be allowed to act as the account that it runs as."""
    if not email:
        return
    allowed = identity.caller(request).allows("iam.serviceAccounts.actAs", email)
    if email not in identity.accounts or not allowed:
        text = f"You do not have permission to act as service account: {email} (or it may not exist)."
        raise RequestError(403, text)


def check_agent(identity: Identity, region: str, agents: Agents | None, spec: Any) -> None:
    """Refuses images of Artifact Registry while the service's own account, which pulls them, may not.

    It pulls, whatever account the job runs as:
    https://docs.cloud.google.com/vertex-ai/docs/general/custom-service-account#configure. The service makes its accounts,
    with their roles, when they are first used; those that were asked for beforehand (`gcloud beta services identity
    create` makes all of them) have no role until they are given one:
    https://docs.cloud.google.com/iam/docs/create-service-agents. That the first job is refused, as a failed precondition
    and in these words, and the same one taken when it is sent again, is what users report of new projects.

    Args:
        agents: e-mail -> roles; None where all is as it is in a project in which jobs have run.
    """
    images = [pool.container_spec.image_uri for pool in spec.worker_pool_specs]
    private = [image for image in images if not DOCKER_HUB.fullmatch(image)]
    if agents is None or not private:
        return
    email = f"service-{identity.number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
    may = bool(PULLS & agents.get(email, set()))
    agents.setdefault(email, {AGENT_ROLE})
    if not may:
        where = f"projects/{identity.project}/locations/{region}/repositories/{private[0].split('/')[-2]}"
        text = f"Vertex AI Service Agent {email} does not have permission to access Artifact Registry repository {where}."
        raise RequestError(400, text, status="FAILED_PRECONDITION")


def agents_of(project: Project) -> Agents:
    """The services' own accounts of a project that was set up, with their roles there: what `vertex` takes as `agents`."""
    bindings = project.roles("project", PROJECT)
    return {
        email: {role for role, member in bindings if member == f"serviceAccount:{email}"}
        for email in project.agents
    }


def check_machines(region: str, unsupported: set[str], spec: Any) -> None:
    """Refuses machines and GPUs that the region does not have; the words are not documented."""
    machines = {pool.machine_spec.machine_type for pool in spec.worker_pool_specs}
    wanted = set(gpus(spec))
    missing = sorted(unsupported & (wanted | machines)) or sorted(
        gpu for gpu in wanted if region in LACKING.get(gpu, ())
    )
    if missing:
        text = f"{missing[0]} is not supported in region {region}."
        raise RequestError(400, text, [("job_spec.worker_pool_specs[0].machine_spec", text)])
