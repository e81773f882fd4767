"""The image: what is in it, what must not be, and what a change of it moves to a registry."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from baking import ROOT as TEMPLATE
from baking import BakedProject
from conftest import Bake
from stage import containers, images
from stage.registry import blobs, layers, registry

MARKER = b"planted-where-keys-and-data-lie"
# Where people have left keys and data; none of it may reach an image.
PLANTED = (
    ".env",
    ".env.production",
    "gha-creds-0123456789abcdef.json",
    "key.pem",
    "notes.txt",
    ".git/config.worktree",
    ".dvc/config.local",
    ".dvc/cache/files/md5/ab/cdef",
    ".dvc/tmp/lock",
    "data/digits/arrays.npz",
    "data/gha-creds-1.json",
    "runs/first/checkpoints/step-1.pt",
    "launcher/src/launcher/token.pem",
    "tests/.env",
    "configs/.env",
    "configs/cloud/my-project-0123456789ab.json",
    "notebooks/.ipynb_checkpoints/explore-checkpoint.ipynb",
    "src/id_ed25519",
    "src/{package}/.env.local",
    "src/{package}/server.key",
    "src/{package}/cloud/service-account.json",
    "src/{package}/cloud/__pycache__/old.cpython-313.pyc",
    "src/{package}/data/.netrc",
    "src/{package}/data/login.p12",
)
# Torch's part of the lock is setuptools here, and the rest what Hydra needs, which comes as source: seconds to build.
SMALL = {"torch": ["setuptools"], "all": ["setuptools", "antlr4-python3-runtime==4.9.3"]}
BASE, ACCOUNT, TORCH, ALL, LAUNCHER, CODE = range(6)  # layers; that of WORKDIR, which is empty, comes last


def with_dependencies(project: BakedProject, torch: list[str], **kinds: list[str]) -> None:
    """Gives the project other dependencies, and a lock of them."""
    path = project.folder / "pyproject.toml"
    listed = "\n".join(f'    "{name}",' for name in kinds["all"])
    text = re.sub(
        r"^dependencies = \[.*?^\]",
        f"dependencies = [\n{listed}\n]",
        path.read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    text = re.sub(r"^(notebook|serve) = \[.*\]", r"\1 = []", text, flags=re.MULTILINE)
    path.write_text(re.sub(r'^torch = \["torch"\]', f'torch = ["{torch[0]}"]', text, flags=re.MULTILINE))
    project.run("uv", "lock", "--quiet")
    groups = tomllib.loads(path.read_text())
    assert groups["project"]["dependencies"] == kinds["all"]
    assert groups["dependency-groups"]["torch"] == torch


@pytest.fixture(scope="module")
def small(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BakedProject]:
    """A bake with few dependencies, in which keys and data lie about."""
    containers.require()
    project = bake().copy(tmp_path_factory.mktemp("small") / "cloud-training")
    with_dependencies(project, **SMALL)
    for name in PLANTED:
        path = project.folder / name.format(package=project.package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MARKER)
    (project.folder / "data/leaves.dvc").write_text("outs: []\n")
    images.build(project.folder, "test-image:small", "--build-arg", "REVISION=0123abc")
    yield project
    images.remove("test-image:small")


@pytest.fixture
def copied(small: BakedProject, tmp_path: Path) -> Iterator[BakedProject]:
    """A copy of it to change and build as test-image:changed; every file of it is of another time and umask."""
    shutil.copytree(small.folder, tmp_path / "copied", symlinks=True, copy_function=shutil.copyfile)
    for path in (tmp_path / "copied/src").rglob("*.py"):
        path.chmod(0o664)
    yield BakedProject(tmp_path / "copied")
    images.remove("test-image:changed")


def test_the_dockerfile_is_clean(bake: Bake) -> None:
    """By hadolint, every rule on."""
    hadolint = Path(sys.executable).with_name("hadolint")
    for cloud in ("gcp", "aws", "azure"):
        bake(cloud=cloud).run(str(hadolint), "--failure-threshold", "style", "Dockerfile")


def test_the_engine_needs_root_and_says_so() -> None:
    """One sentence, and nothing is installed or started."""
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    script = (TEMPLATE / "tests/stage/engine.sh").read_text(encoding="utf-8")
    run = subprocess.run(
        [*nobody, "bash", "-c", script, "."], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.count("\n") == 1
    assert "as root" in run.stderr


def test_the_engine_is_prepared_by_a_clean_script() -> None:
    """By shellcheck; where all is there already it says what is there and changes nothing."""
    script = str(TEMPLATE / "tests/stage/engine.sh")
    subprocess.run([Path(sys.executable).with_name("shellcheck"), script], check=True)
    containers.require()
    run = subprocess.run([script], capture_output=True, text=True, check=True)
    assert [line.split(" ")[0] for line in sorted(run.stdout.splitlines())] == [
        "python:3.13-slim",
        "stage-runner:latest",
    ]


def test_uv_is_the_one_the_tests_know(bake: Bake) -> None:
    pinned = re.search(r"^uv==(\S+)", (TEMPLATE / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    assert f" uv=={pinned[1]}\n" in bake().read("Dockerfile")


def test_no_key_and_no_data_gets_in(small: BakedProject, tmp_path: Path) -> None:
    """In no layer: neither by name nor by content."""
    entries = list(images.contents("test-image:small", tmp_path))
    found = {entry.name for layer, entry, _ in entries if layer >= LAUNCHER and entry.isfile()}
    assert f"app/src/{small.package}/train.py" in found
    assert {"app/configs/train.yaml", "app/dvc.yaml", "app/.dvc/config", "app/pyproject.toml"} <= found
    assert "app/data/leaves.dvc" in found
    planted = {f"app/{name.format(package=small.package)}" for name in PLANTED}
    assert not found & planted
    assert [entry.name for _, entry, content in entries if MARKER in content] == []


def test_only_the_code_is_in_the_last_layers(small: BakedProject, tmp_path: Path) -> None:
    """And all of it: what git tracks below src, configs and notebooks; below it the launcher's sources."""
    entries = [
        (layer, entry)
        for layer, entry, _ in images.contents("test-image:small", tmp_path)
        if layer >= LAUNCHER
    ]
    planted = {f"app/{name.format(package=small.package)}" for name in PLANTED}
    other = {"app/.dvc/config", "app/data/leaves.dvc", "app/dvc.yaml", "app/pyproject.toml"}

    def tracked(*parts: str) -> set[str]:
        return {f"app/{path}" for path in small.files() if path.startswith(parts)} - planted

    def held(number: int) -> set[str]:
        return {entry.name for layer, entry in entries if layer == number and entry.isfile()}

    setups = tracked(*(path for path in small.files() if "/setup/" in path))  # which no job has a use for
    assert setups
    assert held(LAUNCHER) == tracked("launcher/src/") - setups
    assert held(CODE) == tracked("src/", "configs/", "notebooks/") | other
    owners = {(entry.uid, entry.gid) for _, entry in entries if entry.name.startswith("app")}
    assert owners == {(1000, 1000)}


def test_what_builds_is_not_in_what_runs(small: BakedProject, tmp_path: Path) -> None:
    """No uv, no compiler, no git, no cache of a package manager, no lock; and no trace of where they were."""
    names = [
        f"/{entry.name}" for layer, entry, _ in images.contents("test-image:small", tmp_path) if layer > BASE
    ]
    assert [
        name for name in names if re.search(r"/(uvx?|gcc|cc|git|pip3?|uv\.lock)$|/\.?cache(/|$)", name)
    ] == []
    assert [
        name
        for name in names
        if not re.match(r"/(opt|app|home/app|etc/(passwd|group))(/|$)|/(etc|home)$", name)
    ] == []


def test_it_runs_as_nobody_in_particular(small: BakedProject) -> None:
    """As a user of its own that may write into its folder, and nowhere in what was installed."""
    config = images.settings("test-image:small")
    assert config["User"] == "1000:1000"
    assert config["WorkingDir"] == "/app"
    assert config["Entrypoint"] == ["python", "-m", "launcher.worker"]
    assert config["Labels"] == {"org.opencontainers.image.revision": "0123abc"}
    script = "id -un; echo $HOME; touch /app/runs /app/src/new ~/new && ! touch /opt/venv/new && which python"
    run = containers.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "sh", "test-image:small", "-c", script
    )
    assert run.stdout.split() == ["app", "/home/app", "/opt/venv/bin/python"]


def test_every_module_has_bytecode_that_needs_no_check(small: BakedProject, tmp_path: Path) -> None:
    """Its flags say so: 1 is by hash, and never compared with the source."""
    files = {
        entry.name: content
        for layer, entry, content in images.contents("test-image:small", tmp_path)
        if entry.isfile() and entry.name.startswith("opt/venv/lib")
    }
    modules = [Path(name) for name in files if name.endswith(".py")]
    assert len(modules) > 100
    for module in modules:
        compiled = module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc"
        assert int.from_bytes(files[str(compiled)][4:8], "little") == 1, module


def test_the_same_source_gives_the_same_layers(small: BakedProject, copied: BakedProject) -> None:
    """Byte for byte, from files of another time and with no cache: what has not changed is never moved again."""
    images.build(copied.folder, "test-image:changed", "--no-cache")
    assert images.diff_ids("test-image:changed") == images.diff_ids("test-image:small")


def test_a_change_of_the_code_moves_kilobytes(
    small: BakedProject, copied: BakedProject, tmp_path: Path
) -> None:
    """Counted in the registry: everything it has after the push that it did not have before."""
    with registry(tmp_path / "registry") as host:
        images.push("test-image:small", f"{host}/project/train:before")
        before = blobs(tmp_path / "registry")
        path = copied.folder / f"src/{copied.package}/train.py"
        path.write_text(path.read_text() + "\n# a change\n")
        images.build(copied.folder, "test-image:changed")
        images.push("test-image:changed", f"{host}/project/train:after")
        moved = {
            digest: size for digest, size in blobs(tmp_path / "registry").items() if digest not in before
        }
        old, new = layers(host, "project/train", "before"), layers(host, "project/train", "after")
    assert len(moved) == 3  # the code, the image's settings, the manifest
    assert sum(moved.values()) < 100_000
    assert list(old)[:CODE] == list(new)[:CODE]
    assert list(old)[CODE] != list(new)[CODE]


def test_a_new_launcher_leaves_the_code_where_it_is(small: BakedProject, copied: BakedProject) -> None:
    path = copied.folder / "launcher/src/launcher/errors.py"
    path.write_text(path.read_text() + "\n# a change\n")
    images.build(copied.folder, "test-image:changed")
    before, after = images.diff_ids("test-image:small"), images.diff_ids("test-image:changed")
    assert [index for index, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1] == [
        LAUNCHER
    ]


def test_a_small_dependency_leaves_torch_where_it_is(
    small: BakedProject, copied: BakedProject, tmp_path: Path
) -> None:
    """Its layer has the same digest and is not pushed again; that of the others is."""
    with registry(tmp_path / "registry") as host:
        images.push("test-image:small", f"{host}/project/train:before")
        before = blobs(tmp_path / "registry")
        with_dependencies(copied, SMALL["torch"], all=[*SMALL["all"], "iniconfig"])
        images.build(copied.folder, "test-image:changed")
        images.push("test-image:changed", f"{host}/project/train:after")
        moved = {digest for digest in blobs(tmp_path / "registry") if digest not in before}
        old, new = layers(host, "project/train", "before"), layers(host, "project/train", "after")
    assert list(old)[: TORCH + 1] == list(new)[: TORCH + 1]
    assert moved.isdisjoint(list(old))
    assert {list(new)[ALL], list(new)[CODE]} <= moved


@pytest.fixture(scope="module")
def full(bake: Bake) -> Iterator[BakedProject]:
    """The default bake with all it needs, as test-image:full."""
    containers.require()
    images.build(bake().folder, "test-image:full")
    yield bake()
    images.remove("test-image:full")


def test_it_trains(full: BakedProject) -> None:
    """Torch with CUDA, the project's own package and its settings, without network and as the image's own user."""
    script = (
        f"import torch, {full.package}.train, dvc, wandb, jupyterlab, launcher.serving.batch; assert torch.version.cuda; "
        "print(torch.nn.Linear(2, 1)(torch.zeros(1, 2)).shape)"
    )
    run = ("run", "--rm", "--network", "none", "--entrypoint", "python", "test-image:full")
    assert containers.docker(*run, "-c", script).stdout == "torch.Size([1, 1])\n"
    composed = containers.docker(*run, "-m", f"{full.package}.train", "--cfg", "job").stdout
    assert "max_epochs" in composed
    missing = containers.docker(*run, "-m", "sklearn", check=False)  # only to make data, on a laptop or in CI
    assert "No module named sklearn" in missing.stderr


def test_torch_and_all_else_share_no_file(full: BakedProject) -> None:
    """What is in torch's layer is not a second time in the next: that one stays small."""
    history = containers.docker(
        "history", "--no-trunc", "--format", "{{.Size}}|{{.CreatedBy}}", "test-image:full"
    )
    sizes = {
        folder: megabytes(size)
        for size, _, command in (line.partition("|") for line in history.stdout.splitlines())
        for folder in ("/mnt/uv venv", "--build-constraints")
        if folder in command and (folder != "--build-constraints" or "/mnt/uv venv" not in command)
    }
    assert sizes["/mnt/uv venv"] > 4000
    assert sizes["--build-constraints"] < 700  # 627 as measured, 60 of which are for job=predict


def megabytes(size: str) -> float:
    """Of Docker's own way to write a size: 5.58GB, 127kB."""
    number, unit = re.fullmatch(r"([\d.]+)([kMG]?B)", size).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return float(number) * {"B": 1e-6, "kB": 1e-3, "MB": 1, "GB": 1000}[unit]
