"""Fixtures that bake the template and set the stage, and the rule that nothing is skipped in CI."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from baking import BakedProject, bake_into

if TYPE_CHECKING:
    from stage.github.hub import WorkflowRun
    from stage.scene import Stage

Bake = Callable[..., BakedProject]


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Bakes with the given answers, once a session for each set of them; copy() the project before changing it."""
    baked: dict[tuple, BakedProject] = {}

    def bake(**answers: str) -> BakedProject:
        key = tuple(sorted(answers.items()))
        if key not in baked:
            baked[key] = bake_into(tmp_path_factory.mktemp("bake"), **answers)
        return baked[key]

    return bake


@pytest.fixture(scope="session")
def demo_project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """The default bake with its environment installed, shared by all tests that run something: runs/ need own ids."""
    project = bake().copy(tmp_path_factory.mktemp("demo") / "cloud-training")
    project.run("uv", "sync", "--locked", "-q")
    return project


@pytest.fixture(scope="session")
def stage(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stage"]:
    """The default bake with its cloud prepared and its data in the bucket; everything ends with the session."""
    from stage import (
        containers,
        scene,  # Google's types take seconds to import
    )

    containers.require()
    project = bake().copy(tmp_path_factory.mktemp("stage") / "cloud-training")
    project.run("uv", "sync", "--locked", "-q")
    with scene.stage(project, tmp_path_factory.mktemp("servers")) as here:
        yield here
    assert containers.ids() == [], "a container of the stage is still there"


@pytest.fixture(scope="session")
def pushed(stage: "Stage") -> "WorkflowRun":
    """The first push of the project, and what its training workflow did: the image of all later launches."""
    (run,) = stage.github.push(only=("train.yml",))  # it runs ci.yml too
    assert run.succeeded, run.log[-8000:]
    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of the loop needs a Docker engine; of the other folders, what says so. What takes the stage down comes last."""
    items.sort(key=lambda item: item.path.name == "test_first_day.py")
    for item in items:
        if Path(__file__).with_name("loop") in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """In CI a skipped test is a failed one: everything it needs is installed there, or should be."""
    report = (yield).get_result()
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in CI nothing may be: {report.longrepr}"


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs each test in a folder of its own, so that nothing lands in the checkout."""
    monkeypatch.chdir(tmp_path)
