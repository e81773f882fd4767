"""Who may import whom in the launcher, and that nobody outside `providers/` names a provider."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import launcher
import pytest

PACKAGE = Path(launcher.__file__).parent
# What is never imported, at any depth: not what trains, which is the project's, and not the project.
NEVER = {"torch", "numpy", "demo", "wandb"}
# folder or module -> what it may use of the package, beside itself and what everybody may
EVERYBODY = {"errors", "atomic"}
# What the worker finds in the container of one service: names that the service has given.
KNOW_A_SERVICE = {"worker/aml.py"}
MAY = {
    "job": set(),
    "project": set(),
    "identity": set(),
    "storage": {"project", "trouble"},
    "trouble": set(),
    "settings": {"identity", "project", "sweeps"},
    "sweeps": {"job", "project", "records", "settings", "storage"},
    "money": {"job", "project", "providers", "records", "storage"},
    "records": {"identity", "job", "project", "providers", "settings", "storage"},
    "planning": {
        *("identity", "job", "models", "money", "project", "providers", "records", "serving", "settings"),
        "storage",
    },
    "janitor": {"identity", "job", "models", "money", "providers", "records", "storage"},
    "deployment": set(),
    "mirror": set(),
    "models": {
        *("deployment", "identity", "mirror", "project", "providers", "records", "settings", "storage"),
    },
    "serving": {"storage"},
    "worker": {"identity", "job", "models", "project", "providers", "records", "storage"},
}


def imports(path: Path) -> Iterator[str]:
    """Yields what a file imports, wherever in it: names of the package relative to it, others as they are."""
    module = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (f"/{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield f"/{node.module}"
        elif isinstance(node, ast.ImportFrom):
            base = [*module[: len(module) - node.level], *filter(None, (node.module or "").split("."))]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def used(name: str) -> set[str]:
    """The parts of the package that a part uses, and packages of others with a slash before them."""
    folder = PACKAGE / name
    paths = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    return {found.split(".")[0] for path in paths for found in imports(path)} - {name}


def test_every_part_has_a_rule():
    parts = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert parts == {*MAY, *EVERYBODY, "commands", "providers"}


@pytest.mark.parametrize("part", MAY)
def test_a_part_uses_what_stands_below_it_only(part: str):
    own = {name for name in used(part) if not name.startswith("/")}
    assert own <= MAY[part] | EVERYBODY


def test_providers_know_neither_commands_nor_janitor():
    assert not used("providers") & {"commands", "janitor"}


def test_nothing_that_trains_is_imported():
    # A model that is served computes with numpy's arrays; nothing else does.
    for path in PACKAGE.rglob("*.py"):
        found = {name.lstrip("/").split(".")[0] for name in imports(path)}
        allowed = {"numpy"} if path.parent.name == "serving" else set()
        assert not found & (NEVER - allowed), path


def test_nobody_else_names_a_provider():
    named = re.compile(r"google|vertex|\bgcs\b|boto3|sagemaker|azure", re.IGNORECASE)
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE)
        if where.parts[0] == "providers" or where.as_posix() in KNOW_A_SERVICE:
            continue
        code = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(code):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not any(named.search(name) for name in names), f"{where}: {names}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                if (where.name, node.value) == ("storage.py", "azure"):  # a logger that it quiets
                    continue
                assert not named.search(node.value), f"{where}: {node.value}"
