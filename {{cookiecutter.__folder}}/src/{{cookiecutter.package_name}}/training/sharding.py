"""A model that is divided over the processes (FSDP2), and its state as a whole, which any number of them can go on from.

Tried with gloo on CPUs; on several GPUs nobody has run it yet.
"""

from __future__ import annotations

from collections import Counter
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
    """Leave each process its share of every parameter, on its device; one process keeps them whole, where they are.

    Each of the model's parts goes to the device by itself and is divided there before the next one comes. They are
    gathered one after the other while the model computes.
    """
    if processes.count == 1:
        return
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for part in parts(model):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def parts(model: nn.Module) -> list[nn.Module]:
    """Choose what is gathered by itself: the model's children, or what they hold where they are lists or dicts.

    A parameter can belong to one part only. Where a child shares some with others, its own children are looked at
    instead, and theirs. What no part has, such as tied weights, is gathered from the beginning of a step to its end.
    """
    uses = Counter(weight for _, weight in model.named_parameters(remove_duplicate=False))
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    found: dict[nn.Module, None] = {}

    def look(module: nn.Module) -> None:
        for child in module.children():
            inside = Counter(weight for _, weight in child.named_parameters(remove_duplicate=False))
            # A layer that is used in several places is one part, if each use of its weights is a use of the layer.
            alone = all(uses[weight] == count * places[child] for weight, count in inside.items())
            if inside and alone and _computes(child):
                found[child] = None
            elif not _reads_its_children(child):
                look(child)

    look(model)
    return list(found)


def _computes(module: nn.Module) -> bool:
    """Whether it has a forward pass, before which it can be gathered; a list or a dict of modules has none."""
    return type(module).forward is not nn.Module.forward


def _reads_its_children(module: nn.Module) -> bool:
    """Whether it may use its children's weights without calling them, as torch's own attention does."""
    own = type(module).__module__.startswith("torch.nn.") and _computes(module)
    return own and not isinstance(module, nn.Sequential)


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
    """Take one's share of whole weights, which the first process has; names that are missing keep their values."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # after a forward alone the root keeps what it has gathered
    options = _from_first(model)
    options.strict = False
    set_model_state_dict(model, _each_once(model, weights), options=options)


def _each_once(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """Give each weight by the first of its names; torch does not know the others of a layer that is in several places."""
    named = dict(model.named_parameters(remove_duplicate=False))
    named |= dict(model.named_buffers(remove_duplicate=False))
    first: dict[torch.Tensor, str] = {}
    for name, tensor in named.items():
        first.setdefault(tensor, name)
    return {first[named[name]] if name in named else name: value for name, value in weights.items()}


def set_optimizer(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take one's share of an optimizer's whole state, which the first process has."""
    set_optimizer_state_dict(model, optimizer, state, options=_from_first(model))


def _from_first(model: nn.Module) -> StateDictOptions:
    # One tensor at a time is sent whole, so that only the first process's memory has to hold them all.
    divided = isinstance(model, FSDPModule)
    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=divided)
