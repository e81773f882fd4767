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
MAY = {
    "job": set(),
    "project": set(),
    "identity": set(),
    "storage": set(),
    "settings": {"identity", "project", "sweeps"},
    "sweeps": {"job", "project", "records", "settings", "storage"},
    "money": {"job", "project", "providers", "records", "storage"},
    "records": {"identity", "job", "project", "providers", "settings", "storage"},
    "planning": {"identity", "job", "money", "project", "providers", "records", "settings", "storage"},
    "janitor": {"identity", "job", "money", "providers", "records", "storage"},
    "worker": {"identity", "job", "project", "providers", "records", "storage"},
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
    found = {name.lstrip("/") for path in PACKAGE.rglob("*.py") for name in imports(path)}
    assert not {name.split(".")[0] for name in found} & NEVER


def test_nobody_else_names_a_provider():
    named = re.compile(r"google|vertex|\bgcs\b|boto3|sagemaker|azure", re.IGNORECASE)
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE)
        if where.parts[0] == "providers":
            continue
        code = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(code):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not any(named.search(name) for name in names), f"{where}: {names}"
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                assert not named.search(node.value), f"{where}: {node.value}"
