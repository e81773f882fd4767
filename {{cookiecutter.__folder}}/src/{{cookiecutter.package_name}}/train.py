"""`uv run train`: train a model, or go on with a run that was interrupted.

The configuration is checked before torch is imported, so that a typo costs a second.
"""

from __future__ import annotations

import inspect
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
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from .training.distributed import Processes
    from .training.loop import Trainer
    from .training.run_folder import RunFolder
    from .training.state import Position

log = logging.getLogger(__name__)


@program("train")
def main(config: DictConfig) -> float | None:
    """Train one run, write its report, and return what it has reached for a sweep."""
    from .training.distributed import join_processes, set_matmul_precision, set_threads
    from .training.run_folder import RunFolder

    processes = join_processes(config.trainer.device)
    set_threads(config.trainer.threads, processes.device)
    set_matmul_precision(config.trainer.matmul_precision, processes.device)
    if not processes.first:
        logging.disable(logging.INFO)  # one process speaks for all
    try:
        config.run.id = run_id(config.run.id) or processes.from_first(identity.make_run_id())
        folder = RunFolder(config.run.root, config.run.id)
        with folder.locked() if processes.first else nullcontext():
            position = train(config, folder, processes)
    finally:
        processes.stop()
    return reached(config, position) if config.objective else None


def run_id(given: str | None) -> str | None:
    """Give the id that was asked for; each trial of a sweep adds its number, and so is a run of its own."""
    hydra_config = HydraConfig.get()
    if given and hydra_config.mode is RunMode.MULTIRUN:
        return f"{given}-{hydra_config.job.num}"
    return given


def train(config: DictConfig, folder: RunFolder, processes: Processes) -> Position:
    """Train from the newest checkpoint, or the beginning, to the end; report, and return how far that was."""
    from .training.metrics_log import MetricsLog
    from .training.restore import restore
    from .training.signals import Stopped
    from .training.weights import chosen_weights, save_weights

    trainer = build(config, folder, processes)
    restore(trainer, config, folder)
    tracker = instantiate(config.tracking) if processes.first else None
    lines, exit_code = None, 1
    try:
        if tracker:
            folder.write(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            folder.describe_start(processes.count, processes.device)
            remembers = tracker.start(folder.id, folder.path, trainer.plain_config)
            lines = MetricsLog(folder, tracker, trainer.position.lines, remembers)
        trainer.fit(lines)
        state = trainer.state([])
        if tracker:
            save_weights(folder, chosen_weights(state))
            folder.describe_end(kept(config, trainer.position))
        processes.stop()  # the others are not needed for the report
        if tracker and config.evaluate:
            from .evaluate import write_report

            tracker.report(folder, write_report(folder, processes.device))
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
    return trainer.position


def build(config: DictConfig, folder: RunFolder, processes: Processes) -> Trainer:
    """Make task, data, model, optimizer and schedule, in this order, from their sections of the configuration."""
    from .training.batches import Reader, steps_per_epoch
    from .training.checkpoint import CheckpointStore
    from .training.explain import of_kind, opened
    from .training.loop import Trainer
    from .training.random_state import seed_everything
    from .training.rehearsal import rehearse
    from .training.sharding import shard

    settings = config.trainer
    if settings.batch_size % (settings.accumulate * processes.count):
        raise UserError(
            f"trainer.batch_size={settings.batch_size} does not split evenly over {processes.count} processes "
            f"with trainer.accumulate={settings.accumulate}; choose a multiple of {settings.accumulate * processes.count}."
        )
    task = of_kind("task", instantiate(config.task), "loss", "metrics", "decode", "pictures")
    data = of_kind("data", instantiate(config.data), "split")
    if config.monitor.metric not in ["val/loss", *(f"val/{name}" for name in task.metrics())]:
        raise UserError(
            f"monitor.metric={config.monitor.metric} is not measured by {type(task).__name__}."
        )
    readers = {
        name: Reader(
            data,
            opened(data, name),
            workers=0 if name == "test" else settings.num_workers,
            device=processes.device,
            seed=config.seed,
            rank=processes.rank,
        )
        for name in ("train", "val", *(["test"] if config.evaluate else []))
    }
    seed_everything(config.seed)  # the same weights in every process
    model = of_kind("model", instantiate(config.model), "forward")
    if settings.shard:
        shard(model, processes)  # before it goes to the device, which may not hold all of it
    model.to(processes.device)
    seed_everything(config.seed + processes.rank)  # but not the same dropout
    optimizer = build_optimizer(config.optimizer, model)
    steps = settings.max_epochs * steps_per_epoch(readers["train"].samples, settings.batch_size)
    trainer = Trainer(
        settings=OmegaConf.to_object(config.trainer),  # type: ignore[arg-type]
        checkpointing=OmegaConf.to_object(config.checkpoint),  # type: ignore[arg-type]
        monitor=OmegaConf.to_object(config.monitor),  # type: ignore[arg-type]
        seed=config.seed,
        model=model,
        task=task,
        optimizer=optimizer,
        scheduler=build_scheduler(config.scheduler, optimizer, steps),
        train_data=readers["train"],
        val_data=readers["val"],
        augment=instantiate(config.augment),
        processes=processes,
        checkpoints=CheckpointStore(folder.checkpoints, config.checkpoint.keep),
        plain_config=plain(config),
    )
    rehearse(trainer, readers)
    return trainer


def build_optimizer(section: DictConfig, model: nn.Module) -> Optimizer:
    """Freeze what is not trained, divide the rest into groups, and make the optimizer of them."""
    from .training.parameters import freeze, groups, refuse_unknown_settings

    settings: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # type: ignore[assignment]
    freeze(model, settings.pop("frozen", []))
    divided = groups(model, settings.pop("groups", []))
    named = OmegaConf.create({"optimizer": settings})  # so that an error in it names the section
    optimizer = made("optimizer", instantiate(named.optimizer), divided)
    refuse_unknown_settings(optimizer)
    return optimizer


def build_scheduler(section: DictConfig, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Make the schedule; it is told the number of all steps if it asks for `total_steps`."""
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    factory = instantiate(section)
    # A partial's own signature cannot be had where it holds a setting that its class does not take.
    asks = "total_steps" in inspect.signature(getattr(factory, "func", factory)).parameters
    scheduler = made("scheduler", factory, optimizer, **({"total_steps": steps} if asks else {}))
    if isinstance(scheduler, ReduceLROnPlateau):
        raise UserError(
            "scheduler: ReduceLROnPlateau waits for a metric, and schedules here go by steps; "
            "choose scheduler=cosine, or another of torch's."
        )
    return scheduler


def made(section: str, factory: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call what a section of the configuration names; what it refuses becomes one sentence."""
    try:
        return factory(*args, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{section} cannot be made from its settings: {error}; leave one out with ~{section}.<name>, and add one "
            f"with +{section}.<name>=..."
        ) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """Give the configuration as nothing but dicts, lists, text and numbers."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def kept(config: DictConfig, position: Position) -> dict[str, Any]:
    """Give the validation of the weights that the run keeps."""
    best = position.best if config.monitor.keep == "best" else None
    return best or position.history[-1]


def reached(config: DictConfig, position: Position) -> float:
    """Pick out of it what a sweep optimizes."""
    values = kept(config, position)
    if config.objective not in values:
        known = ", ".join(key for key in values if key.startswith("val/"))
        raise UserError(f"There is no metric {config.objective} for objective=; there are {known}.")
    return values[config.objective]


if __name__ == "__main__":
    main()
