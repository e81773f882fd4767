"""What Azure refuses, in one sentence of what is wrong and what to do about it."""

from __future__ import annotations

import re
from typing import Any

from ..errors import (
    LoginError,
    MissingError,
    QuotaError,
    RefusedError,
    ServiceError,
    UnreachableError,
    line,
)

LOGIN = "run `az login` (the Azure CLI: https://aka.ms/installazurecli)"
QUOTAS = "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/overview"

# Codes of https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors and of
# https://github.com/microsoft/api-guidelines; which of them comes with which status is not the same everywhere.
TOO_MUCH = {
    *("QuotaExceeded", "SubscriptionRequestsThrottled", "TooManyRequests"),
    *("ResourceRequestsThrottled", "LimitExceeded", "OutOfQuota"),
}
# What is said however the status is: an operation that fails afterwards has none.
REFUSED = {"AuthorizationFailed", "LinkedAuthorizationFailed", "Forbidden", "ForbiddenByRbac"}
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
UNTRUSTED = {
    *(
        "AADSTS70021",
        "AADSTS70025",
        "AADSTS700211",
        "AADSTS700212",
        "AADSTS700213",
        "AADSTS7002138",
    ),
}
RUN_OUT = "AADSTS700024"  # GitHub's token is good for minutes: https://github.com/Azure/azure-cli/issues/28708
ELSEWHERE = {"AADSTS50020", "AADSTS90072", "AADSTS500011"}
WRONG = {
    *("AADSTS7000215", "AADSTS7000222", "AADSTS700016", "AADSTS90002", "AADSTS900023"),
    *("AADSTS700027", "AADSTS7000218"),
}
# The role of setup/ that has an action, by what the action's name begins with.
ROLES = {
    "Microsoft.MachineLearningServices/": "AzureML Data Scientist",
    "Microsoft.ContainerRegistry/": "AcrPush",
    "Microsoft.Storage/": "Storage Blob Data Contributor",
    "Microsoft.KeyVault/": "Key Vault Secrets User",
    "Microsoft.ManagedIdentity/": "Managed Identity Operator",
    "Microsoft.Authorization/": "Role Based Access Control Administrator",
}


def explain(status: int, code: str, message: str, host: str) -> ServiceError:
    """Say in one sentence what an error of a service means, and what to do.

    Args:
        status: of HTTP.
        code: the service's own name of the error; empty where it has none.
        host: that answered.
    """
    said = line(message or code or f"status {status}")
    if "AADSTS" in message:
        return entra(message)
    if code == "InvalidAuthenticationTokenTenant" or "AKV10032" in message:
        return _wrong_tenant(message)
    if status == 401:
        return LoginError(f"Azure does not accept the login ({said})", LOGIN, code)
    too_much = code in TOO_MUCH or (code == "OperationNotAllowed" and "quota" in said.lower())
    if too_much or status == 429:
        return QuotaError(f"A limit is reached: {said}", f"ask for more at {QUOTAS} or wait", code)
    if code == "RequestDisallowedByPolicy":
        remedy = "ask the owner of that policy of your organization, or choose what it allows"
        return RefusedError(f"A policy forbids it: {said}", remedy, code)
    if code == "MissingSubscriptionRegistration":
        return RefusedError(said, _register(message), code)
    if status == 403 or code in REFUSED:
        return RefusedError(f"Permission denied: {said}", _grant(message), code)
    if status == 404 or (status < 500 and code.endswith("NotFound")):
        remedy = "check the name, the subscription and the resource group"
        return MissingError(f"Not found: {said}", remedy, code)
    if status >= 500 or status == 408:
        return UnreachableError(f"{host} answers {status} ({said})", "try again in a minute", code)
    return ServiceError(f"{host} refuses the request: {said}", "correct that setting", code)


def of(content: Any) -> tuple[str, str]:
    """Find the code and the message in an error's body, in the forms that Azure's services have for it."""
    if not isinstance(content, dict):
        return "", ""
    error = content.get("error", content)
    if isinstance(content.get("errors"), list) and content["errors"]:  # a registry
        error = content["errors"][0]
    if not isinstance(error, dict):  # Entra, OAuth
        return str(error), str(content.get("error_description") or "")
    code = str(error.get("code") or error.get("error_code") or "")  # the latter is MLflow's
    said = str(error.get("message") or "")
    for detail in error.get("details") or ():  # the reason proper often stands one level down
        if isinstance(detail, dict) and detail.get("message") and detail["message"] not in said:
            said = f"{said.rstrip('. ')}: {detail['message']}"
            break
    return code, said


def entra(said: str) -> LoginError:
    """Say what Microsoft Entra's refusal of a login means."""
    found = re.search(r"(AADSTS\d+): ?(.*?)(?:(?<=[.!])\s| Trace ID|\n|$)", said)
    code, reason = (found[1], line(f"{found[1]}: {found[2]}")) if found else ("", line(said))
    if code in UNTRUSTED:
        what = f"Azure trusts no identity token of this workflow ({reason})"
        return LoginError(what, "run `make cloud-setup` again for this repository", code)
    if code == RUN_OUT:
        what = f"This workflow's login has run out ({reason})"
        return LoginError(what, "let the step that logs in come right before this one", code)
    if code in ELSEWHERE:
        what = f"This login is unknown to the tenant ({reason})"
        return LoginError(what, "run `az login --tenant TENANT` for the subscription's", code)
    if code in WRONG:
        what = f"Azure does not accept the credentials of the environment ({reason})"
        remedy = "correct AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"
        return LoginError(what, f"{remedy}, or unset them and {LOGIN}", code)
    return LoginError(f"Your login to Azure is no longer valid ({reason})", LOGIN, code)


def _wrong_tenant(message: str) -> LoginError:
    """The subscription, or the vault, belongs to a directory other than the one that was logged in to."""
    found = re.search(
        r"(?:match the tenant|Expected one of) '?https://sts\.windows\.net/([\w-]+)", message
    )
    return LoginError(
        "The login is for another tenant than the subscription's",
        f"run `az login --tenant {found[1] if found else 'TENANT'}`, and `az account set --subscription ID`",
        "InvalidAuthenticationTokenTenant",
    )


def _register(message: str) -> str:
    named = re.search(r"namespace '([\w.]+)'", message)
    return f"run `az provider register --namespace {named[1] if named else 'NAMESPACE'}`"


def _grant(message: str) -> str:
    """Name the action that was refused, which may stand behind one that was not, and the role that has it."""
    refused = message[max(message.find("does not have"), 0) :]
    found = re.search(r"\bMicrosoft\.\w+(/\w+)*/(action|read|write|delete)\b", refused)
    action = found[0] if found else "what is missing"
    role = next((role for start, role in ROLES.items() if action.startswith(start)), "")
    what = f"{action} (role {role})" if role else action
    return (
        f"an administrator must allow this login {what}; `make cloud-setup` does for GitHub's, and a role that was "
        "just given counts after some minutes"
    )
