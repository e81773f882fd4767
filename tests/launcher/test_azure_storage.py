"""Blobs through the one interface: with the project's account and login, and every refusal in one sentence."""

import logging
from collections.abc import Iterator
from pathlib import Path

import adlfs
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.identity.aio import DefaultAzureCredential
from launcher import storage
from launcher.errors import UserError
from launcher.providers.azure import browse, login
from servers import Environment, free_port, microsoft

pytestmark = pytest.mark.cloud("azure")
HOME = "abfss://training@demobucket.dfs.core.windows.net"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No connection string, and no file system of a test before."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    adlfs.AzureBlobFileSystem.clear_instance_cache()
    yield
    adlfs.AzureBlobFileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A storage account with the project's container."""
    with microsoft("demobucket", tmp_path_factory.mktemp("blob")) as env:
        text = env["AZURE_STORAGE_CONNECTION_STRING"]
        adlfs.AzureBlobFileSystem(connection_string=text).mkdir("training")
        yield env


@pytest.fixture
def account(azurite: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in azurite.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("account")
def test_a_blob_is_written_listed_read_and_removed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    storage.store(tmp_path / "a", f"{HOME}/runs/r/a")
    storage.write_text(f"{HOME}/runs/r/deep/b", "two")
    storage.write_text(f"{HOME}/runs/r-2/c", "three")
    assert storage.list_files(f"{HOME}/runs/r") == ["a", "deep/b"]
    storage.fetch(f"{HOME}/runs/r/a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    storage.remove(f"{HOME}/runs/r/a")
    storage.remove(f"{HOME}/runs/r/a")
    assert storage.read_text(f"{HOME}/runs/r/a") is None
    with pytest.raises(UserError, match="does not exist"):
        storage.fetch(f"{HOME}/runs/r/a", tmp_path / "c")


@pytest.mark.usefixtures("account")
def test_of_two_new_blobs_by_one_name_the_first_stays() -> None:
    storage.write_text(f"{HOME}/new", "first", new=True)
    with pytest.raises(UserError, match="exists already"):
        storage.write_text(f"{HOME}/new", "second", new=True)
    storage.write_text(f"{HOME}/new", "first", new=True)  # a first try may have arrived unheard
    assert storage.read_text(f"{HOME}/new") == "first"


@pytest.mark.usefixtures("account")
def test_a_container_without_an_account_is_the_projects() -> None:
    storage.write_text("az://training/short", "the same")
    assert storage.read_text(f"{HOME}/short") == "the same"


@pytest.mark.usefixtures("account")
def test_a_container_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(
        UserError, match=r"other@demobucket.* \(ContainerNotFound: there is no such container\)"
    ):
        storage.write_text("abfss://other@demobucket.dfs.core.windows.net/a", "text")


def open_without_a_key(uri: str) -> adlfs.AzureBlobFileSystem:
    filesystem, _ = storage._open(uri)
    assert isinstance(filesystem, adlfs.AzureBlobFileSystem)
    return filesystem


@pytest.mark.parametrize("uri", [f"{HOME}/a", "az://training/a", "abfs://training/a"])
def test_without_a_key_it_is_the_machines_login_to_the_projects_account(uri: str) -> None:
    filesystem = open_without_a_key(uri)
    assert isinstance(filesystem.credential, DefaultAzureCredential)
    assert filesystem.account_url == "https://demobucket.blob.core.windows.net"


class Waits:
    """The seconds that adlfs would sleep between its own tries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []

        async def sleep(_: AsyncHttpTransport, seconds: float) -> None:
            self.seconds.append(seconds)

        monkeypatch.setattr(AsyncHttpTransport, "sleep", sleep)


def test_no_network_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = (
        f"AccountName=demobucket;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:{free_port()}/demobucket"
    )
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{connection}")
    waits = Waits(monkeypatch)
    with pytest.raises(storage.StorageUnavailable, match=r"training@.*/a cannot be read"):
        storage.read_text(f"{HOME}/a", patience=0)
    assert len(waits.seconds) == 3
    assert sum(waits.seconds) < 10


def refused(status: int, code: str) -> HttpResponseError:
    """An error as azure-storage-blob raises it, with pages of what the server said."""
    error = HttpResponseError(
        f"This request is not authorized.\nRequestId:1\nTime:2\nErrorCode:{code}\nContent: <?xml"
    )
    error.status_code, error.error_code = status, code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused(403, "AuthorizationPermissionMismatch"), "lacks the role Storage Blob Data Contributor"),
        (refused(403, "AuthorizationFailure"), "network rules"),
        (refused(401, "InvalidAuthenticationInfo"), "another tenant"),
        (refused(403, "AccountIsDisabled"), "ErrorCode:AccountIsDisabled"),
        (
            ClientAuthenticationError("DefaultAzureCredential failed to retrieve\n\ta token"),
            "there is no login",
        ),
    ],
)
def test_what_a_refusal_means_is_said_and_nothing_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    calls = []

    async def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(adlfs.AzureBlobFileSystem, "_cat_file", refuse)
    with pytest.raises(UserError, match=said) as told:
        storage.read_text(f"{HOME}/a")
    assert (len(calls), type(told.value)) == (1, UserError)


def test_the_identity_of_a_job_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def late(*_: object, **__: object) -> bytes:
        calls.append(1)
        if len(calls) < 3:
            raise ClientAuthenticationError("DefaultAzureCredential failed to retrieve a token")
        return b"text"

    monkeypatch.setenv("RUN_ID", "r1")
    monkeypatch.setattr(storage, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(adlfs.AzureBlobFileSystem, "_cat_file", late)
    assert storage.read_text(f"{HOME}/a") == "text"


def test_a_token_is_asked_for_as_the_blobs_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    scopes: list[str] = []

    async def get_token(_: object, *wanted: str, **__: object) -> AccessToken:
        scopes.extend(wanted)
        raise ClientAuthenticationError("nobody")

    filesystem = open_without_a_key(f"{HOME}/a")
    monkeypatch.setattr(DefaultAzureCredential, "get_token", get_token)
    monkeypatch.setattr(DefaultAzureCredential, "get_token_info", get_token, raising=False)
    Waits(monkeypatch)
    with pytest.raises(UserError, match="there is no login"):
        storage.read_text(f"{HOME}/a")
    assert filesystem.anon is False
    assert set(scopes) == {"https://storage.azure.com/.default"}


def test_every_request_of_the_library_is_no_news() -> None:
    for name in (
        "azure.core.pipeline.policies.http_logging_policy",
        "azure.identity.aio",
        "azure.storage.blob",
    ):
        assert not logging.getLogger(name).isEnabledFor(logging.WARNING)


def test_people_see_the_container_in_the_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    monkeypatch.setenv("PATH", "")  # no Azure CLI, which would know the one that was chosen
    login._chosen.cache_clear()
    assert browse(f"{HOME}/runs/r1") == ""
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "12")
    page = browse(f"{HOME}/runs/r1")
    assert page.startswith("https://portal.azure.com/#view/Microsoft_Azure_Storage/ContainerMenuBlade/")
    assert "%2Fsubscriptions%2F12%2FresourceGroups%2Fdemo%2F" in page
    assert page.endswith("storageAccounts%2Fdemobucket/path/training")
    assert browse("runs/r1") == ""
