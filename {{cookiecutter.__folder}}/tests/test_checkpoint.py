"""A checkpoint is whole or absent, and nothing but this project's is taken for one."""

import errno
import os
import pickle

import pytest
import torch
from launcher import UserError

from {{ cookiecutter.package_name }}.training.checkpoint import (
    FORMAT,
    CheckpointStore,
    load_checkpoint,
)


def store_with(folder, *steps, keep=2):
    store = CheckpointStore(folder, keep)
    for step in steps:
        weights = torch.full((1000,), float(step))
        store.save(step, {"format": FORMAT, "step": step, "weights": weights})
    store.wait()
    return store


def newest_step(store):
    state = store.load_newest()
    assert state is not None
    return state["step"]


def test_the_newest_is_loaded_and_old_ones_go(tmp_path):
    store = store_with(tmp_path, 1, 2, 3)
    assert [path.name[:13] for path in store.files()] == ["step-00000003", "step-00000002"]
    assert newest_step(store) == 3


def test_a_checkpoint_is_a_copy_of_the_moment_it_was_taken(tmp_path):
    weights = torch.zeros(10)
    store = CheckpointStore(tmp_path)
    store.save(1, {"format": FORMAT, "weights": weights})
    weights += 1
    store.wait()
    state = store.load_newest()
    assert state is not None
    assert state["weights"].sum() == 0


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_newest_is_reported_and_the_one_before_used(tmp_path, caplog, damage):
    store = store_with(tmp_path, 1, 2)
    newest = store.files()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": content, "truncate": content[:99], "empty": b""}[damage])
    assert newest_step(store) == 1
    assert f"{newest} is damaged" in caplog.text


def test_when_all_are_damaged_nothing_is_guessed(tmp_path):
    store = store_with(tmp_path, 1, 2)
    for path in store.files():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"No checkpoint in .* is whole"):
        store.load_newest()


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    store = store_with(tmp_path, 1)
    unfinished = tmp_path / ".step-00000002.tmp"
    unfinished.write_bytes(b"half")
    assert newest_step(store) == 1
    assert unfinished.exists()  # a report is made: the training may still be writing it
    store.remove_unfinished()
    assert not unfinished.exists()


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda path: torch.save({"epoch": 3}, path), "is not a checkpoint of this project"),
        (lambda path: torch.save([1, 2], path), "is not a checkpoint of this project"),
        (lambda path: path.write_bytes(pickle.dumps(Evil())), "cannot be read"),
        (lambda path: path.write_text("hello"), "cannot be read"),
        (lambda path: torch.save({"format": 99}, path), "has checkpoint format 99"),
    ],
    ids=["other dict", "list", "code", "text", "other version"],
)
def test_foreign_files_are_refused_and_never_executed(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    content(tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=sentence):
        load_checkpoint(tmp_path / "foreign.pt")
    assert not (tmp_path / "evil").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    store = store_with(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    store.save(2, {"format": FORMAT})
    with pytest.raises(UserError, match="No space left on device"):
        store.wait()
    monkeypatch.undo()
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_step(store) == 1
