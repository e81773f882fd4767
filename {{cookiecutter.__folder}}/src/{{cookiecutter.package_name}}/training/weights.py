"""The final weights of a run, for whoever uses the model."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import nn

from .run_folder import RunFolder


def save_weights(folder: RunFolder, model: nn.Module) -> None:
    """Write model.safetensors, whole or not at all."""
    tensors, memory = {}, set[int]()
    for name, found in model.state_dict().items():
        tensor = found.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        # Tied weights are written once for each of their names, for the format takes no memory twice.
        tensors[name] = tensor.clone() if place in memory else tensor
        memory.add(place)
    temporary = folder.weights.with_suffix(".tmp")
    with folder.writing():
        save_file(tensors, temporary)
        temporary.replace(folder.weights)
