"""What needs a whole project, and says nothing to its owner: real trainings by the worker, real notebooks."""

import shutil
from pathlib import Path

import pytest
from baking import ROOT, BakedProject

SOURCES = sorted((ROOT / "tests/template/in_bake").glob("test_*.py"))


@pytest.fixture(scope="module")
def project(demo_project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """A bake with these tests beside its own, in the demo's environment."""
    copied = demo_project.copy(tmp_path_factory.mktemp("in-bake") / "cloud-training")
    copied.run("uv", "sync", "--locked", "-q")
    return copied


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_in_a_bake(project: BakedProject, source: Path) -> None:
    target = project.folder / "tests" / source.name
    shutil.copy(source, target)
    target.write_text(source.read_text().replace("PACKAGE", project.package))
    project.run("uv", "run", "--no-sync", "pytest", f"tests/{source.name}", timeout=1800)
