"""Which parameters are trained, and how: groups with settings of their own, frozen ones, and their average."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any

import torch
from launcher import UserError
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Have the parameters with such names, `features.*`, keep their values.

    Raises:
        UserError: a pattern is no parameter's name, or nothing is left to train.
    """
    for name in _named(model, patterns, "optimizer.frozen"):
        model.get_parameter(name).requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise UserError(
            f"optimizer.frozen={list(patterns)} leaves nothing to train; name fewer parameters."
        )


def train_mode(model: nn.Module) -> None:
    """Put the model into training mode, but for its frozen parts: their norms and dropout stay as in use."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def groups(model: nn.Module, settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Divide what is trained into groups for the optimizer; the first group has all that no other names.

    Args:
        model: whose parameters.
        settings: for each other group its `names` (patterns such as `features.*`), `max_dims` (1 for biases and the
            weights of norms), or both, and what the optimizer should do otherwise there, such as `lr`. A parameter
            belongs to the first group that fits it.

    Raises:
        UserError: a pattern is no parameter's name.
    """
    left = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found: list[dict[str, Any]] = []
    for number, setting in enumerate(settings):
        rest = dict(setting)
        patterns, most = rest.pop("names", ["*"]), rest.pop("max_dims", None)
        names = _named(model, patterns, f"optimizer.groups[{number}].names")
        chosen = [
            name for name in names if name in left and (most is None or left[name].ndim <= most)
        ]
        found.append({"params": [left.pop(name) for name in chosen], **rest})
    return [{"params": list(left.values())}, *found]


def refuse_unknown_settings(optimizer: torch.optim.Optimizer) -> None:
    """Refuse a group's setting that its optimizer does not have: it would be kept and not read.

    Raises:
        UserError: naming the setting.
    """
    for number, group in enumerate(optimizer.param_groups[1:]):
        for name in group.keys() - optimizer.defaults.keys() - {"params", "initial_lr"}:
            raise UserError(
                f"optimizer.groups[{number}].{name} is no setting of {type(optimizer).__name__}; choose of "
                f"{', '.join(sorted(optimizer.defaults))}."
            )


def _named(model: nn.Module, patterns: Sequence[str], key: str) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"{key}: no parameter is called {pattern}; there are {', '.join(names[:8])}, ..."
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


class Average:
    """An exponential moving average of a model's parameters; its other state is the newest.

    Args:
        model: a copy of which is kept, in evaluation mode.
        decay: part of the average that stays at each step; less in the first steps, or it would begin with chance.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the model's parameters after `step` steps."""
        average = get_ema_multi_avg_fn(min(self.decay, step / (step + 10)))
        average(list(self.model.parameters()), list(model.parameters()), torch.zeros(()))
        for mine, newest in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(newest)
