"""ECR, and whatever other registry holds an image: its digest, and the commit that it was built from."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from .. import registry
from ..errors import MissingError, RefusedError, ServiceError, UnreachableError, line
from . import auth as aws

if TYPE_CHECKING:
    from requests import Response

# https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com")


def host(account: str, region: str) -> str:
    """Give the host of an account's registry in a region."""
    return f"{account}.dkr.ecr.{region}.amazonaws.com"


def region_of(image: str) -> str | None:
    """Give the region in whose ECR an image is; None for one that is in another registry."""
    found = ECR.fullmatch(registry.Image.parse(image).host)
    return found["region"] if found else None


def resolve(image: str) -> str:
    """Give name@digest, as `registry.resolve` does."""
    return registry.resolve(image, _get)


def revision(image: str) -> str | None:
    """Give the commit that an image was built from, as `registry.revision` does."""
    return registry.revision(image, _get)


def _get(image: registry.Image, url: str, headers: dict[str, str]) -> Response:
    """Ask a registry; a layer's address leads to S3, where requests leaves the token out, as it must."""
    import requests

    if where := region_of(str(image)):
        headers = {**headers, "Authorization": f"Basic {_token(where)}"}
    try:
        response = requests.get(url, headers=headers, timeout=aws.TIMEOUT)
    except requests.RequestException as error:
        raise UnreachableError(
            f"{image.host} cannot be reached ({line(error)})", "check the network and try again"
        ) from error
    status = response.status_code
    if status == 404:
        raise MissingError(f"There is no image {image}", "check cloud.image")
    if status in (401, 403):
        what = f"This login may not read the image {image}"
        raise RefusedError(what, "an administrator must allow it ecr:BatchGetImage and the like")
    if status >= 500 or status == 429:
        raise UnreachableError(f"{image.host} answers {status}", "try again in a minute")
    if not response.ok:
        raise ServiceError(f"{image.host} refuses the request ({status})", "check cloud.image")
    return response


@cache
def _token(region: str) -> str:
    """Give what a registry of ECR takes as a login, for twelve hours: user and password, encoded."""
    answer = aws.call("ecr", "get_authorization_token", region)
    return str(answer["authorizationData"][0]["authorizationToken"])
