"""The one real configuration, made small; each test changes what it is about."""

import os
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
import torch
from launcher.settings.cli import refuse
from omegaconf import DictConfig, OmegaConf

from {{ cookiecutter.package_name }}.config import CONFIGS, check
from {{ cookiecutter.package_name }}.data.digits import Digits
from {{ cookiecutter.package_name }}.training import rehearsal
from {{ cookiecutter.package_name }}.training.distributed import Processes
from {{ cookiecutter.package_name }}.training.loop import Trainer
from {{ cookiecutter.package_name }}.training.run_folder import RunFolder

# Models as small as these are slower with more threads, above all beside the processes that some tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# 4 steps an epoch, 12 in all; a checkpoint after every third
SMALL = (
    "data.fraction=0.2",
    "model.width=8",
    "model.depth=1",
    "model.dropout=0.1",
    "trainer.max_epochs=3",
    "trainer.device=cpu",
    "trainer.log_every=5",
    "checkpoint.steps=3",
    "tracking=none",
    "evaluate=false",
)
ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, made once for all tests."""
    folder = tmp_path_factory.mktemp("data") / "digits"
    Digits(folder=str(folder), fraction=1.0, channels=1, size=8, classes=10).prepare()
    return folder


@pytest.fixture
def small_config(digits: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes the training configuration with SMALL and then the given overrides."""

    def compose(*overrides: str) -> DictConfig:
        paths = (f"data.folder={digits}", f"run.root={tmp_path / 'runs'}", "run.id=test")
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            given = [*SMALL, *paths, *overrides]
            whole = hydra.compose("train", given, return_hydra_config=True)
        config = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        refuse(config, whole.hydra.runtime.choices, CONFIGS, check)
        return config

    return compose


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., RunFolder]:
    """The folder of a run, by its id."""
    return lambda run_id="test": RunFolder(tmp_path / "runs", run_id)


@pytest.fixture
def no_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the batches that are tried before a training, for tests that count what is computed."""
    monkeypatch.setattr(rehearsal, "rehearse", lambda trainer, readers: None)


class KilledError(BaseException):
    """Ends a training at once, as SIGKILL would, but only the training."""


def kill() -> None:
    raise KilledError


@pytest.fixture
def interrupt(monkeypatch):
    """Calls `action` before the given step of the next training."""

    def before(step, action):
        plain = Trainer._step

        def stepping(trainer, *batch):
            if trainer.position.step + 1 == step:
                monkeypatch.setattr(Trainer, "_step", plain)
                action()
            plain(trainer, *batch)

        monkeypatch.setattr(Trainer, "_step", stepping)

    return before
