"""Who may import whom inside a baked project, read from its source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# module or folder of the package -> what may not be imported in it, directly or through a module of the package,
# when it is imported (an import inside a function runs later, and is not counted for these)
FORBIDDEN_AT_IMPORT = {
    "config": {"torch", "numpy", "wandb", "matplotlib"},
    "train": {
        "torch",
        "numpy",
        "wandb",
        "matplotlib",
    },  # a launch asks it about settings where there is no torch
    "prepare": {"torch", "wandb", "matplotlib", "sklearn"},
    "data.base": {"torch"},
}
# whole folders, imports inside functions included
FORBIDDEN_EVER = {
    "data": {"training", "models", "train", "evaluate", "wandb", "hydra"},
    "models": {"training", "data", "train", "evaluate", "wandb", "hydra"},
    "training": {"train", "evaluate", "prepare"},
}


def imports(path: Path, package: Path, everywhere: bool) -> Iterator[str]:
    """Yields what a file imports: names of the package relative to it ("data.base"), others as they are."""
    module = path.relative_to(package).with_suffix("").parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else at_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = [*module[: len(module) - node.level], *(node.module or "").split(".")]
            base = [part for part in base if part]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Walks what runs when the module is imported: not into functions, nor what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or checking:
            continue
        yield child
        yield from at_import(child)


def reach(module: str, package: Path, seen: set[str]) -> set[str]:
    """All that importing a module of the package imports: in the package to the end, outside by first name."""
    path = package / (module.replace(".", "/") + ".py")
    if not path.is_file():
        path = package / module.replace(".", "/") / "__init__.py"
    if module in seen or not path.is_file():
        return seen
    seen.add(module)
    for name in imports(path, package, everywhere=False):
        parts = name.split(".")
        known = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if (package / parts[0]).is_dir() or (package / f"{parts[0]}.py").is_file():
            for inner in known:
                reach(inner, package, seen)
        else:
            seen.add(parts[0])
    return seen


def test_of_the_launcher_it_uses_the_public_names_only(bake, package: Path) -> None:
    source = (bake().folder / "launcher/src/launcher/__init__.py").read_text(encoding="utf-8")
    (public,) = re.findall(r"^__all__ = (\[.*?\])", source, re.MULTILINE | re.DOTALL)
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "launcher":
                assert node.module == "launcher", path.name
                assert {alias.name for alias in node.names} <= set(ast.literal_eval(public)), path.name
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] != "launcher" for alias in node.names), path.name


@pytest.fixture(scope="module")
def package(bake) -> Path:
    project = bake()
    return project.folder / "src" / project.package


@pytest.mark.parametrize("module", FORBIDDEN_AT_IMPORT)
def test_importing_it_stays_cheap(module: str, package: Path) -> None:
    reached = reach(module, package, set())
    assert module in reached, "no such module"
    reached.remove(module)
    assert {name.split(".")[0] for name in reached} & FORBIDDEN_AT_IMPORT[module] == set()


@pytest.mark.parametrize("folder", FORBIDDEN_EVER)
def test_never_imports_what_it_should_not_know(folder: str, package: Path) -> None:
    paths = [*package.glob(f"{folder}/*.py"), *package.glob(f"{folder}.py")]
    assert paths
    for path in paths:
        found = {name.split(".")[0] for name in imports(path, package, everywhere=True)}
        assert found & FORBIDDEN_EVER[folder] == set(), path.name


def test_the_package_imports_itself_relatively(package: Path) -> None:
    for path in package.rglob("*.py"):
        assert package.name not in {name.split(".")[0] for name in imports(path, package, everywhere=True)}, (
            path.name
        )
