"""Microsoft.ManagedIdentity: user-assigned identities and whose tokens stand for them."""

from stage.azure.arm import Arm
from stage.azure.arm_kinds import Kind, Resource, Writing
from stage.azure.entra import Federated
from stage.azure.errors import AzureError
from stage.azure.people import Principal

IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"
CREDENTIALS = f"{IDENTITIES}/federatedIdentityCredentials"
MOST_CREDENTIALS = 20


def kinds() -> list[Kind]:
    """For `Arm.kinds`."""
    return [_identity(), _credential()]


def credentials_of(arm: Arm, principal: Principal) -> list[Federated]:
    """Whose tokens stand for an identity."""
    found = arm.under(principal.resource) if principal.resource else []
    given = [one.properties for one in found if one.kind.type == CREDENTIALS]
    return [Federated(one["issuer"], one["subject"], tuple(one["audiences"])) for one in given]


def _identity() -> Kind:
    """https://learn.microsoft.com/rest/api/managedidentity/user-assigned-identities (2024-11-30)"""

    def put(writing: Writing, made: Resource) -> None:
        principal = made.private.get("principal")
        if principal is None:
            principal = writing.arm.people.add(made.name, resource=made.id)
            made.private["principal"] = principal
        made.content["properties"] = {
            "principalId": principal.object_id,
            "clientId": principal.client_id,
            "tenantId": writing.arm.people.tenant,
        }

    return Kind(
        IDENTITIES,
        ("2018-11-30", "2023-01-31", "2024-11-30"),
        r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}",
        ("InvalidResourceName", "The identity's name '{0}' must have 3 to 128 letters, digits, - and _."),
        {"isolationScope": ("None", "Regional"), "principalId": str, "clientId": str, "tenantId": str},
        stateful=False,
        put=put,
        removed=lambda arm, one, _: arm.people.remove(one.private["principal"]),
    )


def _credential() -> Kind:
    """https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations

    At most 20 of an identity; no two of the same issuer and subject; and one write at a time
    (https://github.com/Azure/bicep/issues/10928, https://github.com/hashicorp/terraform-provider-azurerm/issues/19968).
    """

    def check(writing: Writing) -> None:
        given = writing.body.get("properties") or {}
        others = [
            one
            for one in writing.arm.under(writing.address.parent)
            if one.kind.type == CREDENTIALS and one.id.lower() != writing.id.lower()
        ]
        place = f" {writing.address.parent}/federatedIdentityCredentials/".lower()
        if any(place in line.lower() and line.split()[0] in ("PUT", "DELETE") for line in writing.during):
            text = (
                "Too many Federated Identity Credentials are written concurrently for the managed identity "
                f"'{writing.address.parent}'. Concurrent Federated Identity Credentials writes under the same managed "
                "identity are not supported."
            )
            code = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
            raise AzureError(409, code, text)
        if writing.old is None and len(others) >= MOST_CREDENTIALS:
            text = f"The managed identity has {MOST_CREDENTIALS} federated identity credentials, which is the most."
            raise AzureError(400, "TooManyFederatedIdentityCredentials", text)
        if any(
            (one.properties["issuer"], one.properties["subject"]) == (given["issuer"], given["subject"])
            for one in others
        ):
            text = "Issuer and subject combination already exists for this Managed Identity."
            raise AzureError(409, "Conflict", text)
        if not given["issuer"].startswith("https://") or not given["subject"] or len(given["audiences"]) != 1:
            text = "A credential takes an https issuer, a subject and one audience."
            raise AzureError(400, "BadRequest", text)

    return Kind(
        CREDENTIALS,
        ("2023-01-31", "2024-11-30"),
        r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,119}",
        (
            "BadRequest",
            "The name '{0}' must have 3 to 120 letters, digits, - and _, and begin with a letter or digit.",
        ),
        {"issuer!": str, "subject!": str, "audiences!": [str]},
        located=False,
        stateful=False,
        check=check,
    )
