"""The other resources of a project: registries, and what a workspace logs to."""

import uuid
from typing import Any

from stage.azure.arm_kinds import Kind, Resource, Writing
from stage.azure.errors import AzureError
from stage.azure.shapes import ANY

REGISTRIES = "Microsoft.ContainerRegistry/registries"
REGISTRY = {
    "adminUserEnabled": bool,
    "anonymousPullEnabled": bool,
    "dataEndpointEnabled": bool,
    "encryption": dict,
    "networkRuleBypassOptions": ("AzureServices", "None"),
    "networkRuleSet": dict,
    "policies": {
        "azureADAuthenticationAsArmPolicy": {"status": ("enabled", "disabled")},
        "exportPolicy": {"status": ("enabled", "disabled")},
        "quarantinePolicy": {"status": ("enabled", "disabled")},
        "retentionPolicy": {"status": ("enabled", "disabled"), "days": int},
        "softDeletePolicy": {"status": ("enabled", "disabled"), "retentionDays": int},
        "trustPolicy": {"status": ("enabled", "disabled"), "type": str},
    },
    "publicNetworkAccess": ("Enabled", "Disabled"),
    "roleAssignmentMode": ("LegacyRegistryPermissions", "AbacRepositoryPermissions"),
    "zoneRedundancy": ("Enabled", "Disabled"),
}

# What the service makes beside each component, without being asked, and leaves when that goes:
# https://learn.microsoft.com/azure/azure-monitor/alerts/proactive-failure-diagnostics and
# https://github.com/hashicorp/terraform-provider-azurerm/issues/18026.
UNASKED = tuple(
    Kind(kind, versions, r"[^%&\\?/#]{1,260}", ("InvalidResourceName", "The name {0} is invalid."), ANY)
    for kind, versions in (
        ("Microsoft.Insights/actionGroups", ("2023-01-01",)),
        ("Microsoft.AlertsManagement/smartDetectorAlertRules", ("2021-04-01",)),
    )
)


def kinds() -> list[Kind]:
    """All of them, for `Arm.kinds`."""
    return [_registry(), _insights(), _logs(), *UNASKED]


def require(writing: Writing, path: Any, kind: str) -> None:
    if path is None:
        return
    found = writing.arm.resources.get(str(path).lower())
    if found is None or found.kind.type.lower() != kind.lower() or found.pending:
        text = f"The resource {path} could not be found, is not ready, or is no {kind}."
        raise AzureError(400, "ValidationError", text, details=[("Invalid", text)])


def _registry() -> Kind:
    """https://learn.microsoft.com/rest/api/containerregistry/registries (2023-07-01, 2025-04-01)"""

    def check(writing: Writing) -> None:
        found = [one for one in writing.arm.resources.values() if one.kind.type == REGISTRIES]
        mine = any(one.name.lower() == writing.name.lower() for one in found)
        if writing.old is None and (mine or writing.name.lower() in writing.arm.taken):
            text = (  # as in https://github.com/MicrosoftDocs/azure-dev-docs/issues/1303
                f"The registry DNS name {writing.name.lower()}.azurecr.io is already in use. You can check if the name is "
                "already claimed using following API: "
                "https://docs.microsoft.com/en-us/rest/api/containerregistry/registries/checknameavailability"
            )
            raise AzureError(409, "AlreadyInUse", text)
        given = writing.body.get("properties") or {}
        premium = writing.body["sku"]["name"] == "Premium"
        # https://learn.microsoft.com/azure/container-registry/container-registry-skus: retention needs Premium.
        on = given.get("policies", {}).get("retentionPolicy", {}).get("status") == "enabled"
        if on and not premium:
            text = "Policy 'retentionPolicy' is only supported for registries of SKU Premium."
            raise AzureError(400, "SkuNotSupported", text)

    def put(writing: Writing, made: Resource) -> None:
        made.private["given"] = writing.body.get("properties") or {}
        name = writing.body["sku"]["name"]
        made.content["sku"] = {"name": name, "tier": name}

    return Kind(
        REGISTRIES,
        ("2019-05-01", "2021-09-01", "2022-12-01", "2023-07-01", "2025-04-01", "2025-11-01"),
        r"[a-zA-Z0-9]{5,50}",
        (
            "RegistryNameNotValid",
            "The registry name {0} must have 5 to 50 letters and digits.",
        ),
        REGISTRY,
        {"sku!": {"name!": ("Basic", "Standard", "Premium"), "tier": str}, "identity": ANY},
        waits=True,
        leaves=True,
        check=check,
        put=put,
        properties_of=lambda writing: {
            "adminUserEnabled": False,
            "anonymousPullEnabled": False,
            "publicNetworkAccess": "Enabled",
            "roleAssignmentMode": "LegacyRegistryPermissions",
            **(writing.body.get("properties") or {}),
            "loginServer": f"{writing.name.lower()}.azurecr.io",
        },
    )


def _insights() -> Kind:
    """https://learn.microsoft.com/azure/templates/microsoft.insights/components: without a workspace it is a thing of the past."""

    def check(writing: Writing) -> None:
        logs = (writing.body.get("properties") or {}).get("WorkspaceResourceId")
        if logs:
            require(writing, logs, "Microsoft.OperationalInsights/workspaces")

    def put(writing: Writing, made: Resource) -> None:
        names = ("Application Insights Smart Detection", f"Failure Anomalies - {made.name}")
        for kind, name in zip(UNASKED, names, strict=True):
            path = f"{made.id.partition('/providers/')[0]}/providers/{kind.type}/{name}"
            one = Resource(path, kind, {"location": "global", "properties": {}}, made.made)
            writing.arm.resources.setdefault(path.lower(), one)

    return Kind(
        "Microsoft.Insights/components",
        ("2020-02-02",),
        r"[^%&\\?/#]{1,260}(?<![. ])",
        ("InvalidResourceName", "The name {0} is invalid."),
        {
            "Application_Type!": ("web", "other"),
            "Flow_Type": ("Bluefield",),
            "Request_Source": str,
            "RetentionInDays": int,
            "SamplingPercentage": int,
            "WorkspaceResourceId!": str,
            "IngestionMode": (
                "ApplicationInsights",
                "ApplicationInsightsWithDiagnosticSettings",
                "LogAnalytics",
            ),
            "DisableIpMasking": bool,
            "DisableLocalAuth": bool,
            "ImmediatePurgeDataOn30Days": bool,
            "publicNetworkAccessForIngestion": ("Enabled", "Disabled"),
            "publicNetworkAccessForQuery": ("Enabled", "Disabled"),
        },
        {"kind!": str, "etag": str},
        check=check,
        put=put,
    )


def _logs() -> Kind:
    """https://learn.microsoft.com/azure/templates/microsoft.operationalinsights/workspaces"""

    def check(writing: Writing) -> None:
        given = writing.body.get("properties") or {}
        days = given.get("retentionInDays", 30)
        if days not in (7,) and not 30 <= days <= 730:
            text = f"'RetentionInDays' property doesn't match the SKU limits. {days} is not 30 to 730."
            raise AzureError(400, "InvalidParameter", text)

    return Kind(
        "Microsoft.OperationalInsights/workspaces",
        ("2020-08-01", "2021-06-01", "2022-10-01", "2023-09-01", "2025-02-01", "2025-07-01"),
        r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]",
        ("InvalidResourceName", "The name {0} must have 4 to 63 letters, digits and -."),
        {
            "sku": {"name!": ("PerGB2018", "CapacityReservation", "Standalone", "PerNode", "Free")},
            "retentionInDays": int,
            "workspaceCapping": {"dailyQuotaGb": float | int},
            "features": dict,
            "publicNetworkAccessForIngestion": ("Enabled", "Disabled"),
            "publicNetworkAccessForQuery": ("Enabled", "Disabled"),
        },
        {"identity": ANY, "etag": str},
        waits=True,
        leaves=True,
        check=check,
        properties_of=lambda writing: {
            "retentionInDays": 30,
            **(writing.body.get("properties") or {}),
            "customerId": str(uuid.uuid5(uuid.NAMESPACE_URL, writing.id.lower())),
        },
    )
