"""A file that several change at once, in the buckets that can compare versions: no change is lost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import fsspec
import pytest
from fsspec.asyn import sync
from launcher.atomic import update_text
from launcher.errors import UserError
from launcher.storage import read_text, remove
from servers import amazon, microsoft
from stage.bucket import bucket


@pytest.fixture(scope="module", params=["gs", "s3", "abfss"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of each kind, empty."""
    folder = tmp_path_factory.mktemp("bucket")
    place = {"abfss": "training@shared.dfs.core.windows.net"}.get(request.param, "shared")
    with ExitStack() as entered, pytest.MonkeyPatch.context() as patch:
        if request.param == "s3":
            env = entered.enter_context(amazon("shared", folder))
        elif request.param == "abfss":
            env = entered.enter_context(microsoft("shared", folder))
        else:
            env = entered.enter_context(bucket("shared", folder)).env
        for name, value in env.items():
            patch.setenv(name, value)
        filesystem = fsspec.filesystem(request.param)
        filesystem.clear_instance_cache()
        if request.param == "abfss":
            filesystem.mkdir("training")
        yield f"{request.param}://{place}"
        filesystem.clear_instance_cache()


def appended(word: str) -> Callable[[str | None], str]:
    return lambda text: (text or "") + word


def test_a_file_is_made_and_changed(home: str) -> None:
    update_text(f"{home}/made", appended("a"))
    update_text(f"{home}/made", appended("b"))
    assert read_text(f"{home}/made") == "ab"


def test_nothing_is_written_where_there_is_no_change(home: str) -> None:
    update_text(f"{home}/never", lambda _: None)
    assert read_text(f"{home}/never") is None


@pytest.mark.parametrize("before", ["", "x"])
def test_what_another_writes_in_between_is_not_lost(home: str, before: str) -> None:
    uri, seen = f"{home}/between-{before}", []
    if before:
        update_text(uri, appended(before))

    def change(text: str | None) -> str:
        seen.append(text)
        if len(seen) == 1:
            update_text(uri, appended("other "))
        return (text or "") + "mine"

    update_text(uri, change)
    assert seen == [before or None, f"{before}other "]
    assert read_text(uri) == f"{before}other mine"


def test_what_another_removes_in_between_is_made_anew(home: str) -> None:
    uri, seen = f"{home}/removed", []
    update_text(uri, appended("old "))

    def change(text: str | None) -> str:
        seen.append(text)
        if len(seen) == 1:
            remove(uri)
        return (text or "") + "mine"

    update_text(uri, change)
    assert (seen, read_text(uri)) == (["old ", None], "mine")


def test_an_error_of_the_change_leaves_the_file_as_it_is(home: str) -> None:
    uri = f"{home}/refused"
    update_text(uri, appended("kept"))

    def refuse(_: str | None) -> str:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        update_text(uri, refuse)
    assert read_text(uri) == "kept"


def test_a_conflict_that_s3_reports_while_another_write_is_under_way_is_tried_again(
    home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 ConditionalRequestConflict: docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html."""
    if not home.startswith("s3"):
        return  # Google's conditions know no such answer
    from botocore.exceptions import ClientError

    filesystem, _ = fsspec.url_to_fs(home)
    calls, real = [], filesystem._call_s3

    async def conflict(method: str, *args: object, **given: object) -> object:
        if method == "put_object" and not calls:
            calls.append(method)
            error = {
                "Error": {"Code": "ConditionalRequestConflict"},
                "ResponseMetadata": {"HTTPStatusCode": 409},
            }
            raise OSError("conflict") from ClientError(error, method)  # type: ignore[arg-type]
        return await real(method, *args, **given)

    monkeypatch.setattr(filesystem, "_call_s3", conflict)
    monkeypatch.setattr(filesystem, "call_s3", lambda *a, **k: sync(filesystem.loop, conflict, *a, **k))
    update_text(f"{home}/conflict", appended("a"))
    assert (calls, read_text(f"{home}/conflict")) == (["put_object"], "a")
