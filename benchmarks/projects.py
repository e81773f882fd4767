"""What is measured: a baked project with its environment and data, and an environment with Lightning."""

import os
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

from baking import ROOT, BakedProject, bake_into, clean_env, redirected

WORK = ROOT / "build" / "bench"
# The releases 2.6.2 and 2.6.3 of Lightning were malicious (GHSA-w37p-236h-pfx3), so the version is pinned.
LIGHTNING = "pytorch-lightning==2.6.6"


def baked_project(name: str = "Bench", data: tuple[str, ...] = ("digits", "shapes")) -> BakedProject:
    """Bakes build/bench/<name> anew, installs its lock and makes the data."""
    shutil.rmtree(WORK / name.lower(), ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirected(1, nowhere.fileno()):
        project = bake_into(WORK, project_name=name)
    project.run("uv", "sync", "--frozen")
    for each in data:
        project.run("uv", "run", "--frozen", "prepare", f"data={each}")
    return project


def lightning_python(project: BakedProject) -> Path:
    """Makes build/bench/lightning: all that training needs in the bake's locked versions, and Lightning.

    Raises:
        AssertionError: it cannot be made; with what uv said.
    """
    folder, requirements = WORK / "lightning", WORK / "lightning.txt"
    export = ("--no-default-groups", "--no-emit-project", "--no-hashes", "--output-file", str(requirements))
    project.run("uv", "export", "--quiet", "--frozen", *export)
    project.run("uv", "venv", "--quiet", "--clear", "--python", ".venv/bin/python", str(folder))
    project.run(
        *("uv", "pip", "install", "--quiet", "--exclude-newer", "7 days"),
        *("--requirement", str(requirements), LIGHTNING),
        VIRTUAL_ENV=str(folder),
    )
    return folder / "bin/python"


def run_inside(project: BakedProject, python: Path, script: str, *words: str) -> Path:
    """Runs a script of this folder in the project's folder; returns the file that it has written.

    One thread computes: on a machine that also does something else, several wait for each other longer than they
    compute, and the ratio would be one of luck. And memory that a loop gave back stays with the process: otherwise
    it depends on what lies at the heap's end how often the system has to clear new pages, up to an eighth of the time.
    """
    out = WORK / "rows.json"
    out.unlink(missing_ok=True)
    env = clean_env(
        OMP_NUM_THREADS="1",
        MALLOC_MMAP_THRESHOLD_=str(32 * 2**20),
        MALLOC_TRIM_THRESHOLD_=str(4 * 2**30),
        MALLOC_TOP_PAD_=str(256 * 2**20),
        PYTHONPATH=str(project.folder / "src"),
    )
    command = [str(python), str(Path(__file__).with_name(script)), str(out), *words]
    result = subprocess.run(
        command, check=False, cwd=project.folder, env=env, capture_output=True, text=True, errors="replace"
    )
    if result.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)} exited {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
    return out


def has_gpu(project: BakedProject) -> bool:
    """Whether torch can use an NVIDIA GPU here."""
    answer = project.run(".venv/bin/python", "-c", "import torch; print(torch.cuda.is_available())")
    return answer.stdout.strip() == "True"
