"""Azure Container Registry, and whatever other registry holds an image: its digest, and its commit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .. import registry
from ..errors import LoginError, MissingError, RefusedError
from . import auth as azure

if TYPE_CHECKING:
    from requests import Response

# https://learn.microsoft.com/azure/container-registry/container-registry-get-started-azure-cli: letters and digits, and
# a hash after a dash where the registry was made so; only these hosts may see the login.
ACR = re.compile(r"[a-z0-9]{5,50}(-[a-z0-9]+)?\.azurecr\.io")


def host(bucket: str) -> str:
    """Give the host of the project's registry."""
    return f"{bucket}images.azurecr.io"


def resolve(image: str) -> str:
    """Give name@digest, as `registry.resolve` does."""
    return registry.resolve(image, _get)


def revision(image: str) -> str | None:
    """Give the commit that an image was built from, as `registry.revision` does."""
    return registry.revision(image, _get)


def _get(image: registry.Image, url: str, headers: dict[str, str]) -> Response:
    """Ask a registry; a layer's address leads to a storage account, where requests leaves the token out, as it must."""
    if not ACR.fullmatch(image.host):
        return azure.request("GET", url, scope="", headers=headers)
    try:
        headers = {**headers, "Authorization": f"Bearer {_token(image)}"}
        return azure.request("GET", url, scope="", headers=headers)
    except MissingError as error:
        raise MissingError(f"There is no image {image}", "check cloud.image") from error
    except (LoginError, RefusedError) as error:
        if isinstance(error, LoginError) and not error.code:  # nobody is logged in, or no longer
            raise
        raise RefusedError(
            f"This login may not read the image {image}",
            "an administrator must give it the role AcrPull on that registry",
        ) from error


def _token(image: registry.Image) -> str:
    """Exchange the login for a token of the registry that reads one repository.

    https://azure.github.io/acr/AAD-OAuth.html
    """
    start = f"https://{image.host}/oauth2"
    form = {
        "grant_type": "access_token",
        "service": image.host,
        "access_token": azure.token(azure.REGISTRY_SCOPE),
    }
    if tenant := azure.tenant():  # which a token need not tell
        form["tenant"] = tenant
    refresh = azure.request("POST", f"{start}/exchange", form=form, scope="").json()
    form = {
        "grant_type": "refresh_token",
        "service": image.host,
        "scope": f"repository:{image.name}:pull",
        "refresh_token": refresh["refresh_token"],
    }
    return str(azure.request("POST", f"{start}/token", form=form, scope="").json()["access_token"])
