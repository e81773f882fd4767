"""ACR on the stage: its exchange of tokens, and who pulls and pushes."""

import base64
import hashlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from stage import azure
from stage.azure import World
from stage.azure.bench import send
from stage.azure.people import Principal
from stage.registry import registry

HOST = "demostoreimages.azurecr.io"
NOBODY = "00000000-0000-0000-0000-000000000000"
KIND = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("acr")
    with registry(folder / "registry") as host, azure.serve(folder / "world") as world:
        world.acr.registry = host
        place = world.make.registry()
        world.make.principal("puller", ("AcrPull", place))
        world.make.principal("pusher", ("AcrPush", place))
        world.make.principal("nobody")
        yield SimpleNamespace(world=world, host=host)


def exchange(world: World, who: str, **more: str) -> requests.Response:
    form = {"grant_type": "access_token", "service": HOST, "tenant": world.tenant}
    form |= {"access_token": world.token(who), **more}
    return send(world, "POST", f"https://{HOST}/oauth2/exchange", None, data=form)


def access(world: World, who: str, scope: str) -> str:
    """The token with which somebody asks the registry."""
    refresh = exchange(world, who).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "service": HOST, "scope": scope, "refresh_token": refresh}
    answer = send(world, "POST", f"https://{HOST}/oauth2/token", None, data=form)
    assert answer.ok, answer.text
    return answer.json()["access_token"]


def ask(world: World, method: str, path: str, token: str = "", **more: Any) -> requests.Response:
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
    url = path if path.startswith("https:") else f"https://{HOST}{path}"
    return send(world, method, url, None, headers=headers, **more)


def push(world: World, who: str = "pusher", name: str = "demo/train") -> str:
    """Pushes an image of one layer by the registry's own steps; gives its digest."""
    token = access(world, who, f"repository:{name}:pull,push")
    blobs = []
    for content in (b"layer", json.dumps({"config": {}}).encode()):
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        begun = ask(world, "POST", f"/v2/{name}/blobs/uploads/", token)
        assert begun.status_code == 202, begun.text
        assert begun.headers["Location"].startswith(f"https://{HOST}/v2/{name}/")
        sent = ask(
            world,
            "PATCH",
            begun.headers["Location"],
            token,
            data=content,
            headers={"Content-Type": "application/octet-stream"},
        )
        done = ask(world, "PUT", sent.headers["Location"], token, params={"digest": digest})
        assert done.status_code == 201, done.text
        blobs.append({"digest": digest, "size": len(content)})
    layer, config = blobs
    manifest = {
        "schemaVersion": 2,
        "mediaType": KIND,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}],
    }
    answer = ask(
        world,
        "PUT",
        f"/v2/{name}/manifests/main",
        token,
        data=json.dumps(manifest),
        headers={"Content-Type": KIND},
    )
    assert answer.status_code == 201, answer.text
    return answer.headers["Docker-Content-Digest"]


def test_what_is_pushed_is_pulled(stage: SimpleNamespace) -> None:
    digest = push(stage.world)
    token = access(stage.world, "puller", "repository:demo/train:pull")
    found = ask(stage.world, "GET", "/v2/demo/train/manifests/main", token, headers={"Accept": KIND})
    assert found.headers["Docker-Content-Digest"] == digest
    assert ask(stage.world, "HEAD", f"/v2/demo/train/manifests/{digest}", token, headers={"Accept": KIND}).ok
    assert ask(stage.world, "GET", "/v2/demo/train/tags/list", token).json()["tags"] == ["main"]
    config = found.json()["config"]["digest"]
    assert ask(stage.world, "GET", f"/v2/demo/train/blobs/{config}", token).json() == {"config": {}}


def test_a_layer_is_fetched_elsewhere_without_the_token(stage: SimpleNamespace) -> None:
    push(stage.world)
    token = access(stage.world, "puller", "repository:demo/train:pull")
    digest = "sha256:" + hashlib.sha256(b"layer").hexdigest()
    away = ask(stage.world, "GET", f"/v2/demo/train/blobs/{digest}", token, allow_redirects=False)
    assert away.status_code == 307
    assert ask(stage.world, "GET", away.headers["Location"]).content == b"layer"
    assert ask(stage.world, "GET", away.headers["Location"], token).status_code == 400
    assert ask(stage.world, "GET", away.headers["Location"].partition("?")[0]).status_code == 403


def test_without_a_token_the_answer_says_where_to_get_which(stage: SimpleNamespace) -> None:
    answer = ask(stage.world, "GET", "/v2/demo/train/manifests/main")
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    expected = (
        f'Bearer realm="https://{HOST}/oauth2/token",service="{HOST}",scope="repository:demo/train:pull"'
    )
    assert answer.headers["Www-Authenticate"] == expected
    assert "scope" not in ask(stage.world, "GET", "/v2/").headers["Www-Authenticate"]


def test_who_only_pulls_does_not_push(stage: SimpleNamespace) -> None:
    token = access(stage.world, "puller", "repository:demo/train:pull,push")
    answer = ask(stage.world, "POST", "/v2/demo/train/blobs/uploads/", token)
    assert answer.status_code == 401
    assert 'error="insufficient_scope"' in answer.headers["Www-Authenticate"]


def test_a_token_is_for_what_was_asked(stage: SimpleNamespace) -> None:
    push(stage.world)
    token = access(stage.world, "pusher", "repository:other:pull")
    assert ask(stage.world, "GET", "/v2/demo/train/manifests/main", token).status_code == 401
    mine = access(stage.world, "pusher", "repository:demo/train:pull")
    assert ask(stage.world, "POST", "/v2/demo/train/blobs/uploads/", mine).status_code == 401


def test_who_has_no_role_exchanges_nothing(stage: SimpleNamespace) -> None:
    assert exchange(stage.world, "nobody").status_code == 401


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"service": "otherimages.azurecr.io"}, 400),
        ({"grant_type": "refresh_token"}, 400),
        ({"access_token": "x"}, 401),
        ({"tenant": "66666666-6666-6666-6666-666666666666"}, 401),
    ],
)
def test_a_wrong_exchange_is_refused(stage: SimpleNamespace, given: dict[str, str], status: int) -> None:
    assert exchange(stage.world, "puller", **given).status_code == status


def test_a_token_for_storage_is_none_for_a_registry(stage: SimpleNamespace) -> None:
    token = stage.world.token("puller", "https://storage.azure.com")
    assert exchange(stage.world, "puller", access_token=token).status_code == 401


def test_a_token_of_entra_is_none_for_the_registry_itself(stage: SimpleNamespace) -> None:
    assert ask(stage.world, "GET", "/v2/", stage.world.token("puller")).status_code == 401


def test_docker_logs_in_with_a_refresh_token(stage: SimpleNamespace) -> None:
    refresh = exchange(stage.world, "puller").json()["refresh_token"]
    asked = {"service": HOST, "scope": "repository:demo/train:pull"}
    for user, status in ((NOBODY, 200), ("demostoreimages", 401)):
        login = base64.b64encode(f"{user}:{refresh}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"}
        answer = send(stage.world, "GET", f"https://{HOST}/oauth2/token", None, params=asked, headers=headers)
        assert answer.status_code == status


def test_what_one_was_given_ends_with_who_had_it(stage: SimpleNamespace) -> None:
    world: World = stage.world
    leaver: Principal = world.make.principal("leaver", ("AcrPull", world.make.registry()))
    token = access(world, "leaver", "repository:demo/train:pull")
    world.people.remove(leaver)
    assert ask(world, "GET", "/v2/", token).status_code == 401


def test_an_image_that_is_not_there_is_told_by_the_registry(stage: SimpleNamespace) -> None:
    token = access(stage.world, "puller", "repository:nothing:pull")
    answer = ask(stage.world, "GET", "/v2/nothing/manifests/main", token)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")


def test_a_registry_whose_roles_are_its_repositories_knows_no_acrpull(stage: SimpleNamespace) -> None:
    place = stage.world.arm.get(stage.world.make.registry())
    place.properties["roleAssignmentMode"] = "AbacRepositoryPermissions"
    try:
        assert exchange(stage.world, "puller").status_code == 401
    finally:
        place.properties["roleAssignmentMode"] = "LegacyRegistryPermissions"
    assert exchange(stage.world, "puller").ok
