"""Where a training starts from: nothing, its own newest checkpoint, or another run.

A run's own checkpoint always comes first, so that the same command again continues it. `restore.from` counts only
when the run is new.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from launcher import UserError, storage
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.lr_scheduler import LambdaLR

from . import sharding
from .checkpoint import CheckpointStore, load_checkpoint
from .distributed import Processes
from .loop import Trainer
from .run_folder import RunFolder
from .state import refuse_other_settings
from .weights import chosen_weights

log = logging.getLogger(__name__)

State = TypeVar("State", dict[str, Any], dict[str, Any] | None)
# What the first process has and sends in shares, where a model is divided.
LARGE = ("model", "average", "best", "optimizer")


def restore(trainer: Trainer, config: DictConfig, folder: RunFolder) -> None:
    """Put `trainer` where its run, or the one named in `restore.from`, stands.

    Raises:
        UserError: what should be restored is damaged, missing, or was trained with other settings.
    """
    if trainer.processes.first:
        trainer.checkpoints.remove_unfinished()
    state = agree(trainer.processes, read(trainer, trainer.checkpoints.load_newest))
    if state:
        refuse_other_settings(trainer.plain_config, state["config"], folder.id)
        trainer.restore(state)
        position = trainer.position
        done = "has finished" if trainer.finished else "goes on"
        log.info("Run %s %s at epoch %d, step %d.", folder.id, done, position.epoch, position.step)
    elif source := config.restore["from"]:
        root = Path(config.run.root)
        if config.restore.mode == "weights":
            load_weights(trainer, source, root, config.restore.skip)
        else:
            state = read(trainer, lambda: load_source(source, root))
            if "optimizer" not in state:
                raise UserError(
                    f"restore.from={source} holds weights only; add restore.mode=weights."
                )
            refuse_other_settings(trainer.plain_config, state["config"], source, longer=True)
            _refuse_finished(trainer, state, source)
            _refuse_planned_schedule(trainer, state)
            trainer.restore(state)
            _set_rates(trainer)
            trainer.position.lines = 0  # its lines are in the other run's log
        log.info("Run %s starts from %s (%s).", folder.id, source, config.restore.mode)
    else:
        log.info("Run %s starts in %s.", folder.id, folder.path)


def _refuse_finished(trainer: Trainer, state: dict[str, Any], source: str) -> None:
    """Refuse to go on with a run that has been trained for as long as this one is to be."""
    epoch, most = state["position"]["epoch"], trainer.settings.max_epochs
    if epoch >= most:
        raise UserError(
            f"restore.from={source} was trained for {epoch} epochs, and trainer.max_epochs={most}; give more, or take "
            "only its weights with restore.mode=weights."
        )


def _refuse_planned_schedule(trainer: Trainer, state: dict[str, Any]) -> None:
    """Refuse another number of steps for a schedule that remembers its own, as torch's OneCycleLR does."""
    planned = state["scheduler"].get("total_steps")
    if planned not in (None, now := getattr(trainer.scheduler, "total_steps", None)):
        raise UserError(
            f"{type(trainer.scheduler).__name__} was planned for {planned} steps and cannot go on to {now}; give the "
            "same trainer.max_epochs, or start with restore.mode=weights."
        )


def _set_rates(trainer: Trainer) -> None:
    """Take the rates of a schedule that is longer than it was; those in the checkpoint are of its old end."""
    schedule = trainer.scheduler
    if isinstance(schedule, LambdaLR):
        rates = zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, (rate, factor) in zip(trainer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor(schedule.last_epoch)


def read(trainer: Trainer, load: Callable[[], State]) -> State:
    """Give what `load` does; where a model is divided, only the first process loads, for it is too large for each.

    The others get the rest of it, without what is in `LARGE`, or the same error.
    """
    if not isinstance(trainer.model, FSDPModule):
        return load()
    whole: Any = None
    problem = None
    if trainer.processes.first:
        try:
            whole = load()
        except UserError as error:
            problem = str(error)
    rest = whole and {key: {} if key in LARGE else value for key, value in whole.items()}
    rest, problem = trainer.processes.from_first((rest, problem))
    if problem:
        raise UserError(problem)
    return whole if trainer.processes.first else rest


def agree(processes: Processes, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Give every process the checkpoint of the first where they have found different ones.

    Each machine has fetched its own copy; one that was later may have found a newer checkpoint. It is sent only
    then: it is as large as model and optimizer together.
    """
    steps = processes.gather(state["position"]["step"] if state else None)
    if len(set(steps)) == 1:
        return state
    log.warning(
        "The processes have checkpoints of different steps %s; the first one's is taken.", steps
    )
    sent = [state]
    dist.broadcast_object_list(sent, src=0)
    return sent[0]


def load_source(source: str, root: Path) -> dict[str, Any]:
    """Load the newest whole checkpoint of a run, a single checkpoint, or weights.

    Args:
        source: the id of a run below `root`, a run's folder, a .pt or .safetensors file, or the URI of any of these.
        root: the folder of all runs.
    """
    if "://" in source:
        with tempfile.TemporaryDirectory() as temporary:
            return _load_path(_download(source, Path(temporary)), source)
    here = Path(source)
    return _load_path(here if here.exists() else root / source, source)


def _load_path(path: Path, source: str) -> dict[str, Any]:
    if path.suffix == ".safetensors" and path.is_file():
        try:
            return {"model": load_file(path)}
        except (SafetensorError, OSError) as error:
            raise UserError(f"The weights {source} cannot be read ({error}).") from error
    if path.is_file():
        return load_checkpoint(path)
    state = CheckpointStore(path / "checkpoints").load_newest()
    if state is None:
        train = "" if "/" in source else f" train it with `uv run train run.id={source}`, or"
        raise UserError(
            f"restore.from={source}: there is no run with checkpoints by that name;{train} name another."
        )
    return state


def _download(uri: str, folder: Path) -> Path:
    """Fetch a file, or a run's checkpoints, below `folder`."""
    if uri.endswith((".pt", ".safetensors")):
        storage.fetch(uri, folder / uri.rpartition("/")[2])
        return folder / uri.rpartition("/")[2]
    for name in storage.list_files(f"{uri.rstrip('/')}/checkpoints"):
        storage.fetch(f"{uri.rstrip('/')}/checkpoints/{name}", folder / "checkpoints" / name)
    return folder


def load_weights(trainer: Trainer, source: str, root: Path, skip: Sequence[str]) -> None:
    """Begin with the weights that a run, or a file, ends with; see `load_source` and `fitting`."""

    def load() -> dict[str, Any]:
        state = load_source(source, root)
        weights = chosen_weights(state) if "optimizer" in state else state["model"]
        return {"model": fitting(trainer.model, weights, source, skip)}

    weights = read(trainer, load)["model"]
    if isinstance(trainer.model, FSDPModule):
        sharding.set_model(trainer.model, weights)
    else:
        trainer.model.load_state_dict(weights, strict=False)
    if trainer.average:
        trainer.average.model.load_state_dict(trainer.model.state_dict())


def fitting(
    model: nn.Module, weights: dict[str, Any], source: str, skip: Sequence[str]
) -> dict[str, Any]:
    """Give weights that fit the model exactly, but for names that are to be skipped.

    Args:
        model: is to take them.
        weights: by name.
        source: where they are from, for messages.
        skip: patterns of names, such as `head.*`, that keep the values they have.

    Raises:
        UserError: naming the first tensor that does not fit, or the pattern that is no tensor's name.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    names = sorted(wanted.keys() | found.keys())
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"restore.skip: no weight is called {pattern}; there are {', '.join(names[:8])}, ..."
            )
    taken = [name for name in names if not any(fnmatchcase(name, each) for each in skip)]
    for name in taken:
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"The weights of {source} do not fit the model: {name} is {found.get(name, 'missing')} there and "
                f"{wanted.get(name, 'missing')} here; give the same model settings, or leave it out with "
                f"restore.skip=[{name}]."
            )
    return {name: weights[name] for name in taken}
