"""Requests to a world of Azure's as a test makes them: in this process, by the proxy, with a token of whoever asks."""

from typing import Any

import requests

from stage.azure.people import Principal
from stage.azure.world import World

ARM = "https://management.azure.com"
AUDIENCES = {
    "blob.core.windows.net": "https://storage.azure.com",
    "vault.azure.net": "https://vault.azure.net",
    "api.azureml.ms": "https://ml.azure.com",
}
VERSIONS = {  # that `ask` asks for
    "Microsoft.Storage": "2023-05-01",
    "Microsoft.KeyVault": "2023-07-01",
    "Microsoft.ManagedIdentity": "2024-11-30",
    "Microsoft.ContainerRegistry": "2023-07-01",
    "Microsoft.MachineLearningServices": "2025-12-01",
    "Microsoft.Consumption": "2024-08-01",
}


def send(
    world: World, method: str, url: str, who: Principal | str | None = "owner", **more: Any
) -> requests.Response:
    """Sends a request, of a path below Azure Resource Manager or an address.

    Args:
        who: whose token is sent, for what the host wants; None for none.
        more: as `requests.request` takes it, and `api` for the version.
    """
    url = ARM + url if url.startswith("/") else url
    host = url.split("/")[2]
    headers = dict(more.pop("headers", {}))
    if who is not None:
        wanted = [one for end, one in AUDIENCES.items() if host.endswith(end)]
        headers["Authorization"] = f"Bearer {world.token(who, *wanted)}"
    if api := more.pop("api", ""):
        more["params"] = {"api-version": api, **more.get("params", {})}
    proxies, trust = {"https": world.url}, str(world.certificates)
    return requests.request(method, url, headers=headers, proxies=proxies, verify=trust, timeout=60, **more)


def refusal(answer: requests.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    assert not answer.ok, f"it was not refused: {answer.status_code} {answer.text[:500]}"
    error = answer.json()["error"]
    return answer.status_code, error if isinstance(error, str) else error["code"]


def finish(world: World, answer: requests.Response, who: Principal | str = "owner") -> requests.Response:
    """Follows an operation until it is over; gives its last answer."""
    assert answer.ok, answer.text
    place = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")
    if not place:
        return answer
    found = send(world, "GET", place, who)
    while found.status_code == 202 or (found.content and found.json().get("status") == "InProgress"):
        found = send(world, "GET", place, who)
    return found


def where(world: World, path: str = "") -> str:
    """The path of the group demo, or of something in it."""
    base = f"/subscriptions/{world.subscription}/resourceGroups/demo"
    return f"{base}/providers/{path}" if path else base


def ask(world: World, method: str, path: str, body: Any = None, **more: Any) -> requests.Response:
    """`send` to Azure Resource Manager: to a path, or to what is in the group demo, in the usual version."""
    found = path if path.startswith("/") else where(world, path)
    space = found.rpartition("/providers/")[2].partition("/")[0]
    more.setdefault("api", VERSIONS.get(space, "2021-04-01"))
    return send(world, method, found, json=body, **more)
