"""What a job is fed is looked at before: data in the bucket, and the code in the image."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from launcher.job import Problem
from launcher.providers.google import inputs
from test_doctor import FILES, LOCK, OBJECTS, only

# -- data ----------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path) -> Path:
    """A project whose data are in DVC."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "dvc.lock").write_text(LOCK)
    (folder / ".dvc" / "config").write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    # why\n"
        "    verify = true\n    url = gs://my-bucket/dvc\n"
    )
    return folder


def test_data_of_which_every_object_is_in_the_bucket_are_fine(server, project):
    server.say("GET", f"{OBJECTS}01%2F23456789abcdef0123456789abcdef.dir", FILES)
    server.say("GET", f"{OBJECTS}aa%2F{'1' * 30}", {"name": "a"})
    server.say("GET", f"{OBJECTS}bb%2F{'2' * 30}", {"name": "b"})
    assert inputs.check_data("data/digits", project) == []
    assert len(server.sent("GET", f"{OBJECTS}bb%2F{'2' * 30}")) == 1


def test_one_object_that_was_not_pushed_is_found(server, project):
    server.say("GET", f"{OBJECTS}01%2F23456789abcdef0123456789abcdef.dir", FILES)
    server.say("GET", f"{OBJECTS}aa%2F{'1' * 30}", {"name": "a"})
    problem = only(inputs.check_data("data/digits", project))
    assert problem.fatal
    assert problem.what == "1 of 2 objects of data/digits are not in gs://my-bucket/dvc"
    assert "uv run dvc push" in problem.remedy


def test_data_that_were_never_pushed_are_found(server, project):
    assert "dvc push" in only(inputs.check_data("data/digits", project)).remedy


def test_a_single_file_added_to_dvc_is_looked_up_as_it_is(server, project):
    (project / "data").mkdir()
    (project / "data" / "photos.tar.dvc").write_text(
        f"outs:\n- md5: {FILES[0]['md5']}\n  size: 3\n  hash: md5\n  path: photos.tar\n"
    )
    server.say("GET", f"{OBJECTS}aa%2F{'1' * 30}", {"name": "a"})
    assert inputs.check_data("data/photos.tar", project) == []
    assert len(server.asked) == 3  # the two of the login, and the object


@pytest.mark.parametrize("locked", [True, False])
def test_data_that_dvc_does_not_know_name_the_file_to_add_them_to(server, project, locked):
    if not locked:
        (project / "dvc.lock").unlink()
    problem = only(inputs.check_data("data/shapes", project))
    assert problem.fatal
    assert problem.what == "data/shapes is not in dvc.lock"
    assert "add shapes to the list in dvc.yaml" in problem.remedy


# -- the code in the image -----------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path) -> Path:
    """A git repository with one commit, of which the image is said to be."""
    folder = tmp_path / "repository"
    for name in ("src/model.py", "Dockerfile", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    identity = (
        "-c",
        "commit.gpgsign=false",
        "-c",
        "user.name=someone",
        "-c",
        "user.email=someone@localhost",
    )
    git(folder, *identity, "commit", "-q", "-m", "all")
    return folder


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def image(monkeypatch, repository) -> SimpleNamespace:
    """The commit that the image names; None for none."""
    stated = SimpleNamespace(commit=git(repository, "rev-parse", "HEAD"))
    monkeypatch.setattr(inputs.registry, "revision", lambda name: stated.commit)
    return stated


def check_code(root: Path, worktree: bool = False, newest: bool = True) -> list[Problem]:
    return inputs.check_code("image", worktree, newest, root)


def test_an_image_of_this_very_code_is_fine(image, repository):
    (repository / "README.md").write_text("does not train\n")
    assert check_code(repository) == []


def test_older_code_than_one_looks_at_is_never_trained_unsaid(image, repository):
    (repository / "src" / "model.py").write_text("new\n")
    (repository / "src" / "loss.py").write_text("not even in git\n")
    problem = only(check_code(repository))
    assert problem.fatal
    assert problem.what.endswith("src/loss.py, src/model.py")
    assert "code=worktree" in problem.remedy
    assert not only(check_code(repository, newest=False)).fatal
    assert check_code(repository, worktree=True) == []


def test_what_only_a_new_image_can_change_is_said_also_of_the_working_tree(image, repository):
    (repository / "Dockerfile").write_text("new\n")
    (repository / "src" / "model.py").write_text("new\n")
    problem = only(check_code(repository, worktree=True))
    assert not problem.fatal
    assert problem.what.endswith("has changed in Dockerfile")
    assert problem.remedy.startswith("commit and push")


def test_an_image_of_an_unknown_commit_cannot_be_trusted(image, repository):
    image.commit = "f" * 40
    problem = only(check_code(repository))
    assert problem.fatal
    assert "git fetch" in problem.remedy
    assert check_code(repository, worktree=True) == []


def test_an_image_that_names_no_commit_is_said(image, repository):
    image.commit = None
    problem = only(check_code(repository))
    assert not problem.fatal
    assert "does not say which commit" in problem.what
