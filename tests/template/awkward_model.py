"""A model whose parts share weights and are held in all ways, and that says what should not happen to it when divided.

It takes digits as `CNN` does; a test has a bake train it with `model._target_=awkward_model.Awkward`.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

# What is gathered by itself; the rest, such as tied weights and attention that has some, by the model.
PARTS = {
    *("", "coders.0.0.shared", "coders.0.0.own", "coders.1.0.own"),
    *("named.one", "named.list.1", "back", "classes"),
}
DIVIDED = os.environ.get("DIVIDED") == "1"

if DIVIDED and os.environ["RANK"] != "0":
    plain_load = torch.load

    def load(file: Any, **settings: Any) -> Any:
        # What processes tell each other is loaded as well, from memory.
        assert not isinstance(file, str | Path), "a process that is not the first reads a checkpoint"
        return plain_load(file, **settings)

    torch.load = load


class Coder(nn.Module):
    """A layer that belongs to another coder as well, around one of its own."""

    def __init__(self, shared: nn.Module, width: int) -> None:
        super().__init__()
        self.shared = shared
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.own = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        words = self.shared(words)
        return self.own(words + self.attention(words, words, words, need_weights=False)[0])


class Awkward(nn.Module):
    """Rows of an image are words; the last layer has the weights of the first."""

    def __init__(self, outputs: int, width: int, **_: Any) -> None:
        super().__init__()
        self.read = nn.Linear(8, width)
        shared = nn.Linear(width, width)
        self.coders = nn.ModuleList(
            [nn.ModuleList([Coder(shared, width)]), nn.ModuleList([Coder(shared, width)])]
        )
        first, second = (group[0] for group in self.coders)  # type: ignore[index]
        second.attention.in_proj_weight = first.attention.in_proj_weight  # type: ignore[union-attr]
        again = nn.Linear(width, width)
        self.named = nn.ModuleDict({"one": again, "list": nn.ModuleList([again, nn.Linear(width, width)])})
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(width))])
        self.back = nn.Linear(width, 8)
        self.last = nn.Linear(8, width, bias=False)
        self.last.weight = self.read.weight
        self.classes = nn.Linear(width, outputs)
        self.shift = nn.Parameter(torch.zeros(width))
        self.register_buffer("even", torch.arange(width) % 2 == 0)
        self.register_buffer("unsaved", torch.ones(width), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        if DIVIDED:
            whole = [name for name, weight in self.named_parameters() if not isinstance(weight, DTensor)]
            assert not whole, f"moved before it is divided: {whole}"
            divided = {name for name, module in self.named_modules() if isinstance(module, FSDPModule)}
            assert divided == PARTS, divided ^ PARTS
        return super()._apply(fn, recurse)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 8, 8) -> (B, outputs)."""
        words = self.read(images[:, 0])
        for group in self.coders:
            for coder in group:  # type: ignore[union-attr]
                words = coder(words)
        words = self.named["one"](words).relu() + self.shift
        for layer in self.named["list"]:  # type: ignore[union-attr]
            words = layer(words).relu() * self.scales[0]
        words = self.last(self.back(words)) * torch.where(self.even, self.unsaved, 0.5)
        return self.classes(words.mean(1))
