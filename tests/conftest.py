"""Fixtures that bake the template and set the stage, and the rule that nothing is skipped in CI."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from baking import BakedProject, bake_into
from botocore.loaders import JSONFileLoader

if TYPE_CHECKING:
    from stage.github.hub import WorkflowRun
    from stage.scene import Stage

Bake = Callable[..., BakedProject]
# Libraries set these for themselves, for good.
BY_LIBRARIES = {
    "PYTEST_CURRENT_TEST",
    "ORT_DISABLE_TELEMETRY",
    "GCE_METADATA_DETECT_RETRIES",
    "AZUREML_CURRENT_CLOUD",
}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in BY_LIBRARIES}


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Bakes with the given answers, once a session for each set of them; copy() the project before changing it."""
    baked: dict[tuple, BakedProject] = {}

    def bake(**answers: str) -> BakedProject:
        key = tuple(sorted(answers.items()))
        if key not in baked:
            baked[key] = bake_into(tmp_path_factory.mktemp("bake"), **answers)
            assert baked[key].has_file("uv.lock"), "the bake has no lock; the hook's output says why"
        return baked[key]

    return bake


@pytest.fixture(scope="session")
def demo_project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """The default bake with its environment installed, shared by all tests that run something: runs/ need own ids."""
    project = bake().copy(tmp_path_factory.mktemp("demo") / "cloud-training")
    project.sync()
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
    project.sync()
    with scene.stage(project, tmp_path_factory.mktemp("servers")) as here:
        yield here
    for service in (here.vertex, here.batch):
        assert containers.ids(service.stage) == [], "a container of the stage is still there"


@pytest.fixture(scope="session")
def pushed(stage: "Stage") -> "WorkflowRun":
    """The first push of the project, and what its training workflow did: the image of all later launches."""
    from stage import registry

    (run,) = stage.github.push(only=("train.yml",))  # it runs ci.yml too
    assert run.succeeded, run.log[-8000:]
    registry.keep(stage.folder / "registry")
    return run


def pytest_configure() -> None:
    """What holds for all tests."""
    # botocore reads the description of a service anew for each session: half of the time of what talks to AWS.
    read = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
    JSONFileLoader.load_file = lambda self, file_path: read(file_path)
    # Who starts the tests in the background of a shell hands on an ignored Ctrl-C, which the programs tested must hear.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of the loop needs a Docker engine; of the other folders, what says so. What takes the stage down comes last."""
    items.sort(key=lambda item: item.path.name == "test_first_day.py")
    for item in items:
        if Path(__file__).with_name("loop") in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """What a file of tests leaves in the environment is an error of that file, and not of a later one that bakes."""
    yield
    if nextitem is None or nextitem.path != item.path:
        left = {name: value for name, value in os.environ.items() if name not in BY_LIBRARIES}
        changed = sorted(name for name, _ in left.items() ^ ENVIRONMENT.items())
        os.environ.update(ENVIRONMENT)
        for name in left.keys() - ENVIRONMENT.keys():
            del os.environ[name]
        assert not changed, f"{item.path.name} leaves the environment changed: {', '.join(changed)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """In CI a skipped test is a failed one: everything it needs is installed there, or should be."""
    report = (yield).get_result()
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and in CI nothing may be: {report.longrepr}"


@pytest.fixture(autouse=True)
def no_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs each test in a folder of its own, so that nothing lands in the checkout; Ctrl-C still ends the tests after it.

    A worker that runs in this process takes the signals for itself.
    """
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
