"""`uv run train`: train a model, or go on with a run that was interrupted.

The configuration is checked before torch is imported, so that a typo costs a second.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from launcher import UserError, identity
from omegaconf import DictConfig, OmegaConf

from .config import program

if TYPE_CHECKING:
    from .training.distributed import Processes
    from .training.loop import Trainer
    from .training.run_folder import RunFolder

log = logging.getLogger(__name__)


@program("train")
def main(config: DictConfig) -> float | None:
    """Train one run, write its report, and return `config.objective` for a sweep."""
    from .training.distributed import join_processes
    from .training.run_folder import RunFolder

    processes = join_processes(config.trainer.device)
    if not processes.first:
        logging.disable(logging.INFO)  # one process speaks for all
    try:
        config.run.id = run_id(config.run.id) or processes.from_first(identity.make_run_id())
        folder = RunFolder(config.run.root, config.run.id)
        with folder.locked() if processes.first else nullcontext():
            history = train(config, folder, processes)
            processes.stop()
            if config.evaluate and processes.first:
                from .evaluate import write_report

                write_report(folder, processes.device)
    finally:
        processes.stop()
    return objective(config.objective, history[-1]) if config.objective else None


def run_id(given: str | None) -> str | None:
    """Give the id that was asked for; each trial of a sweep adds its number, and so is a run of its own."""
    hydra_config = HydraConfig.get()
    if given and hydra_config.mode is RunMode.MULTIRUN:
        return f"{given}-{hydra_config.job.num}"
    return given


def train(config: DictConfig, folder: RunFolder, processes: Processes) -> list[dict[str, Any]]:
    """Train from the newest checkpoint, or the beginning, to the last epoch; return the validations."""
    from .training.loop import Stopped
    from .training.metrics_log import MetricsLog
    from .training.restore import restore
    from .training.weights import save_weights

    trainer = build(config, folder, processes)
    restore(trainer, config, folder)
    tracker = instantiate(config.tracking) if processes.first else None
    exit_code = 1
    try:
        if tracker:
            folder.write(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            folder.describe_start(processes.count, processes.device)
            tracker.start(folder.id, folder.path, trainer.plain_config)
        trainer.fit(MetricsLog(folder, tracker, trainer.position.lines) if tracker else None)
        if tracker:
            save_weights(folder, trainer.model)
        exit_code = 0
    except Stopped as stopped:
        log.info(
            "Run %s is saved at step %d; the same command continues it.",
            folder.id,
            trainer.position.step,
        )
        exit_code = stopped.exit_code
        sys.exit(exit_code)
    finally:
        if tracker:
            tracker.finish(exit_code)
    return trainer.position.history


def build(config: DictConfig, folder: RunFolder, processes: Processes) -> Trainer:
    """Make data, model, task, optimizer and schedule, in this order, from their sections of the configuration."""
    from .training.batches import steps_per_epoch
    from .training.checkpoint import CheckpointStore
    from .training.loop import Trainer
    from .training.random_state import seed_everything

    settings = config.trainer
    if settings.batch_size % (settings.accumulate * processes.count):
        raise UserError(
            f"trainer.batch_size={settings.batch_size} does not split evenly over {processes.count} processes "
            f"with trainer.accumulate={settings.accumulate}; choose a multiple of {settings.accumulate * processes.count}."
        )
    data = instantiate(config.data)
    train_data, val_data = data.split("train"), data.split("val")
    seed_everything(config.seed)  # the same weights in every process
    model = instantiate(config.model).to(processes.device)
    seed_everything(config.seed + processes.rank)  # but not the same dropout
    optimizer = made("optimizer", instantiate(config.optimizer), model.parameters())
    steps = settings.max_epochs * steps_per_epoch(len(train_data), settings.batch_size)
    return Trainer(
        settings=OmegaConf.to_object(config.trainer),  # type: ignore[arg-type]
        checkpointing=OmegaConf.to_object(config.checkpoint),  # type: ignore[arg-type]
        seed=config.seed,
        model=model,
        task=instantiate(config.task),
        optimizer=optimizer,
        scheduler=made("scheduler", instantiate(config.scheduler), optimizer, total_steps=steps),
        train_data=train_data,
        val_data=val_data,
        processes=processes,
        checkpoints=CheckpointStore(folder.checkpoints, config.checkpoint.keep),
        plain_config=plain(config),
    )


def made(section: str, factory: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call what a section of the configuration names; what it refuses becomes one sentence."""
    try:
        return factory(*args, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{section} cannot be made from its settings: {error}.") from error


def plain(config: DictConfig) -> dict[str, Any]:
    """Give the configuration as nothing but dicts, lists, text and numbers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def objective(name: str, values: dict[str, Any]) -> float:
    """Pick what a sweep optimizes out of the last validation."""
    if name not in values:
        known = ", ".join(key for key in values if key.startswith("val/"))
        raise UserError(f"There is no metric {name} for objective=; there are {known}.")
    return values[name]


if __name__ == "__main__":
    main()
