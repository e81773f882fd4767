"""Blobs on the stage: who may do what with them, by Microsoft's own clients, and what breaks on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adlfs
import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobServiceClient, ContainerClient

from stage import azure
from stage.azure import World
from stage.azure.bench import send

HOST = "https://demostore.blob.core.windows.net"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with azure.serve(tmp_path_factory.mktemp("azure") / "world") as world:
        account = world.make.storage()
        place = world.storage.container("demostore", "training")
        world.make.principal("writer", ("Storage Blob Data Contributor", place))
        world.make.principal("reader", ("Storage Blob Data Reader", place))
        world.make.principal("elsewhere", ("Storage Blob Data Contributor", world.make.storage("otherstore")))
        world.make.principal("keeper", ("Storage Blob Data Owner", account))
        yield world


@pytest.fixture(autouse=True)
def healed(world: World) -> Iterator[None]:
    yield
    world.heal()


def service(world: World, **more: Any) -> BlobServiceClient:
    return BlobServiceClient(HOST, credential=DefaultAzureCredential(), retry_total=0, **more)


def container(world: World, **more: Any) -> ContainerClient:
    return service(world, **more).get_container_client("training")


def as_(world: World, who: str | None) -> Any:
    return azure.inside(world.at(who))


def refused(error: HttpResponseError) -> tuple[int | None, str]:
    code: Any = getattr(error, "error_code", "")
    return error.status_code, str(getattr(code, "value", code))


def test_who_has_a_role_at_the_container_writes_reads_lists_and_deletes(world: World) -> None:
    with as_(world, "writer"):
        here = container(world)
        here.upload_blob("a/b", b"content")
        assert here.download_blob("a/b").readall() == b"content"
        assert "a/b" in list(here.list_blob_names())
        here.delete_blob("a/b")
        with pytest.raises(ResourceNotFoundError):
            here.download_blob("a/b")


def test_a_reader_writes_nothing(world: World) -> None:
    world.blob.write("demostore", "training", "given", b"x")
    with as_(world, "reader"):
        here = container(world)
        assert here.download_blob("given").readall() == b"x"
        for does in (lambda: here.upload_blob("b", b"x"), lambda: here.delete_blob("given")):
            with pytest.raises(HttpResponseError) as error:
                does()
            assert refused(error.value) == (403, "AuthorizationPermissionMismatch")


@pytest.mark.parametrize("who", ["owner", "elsewhere"])
def test_who_has_no_role_at_the_data_reads_nothing(world: World, who: str) -> None:
    with as_(world, who), pytest.raises(HttpResponseError) as error:
        container(world).download_blob("a")
    assert refused(error.value) == (403, "AuthorizationPermissionMismatch")


def test_a_role_at_one_container_makes_no_other(world: World) -> None:
    with as_(world, "writer"), pytest.raises(HttpResponseError) as error:
        service(world).create_container("other")
    assert refused(error.value) == (403, "AuthorizationPermissionMismatch")


def test_a_container_that_is_made_by_its_client_is_known_to_resource_manager(world: World) -> None:
    with as_(world, "keeper"):
        service(world).create_container("fresh")
        path = world.storage.container("demostore", "fresh")
        assert send(world, "GET", path, api="2023-05-01").ok
        service(world).delete_container("fresh")
    assert send(world, "GET", path, api="2023-05-01").status_code == 404


def test_a_container_that_resource_manager_makes_is_there(world: World) -> None:
    path = world.storage.container("demostore", "managed")
    assert send(world, "PUT", path, api="2023-05-01", json={}).status_code == 201
    with as_(world, "keeper"):
        service(world).get_container_client("managed").upload_blob("x", b"y")
    assert send(world, "DELETE", path, api="2023-05-01").ok
    with as_(world, "keeper"), pytest.raises(ResourceNotFoundError):
        service(world).get_container_client("managed").download_blob("x")


def test_what_is_written_once_only_is_written_once(world: World) -> None:
    with as_(world, "writer"):
        blob = container(world).get_blob_client("once")
        first = blob.upload_blob(b"1", overwrite=False)
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"2", overwrite=False)
        match = {"etag": first["etag"], "match_condition": MatchConditions.IfNotModified}
        blob.upload_blob(b"2", overwrite=True, **match)
        with pytest.raises(ResourceModifiedError):
            blob.upload_blob(b"3", overwrite=True, **match)
        assert blob.download_blob().readall() == b"2"


def test_adlfs_does_all_that_it_does(world: World) -> None:
    with as_(world, "writer"):
        files = adlfs.AzureBlobFileSystem(account_name="demostore", anon=False)
        place = "abfss://training@demostore.dfs.core.windows.net/tree"
        with files.open(f"{place}/large", "wb") as file:
            for _ in range(3):
                file.write(b"x" * 5_000_000)  # type: ignore[arg-type]
        files.pipe(f"{place}/small", b"1")
        assert files.size(f"{place}/large") == 15_000_000
        assert files.cat_file(f"{place}/large", 10, 12) == b"xx"
        files.cp_file(f"{place}/small", f"{place}/copy")
        assert files.cat(f"{place}/copy") == b"1"
        assert sorted(name.rpartition("/")[2] for name in files.find(place)) == ["copy", "large", "small"]
        files.rm(place, recursive=True)
        assert not files.exists(f"{place}/large")


def test_a_copy_needs_the_right_to_read_its_source(world: World) -> None:
    world.blob.azurite("demostore").make("secret")
    world.blob.write("demostore", "secret", "s", b"x")
    with as_(world, "writer"), pytest.raises(HttpResponseError) as error:
        container(world).get_blob_client("stolen").start_copy_from_url(f"{HOST}/secret/s")
    assert refused(error.value) == (403, "AuthorizationPermissionMismatch")


def test_without_a_token_the_answer_says_where_to_get_one(world: World) -> None:
    answer = send(world, "GET", f"{HOST}/training/x", None)
    assert answer.status_code == 401
    assert "resource_id=https://storage.azure.com" in answer.headers["WWW-Authenticate"]


def test_a_token_for_something_else_is_refused(world: World) -> None:
    token = world.token("writer", "https://management.azure.com")
    headers = {"Authorization": f"Bearer {token}", "x-ms-version": "2021-08-06"}
    answer = send(world, "GET", f"{HOST}/training/x", None, headers=headers)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (401, "InvalidAuthenticationInfo")


def test_a_request_of_before_there_were_tokens_is_refused(world: World) -> None:
    answer = send(world, "GET", f"{HOST}/training/x", "writer")
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (400, "InvalidHeaderValue")


def test_keys_are_refused_where_the_account_takes_none(world: World) -> None:
    key = world.storage.account("demostore").private["keys"][0]  # type: ignore[union-attr]
    with as_(world, None):
        here = BlobServiceClient(
            HOST, credential={"account_name": "demostore", "account_key": key}, retry_total=0
        )
        with pytest.raises(HttpResponseError) as error:
            here.get_container_client("training").upload_blob("k", b"x")
    assert refused(error.value) == (403, "KeyBasedAuthenticationNotPermitted")


def test_keys_are_taken_where_the_account_takes_them(world: World) -> None:
    world.make.storage("keystore", shared_key=True)
    path = f"{world.storage.account('keystore').id}/listKeys"  # type: ignore[union-attr]
    key = send(world, "POST", path, api="2023-05-01").json()["keys"][0]["value"]
    with as_(world, None):
        credential = {"account_name": "keystore", "account_key": key}
        url = "https://keystore.blob.core.windows.net"
        here = BlobServiceClient(url, credential=credential, retry_total=0).get_container_client("training")
        here.upload_blob("k", b"x")
        assert here.download_blob("k").readall() == b"x"
        wrong = {"account_name": "keystore", "account_key": key[::-1].lstrip("=") + "=="}
        with pytest.raises(HttpResponseError):
            BlobServiceClient(url, credential=wrong, retry_total=0).get_container_client(
                "training"
            ).upload_blob("w", b"x")


def test_an_address_that_was_signed_is_read_by_anybody_and_changed_by_nobody(world: World) -> None:
    world.blob.write("demostore", "training", "logs/std_log.txt", b"line\n")
    url = world.blob.signed("demostore", "training", "logs/std_log.txt")
    assert send(world, "GET", url, None).content == b"line\n"
    assert send(world, "DELETE", url, None).status_code == 403
    other = url.replace("std_log", "other")
    assert send(world, "GET", other, None).status_code == 403
    assert (
        send(
            world, "GET", world.blob.signed("demostore", "training", "logs/std_log.txt", -60), None
        ).status_code
        == 403
    )


def test_a_fault_reads_as_the_services_own(world: World) -> None:
    world.fail("blob", "PUT /training/f", 503, "ServerBusy")
    with as_(world, "writer"):
        with pytest.raises(HttpResponseError) as error:
            container(world).upload_blob("f", b"x")
        assert refused(error.value) == (503, "ServerBusy")
        container(world).upload_blob("f", b"x")


def test_an_upload_whose_answer_is_lost_is_there(world: World) -> None:
    world.lose("blob", "PUT /training/lost")
    with as_(world, "writer"), pytest.raises((ServiceRequestError, ServiceResponseError)):
        container(world).upload_blob("lost", b"x")
    assert world.blob.read("demostore", "training", "lost") == b"x"


def test_a_download_that_breaks_off_is_no_download(world: World) -> None:
    world.blob.write("demostore", "training", "long", b"x" * 1_000_000)
    world.cut("blob", "GET /training/long", times=None)
    headers = {"x-ms-version": "2021-08-06"}
    with pytest.raises(requests.RequestException):
        send(world, "GET", f"{HOST}/training/long", "reader", headers=headers)


def test_recorded_calls_hold_no_content(world: World) -> None:
    with as_(world, "writer"):
        container(world).upload_blob("recorded", b"x" * 1000)
    call = next(one for one in reversed(world.asked) if one.service == "blob" and one.method == "PUT")
    assert (call.path, call.content) == ("/training/recorded", b"")
    assert call.principal is world.people.named("writer")


def test_an_account_that_is_gone_keeps_nothing(world: World, tmp_path: Path) -> None:
    account = world.make.storage("goingstore")
    world.blob.write("goingstore", "training", "a", b"x")
    assert send(world, "DELETE", account, api="2023-05-01").ok
    world.make.storage("goingstore")
    assert world.blob.names("goingstore", "training") == []
