"""What Azure ML refuses of online endpoints and deployments beyond what its description says (`ml_shapes.py`).

Pages that are named without an address are of learn.microsoft.com/azure/machine-learning. Where no text of a refusal is known
from anybody, the words are this file's own.
"""

import re
from typing import Any

from stage.azure.acr import DOMAIN
from stage.azure.arm import Arm
from stage.azure.arm_kinds import check_tags
from stage.azure.errors import AzureError
from stage.azure.identity_kinds import IDENTITIES
from stage.azure.ml_rules import absent, invalid
from stage.azure.ml_served import Endpoint
from stage.azure.ml_shapes import seconds
from stage.azure.ml_usages import FAMILIES, size_of
from stage.azure.other_kinds import REGISTRIES
from stage.azure.server import Call

# "Begin with a letter", "3-32 characters", "only letters and numbers"; "single dashes are accepted": how-to-manage-quotas.md.
NAME = re.compile(r"[a-zA-Z](?!.*--)[a-zA-Z0-9-]{1,30}[a-zA-Z0-9]")
MOST_DEPLOYMENTS, MOST_INSTANCES = 20, 50
LONGEST = 180  # seconds of a request
# reference-managed-online-endpoints-vm-sku-list.md, of the families that the stage knows
ONLINE = (
    "FSv2",
    "DSv2",
    "DASv4",
    "ESv3",
    "NCSv3",
    "NCASv3_T4",
    "NVADSA10v5",
    "NCADSA100v4",
    "NCadsH100v5",
    "NDASv4_A100",
    "NDAMSv4_A100",
    "NDSH100v5",
)
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"


def check_name(name: str) -> None:
    """Refuses a name that no endpoint may have."""
    if not NAME.fullmatch(name):
        raise invalid(
            f"Endpoint name {name} is invalid: 3 to 32 letters, digits and single dashes, a letter first."
        )


def check_deployment_name(name: str) -> None:
    """Refuses a name that no deployment may have."""
    if not NAME.fullmatch(name):
        raise invalid(
            f"Deployment name {name} is invalid: 3 to 32 letters, digits and single dashes, a letter first."
        )


def check_endpoint(arm: Arm, body: dict[str, Any], region: str, found: Endpoint | None) -> None:
    """Refuses an endpoint that cannot be, or become so."""
    given = body["properties"]
    if body["location"].replace(" ", "").lower() != region:
        raise invalid(f"The endpoint's location must be its workspace's, {region}.")
    check_tags(body.get("tags") or {})
    if given["authMode"] != "AADToken":
        raise absent("keys and tokens of Azure ML's own")
    if given.get("mirrorTraffic") or given.get("compute"):
        raise absent("mirrored traffic, and endpoints of Kubernetes")
    identity = body.get("identity")
    if not identity or identity["type"] != "UserAssigned" or len(identity["userAssignedIdentities"]) != 1:
        raise absent("endpoints with another identity than one that is user-assigned")
    if found is None:
        return
    before = found.given
    # "You can't change the identity after the endpoint is created": how-to-access-resources-from-endpoints-managed-identities.md.
    if {one.lower() for one in identity["userAssignedIdentities"]} != {
        one.lower() for one in before["identity"]["userAssignedIdentities"]
    }:
        raise invalid("The identity of an endpoint cannot be changed.")
    if given["authMode"] != before["properties"]["authMode"]:
        raise absent("another authMode for an endpoint that is there")
    # "Properties can be added, but not removed or altered": the description.
    own, now = before["properties"].get("properties") or {}, given.get("properties") or {}
    if any(now.get(key) != value for key, value in own.items()):
        raise invalid("Properties of an endpoint can be added, but not removed or altered.")


def may_assign(arm: Arm, call: Call, body: dict[str, Any], id: str) -> None:
    """Who gives an endpoint an identity needs a right at that, as whoever gives it to a workspace (`workspace_kind.py`)."""
    action = f"{IDENTITIES}/assign/action"
    for path in body["identity"]["userAssignedIdentities"]:
        arm.get(path)
        if call.principal and not arm.roles.allows(call.principal, action, path):
            text = (
                f"The client '{call.principal.client_id}' has permission to perform an action on scope '{id}'; however, it does "
                f"not have permission to perform action(s) '{action}' on the linked scope(s) '{path}' (respectively)."
            )
            raise AzureError(403, "LinkedAuthorizationFailed", text)


def check_traffic(traffic: dict[str, int], found: Endpoint | None) -> None:
    """Refuses parts that are not all or nothing, or go to what does not answer.

    "Traffic values need to sum to 100": the description; that 0 is right too, for an endpoint that gets none: .../how-to-safely-
    rollout-online-endpoints.md.
    """
    known = found.deployments if found else {}
    for name in traffic:
        one = known.get(name.lower())
        if one is None:
            raise invalid(f"Deployment {name} not found in endpoint {found.name if found else ''}")
        if one.state != "Succeeded":
            raise invalid(f"Deployment {name} is {one.state}: no traffic can be sent to it.")
    if any(not 0 <= part <= 100 for part in traffic.values()) or sum(traffic.values()) not in (0, 100):
        raise invalid(f"Traffic values must sum to 0 or 100, not {sum(traffic.values())}.")


def check_deployment(
    body: dict[str, Any], endpoint: Endpoint, environment: dict[str, Any] | None, name: str
) -> None:
    """Refuses a deployment that could never come up."""
    given = body["properties"]
    if body["location"].replace(" ", "").lower() != endpoint.region:
        raise invalid(f"The deployment's location must be its endpoint's, {endpoint.region}.")
    check_tags(body.get("tags") or {})
    if given["endpointComputeType"] != "Managed":
        raise absent(given["endpointComputeType"])
    if given.get("model") or given.get("codeConfiguration") or given.get("dataCollector"):
        raise absent("models and code that are mounted, and collected data")
    if environment is None:
        raise invalid(f"Environment {given.get('environmentId')} not found.", 404)
    # "Inference config is required if you want to run your own container": how-to-deploy-custom-container.md.
    config = environment["properties"].get("inferenceConfig") or {}
    if any(not config.get(f"{one}Route") for one in ("liveness", "readiness", "scoring")):
        raise invalid("The environment needs an inferenceConfig with liveness, readiness and scoring routes.")
    size = size_of(given.get("instanceType") or "Standard_F4s_v2")
    if size.family not in {one for one in FAMILIES if one in ONLINE}:
        raise invalid(f"Instance type {size.name} is not supported for managed online deployments.")
    sku = body.get("sku") or {}
    if sku.get("name") != "Default" or not 1 <= int(sku.get("capacity") or 0) <= MOST_INSTANCES:
        raise invalid(f"sku must be Default with a capacity from 1 to {MOST_INSTANCES}.")
    others = [key for key in endpoint.deployments if key != name.lower()]
    if len(others) >= MOST_DEPLOYMENTS:
        raise invalid(f"An endpoint has {MOST_DEPLOYMENTS} deployments at most.")
    _check_settings(given)


def _check_settings(given: dict[str, Any]) -> None:
    """reference-yaml-deployment-managed-online.md"""
    settings = given.get("requestSettings") or {}
    if seconds(settings.get("requestTimeout") or "PT5S") > LONGEST:
        raise invalid(f"requestTimeout must be {LONGEST} seconds at most.")
    if settings.get("maxConcurrentRequestsPerInstance", 1) < 1:
        raise invalid("maxConcurrentRequestsPerInstance must be at least 1.")
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = given.get(kind) or {}
        for each in ("initialDelay", "timeout"):
            if seconds(probe.get(each) or "PT1S") < 1:
                raise invalid(f"{kind}.{each} must be at least a second.")
        if probe.get("failureThreshold", 1) < 1 or probe.get("successThreshold", 1) < 1:
            raise invalid(f"{kind}: thresholds are at least 1.")
        if kind == "livenessProbe" and probe.get("successThreshold", 1) != 1:
            raise invalid("The success threshold of a liveness probe is fixed as 1.")
    if given.get("egressPublicNetworkAccess") == "Disabled":
        raise absent("private outbound traffic, which a registry of the tier Basic cannot have")


def obstacle(arm: Arm, endpoint: Endpoint, image: str) -> str:
    """Why the endpoint's identity cannot fetch an image and start; "" where it can.

    "the user's managed identity must have Storage blob data reader permission on the workspace storage account and AcrPull
    permission on the workspace container registry": how-to-troubleshoot-online-endpoints.md.
    """
    (path,) = endpoint.given["identity"]["userAssignedIdentities"]
    who = arm.people.by_object(arm.get(path).properties["principalId"])
    assert who
    host, _, _ = image.partition("/")
    known = [one for one in arm.resources.values() if one.kind.type == REGISTRIES]
    registry = next((one for one in known if f"{one.name.lower()}{DOMAIN}" == host), None)
    pull = f"{REGISTRIES}/pull/read"
    if registry is None or not arm.roles.allows(who, pull, registry.id):
        return f"Unable to download user container image {image}: the endpoint's identity has no AcrPull at {host}."
    workspace = "/".join(endpoint.id.split("/")[:9])
    storage = arm.get(workspace).properties["storageAccount"]
    if not arm.roles.allows(who, BLOBS, storage, data=True):
        return "Startup task failed due to authorization error: the identity has no Storage Blob Data Reader at the storage."
    return ""
