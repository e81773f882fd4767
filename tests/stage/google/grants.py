"""What an identity may do: Google's predefined roles, and roles of a project's own with their conditions."""

from collections.abc import Callable
from dataclasses import dataclass, field

JOBS = {
    f"aiplatform.{kind}.{verb}"
    for kind in ("customJobs", "hyperparameterTuningJobs")
    for verb in ("create", "get", "list", "cancel", "delete")
}
SEE_JOBS = {name for name in JOBS if name.endswith((".get", ".list"))}

# https://docs.cloud.google.com/iam/docs/roles-permissions/aiplatform; merging aliases changes a model, and nothing else is
# told of it. Whoever may not change policies may not see them either: .../vertex-ai/docs/general/endpoint-access-control
SEE_MODELS = {f"aiplatform.{kind}.{verb}" for kind in ("endpoints", "models") for verb in ("get", "list")}
SEE_MODELS |= {"aiplatform.operations.list", "aiplatform.locations.get"}
MODELS = {
    *SEE_MODELS,
    *(
        f"aiplatform.endpoints.{verb}"
        for verb in ("create", "delete", "deploy", "predict", "undeploy", "update")
    ),
    *(f"aiplatform.models.{verb}" for verb in ("delete", "update", "upload")),
}
POLICIES = {f"aiplatform.endpoints.{verb}IamPolicy" for verb in ("get", "set")}

# https://docs.cloud.google.com/iam/docs/roles-permissions/batch
SEE_BATCH = {
    f"batch.{kind}.{verb}"
    for kind in ("jobs", "locations", "operations", "tasks")
    for verb in ("get", "list")
}
BATCH = {*SEE_BATCH, "batch.jobs.create", "batch.jobs.delete"}

# What Google's predefined roles allow, as far as the stand-ins ask.
ROLES = {
    "roles/aiplatform.admin": {*JOBS, *MODELS, *POLICIES},
    "roles/aiplatform.user": {*JOBS, *MODELS},
    "roles/aiplatform.viewer": {*SEE_JOBS, *SEE_MODELS},
    "roles/batch.agentReporter": {"batch.states.report"},
    "roles/batch.jobsEditor": BATCH,
    "roles/batch.jobsViewer": SEE_BATCH,
    "roles/compute.viewer": {
        *(f"compute.instances.{verb}" for verb in ("get", "getSerialPortOutput", "list")),
        *(f"compute.{kind}.{verb}" for kind in ("regions", "zones") for verb in ("get", "list")),
        "compute.projects.get",
    },
    "roles/logging.viewer": {"logging.logEntries.list"},
    "roles/logging.logWriter": {"logging.logEntries.create"},
    "roles/secretmanager.viewer": {"secretmanager.secrets.get", "secretmanager.versions.get"},
    "roles/secretmanager.secretAccessor": {"secretmanager.versions.access"},
    "roles/serviceusage.serviceUsageViewer": {"serviceusage.quotas.get", "serviceusage.services.get"},
    "roles/serviceusage.serviceUsageConsumer": {
        *("serviceusage.quotas.get", "serviceusage.services.get", "serviceusage.services.use"),
    },
    "roles/iam.serviceAccountCreator": {"iam.serviceAccounts.create", "iam.serviceAccounts.get"},
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
    "roles/artifactregistry.reader": {"artifactregistry.repositories.downloadArtifacts"},
    "roles/artifactregistry.writer": {
        f"artifactregistry.repositories.{verb}Artifacts" for verb in ("download", "upload")
    },
    "roles/viewer": {
        *SEE_JOBS,
        *SEE_BATCH,
        *("logging.logEntries.list", "secretmanager.secrets.get", "secretmanager.versions.get"),
        *("serviceusage.quotas.get", "serviceusage.services.get"),
    },
}
ROLES["roles/owner"] = set().union(*ROLES.values())


@dataclass(frozen=True)
class Grant:
    """Permissions on the resources whose names `holds` says yes to."""

    permissions: frozenset[str]
    holds: Callable[[str], bool]


@dataclass
class Account:
    """One identity: a service account, or a person.

    Args:
        roles: granted in the project.
        granted: roles on one resource: name of a secret or e-mail of a service account -> roles.
        repository_id: GitHub repository whose workflows may impersonate it.
        grants: what roles of the project's own allow it.
    """

    email: str
    roles: set[str] = field(default_factory=set)
    granted: dict[str, set[str]] = field(default_factory=dict)
    repository_id: str | None = None
    grants: list[Grant] = field(default_factory=list)

    def allows(self, permission: str, resource: str = "") -> bool:
        """Whether it has a permission on a resource, whose name is, for a machine, zones/ZONE/instances/NAME."""
        roles = self.roles | self.granted.get(resource, set())
        if any(permission in ROLES.get(role, ()) for role in roles):
            return True
        return any(permission in grant.permissions and grant.holds(resource) for grant in self.grants)
