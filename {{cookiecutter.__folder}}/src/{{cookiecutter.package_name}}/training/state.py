"""Where a training stands: all that a checkpoint keeps besides the weights and the optimizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from launcher import UserError

# Settings that decide what is trained. A run may be started again with others than these changed.
FIXED = ("data", "augment", "model", "task", "optimizer", "scheduler", "monitor", "seed")
FIXED_TRAINER = (
    *(
        "max_epochs",
        "batch_size",
        "accumulate",
        "precision",
        "matmul_precision",
        "clip_norm",
        "ema",
    ),
    *("validate_every", "shard"),
)
MAY_DIFFER = ("data.folder", "data.source", "monitor.patience")


@dataclass
class Position:
    """How far a run has come.

    Args:
        epoch: finished epochs, each with its validation.
        batch: trained batches of the epoch after them.
        step: optimizer steps of the whole run.
        losses: training losses since the last line of metrics.jsonl.
        norms: those steps' norms of the gradient.
        lines: lines of metrics.jsonl.
        history: those lines, one a validation, for a report from the checkpoint alone.
        validated: the step of the last validation.
        best: the line of the best validation; its weights are kept beside.
        worse: validations since then.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    lines: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    validated: int = 0
    best: dict[str, Any] | None = None
    worse: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Position:
        return cls(**{item.name: values[item.name] for item in fields(cls)})


def refuse_other_settings(
    now: dict[str, Any], then: dict[str, Any], run_id: str, longer: bool = False
) -> None:
    """Refuse to continue a run whose checkpoint was made with settings that train something else.

    Args:
        now: the configuration given.
        then: the configuration in the checkpoint.
        run_id: the run, for the message.
        longer: whether `trainer.max_epochs` may differ.

    Raises:
        UserError: naming each difference.
    """
    before, after = _flat(_decisive(then)), _flat(_decisive(now))
    may_differ = {*MAY_DIFFER, "trainer.max_epochs"} if longer else MAY_DIFFER
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    changed -= set(may_differ)
    if changed:
        listed = ", ".join(
            f"{key}={after.get(key)} (was {before.get(key)})" for key in sorted(changed)
        )
        mode = "continue" if changed == {"trainer.max_epochs"} else "weights"
        raise UserError(
            f"Run {run_id} was started with other settings: {listed}; give the old ones, "
            f"or start a new run from it with restore.from={run_id} restore.mode={mode} run.id=..."
        )


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    trainer = {key: config["trainer"][key] for key in FIXED_TRAINER}
    return {**{key: config[key] for key in FIXED}, "trainer": trainer}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return flat
