"""Azure: Azure Machine Learning, Container Registry, Blob Storage, Key Vault."""

from __future__ import annotations

import re
from urllib.parse import quote

from ...project import project
from ..errors import LoginError

TARGETS = {"azureml": "azureml_endpoint"}  # places for models, each with its module
MIRRORS = {"azureml": "azureml_models"}  # registries of models, each with its module
BLOB = re.compile(
    r"abfss?://(?P<container>[^@/]+)@(?P<account>[a-z0-9]+)\.dfs\.core\.windows\.net.*"
)


def browse(uri: str) -> str:
    """Give the page that shows the container of an address, for the portal has no address of a folder.

    Empty where it is in no storage account, or it is not known in which subscription that is.
    """
    from .login import subscription

    found = BLOB.fullmatch(uri)
    if not found:
        return ""
    try:
        group = f"/subscriptions/{subscription()}/resourceGroups/{project().slug}"
    except LoginError:
        return ""
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{found['account']}"
    page = "https://portal.azure.com/#view/Microsoft_Azure_Storage/ContainerMenuBlade/~/overview"
    return f"{page}/storageAccountId/{quote(account, safe='')}/path/{found['container']}"
