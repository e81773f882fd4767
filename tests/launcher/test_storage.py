"""Folders and web servers through the one interface; buckets are tried by the template's own tests."""

import threading
from email.message import Message
from urllib.error import HTTPError

import aiohttp
import pytest
import requests.exceptions
from fsspec.implementations.local import LocalFileSystem
from launcher import storage
from launcher.errors import UserError


def test_fetch_makes_the_folders_that_the_file_needs(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    storage.fetch(str(tmp_path / "a"), tmp_path / "deep" / "down" / "b")
    assert (tmp_path / "deep" / "down" / "b").read_bytes() == b"content"


def test_a_missing_file_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(UserError, match=f"{tmp_path}/missing does not exist"):
        storage.fetch(str(tmp_path / "missing"), tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_transfer_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    def breaks_off(self, remote, local, **_):
        with open(local, "wb") as file:
            file.write(b"half")
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(LocalFileSystem, "get_file", breaks_off)
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(UserError, match="connection reset by peer"):
        storage.fetch(str(tmp_path / "new"), tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("call", [storage.list_files, lambda uri: storage.fetch(uri, "never")])
def test_an_unknown_kind_of_address_is_one_sentence(call):
    with pytest.raises(UserError, match="nowhere://bucket/file cannot be read"):
        call("nowhere://bucket/file")


def test_files_are_listed_by_their_paths_below_the_folder(tmp_path):
    for name in ("run.json", "checkpoints/2.pt", "checkpoints/1.pt"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    (tmp_path / "a-2").mkdir()
    (tmp_path / "a-2" / "other").touch()
    expected = ["checkpoints/1.pt", "checkpoints/2.pt", "run.json"]
    assert storage.list_files(str(tmp_path / "a")) == expected
    assert storage.list_files(f"{tmp_path}/a/") == expected


def test_listing_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing at"):
        storage.list_files(str(tmp_path / "missing"))


# What each provider's library raises when trouble passes, and when it does not.
class HttpError(Exception):
    def __init__(self, code):
        super().__init__(f"status {code}")
        self.code = code


class ClientError(Exception):  # botocore's
    def __init__(self, code):
        super().__init__(f"status {code}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": code}}


def translated(code):
    """An error as s3fs makes it: its own kind, with botocore's behind it."""
    error = OSError(22, "an error")
    error.__cause__ = ClientError(code)
    return error


PASSING = [
    HttpError(503),
    HttpError("429"),
    translated(500),
    ConnectionResetError("reset by peer"),
    TimeoutError(),
    requests.exceptions.ProxyError(),  # gcsfs for 502
    aiohttp.ClientPayloadError("cut off"),
]
REFUSED = [
    HttpError(403),
    HttpError(401),
    translated(400),
    OSError("Forbidden: https://example.com"),  # gcsfs for 403
    PermissionError(13, "denied"),
    OSError(28, "No space left on device"),
    ValueError("Bad Request"),
]


@pytest.fixture
def quick(monkeypatch):
    """Tries again without waiting."""
    monkeypatch.setattr(storage, "FIRST_DELAY", 0.001)


class Flaky:
    """The folder's file system with one operation that raises `errors`, one a call, and then works."""

    def __init__(self, monkeypatch, operation, errors):
        self.calls, self.errors = 0, list(errors)
        plain = getattr(LocalFileSystem, operation)

        def flaky(filesystem, *args, **options):
            self.calls += 1
            if self.errors:
                raise self.errors.pop(0)
            return plain(filesystem, *args, **options)

        monkeypatch.setattr(LocalFileSystem, operation, flaky)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_trouble_that_passes_is_tried_again(tmp_path, monkeypatch, quick, error):
    flaky = Flaky(monkeypatch, "put_file", [error, error, error])
    (tmp_path / "a").write_bytes(b"content")
    storage.store(tmp_path / "a", f"{tmp_path}/bucket/b")
    assert (tmp_path / "bucket/b").read_bytes() == b"content"
    assert flaky.calls == 4


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_what_is_refused_is_not_tried_again(tmp_path, monkeypatch, quick, error):
    flaky = Flaky(monkeypatch, "put_file", [error] * 2)
    (tmp_path / "a").write_bytes(b"content")
    with pytest.raises(UserError, match="bucket/b cannot be written") as refused:
        storage.store(tmp_path / "a", f"{tmp_path}/bucket/b")
    assert flaky.calls == 1
    assert not isinstance(refused.value, storage.StorageUnavailable)
    assert list((tmp_path / "bucket").iterdir()) == []


def test_trouble_that_stays_is_told_apart_from_a_refusal(tmp_path, monkeypatch, quick):
    flaky = Flaky(monkeypatch, "cat_file", [HttpError(503)] * 1000)
    with pytest.raises(storage.StorageUnavailable, match=f"{tmp_path}/a cannot be read.*503"):
        storage.read_text(f"{tmp_path}/a", patience=0.05)
    assert flaky.calls > 2


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("get_file", lambda uri, path: storage.fetch(uri, path)),
        ("find", lambda uri, path: storage.list_files(uri.rpartition("/")[0])),
        ("cat_file", lambda uri, path: storage.read_text(uri)),
        ("rm_file", lambda uri, path: storage.remove(uri)),
    ],
)
def test_every_operation_has_patience(tmp_path, monkeypatch, quick, operation, call):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a").write_text("content")
    flaky = Flaky(monkeypatch, operation, [HttpError(503), ConnectionResetError("reset")])
    call(f"{tmp_path}/bucket/a", tmp_path / "there")
    assert flaky.calls == 3


def test_a_transfer_to_a_folder_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    def breaks_off(self, local, remote, **_):
        with open(remote, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "put_file", breaks_off)
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a").write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    with pytest.raises(UserError, match="No space left"):
        storage.store(tmp_path / "new", f"{tmp_path}/bucket/a")
    assert storage.list_files(f"{tmp_path}/bucket") == ["a"]
    assert (tmp_path / "bucket/a").read_bytes() == b"old"


def test_what_is_not_whole_yet_is_not_listed(tmp_path):
    for name in (".a-1234.part", "a"):  # the first is what a killed process leaves
        (tmp_path / name).touch()
    assert storage.list_files(str(tmp_path)) == ["a"]


def test_text_is_written_and_read_and_removed(tmp_path):
    uri = f"{tmp_path}/deep/down/a.json"
    assert storage.read_text(uri) is None
    storage.write_text(uri, "één")
    assert storage.read_text(uri) == "één"
    storage.write_text(uri, "twee")
    assert storage.read_text(uri) == "twee"
    storage.remove(uri)
    storage.remove(uri)
    assert storage.read_text(uri) is None


def test_of_two_new_files_by_one_name_the_first_stays(tmp_path):
    uri = f"{tmp_path}/a"
    storage.write_text(uri, "first", new=True)
    with pytest.raises(UserError, match="exists already"):
        storage.write_text(uri, "second", new=True)
    storage.write_text(uri, "first", new=True)  # a first try may have arrived unheard
    assert storage.read_text(uri) == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_storing_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no file .*missing"):
        storage.store(tmp_path / "missing", f"{tmp_path}/bucket/a")


@pytest.fixture
def silent(monkeypatch, tmp_path):
    """A bucket that cannot be reached until it is told to answer; gives the questions."""
    asked = []

    def open_(uri):
        asked.append(uri)
        if "answers" not in asked:
            raise ConnectionResetError("nobody answers")
        return LocalFileSystem(), f"{tmp_path}/{uri.rpartition('/')[2]}"

    monkeypatch.setattr(storage, "_open", open_)
    monkeypatch.setattr(storage, "_unreachable", {})
    return asked


def test_a_bucket_out_of_reach_is_not_asked_a_second_time_by_the_same_command(silent, monkeypatch):
    for uri in ("gs://silent/a", "gs://silent/b", "gs://other/a"):
        with pytest.raises(storage.StorageUnavailable, match=f"{uri} cannot be read .*nobody answers"):
            storage.read_text(uri, patience=0)
    with pytest.raises(storage.StorageUnavailable):
        storage.list_files("gs://silent/", patience=0)
    assert silent == ["gs://silent/a", "gs://other/a"]
    with pytest.raises(storage.StorageUnavailable):  # who is more patient may ask
        storage.read_text("gs://silent/c", patience=0.05)
    assert "gs://silent/c" in silent
    monkeypatch.setattr(storage, "REMEMBERED", 0)
    with pytest.raises(storage.StorageUnavailable):
        storage.read_text("gs://silent/d", patience=0)
    assert silent[-1] == "gs://silent/d"


def test_what_undoes_something_is_tried_whatever_could_not_be_read(silent, tmp_path):
    (tmp_path / "mark").touch()
    with pytest.raises(storage.StorageUnavailable):
        storage.read_text("gs://silent/a", patience=0)
    silent.append("answers")
    storage.remove("gs://silent/mark", patience=0)
    assert not (tmp_path / "mark").exists()


def test_a_bucket_that_answers_again_is_asked_again(silent):
    with pytest.raises(storage.StorageUnavailable):
        storage.read_text("gs://silent/a", patience=0)
    silent.append("answers")
    storage.write_text("gs://silent/a", "back", patience=0)
    assert storage.read_text("gs://silent/a", patience=0) == "back"


def test_a_refusal_of_one_object_is_no_silence_of_its_bucket(silent, monkeypatch):
    def busy(uri):
        silent.append(uri)
        raise HTTPError(uri, 503, "busy", Message(), None)

    monkeypatch.setattr(storage, "_open", busy)
    for name in ("a", "b"):
        with pytest.raises(storage.StorageUnavailable, match=f"gs://silent/{name} "):
            storage.read_text(f"gs://silent/{name}", patience=0)
    assert silent == ["gs://silent/a", "gs://silent/b"]


def test_a_job_asks_each_time(silent, monkeypatch):
    monkeypatch.setenv("RUN_ID", "a-run")
    for _ in range(2):
        with pytest.raises(storage.StorageUnavailable):
            storage.read_text("gs://silent/a", patience=0)
    assert len(silent) == 2


@pytest.mark.parametrize("ask", [storage.read_text, storage.list_files])
def test_who_waits_for_a_bucket_is_told_once(monkeypatch, caplog, ask):
    told = threading.Event()
    emit = caplog.handler.emit
    monkeypatch.setattr(caplog.handler, "emit", lambda record: (emit(record), told.set()))
    monkeypatch.setattr(storage, "SILENT", 0)
    monkeypatch.setattr(storage, "_told", set())

    def answers_late(uri):
        assert told.wait(60)
        raise FileNotFoundError

    monkeypatch.setattr(storage, "_open", answers_late)
    for _ in range(2):
        with pytest.raises(UserError, match="does not exist"):
            ask("gs://slow/a")
    assert caplog.text.count("gs://slow/a takes longer than") == 1


def test_who_has_an_answer_soon_or_asks_a_folder_is_told_nothing(monkeypatch, caplog, tmp_path):
    timers = []

    class Timer(threading.Timer):
        def __init__(self, *given):
            super().__init__(*given)
            timers.append(self)

    monkeypatch.setattr(storage.threading, "Timer", Timer)
    assert storage.read_text(f"{tmp_path}/a") is None
    assert timers[0].finished.is_set()  # it is cancelled
    monkeypatch.setattr(storage, "SILENT", 0)
    storage._tell(f"{tmp_path}/a")
    assert caplog.text == ""


@pytest.mark.parametrize(("variable", "passes"), [("RUN_ID", True), ("ELSEWHERE", False)])
def test_a_machines_own_server_for_logins_may_be_late(monkeypatch, variable, passes):
    """botocore waits six seconds for it; on a laptop there is none that would answer later."""
    from botocore.exceptions import CredentialRetrievalError, MetadataRetrievalError
    from launcher import trouble

    monkeypatch.delenv("RUN_ID", raising=False)
    monkeypatch.setenv(variable, "r1")
    for error in (
        CredentialRetrievalError(provider="container-role", error_msg="timed out"),
        MetadataRetrievalError(error_msg="timed out"),
    ):
        assert trouble.passing(error) == passes
