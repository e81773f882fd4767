"""A project for the launcher to work in: the template's own configuration and training, rendered but not baked."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from baking import ROOT
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from google_server import GoogleServer, google_server
from jinja2 import Environment, StrictUndefined
from launch_world import backend, bucket, run_launch  # noqa: F401 - fixtures of every test here

TEMPLATE = ROOT / "{{cookiecutter.__folder}}"
NAMES = {"project_name": "Demo", "bucket": "demo-bucket"}
ACCOUNT = {"bucket": "demobucket"}  # a storage account of Azure: no dashes


def render_project(root: Path, cloud: str = "gcp") -> Path:
    """What the launcher may know of a project, and no more: pyproject.toml, configs, Dockerfile, and sources to look at."""
    names = {**NAMES, **(ACCOUNT if cloud == "azure" else {}), "cloud": cloud}
    context = generate_context(str(ROOT / "cookiecutter.json"), extra_context=names)
    answers = {"cookiecutter": prompt_for_config(context, no_input=True)}
    jinja = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    package = TEMPLATE / "src/{{cookiecutter.package_name}}"
    sources = {path: f"src/demo/{path.relative_to(package).as_posix()}" for path in package.rglob("*.py")}
    for name in ("pyproject.toml", "Dockerfile"):
        sources[TEMPLATE / name] = name
    for start in (TEMPLATE, TEMPLATE / "clouds" / cloud):
        for path in (start / "configs").rglob("*.yaml"):
            sources[path] = path.relative_to(start).as_posix()
    for path, name in sources.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            jinja.from_string(path.read_text(encoding="utf-8")).render(answers), encoding="utf-8"
        )
    return root


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A project of each cloud, rendered once."""
    return cache(lambda cloud: render_project(tmp_path_factory.mktemp(cloud), cloud))


@pytest.fixture
def project_root(request: pytest.FixtureRequest, projects: Callable[[str], Path]) -> Path:
    """The project of the cloud that the test, or its file, is marked with: pytest.mark.cloud("aws"); else Google's."""
    mark = request.node.get_closest_marker("cloud")
    return projects(mark.args[0] if mark else "gcp")


@pytest.fixture(autouse=True)
def in_a_project(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder, and so that of each test, belongs to the project; programs that are started need `project`."""
    monkeypatch.setattr("launcher.project.find_root", lambda folder: project_root)
    monkeypatch.setenv("PYTHONPATH", str(TEMPLATE / "launcher/src"))


@pytest.fixture
def project(project_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project as the current folder, for programs of their own."""
    folder = shutil.copytree(project_root, tmp_path / "demo")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    """What stands for Google's services, and gives the answers that a test has laid out."""
    with google_server(tmp_path, monkeypatch) as running:
        yield running
