"""Learning rates over a run. Each takes the optimizer and the number of all steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, total_steps: int, warmup: float, final: float) -> LambdaLR:
    """Rise to the full rate, then fall along half a cosine.

    Args:
        optimizer: its learning rates are the full ones.
        total_steps: optimizer steps of the whole run.
        warmup: part of the steps that rise, in [0, 1).
        final: part of the full rate that is left at the end, in [0, 1].
    """
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, total_steps - rising))
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int, warmup: float) -> LambdaLR:
    """Rise to the full rate over the part `warmup` of the steps, then stay there."""
    rising = round(warmup * total_steps)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, rising)))
