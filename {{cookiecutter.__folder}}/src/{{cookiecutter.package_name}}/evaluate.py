"""`uv run evaluate run=<id>`: metrics on the test split, plots and a report, from the newest checkpoint alone."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from launcher import UserError
from omegaconf import DictConfig

from .config import program

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from .training.run_folder import RunFolder

log = logging.getLogger(__name__)


@program("evaluate")
def main(config: DictConfig) -> None:
    """Make the report of a run anew."""
    from .training.distributed import choose_device, set_threads
    from .training.run_folder import RunFolder

    device = choose_device(config.device)
    set_threads(None, device)
    write_report(RunFolder(config.root, config.run), device)


def write_report(folder: RunFolder, device: torch.device) -> dict[str, float]:
    """Write metrics.json, plots/*.png and report.md, and return the metrics of the test split.

    Raises:
        UserError: the run has no whole checkpoint, or has not been validated yet.
    """
    from .training.checkpoint import CheckpointStore
    from .training.distributed import set_matmul_precision
    from .training.metrics_log import read_metrics
    from .training.plots import learning_curves
    from .training.weights import chosen_weights

    state = CheckpointStore(folder.checkpoints).load_newest()
    if state is None:
        raise UserError(
            f"There is no run with checkpoints in {folder.path}; see `ls {folder.path.parent}`."
        )
    if not state["position"]["history"]:
        raise UserError(f"Run {folder.id} has not finished an epoch; train it for longer first.")
    config = DictConfig(state["config"])
    set_matmul_precision(config.trainer.matmul_precision, device)
    metrics, pictures = test(config, chosen_weights(state), device)
    records = read_metrics(folder.metrics_log) or state["position"]["history"]
    best = state["position"]["best"]
    curves = learning_curves(records, best and best["step"])
    pictures = {"learning_curves": curves, **pictures}

    folder.write_json(folder.metrics, metrics)
    for name, figure in pictures.items():
        save_figure(folder, name, figure)
    folder.write(folder.report, report_text(folder, config, state, metrics, list(pictures)))
    log.info("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    log.info("report  %s", folder.report)
    log.info("plots   %s", "  ".join(str(folder.plots / f"{name}.png") for name in pictures))
    return metrics


def test(
    config: DictConfig, weights: dict[str, torch.Tensor], device: torch.device
) -> tuple[dict[str, float], dict[str, Figure]]:
    """Score the weights on the test split and draw what the task wants to show."""
    from .config import Precision
    from .training.batches import Reader
    from .training.distributed import Processes
    from .training.explain import opened
    from .training.scoring import score

    model = instantiate(config.model).to(device)
    model.load_state_dict(weights)
    task, data = instantiate(config.task), instantiate(config.data)
    workers = config.trainer.num_workers
    pictures = task.pictures()
    metrics = score(
        model,
        task,
        Reader(data, opened(data, "test"), workers=workers, device=device, seed=config.seed),
        config.trainer.batch_size,
        Processes(0, 1, device),
        Precision(config.trainer.precision),
        pictures=pictures.values(),
    )
    drawn = {name: picture.draw() for name, picture in pictures.items()}
    figures = {name: figure for name, figure in drawn.items() if figure}
    return {f"test/{name}": value for name, value in metrics.items()}, figures


def save_figure(folder: RunFolder, name: str, figure: Figure) -> None:
    """Write plots/<name>.png, whole or not at all."""
    with folder.writing():
        folder.plots.mkdir(exist_ok=True)
        temporary = folder.plots / f".{name}.png"
        figure.savefig(temporary, dpi=110)
        temporary.replace(folder.plots / f"{name}.png")


def report_text(
    folder: RunFolder,
    config: DictConfig,
    state: dict[str, Any],
    metrics: dict[str, float],
    pictures: list[str],
) -> str:
    """Give the report as Markdown: results, what was trained, pictures."""
    from .training.tracking import offline_files

    run_file = folder.path / "run.json"
    run = json.loads(run_file.read_text(encoding="utf-8")) if run_file.exists() else {}
    commit = f"`{run['commit'][:12]}`" if run.get("commit") else "unknown"
    parameters = sum(tensor.numel() for tensor in state["model"].values())
    position, best = state["position"], state["position"]["best"]
    facts = {
        "data": f"`{config.data._target_}`, {config.data.get('fraction', 1.0):.0%} of the training split",
        "model": f"`{config.model._target_}`, {parameters:,} parameters",
        "trained": f"{position['epoch']} of {config.trainer.max_epochs} epochs, "
        f"{position['step']:,} steps of {config.trainer.batch_size} samples",
        "weights": _which_weights(config.monitor, best),
        "commit": commit + (", with uncommitted changes" if run.get("dirty") else ""),
        "started": f"{len(run.get('starts', []))} times, last on {run['starts'][-1]['device']}"
        if run
        else "unknown",
    }
    if offline := offline_files(folder.path):
        files = f"{len(offline)} times" if len(offline) > 1 else "once"
        facts["tracking"] = (
            f"offline, {files}; `uv run wandb sync {folder.path}/wandb/offline-run-*` sends it"
        )
    lines = [f"# Run {folder.id}", "", "| metric | value |", "|---|---:|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    lines += ["", *(f"- {name}: {text}" for name, text in facts.items()), ""]
    lines += [f"![{name.replace('_', ' ')}](plots/{name}.png)\n" for name in pictures]
    return "\n".join(lines)


def _which_weights(monitor: DictConfig, best: dict[str, Any] | None) -> str:
    """Say whose weights are kept; there are no best ones where the metric never was a number."""
    if best is None:
        return f"the last; {monitor.metric} never was a number"
    which = "the best" if monitor.keep == "best" else "the last; the best were"
    value = f"{best[monitor.metric]:.4f}"
    return f"{which} by {monitor.metric}, {value}, of epoch {best['epoch']}, step {best['step']:,}"


if __name__ == "__main__":
    main()
