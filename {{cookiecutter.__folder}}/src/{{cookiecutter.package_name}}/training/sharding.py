"""A model that is divided over the processes (FSDP2), and its state as a whole, which any number of them can go on from.

Tried with gloo on CPUs; on several GPUs nobody has run it yet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from .distributed import Processes

# Gathered to the first process's memory, which has to hold it: a checkpoint stays one file, whole or absent.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def shard(model: nn.Module, processes: Processes) -> None:
    """Leave each process its share of every parameter; one process keeps them whole.

    The model's parts are gathered one after the other while it computes: its children, and the layers of a list.
    """
    if processes.count == 1:
        return
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for child in model.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            if any(True for _ in part.parameters()):
                fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def average_gradients(model: nn.Module, now: bool) -> None:
    """Say whether the next backward pass shares its gradients, or keeps them for a later one to add to."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def whole(norm: torch.Tensor) -> torch.Tensor:
    """Give a norm over all processes' shares."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def get_model(model: nn.Module) -> dict[str, Any]:
    """Give the whole weights on the CPU; every process must call it, and only the first gets them."""
    return get_model_state_dict(model, options=WHOLE)


def get_optimizer(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Give the optimizer's whole state by the parameters' names, as `get_model` does."""
    return get_optimizer_state_dict(model, optimizer, options=WHOLE)


def set_model(model: nn.Module, weights: dict[str, Any]) -> None:
    """Take one's share of whole weights, which every process has; names that are missing keep their values."""
    options = StateDictOptions(full_state_dict=True, strict=False)
    set_model_state_dict(model, weights, options=options)


def set_optimizer(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take one's share of an optimizer's whole state, which every process has."""
    set_optimizer_state_dict(
        model, optimizer, state, options=StateDictOptions(full_state_dict=True)
    )
