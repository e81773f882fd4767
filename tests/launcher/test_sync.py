"""A run's mirror in the bucket can be continued from, whenever it is looked at."""

import os
import threading
import time
from pathlib import Path

import pytest
import xxhash
from launcher import storage
from launcher.errors import UserError
from launcher.storage import StorageUnavailable
from launcher.worker import sync
from launcher.worker.sync import Mirror


def checkpoint(folder, step, content=None):
    """Writes a file as the training names its checkpoints."""
    content = content or f"checkpoint {step}".encode()
    path = folder / "checkpoints" / f"step-{step:08d}-{xxhash.xxh3_128(content).hexdigest()}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    return part.replace(path)


@pytest.fixture
def here(tmp_path):
    return tmp_path / "here"


@pytest.fixture
def bucket(tmp_path):
    return tmp_path / "bucket"


@pytest.fixture
def said():
    return []


@pytest.fixture
def mirror(here, bucket, said, monkeypatch):
    """The mirror of `here` in `bucket`, restored from what is there already."""
    here.mkdir()
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    monkeypatch.setattr(storage, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(sync, "POLL", 0.02)
    return Mirror(here, str(bucket), said.append)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_log_is_uploaded_before_the_checkpoint_that_counts_on_it(mirror, here, bucket, monkeypatch):
    mirror.restore()
    (here / "metrics.jsonl").write_text("{}\n")
    (here / "run.json").write_text("{}\n")
    checkpoint(here, 1)
    order = []
    monkeypatch.setattr(sync, "store", lambda _, uri, patience: order.append(Path(uri).name))
    mirror.publish(patience=0)
    assert order[:2] == ["metrics.jsonl", "run.json"]
    assert order[2].startswith("step-00000001")


def test_lines_of_a_checkpoint_that_comes_during_the_upload_are_not_missing(
    mirror, here, bucket, monkeypatch
):
    """The log is copied after the newest checkpoint is chosen; a newer one waits for the next round."""
    mirror.restore()
    (here / "metrics.jsonl").write_text("1\n")
    checkpoint(here, 1)

    def busy(path, uri, patience):
        storage.store(path, uri, patience)
        if uri.endswith("metrics.jsonl"):
            with (here / "metrics.jsonl").open("a") as file:
                file.write("2\n")
            checkpoint(here, 2)

    monkeypatch.setattr(sync, "store", busy)
    mirror.publish(patience=0)
    assert (bucket / "metrics.jsonl").read_text() == "1\n"
    assert [name[:29] for name in names(bucket) if "step" in name] == [
        "checkpoints/step-00000001-" + name_of(1)[:3]
    ]


def name_of(step):
    return xxhash.xxh3_128(f"checkpoint {step}".encode()).hexdigest()


def test_older_checkpoints_go_when_a_newer_one_is_there_and_not_before(mirror, here, bucket, monkeypatch):
    mirror.restore()
    seen = []

    def remove(uri, patience):
        seen.append(names(bucket)[-1])
        storage.remove(uri, patience)

    monkeypatch.setattr(sync, "remove", remove)
    for step in range(1, 6):
        newest = checkpoint(here, step)
        for path in sorted(here.glob("checkpoints/*"))[:-2]:  # as a training that keeps two
            path.unlink()
        mirror.publish(patience=0)
        assert names(bucket)[-1] == f"checkpoints/{newest.name}"
    assert [name[12:25] for name in seen] == [f"step-0000000{step}" for step in (3, 4, 5)]
    kept = [name[12:25] for name in names(bucket)]
    assert kept == ["step-00000004", "step-00000005"]


def test_no_checkpoint_is_removed_while_the_newer_one_cannot_be_uploaded(mirror, here, bucket, monkeypatch):
    mirror.restore()
    path = checkpoint(here, 1)
    mirror.publish(patience=0)
    path.unlink()
    checkpoint(here, 2)

    def fails(path, uri, patience):
        raise StorageUnavailable("no answer")

    monkeypatch.setattr(sync, "store", fails)
    with pytest.raises(StorageUnavailable):
        mirror.publish(patience=0)
    assert [name[12:25] for name in names(bucket)] == ["step-00000001"]


def test_a_checkpoint_that_the_training_removes_meanwhile_is_uploaded_whole(
    mirror, here, bucket, monkeypatch
):
    mirror.restore()
    path = checkpoint(here, 1)

    def slow(source, uri, patience):
        path.unlink()
        storage.store(source, uri, patience)

    monkeypatch.setattr(sync, "store", slow)
    mirror.publish(patience=0)
    assert (bucket / "checkpoints" / path.name).read_bytes() == b"checkpoint 1"


def test_a_line_that_is_being_written_is_not_uploaded(mirror, here, bucket):
    mirror.restore()
    (here / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    mirror.publish(patience=0)
    assert (bucket / "metrics.jsonl").read_text() == '{"step": 1}\n'
    (here / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    mirror.publish(patience=0)
    assert (bucket / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_what_has_not_changed_is_not_uploaded_again(mirror, here, monkeypatch):
    mirror.restore()
    (here / "metrics.jsonl").write_text("{}\n")
    mirror.publish(patience=0)
    monkeypatch.setattr(sync, "store", lambda *_, **__: pytest.fail("uploaded again"))
    mirror.publish(patience=0)


def test_the_newest_checkpoint_and_the_logs_come_back(mirror, here, bucket):
    for step in (1, 2):
        checkpoint(bucket, step)
    for name in ("metrics.jsonl", "run.json", "report.md"):
        (bucket / name).write_text("{}\n")
    assert mirror.restore() == 2
    assert [name for name in names(here) if "step" not in name] == ["metrics.jsonl", "run.json"]
    assert [name[12:25] for name in names(here) if "step" in name] == ["step-00000002"]


def test_a_damaged_checkpoint_is_passed_over_and_then_removed(mirror, here, bucket, said):
    checkpoint(bucket, 1)
    damaged = checkpoint(bucket, 2)
    damaged.write_bytes(b"else")
    assert mirror.restore() == 1
    assert any(f"{damaged.name} in the bucket is damaged" in line for line in said)
    checkpoint(here, 3)
    mirror.publish(patience=0)
    kept = [name[12:25] for name in names(bucket)]
    assert kept == ["step-00000001", "step-00000003"]


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew_unasked(mirror, bucket):
    checkpoint(bucket, 1).write_bytes(b"else")
    with pytest.raises(UserError, match=r"No checkpoint in .*bucket/checkpoints is whole"):
        mirror.restore()


def test_a_machine_that_knows_more_than_the_bucket_keeps_that(mirror, here, bucket):
    checkpoint(bucket, 1)
    checkpoint(here, 2)
    (bucket / "metrics.jsonl").write_text("1\n")
    (here / "metrics.jsonl").write_text("1\n2\n")
    assert mirror.restore() == 2
    assert (here / "metrics.jsonl").read_text() == "1\n2\n"


def test_before_it_is_restored_nothing_old_is_laid_over_the_bucket(mirror, here, bucket):
    checkpoint(here, 1)
    for name in ("metrics.jsonl", "report.md", "worker.log"):
        (here / name).write_text("old\n")
    mirror.finish(patience=0)
    assert names(bucket) == ["worker.log"]


def test_an_empty_bucket_is_no_error(mirror):
    assert mirror.restore() is None


def test_the_end_is_tried_again_until_patience_is_over(mirror, here, bucket, monkeypatch, said):
    mirror.restore()
    (here / "report.md").write_text("report")
    calls = []

    def flaky(path, uri, patience):
        calls.append(uri)
        if len(calls) < 3:
            raise StorageUnavailable("no answer")
        storage.store(path, uri, patience)

    monkeypatch.setattr(sync, "store", flaky)
    mirror.finish(patience=20)
    assert (bucket / "report.md").read_text() == "report"
    assert said[-1] == "uploads work again"
    (here / "report.md").write_text("another report")
    monkeypatch.setattr(sync, "store", lambda *_, **__: flaky(calls.clear(), "", 0))
    with pytest.raises(StorageUnavailable):
        mirror.finish(patience=0)


def test_an_upload_that_was_left_behind_takes_nothing_from_the_last_one(mirror, here, bucket, monkeypatch):
    """The bucket hangs at the end of a training; what hung goes on just as all is uploaded once more."""
    mirror.restore()
    before, goes_on, begun = sync.store, threading.Event(), threading.Event()

    def store(path, uri, patience):
        if "checkpoints" not in uri:
            return before(path, uri, patience)
        if threading.current_thread() is mirror._thread:
            begun.set()
            goes_on.wait()
        else:
            goes_on.set()
            mirror._thread.join()
        return before(path, uri, patience)

    monkeypatch.setattr(sync, "store", store)
    newest = checkpoint(here, 3)
    mirror.start()
    begun.wait()
    mirror.stop(wait=0.01)
    mirror.finish(patience=0)
    assert names(bucket) == [f"checkpoints/{newest.name}"]
    assert mirror._published == [newest.name]


def test_uploads_run_beside_a_training_that_writes_all_the_time(mirror, here, bucket):
    mirror.restore()
    stop = threading.Event()

    def training():
        step = 0
        while not stop.is_set():
            step += 1
            with (here / "metrics.jsonl").open("a") as file:
                file.write(f"{step}\n")
            checkpoint(here, step)
            for path in sorted(here.glob("checkpoints/*"))[:-2]:
                path.unlink()

    thread = threading.Thread(target=training)
    thread.start()
    mirror.start()
    seen = set()
    until = time.monotonic() + 600
    while len(seen) < 5 and time.monotonic() < until:
        for name in os.listdir(bucket / "checkpoints") if (bucket / "checkpoints").exists() else []:
            if not name.startswith("."):
                seen.add(int(name[5:13]))
                lines = (bucket / "metrics.jsonl").read_text().splitlines()
                assert len(lines) >= int(name[5:13])
    stop.set()
    thread.join()
    mirror.stop(10)
    mirror.finish(patience=1)
    assert len(seen) >= 5
    (newest, *_) = sorted(here.glob("checkpoints/*"), reverse=True)
    assert (bucket / "checkpoints" / newest.name).read_bytes() == newest.read_bytes()
    assert (bucket / "metrics.jsonl").read_bytes() == (here / "metrics.jsonl").read_bytes()
