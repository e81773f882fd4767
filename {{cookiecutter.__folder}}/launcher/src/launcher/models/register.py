"""From a run to a version: its export, its card and where it comes from, in a folder that becomes the version."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..identity import check_run_id, git
from ..project import FILE, project
from ..records import LOCAL_HOME, METRICS, RUN
from . import card, versions
from .names import check
from .versions import HERE, Version

EXPORT = "export"  # folder of a run
WEIGHTS, ONNX, SIGNATURE, PARITY = (
    *("model.safetensors", "model.onnx"),
    *("signature.json", "parity.json"),
)


def export(run_id: str) -> Path:
    """Have the project export a run's model; give the folder.

    Raises:
        UserError: the project's own sentence.
    """
    here = project()
    path = [str(here.root / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", f"{here.package}.export", f"run={run_id}"],
        cwd=here.root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"It ended with {done.returncode}."])[-1]
        if said.startswith("ModuleNotFoundError"):  # as beside what serves alone
            said = f"Run {run_id} cannot be exported here ({said}); install the project with `uv sync`."
        raise UserError(said)
    return here.root / LOCAL_HOME / run_id / EXPORT


def find_run(run_id: str) -> str:
    """See to it that a run's folder is here; give the registry that goes with it.

    Raises:
        UserError: there is no such run, here or where runs were launched.
    """
    check_run_id(run_id)
    folder = Path(LOCAL_HOME, run_id)
    if (folder / "checkpoints").is_dir() and not (folder / "worker.log").exists():
        return HERE
    from ..records.places import find, places
    from ..records.results import fetch_run

    run = find(run_id, places())
    if run.place.home == LOCAL_HOME:
        return HERE
    fetch_run(f"{run.place.home}/{run_id}", folder)
    return f"{run.place.home.removesuffix('/runs')}/models"


def register(home: str, name: str, run_id: str) -> tuple[Version, bool]:
    """Make a version of a run that is here; the same run with the same weights stays the version that it is.

    Raises:
        UserError: the run cannot be exported, was not evaluated, or the registry cannot be written.
    """
    check(name)
    folder = Path(LOCAL_HOME, run_id)
    exported = export(run_id)
    metrics = _json(folder / METRICS)
    if not metrics:
        raise UserError(
            f"Run {run_id} has no {METRICS}; make it with `uv run evaluate run={run_id}`."
        )
    signature, parity = _json(exported / SIGNATURE), _json(exported / PARITY)
    gate = judged_by(exported / "config.yaml") | {"test_data": parity.get("test_data")}
    lineage = facts_of(run_id, _json(folder / RUN), exported)
    made = {
        "at": versions.now(),
        "by": who(),
        "commit": lineage["commit"],
        "image": lineage["image"],
    }
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary, name)
        shutil.copytree(exported, new)
        (new / METRICS).write_text(_text(metrics), encoding="utf-8")
        (new / "lineage.json").write_text(_text(lineage), encoding="utf-8")
        words = {"about": _about(), "license": _license(), "metrics": metrics, "lineage": lineage}
        (new / "README.md").write_text(card.text(name, words, signature), encoding="utf-8")
        facts = {"run": run_id, "metrics": metrics, "gate": gate, "made": made}
        return versions.add(home, name, new, facts)


def judged_by(config: Path) -> dict[str, Any]:
    """Give the metric by which a run chose its best weights, as it is called on the test split, and its direction."""
    from omegaconf import OmegaConf

    monitor = OmegaConf.load(config).monitor  # type: ignore[union-attr]
    metric = re.sub(r"^val/", "test/", str(monitor.metric))
    return {"metric": metric, "more_is_better": monitor.mode == "max"}


def default_name(run_id: str) -> str:
    """Give what a model of a run is called where nobody says: as its data, `digits` of `Digits`."""
    from omegaconf import OmegaConf

    file = Path(LOCAL_HOME, run_id, "config.yaml")
    target = str(OmegaConf.select(OmegaConf.load(file), "data._target_")) if file.is_file() else ""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", target.rpartition(".")[2]).lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-") or project().slug


def facts_of(run_id: str, run: dict[str, Any], exported: Path) -> dict[str, Any]:
    """Give where a model comes from."""
    start = (run.get("starts") or [{}])[-1]
    return {
        "run": run_id,
        "commit": run.get("commit"),
        "dirty": run.get("dirty"),
        "image": run.get("image"),
        "code": run.get("code"),
        "data": _data_hash(),
        "trained": start.get("time"),
        "device": start.get("device"),
        "torch": start.get("torch"),
        "config": versions.digest(exported / "config.yaml"),
    }


def who() -> str:
    """Give who does this: on GitHub the workflow's actor, else as git knows the person."""
    return os.environ.get("GITHUB_ACTOR") or git("config", "user.name") or "unknown"


def _data_hash() -> str | None:
    """Give what DVC says that the data is: dvc.lock names each by its content."""
    lock = project().root / "dvc.lock"
    return versions.digest(lock) if lock.is_file() else None


def _about() -> str:
    return str(_project().get("description") or project().slug)


def _license() -> str:
    return str(_project().get("license") or "unknown")


def _project() -> dict[str, Any]:
    return tomllib.loads((project().root / FILE).read_text(encoding="utf-8")).get("project", {})


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, sort_keys=True) + "\n"
