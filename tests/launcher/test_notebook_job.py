"""A notebook job: a real Jupyter on the loopback, what is written in it kept, and its end when nobody is there."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launcher.errors import UserError
from launcher.worker import notebook
from launcher.worker.notebook import (
    Shelf,
    options,
)


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.1)


# -- the folder ----------------------------------------------------------------------------------


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    (tmp_path / "notebooks").mkdir()
    return Shelf(tmp_path / "notebooks", str(tmp_path / "kept"))


def kept(shelf: Shelf) -> dict[str, str]:
    root = Path(shelf.uri or "")
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_only_what_a_person_has_written_is_kept(shelf):
    (shelf.folder / "explore.ipynb").write_text("of the image")
    assert shelf.restore() == 0
    shelf.save(0)
    assert kept(shelf) == {}
    (shelf.folder / "mine.ipynb").write_text("mine")
    (shelf.folder / "deep").mkdir()
    (shelf.folder / "deep" / "more.py").write_text("more")
    (shelf.folder / ".ipynb_checkpoints").mkdir()
    (shelf.folder / ".ipynb_checkpoints" / "mine-checkpoint.ipynb").write_text("old")
    shelf.save(0)
    assert kept(shelf) == {"mine.ipynb": "mine", "deep/more.py": "more"}


def test_it_is_there_again_in_place_of_what_the_image_has(shelf, tmp_path):
    shelf.restore()
    (shelf.folder / "explore.ipynb").write_text("changed")
    shelf.save(0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "explore.ipynb").write_text("of the image")
    again = Shelf(tmp_path / "other", shelf.uri)
    assert again.restore() == 1
    assert (tmp_path / "other" / "explore.ipynb").read_text() == "changed"


def test_what_is_removed_here_is_removed_there_and_nothing_else(shelf):
    shelf.restore()
    for name in ("a.ipynb", "b.ipynb"):
        (shelf.folder / name).write_text(name)
    shelf.save(0)
    (Path(shelf.uri or "") / "of-others").write_text("")
    (shelf.folder / "a.ipynb").rename(shelf.folder / "c.ipynb")
    shelf.save(0)
    assert sorted(kept(shelf)) == ["b.ipynb", "c.ipynb", "of-others"]


def test_without_a_bucket_it_stays_here(tmp_path):
    (tmp_path / "a").write_text("")
    shelf = Shelf(tmp_path, None)
    assert shelf.restore() == 0
    shelf.save(0)


# -- Jupyter -------------------------------------------------------------------------------------


def test_it_listens_on_the_loopback_and_ends_by_itself():
    given = options(Path("/app"), 8888, 1800.0)
    assert "--ServerApp.ip=127.0.0.1" in given
    assert "--ServerApp.shutdown_no_activity_timeout=1800" in given
    assert "--MappingKernelManager.cull_idle_timeout=1800" in given
    assert "--MappingKernelManager.cull_connected=True" in given
    assert not [one for one in given if "xsrf" in one or "allow_origin" in one or "remote" in one]


def test_a_wrong_time_is_refused():
    assert notebook.idle_seconds("90") == 90.0
    assert notebook.idle_seconds(None) is None
    with pytest.raises(UserError, match="RUN_IDLE_SECONDS=soon"):
        notebook.idle_seconds("soon")
