"""`cruft update` brings a project what is new in the template, and leaves its owner's edits and lock alone."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from baking import ROOT, BakedProject, clean_env, template

PROJECT = "{{cookiecutter.__folder}}"


def git(folder: Path, *command: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    subprocess.run(["git", *identity, *command], cwd=folder, check=True, env=clean_env(), capture_output=True)


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A repository that holds the template, as its users reach it."""
    folder = shutil.copytree(template(), tmp_path / "upstream")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-qm", "Older")
    return folder


def test_update_keeps_the_owners_edits_and_lock(upstream: Path, tmp_path: Path) -> None:
    home: dict[str, Any] = {"HOME": str(tmp_path / "home"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    shell = BakedProject(tmp_path)
    context = json.dumps({"project_name": "Leaf Reader", "description": 'Reads "leaves" \\ 🍃'})
    shell.run(
        "cruft", "create", str(upstream), "--no-input", "--default-config", "--extra-context", context, **home
    )
    project = BakedProject(tmp_path / "leaf-reader")

    # The owner commits cruft's record, an edit of a file that the update touches too, and a newer lock.
    edit = project.read("README.md").replace("## The loop\n", "## The loop\n\nOurs runs nightly.\n")
    (project.folder / "README.md").write_text(edit)
    (project.folder / "uv.lock").write_text("# locked by the owner\n" + project.read("uv.lock"))
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "Ours")
    lock = project.read("uv.lock")

    # The template moves on: a changed line, a new file and a new dependency, which changes a fresh bake's lock.
    def change(path: str, old: str, new: str) -> None:
        file = upstream / PROJECT / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    change("README.md", "## Resuming\n", "## Going on\n")
    change("pyproject.toml", '    "rich>=14",\n', '    "rich>=14",\n    "humanize>=4",\n')
    (upstream / PROJECT / "NEWS.md").write_text("{{ cookiecutter.__name_markdown }} has news.\n")
    git(upstream, "add", "-A", "-f")
    git(upstream, "commit", "-qm", "Newer")

    project.run("cruft", "update", "--skip-apply-ask", **home)
    assert "Ours runs nightly." in project.read("README.md")
    assert "## Going on" in project.read("README.md")
    assert "humanize" in project.read("pyproject.toml")
    assert project.read("NEWS.md") == "Leaf Reader has news.\n"
    assert project.read("uv.lock") == lock
    changed = {line[3:] for line in project.run("git", "status", "--porcelain").stdout.splitlines()}
    assert changed == {".cruft.json", "NEWS.md", "README.md", "pyproject.toml"}
    assert project.run("git", "log", "--format=%s").stdout == "Ours\nFirst commit\n"
    assert 'Reads \\"leaves\\" \\\\ 🍃' in project.read("pyproject.toml")


# The last commit whose bakes held the launcher within the project's own package.
BEFORE_THE_LAUNCHER = "9948cf2"


def test_update_moves_the_launcher_out_of_an_older_project(upstream: Path, tmp_path: Path) -> None:
    history = BakedProject(ROOT)
    if history.run("git", "cat-file", "-e", BEFORE_THE_LAUNCHER, check=False).returncode:
        pytest.skip(f"the commit {BEFORE_THE_LAUNCHER} is not here: clone the template with its history")
    old = tmp_path / "old"
    old.mkdir()
    archive = subprocess.run(
        ["git", "archive", BEFORE_THE_LAUNCHER], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x"], cwd=old, input=archive, check=True)
    git(old, "init", "-q", "-b", "main")
    git(old, "add", "-A", "-f")
    git(old, "commit", "-qm", "Older")

    home: dict[str, Any] = {"HOME": str(tmp_path / "home"), "GIT_CONFIG_GLOBAL": "/dev/null"}
    BakedProject(tmp_path).run("cruft", "create", str(old), "--no-input", "--default-config", **home)
    project = BakedProject(tmp_path / "cloud-training")
    package = project.package
    assert project.has_file(f"src/{package}/cloud/vertex.py")
    model = f"src/{package}/models/cnn.py"
    (project.folder / model).write_text(project.read(model) + "\n# ours\n")
    git(project.folder, "add", "-A")
    git(project.folder, "commit", "-qm", "Ours")

    for path in old.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(template(), old, dirs_exist_ok=True)
    git(old, "add", "-A", "-f")
    git(old, "commit", "-qm", "Newer")
    project.run("cruft", "update", "--skip-apply-ask", **home)

    assert project.has_file("launcher/src/launcher/providers/google/vertex.py")
    assert not (project.folder / f"src/{package}/cloud").exists()
    assert not (project.folder / "infra").exists()
    assert project.read(model).endswith("# ours\n")
    assert not [path for path in project.files() if path.endswith(".rej")]
    # What the changelog tells its owner to do.
    project.run("uv", "lock", "-q")
    project.run("uv", "sync", "-q", "--only-group", "launch")
    assert "cloud=batch | local | sky | vertex" in project.run(".venv/bin/launch", "--help").stdout
