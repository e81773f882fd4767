"""The stand-in of a bucket passes everything through, and fails exactly as a test asks."""

import io
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import Forbidden, GoogleAPICallError, PreconditionFailed
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from stage.bucket import Bucket, bucket
from stage.rest import ask

NO_RETRY: Any = None
QUICK = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.02)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Bucket]:
    with bucket("stage-bucket", tmp_path) as here:
        yield here


@pytest.fixture
def client(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    return storage.Client(project="p").bucket(store.name)


def upload_in_pieces(client: storage.Bucket, name: str, content: bytes) -> None:
    """Uploads by a session, in pieces of 256 KiB, as clients do when they do not know the size."""
    blob = client.blob(name)
    blob.chunk_size = 256 * 1024
    blob.upload_from_file(io.BytesIO(content), retry=QUICK)


def test_the_proxy_passes_everything_through(store: Bucket, client: storage.Bucket):
    content = os.urandom(1 << 20)
    client.blob("a/one").upload_from_string(b"small")
    upload_in_pieces(client, "a/two", content)
    assert client.blob("a/two").download_as_bytes() == content == store.read("a/two")
    assert store.objects("a/") == {"a/one": 5, "a/two": 1 << 20}
    assert [blob.name for blob in client.list_blobs(prefix="a/")] == ["a/one", "a/two"]
    # Every piece came by the proxy: the session's address leads back to it.
    assert store.count("PUT", "upload_id=") >= 4
    assert store.bytes_up > 1 << 20
    assert store.bytes_down > 1 << 20
    blob = client.get_blob("a/one")
    assert blob is not None
    assert str(blob.self_link).startswith(store.url)
    blob.delete()
    assert not client.blob("a/one").exists()
    with pytest.raises(PreconditionFailed):
        client.blob("a/two").upload_from_string(b"x", if_generation_match=0)


def test_an_upload_in_one_piece_must_not_replace_what_it_says_is_not_there(store: Bucket):
    """As curl does it; the emulator alone would replace the object."""
    url = f"{store.url}/upload/storage/v1/b/{store.name}/o?uploadType=media&name=a%2Fone"
    assert ask(f"{url}&ifGenerationMatch=0", body=b"first")[0] == 200
    status, refusal = ask(f"{url}&ifGenerationMatch=0", body=b"second")
    assert (status, refusal["error"]["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert store.read("a/one") == b"first"
    assert ask(url, body=b"second")[0] == 200
    assert store.read("a/one") == b"second"


def test_of_uploads_that_replace_the_same_content_one_succeeds(store: Bucket):
    url = f"{store.url}/upload/storage/v1/b/{store.name}/o?uploadType=media&name=a%2Fone"
    assert store.generation("a/one") == "0"
    ask(url, body=b"first")
    replaces = f"{url}&ifGenerationMatch={store.generation('a/one')}"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask(replaces, body=b"%d" % number)[0], range(8)))
    assert sorted(answers) == [200] + [412] * 7
    assert store.read("a/one") == b"%d" % answers.index(200)


def test_the_bucket_says_what_is_permitted_and_where_it_is(store: Bucket, client: storage.Bucket):
    asked = ["storage.objects.create", "storage.objects.delete"]
    assert client.test_iam_permissions(asked) == asked
    store.permissions.remove("storage.objects.create")
    assert client.test_iam_permissions(asked) == ["storage.objects.delete"]
    assert ask(f"{store.url}/storage/v1/b/{store.name}/iam/testPermissions")[0] == 400
    store.location = "EU"
    client.reload()
    assert client.location == "EU"


@pytest.mark.parametrize("status", [503, 429])
def test_faults_pass_after_so_many_requests(store: Bucket, client: storage.Bucket, status: int):
    fault = store.fail("POST", "upload", times=2, status=status)
    client.blob("a").upload_from_string(b"content", retry=QUICK)
    assert fault.hits == 2
    assert store.read("a") == b"content"
    other = store.fail("GET", "never", times=None, status=503)
    client.blob("a").download_as_bytes()
    assert other.hits == 0


def test_a_refusal_is_told_as_one(store: Bucket, client: storage.Bucket):
    store.fail("GET", "/o/a", status=403, times=None)
    client.blob("a").upload_from_string(b"content")
    with pytest.raises(Forbidden):
        client.blob("a").download_as_bytes()
    store.heal()
    assert client.blob("a").download_as_bytes() == b"content"


@pytest.mark.parametrize(
    "fault", [{"cut_request": 0}, {"cut_request": 100_000}, {"cut_response": 0}, {"cut_response": 10}]
)
def test_a_cut_upload_never_harms_what_is_there(store: Bucket, client: storage.Bucket, fault: dict):
    old, new = os.urandom(700_000), os.urandom(800_000)
    client.blob("checkpoint").upload_from_string(old)
    strike = store.fail("POST|PUT", "upload", **fault)
    with pytest.raises((OSError, GoogleAPICallError)):
        client.blob("checkpoint").upload_from_string(new, retry=NO_RETRY)
    assert strike.hits == 1
    # Cut on the way there it is the old one, cut on the way back the new one: whole in either case.
    assert store.read("checkpoint") == (old if "cut_request" in fault else new)
    assert 0 in [one.status for one in store.exchanges]
    client.blob("checkpoint").upload_from_string(new)
    assert store.read("checkpoint") == new


@pytest.mark.parametrize("fault", [{"cut_request": 1000}, {"cut_response": 0}, {"status": 503}])
@pytest.mark.parametrize("piece", [0, 1, 3, 4])
def test_a_cut_piece_of_an_upload_is_sent_again(
    store: Bucket, client: storage.Bucket, fault: dict, piece: int
):
    content = os.urandom(1 << 20)
    strike = store.fail("PUT", "upload_id", skip=piece, **fault)
    upload_in_pieces(client, "big", content)
    assert strike.hits == 1
    assert store.read("big") == content


def test_a_piece_that_is_there_already_is_not_stored_twice(store: Bucket, client: storage.Bucket):
    # As gcsfs does: it sends the piece once more, rather than ask how much has come in.
    url = str(client.blob("big").create_resumable_upload_session(size=6))
    pieces = (
        (b"abc", "bytes 0-2/6"),
        (b"abc", "bytes 0-2/6"),
        (b"def", "bytes 3-5/6"),
        (b"def", "bytes 3-5/6"),
    )
    answers = [requests.put(url, part, headers={"Content-Range": span}, timeout=30) for part, span in pieces]
    assert [answer.status_code for answer in answers] == [308, 308, 200, 200]
    assert answers[1].headers["Range"] == "bytes=0-2"
    assert answers[2].json() == answers[3].json()
    assert store.read("big") == b"abcdef"


def test_a_client_that_dies_leaves_what_was_there(store: Bucket):
    store.write("a", b"old")
    with socket.create_connection(("127.0.0.1", int(store.url.rpartition(":")[2]))) as dying:
        path = f"/upload/storage/v1/b/{store.name}/o?uploadType=media&name=a"
        dying.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nnew".encode())
        while not store.exchanges or not store.exchanges[-1].sent:
            time.sleep(0.01)
    while store.open:
        time.sleep(0.01)
    assert store.read("a") == b"old"


def test_a_cut_download_is_noticed(store: Bucket, client: storage.Bucket):
    content = os.urandom(500_000)
    store.write("big", content)
    store.fail("GET", "alt=media", cut_response=1000, times=None)
    with pytest.raises((OSError, GoogleAPICallError)):
        client.blob("big").download_as_bytes(retry=NO_RETRY)
    store.heal()
    assert client.blob("big").download_as_bytes() == content


def test_a_slow_bucket_outlasts_patience(store: Bucket, client: storage.Bucket):
    fault = store.fail("GET", "/o/none", seconds=3)
    with pytest.raises(requests.Timeout):
        client.blob("none").exists(timeout=1, retry=NO_RETRY)
    assert fault.hits == 1
    assert not client.blob("none").exists()
