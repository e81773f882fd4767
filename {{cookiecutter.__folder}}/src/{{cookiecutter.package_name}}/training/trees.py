"""Batches are trees: tensors, and tuples, lists and dicts of them. What is done to all tensors of one is here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Give the tree with `function` of each of its tensors; anything else in it stays as it is."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: map_tensors(function, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        values = [map_tensors(function, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """Give the tensors of a tree, in its order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping | tuple | list):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from tensors(value)


def samples(tree: Any) -> int:
    """How many samples a batch has: the first side of its first tensor."""
    return len(next(tensors(tree)))


def chunks(tree: Any, parts: int) -> list[Any]:
    """Divide a batch into equal parts."""
    if parts == 1:
        return [tree]
    size = samples(tree) // parts
    return [
        map_tensors(lambda tensor, at=part * size: tensor[at : at + size], tree)
        for part in range(parts)
    ]


def call(model: nn.Module | Callable[..., Any], inputs: Any) -> Any:
    """Call the model as its inputs are: with a tensor, the parts of a tuple, or a dict's by name."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def as_float(tree: Any) -> Any:
    """Give predictions that were computed in half precision as float32, so that losses are exact."""
    return map_tensors(
        lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, tree
    )
