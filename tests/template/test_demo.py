"""The first of the two commands of the README, from a clean clone on a machine with Python, git and make."""

import re
import shutil
import sys
from pathlib import Path

from baking import BakedProject, template


def test_make_demo_trains_and_reports(tmp_path: Path) -> None:
    clone = BakedProject(shutil.copytree(template(), tmp_path / "clone"))
    # uv is not among the programs: the demo brings it along. The machine's package caches may be used.
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    for name in ("git", "make", "sh", "bash", "sed", "grep", "cp", "rm", "mkdir", "expand", "env"):
        (programs / name).symlink_to(shutil.which(name) or f"/no/{name}")
    output = clone.run("make", "demo", PATH=str(programs)).stdout
    demo = clone.folder / "build" / "demo"
    accuracy = re.findall(r"accuracy\D*([01]\.\d+)", output)
    assert accuracy
    assert float(accuracy[-1]) >= 0.97
    paths = re.findall(r"runs/\S+?/(?:report\.md|plots/\S+\.png|plots)", output)
    assert any(path.endswith("report.md") for path in paths)
    assert any("plots" in path for path in paths)
    for path in paths:
        assert (demo / path).exists(), path
