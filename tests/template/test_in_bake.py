"""What needs a whole project, and says nothing to its owner: real trainings by the worker, real notebooks."""

from pathlib import Path

import pytest
from baking import ROOT, BakedProject

SOURCES = sorted((ROOT / "tests/template/in_bake").glob("test_*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_in_a_bake(demo_project: BakedProject, source: Path) -> None:
    target = demo_project.folder / "tests" / source.name
    target.write_text(source.read_text().replace("PACKAGE", demo_project.package))
    try:
        demo_project.run("uv", "run", "--no-sync", "pytest", f"tests/{source.name}", timeout=1800)
    finally:
        target.unlink()
