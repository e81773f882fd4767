"""Folders and web servers through the one interface; buckets are tried by the template's own tests."""

import pytest

from {{ cookiecutter.package_name }} import storage
from {{ cookiecutter.package_name }}.errors import UserError


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
    from fsspec.implementations.local import LocalFileSystem

    def breaks_off(self, remote, local, **_):
        with open(local, "wb") as file:
            file.write(b"half")
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(LocalFileSystem, "get_file", breaks_off)
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
