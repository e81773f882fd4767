"""The weights that a run ends with, for whoever uses the model."""

from __future__ import annotations

from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from .run_folder import RunFolder


def chosen_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Pick out of a checkpoint what its run keeps: the weights of the best validation, or the last ones."""
    if state["best"] is not None and state["config"]["monitor"]["keep"] == "best":
        return state["best"]
    return state["average"] or state["model"]


def untied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give weights as the file format takes them: on the CPU, each with memory of its own."""
    tensors, memory = {}, set[int]()
    for name, found in weights.items():
        tensor = found.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        # Tied weights are written once for each of their names, for the format takes no memory twice.
        tensors[name] = tensor.clone() if place in memory else tensor
        memory.add(place)
    return tensors


def save_weights(folder: RunFolder, weights: dict[str, Tensor]) -> None:
    """Write model.safetensors, whole or not at all."""
    temporary = folder.weights.with_suffix(".tmp")
    with folder.writing():
        save_file(untied(weights), temporary)
        temporary.replace(folder.weights)
