"""Fixtures that bake the template, and the rule that nothing is skipped in CI."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from baking import BakedProject, bake_into

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
