"""What Vertex AI refuses in models and endpoints, as its types document it.

google-cloud-aiplatform's aiplatform_v1 (Model, UploadModelRequest, Endpoint, DeployModelRequest and others), whose comments
are those of https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1; what the types do not know is refused.
"""

import re
from functools import cache
from typing import Any

from google.protobuf import json_format

from stage.google.identity import Identity
from stage.google.vertex_checks import Agents
from stage.google.vertex_rules import ARTIFACT_REGISTRY
from stage.rest import RequestError

MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")  # UploadModelRequest.model_id
# CreateEndpointRequest.endpoint_id
ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
DEPLOYED_ID = re.compile(r"[0-9]{1,10}")  # DeployedModel.id
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")  # Model.version_aliases
# Model.labels says 64; of other services' labels it is 63, so that is the worse thing:
# https://docs.cloud.google.com/compute/docs/labeling-resources
LABEL = re.compile(r"[-_a-z0-9]{0,63}")
KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
# https://docs.cloud.google.com/vertex-ai/docs/predictions/configure-compute: those without a GPU, as far as anybody wants
CPUS = {f"{kind}-{size}": size for kind in ("e2-standard", "n1-standard") for size in (2, 4, 8, 16, 32)}
METRIC = "aiplatform.googleapis.com/custom_model_serving_cpus"
# By https://docs.cloud.google.com/iam/docs/roles-permissions/aiplatform#aiplatform.serviceAgent
PULLS = {"roles/aiplatform.serviceAgent", "roles/artifactregistry.reader"}


@cache
def _types() -> Any:
    from google.cloud.aiplatform_v1 import types  # takes seconds to import

    return types


def refuse(condition: Any, field: str, text: str) -> None:
    """Refuses a request in which a field is wrong; without a field, one that comes at the wrong moment."""
    if not condition:
        status = None if field else "FAILED_PRECONDITION"
        raise RequestError(
            400, f"{field}: {text}" if field else text, [(field, text)] if field else [], status
        )


def parse(body: bytes, kind: str) -> Any:
    """Reads a message of a kind as protobuf; refuses what its schema does not know."""
    message = getattr(_types(), kind)
    try:
        return json_format.Parse(body or b"{}", message.pb(message()), ignore_unknown_fields=False)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise RequestError(400, f"Invalid JSON payload received. {error}", [("", str(error))]) from error


def check_labels(labels: Any) -> None:
    for key, value in labels.items():
        refuse(KEY.fullmatch(key) and LABEL.fullmatch(value), "labels", f"{key}={value} is no label")


def check_model(model: Any) -> None:
    refuse(0 < len(model.display_name) <= 128, "model.display_name", "1 to 128 characters are required")
    refuse(not model.name, "model.name", "it is given by the service")
    check_labels(model.labels)
    for alias in model.version_aliases:
        refuse(ALIAS.fullmatch(alias), "model.version_aliases", f"{alias} is no alias")
    container = model.container_spec
    known = ARTIFACT_REGISTRY.fullmatch(container.image_uri)
    refuse(known, "model.container_spec.image_uri", "an image in Artifact Registry is required")
    refuse(len(container.ports) <= 1, "model.container_spec.ports", "only the first is used")
    for route in (container.health_route, container.predict_route):
        # ModelContainerSpec: the default has the endpoint in it, which no server of ours knows; it begins with a slash
        refuse(not route or route.startswith("/"), "model.container_spec", f"{route} is no route")
    prefix = container.invoke_route_prefix
    refuse(not (prefix and container.predict_route), "model.container_spec", "one of the routes only")
    refuse(
        container.deployment_timeout.seconds <= 7200,
        "model.container_spec.deployment_timeout",
        "2 hours at most",
    )


def check_puller(identity: Identity, region: str, agents: Agents | None, image: str) -> None:
    """Refuses an image that the service's own account may not pull: it is pulled at the upload, and never again.

    https://docs.cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements#publishing
    """
    email = f"service-{identity.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    if agents is not None and not PULLS & agents.get(email, set()):
        text = f"Vertex AI Service Agent {email} should be granted access to the image {image}"
        raise RequestError(400, text, status="FAILED_PRECONDITION")


def check_endpoint(endpoint: Any) -> None:
    refuse(0 < len(endpoint.display_name) <= 128, "endpoint.display_name", "1 to 128 characters are required")
    refuse(not endpoint.deployed_models, "endpoint.deployed_models", "it is output only")
    # https://github.com/GoogleCloudPlatform/magic-modules/pull/12110
    refuse(not endpoint.traffic_split, "endpoint.traffic_split", "nothing is deployed yet")
    check_labels(endpoint.labels)
    # https://docs.cloud.google.com/vertex-ai/docs/predictions/using-dedicated-endpoints
    seconds = endpoint.client_connection_config.inference_timeout.seconds
    refuse(seconds <= 3600, "endpoint.client_connection_config.inference_timeout", "an hour at most")


def check_deployed(deployed: Any, taken: set[str]) -> None:
    refuse(DEPLOYED_ID.fullmatch(deployed.id), "deployed_model.id", "1 to 10 digits")
    refuse(deployed.id not in taken, "deployed_model.id", "it is there already")
    kind = deployed.WhichOneof("prediction_resources")
    refuse(kind == "dedicated_resources", "deployed_model", "a custom container needs dedicated resources")
    resources = deployed.dedicated_resources
    machine, least, most = (
        resources.machine_spec.machine_type,
        resources.min_replica_count,
        resources.max_replica_count,
    )
    refuse(machine in CPUS, "deployed_model.dedicated_resources.machine_spec", f"no machine {machine!r}")
    refuse(least >= 1, "deployed_model.dedicated_resources.min_replica_count", "1 or more")
    refuse(
        not most or most >= least, "deployed_model.dedicated_resources.max_replica_count", "below the least"
    )


def check_split(split: Any, known: set[str]) -> None:
    """Endpoint.traffic_split: it adds up to 100 or is empty, and is of what is deployed."""
    total = sum(split.values())
    refuse(not split or total == 100, "traffic_split", f"it adds up to {total}, not to 100")
    refuse(all(0 <= one <= 100 for one in split.values()), "traffic_split", "percents are required")
    strange = sorted(set(split) - known)
    refuse(not strange, "traffic_split", f"{strange} are no DeployedModels of the Endpoint")


def cpus(deployed: Any) -> int:
    """How much of the quota something takes: all machines that it may ever have.

    DedicatedResources.max_replica_count
    """
    resources = deployed.dedicated_resources
    count = resources.max_replica_count or resources.min_replica_count
    return CPUS[resources.machine_spec.machine_type] * count
