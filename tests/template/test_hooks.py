"""What a bake leaves on disk when all is well, and when something that it would like to use is missing."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from baking import BakedProject, RefusedError, bake_into, clean_env, only_programs, template
from cookiecutter.exceptions import OutputDirExistsException


def test_a_bake_is_a_clean_repository_with_a_lock_and_one_commit(bake) -> None:
    project: BakedProject = bake()
    assert project.run("git", "log", "--format=%s", "main").stdout == "First commit\n"
    assert project.run("git", "status", "--porcelain", "--ignored").stdout == ""
    assert "uv.lock" in project.run("git", "ls-files").stdout.split()
    project.run("uv", "lock", "--check")


def test_the_lock_names_no_release_of_the_last_week(bake) -> None:
    assert 'exclude-newer-span = "P7D"' in bake().read("uv.lock")


def test_ends_with_five_lines_of_what_to_do_next(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = bake_into(tmp_path)
    lines = capfd.readouterr().out.strip("\n").split("\n")
    assert len(lines) == 5
    assert lines[0].split() == ["cd", str(project.folder)]
    assert "make setup" in lines[1]
    assert "make data train" in lines[2]


def test_bakes_without_uv_and_says_what_to_type(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with only_programs("git"):
        project = bake_into(tmp_path)
    assert "`pip install uv`" in capfd.readouterr().out
    assert not project.has_file("uv.lock")
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_bakes_without_a_network_and_says_what_to_type(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = str(tmp_path / "empty-cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"UV_OFFLINE": "1", "UV_CACHE_DIR": cache}.items():
            patch.setenv(name, value)
        project = bake_into(tmp_path)
    assert "run `uv lock` here once there is a network" in capfd.readouterr().out
    assert not project.has_file("uv.lock")
    assert project.run("git", "log", "--format=%s").stdout == "First commit\n"


def test_bakes_without_git_and_says_what_to_type(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with only_programs():
        project = bake_into(tmp_path)
    assert "`git init && git add -A && git commit" in capfd.readouterr().out
    assert not (project.folder / ".git").exists()
    assert project.has_file("README.md")


@pytest.fixture
def no_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which git knows no name and no address, and will not guess them."""
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tuseConfigOnly = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_identity")
def test_commits_where_git_has_no_identity(tmp_path: Path) -> None:
    with only_programs("git"):
        project = bake_into(tmp_path)
    assert (
        project.run("git", "log", "--format=%an <%ae>").stdout
        == "cloud-training <cloud-training@localhost>\n"
    )
    assert (
        "user" not in (project.folder / ".git" / "config").read_text()
    )  # the next commit asks for a real one


def test_commits_as_the_user_where_git_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    with only_programs("git"):
        project = bake_into(tmp_path)
    assert project.run("git", "log", "--format=%an <%ae>").stdout == "Ada <ada@example.org>\n"


def repository(folder: Path, *ignored: str) -> Path:
    folder.mkdir()
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@localhost")
    (folder / ".gitignore").write_text("".join(f"{line}\n" for line in ignored))
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "outer")):
        subprocess.run([*git, *command], cwd=folder, check=True, env=clean_env())
    return folder


def test_makes_no_repository_inside_another(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outer = repository(tmp_path / "outer")
    with only_programs("git"):
        project = bake_into(outer)
    assert "belongs to the git repository around it" in capfd.readouterr().out
    assert not (project.folder / ".git").exists()
    assert project.run("git", "log", "--format=%s").stdout == "outer\n"


def test_makes_a_repository_in_a_folder_that_the_outer_one_ignores(tmp_path: Path) -> None:
    outer = repository(tmp_path / "outer", "build/")
    with only_programs("git"):
        project = bake_into(outer / "build")
    assert project.run("git", "log", "--format=%s").stdout == "First commit\n"


def test_a_bake_from_a_git_hook_commits_to_its_own_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = repository(tmp_path / "outer")
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer / ".git" / "index"))
    with only_programs("git"):
        project = bake_into(tmp_path)
    monkeypatch.undo()
    assert project.run("git", "log", "--format=%s").stdout == "First commit\n"
    assert BakedProject(outer).run("git", "log", "--format=%s").stdout == "outer\n"


def test_never_overwrites_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cloud-training").mkdir()
    (tmp_path / "cloud-training" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputDirExistsException):
        bake_into(tmp_path)
    with pytest.raises((OutputDirExistsException, RefusedError)):
        bake_into(tmp_path, project_slug="Cloud Training")  # is made lower-case for the folder, then refused
    assert [path.name for path in tmp_path.rglob("*")] == ["cloud-training", "thesis.txt"]
    assert (tmp_path / "cloud-training" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("hook", ["pre_gen_project.py", "post_gen_project.py"])
def test_a_failing_hook_leaves_nothing(hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "template"
    shutil.copytree(template(), copy)
    (copy / "hooks" / hook).write_text("raise SystemExit('The disk is full.')\n")
    monkeypatch.setattr("baking.template", lambda: copy)
    (tmp_path / "out").mkdir()
    with pytest.raises(RefusedError, match=r"The disk is full\."):
        bake_into(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_ctrl_c_says_what_it_leaves(tmp_path: Path) -> None:
    at_work, program = tmp_path / "at-work", tmp_path / "bin/uv"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {at_work}\nexec sleep 600\n")
    program.chmod(0o755)
    command = ["cookiecutter", str(template()), "--default-config", "--no-input", "-o", str(tmp_path)]
    env = clean_env(PATH=os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    pipe = subprocess.PIPE
    baking = subprocess.Popen(command, env=env, stderr=pipe, text=True, start_new_session=True)
    while not at_work.exists():
        assert baking.poll() is None
        time.sleep(0.02)
    os.killpg(baking.pid, signal.SIGINT)
    said = baking.communicate(timeout=600)[1]
    assert f"Interrupted: {tmp_path / 'cloud-training'} is not complete; remove it" in said
    assert "Traceback" not in said
    assert baking.returncode == 1


def test_a_replay_gives_the_same_project(tmp_path: Path) -> None:
    """`cookiecutter --replay` bakes the last answers again, private variables and all."""
    home = tmp_path / "home"
    command = ["cookiecutter", str(template()), "--default-config"]
    for number, how in enumerate((["--no-input", 'description=A {B} "C" \\D'], ["--replay"])):
        out = tmp_path / str(number)
        with only_programs("git", "cookiecutter"):
            subprocess.run([*command, "-o", str(out), *how], check=True, env=clean_env(HOME=str(home)))
    first, second = (BakedProject(tmp_path / str(number) / "cloud-training") for number in (0, 1))
    assert first.files() == second.files()
    assert {path: first.read(path) for path in first.files()} == {
        path: second.read(path) for path in first.files()
    }
