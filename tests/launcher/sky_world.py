"""The program of SkyPilot, which a stand-in on PATH is, and what a test of its backend needs beside it."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import sky_program
from launcher import records
from launcher.job import Job, Machine
from launcher.providers.sky import launch, sky
from omegaconf import DictConfig, OmegaConf

DIGEST = "registry.example/demo/train@sha256:" + "a" * 64


class Program:
    """The stand-in on PATH, and what it remembers."""

    def __init__(self, folder: Path):
        self.path = folder / "state.json"
        first = {
            "calls": [],
            "clusters": {},
            "faults": {},
            "tasks": [],
            "secrets": [],
            "files": [],
            "workdirs": [],
        }
        first |= {
            "version": "0.14.1",
            "server": "http://127.0.0.1:46580",
            "prices": [0.0, 0.0],
            "machine": "-",
        }
        self.path.write_text(json.dumps(first))

    @property
    def state(self) -> dict:
        return json.loads(self.path.read_text())

    def set(self, **values: object) -> None:
        """Changes what it knows, or what it is to do."""
        self.path.write_text(json.dumps({**self.state, **values}))

    def job(self, name: str, **values: object) -> None:
        """Changes the job of a cluster."""
        clusters = self.state["clusters"]
        clusters[name]["jobs"][-1] |= values
        self.set(clusters=clusters)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """SkyPilot is installed, and knows a Slurm cluster and AWS."""
    folder = tmp_path / "programs"
    folder.mkdir()
    script = folder / "sky"
    text = Path(sky_program.__file__).read_text()
    (folder / "sky_program.py").write_text(text)
    script.write_text(f"#!{sys.executable}\nimport sky_program\nsky_program.main()\n")
    script.chmod(0o755)
    for name in ("rsync", "ssh"):
        (folder / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    Path("uv.lock").touch()
    subprocess.run(["git", "init", "--quiet"], check=True)
    monkeypatch.setattr(launch, "project", lambda: SimpleNamespace(root=Path.cwd()))
    return Program(folder)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SkyPilot is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "none"))


def cloud(tmp_path: Path, **values: object) -> DictConfig:
    given = {
        "backend": "sky",
        "infra": "slurm/stage",
        "bucket": str(tmp_path / "shared"),
        "image": None,
        "labels": {"project": "demo"},
        "machine": "cpu",
        "spot": False,
        "attempt_hours": None,
        "max_wait_hours": 24.0,
    }
    return OmegaConf.create({**given, **values})


def job(**values: object) -> Job:
    given = {"run_id": "a", "image": "", "args": ("seed=1", "run.id=a"), "spot": False}
    given |= {"machine": Machine("cpu", "slurm/stage"), "labels": {"run": "a", "max-seconds": "3600"}}
    return Job(**{**given, **values})  # type: ignore[arg-type]


def launched(backend: sky.Sky, **values: object) -> None:
    """As `launch` does it: a record first, then the job."""
    known = dict.fromkeys(("gpu", "region", "project", "code", "commit", "dirty", "branch"))
    known |= {"hourly_usd": 0.0, "worst_case_usd": 0.0, "prices": "", "image": "", "args": [], "nodes": 1}
    known |= {"machine": "cpu", "type": "slurm/stage", "gpus": 0, "spot": False, "max_hours": 1.0}
    now = backend.now().isoformat(timespec="seconds")
    records.write(backend.home, records.Record(run_id="a", backend="sky", launched=now, **known))  # type: ignore[arg-type]
    backend.submit(job(**values))


def note(backend: sky.Sky, name: str, value: object, run_id: str = "a") -> None:
    """As the worker does it."""
    path = Path(backend.home, run_id, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def attempt(code: int | None) -> list[dict]:
    return [{"started": "2999-01-01T00:00:00+00:00", "seconds": 5.0, "exit_code": code}]
