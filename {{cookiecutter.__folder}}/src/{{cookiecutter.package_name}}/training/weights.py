"""The final weights of a run, for whoever uses the model."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import nn

from .run_folder import RunFolder


def save_weights(folder: RunFolder, model: nn.Module) -> None:
    """Write model.safetensors, whole or not at all."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    temporary = folder.weights.with_suffix(".tmp")
    with folder.writing():
        save_file(tensors, temporary)
        temporary.replace(folder.weights)
