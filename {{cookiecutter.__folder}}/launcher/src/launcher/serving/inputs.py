"""From the JSON of a request to the arrays of the model. What is not exactly of the model's kind is refused."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from . import images
from .images import COLOUR, GREY, InputError

Arrays = dict[str, np.ndarray]
MOST_TEXT = 100_000  # characters
# Rows of these are taken without a look at each number: what they cannot hold NumPy itself says.
SURE = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}
MOST_FREE = 200_000  # numbers of a batch whose rows are filled up to the longest of them


class Inputs:
    """What a model takes.

    Args:
        signature: as the export has written it.
    """

    def __init__(self, signature: Mapping[str, Any]) -> None:
        self.takes: dict[str, Mapping[str, Any]] = {one["name"]: one for one in signature["inputs"]}
        self.highest = float(signature.get("highest", 255))
        self.text: Mapping[str, Any] | None = signature.get("text")
        self.columns: Sequence[Mapping[str, Any]] = signature.get("columns") or ()
        self.image = self._image(signature.get("image"))

    def batch(self, instances: Sequence[Any]) -> Arrays:
        """Give the arrays of a batch.

        Raises:
            InputError: naming the instance that cannot be taken.
        """
        rows = []
        for number, instance in enumerate(instances):
            try:
                rows.append(self.read(instance))
            except InputError as error:
                raise InputError(f"instances[{number}]: {error}") from None
        return self.collate(rows)

    def read(self, instance: Any) -> Arrays:
        """Give the arrays of one instance, without the side of the batch.

        Raises:
            InputError: it cannot be taken.
        """
        if isinstance(instance, Mapping):
            if set(instance) == {"b64"} and self.image:
                return {self.image: self.decode(_from_base64(instance["b64"]))}
            if set(instance) == {"text"} and self.text:
                return self._words(instance["text"])
            if self.columns and set(instance) == {one["name"] for one in self.columns}:
                row = [instance[one["name"]] for one in self.columns]
                return {name: self._array(name, row) for name in self.takes}
            if set(instance) == set(self.takes):
                return self._fitting(
                    {name: self._array(name, instance[name]) for name in self.takes}
                )
            raise InputError(
                f"it has {', '.join(map(repr, list(instance)[:8])) or 'nothing'}, and {self._wanted()}"
            )
        if len(self.takes) == 1:
            (name,) = self.takes
            return {name: self._array(name, instance)}
        raise InputError(self._wanted())

    def collate(self, rows: Sequence[Arrays]) -> Arrays:
        """Make a batch of instances; those that are shorter than others are filled up."""
        return {
            name: _stacked([row[name] for row in rows], self._filling(name)) for name in self.takes
        }

    def decode(self, content: bytes) -> np.ndarray:
        """Give an image as the model takes it: its channels, its size, its range of brightness.

        Raises:
            InputError: it is no image, too large, or the model takes none.
        """
        if not self.image:
            raise InputError(f"the model takes no images; {self._wanted()}")
        channels, height, width = (int(side) for side in self.takes[self.image]["shape"][1:])
        array = images.read(content, channels, height, width)
        dtype = np.dtype(self.takes[self.image]["dtype"])
        if dtype == np.uint8 and self.highest == 255:
            return np.ascontiguousarray(array)
        scaled = array.astype(np.float32) * (self.highest / 255)
        return (np.rint(scaled) if dtype.kind in "iu" else scaled).astype(dtype)

    def example(self) -> Any:
        """Give an instance that can be taken, in the form that people would send."""
        if self.image:
            _, height, width = (int(side) for side in self.takes[self.image]["shape"][1:])
            file = io.BytesIO()
            Image.new("L", (width, height), 128).save(file, "PNG")
            return {"b64": base64.b64encode(file.getvalue()).decode()}
        if self.text:
            return {"text": " ".join(list(self.text["words"])[:8])}
        if self.columns:
            return {one["name"]: one.get("usual", 0) for one in self.columns}
        arrays = {
            name: np.zeros(
                [1 if isinstance(side, str) else side for side in one["shape"][1:]], one["dtype"]
            ).tolist()
            for name, one in self.takes.items()
        }
        return arrays if len(arrays) > 1 else next(iter(arrays.values()))

    def _words(self, text: Any) -> Arrays:
        assert self.text is not None
        if not isinstance(text, str) or len(text) > MOST_TEXT:
            raise InputError(f"its text is none, or longer than {MOST_TEXT:,} characters")
        found = re.findall(self.text["pattern"], text.lower() if self.text["lower"] else text)
        if not found:
            raise InputError("its text has no word")
        numbers = [self.text["words"].get(word, self.text["unknown"]) for word in found]
        arrays = {self.text["tokens"]: np.array(numbers, np.int64)}
        if mask := self.text.get("mask"):
            arrays[mask] = np.ones(len(numbers), bool)
        return arrays

    def _array(self, name: str, value: Any) -> np.ndarray:
        one = self.takes[name]
        dtype = np.dtype(one["dtype"])
        _check(value, one["shape"][1:], dtype, name)
        try:
            array = np.asarray(value, dtype)
        except (ValueError, OverflowError):
            raise InputError(
                f"{name} holds numbers that no {dtype} can hold, or its rows differ in length"
            ) from None
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{name} holds numbers that no {dtype} can hold")
        if (
            name == self.image
            and array.size
            and not 0 <= array.min() <= array.max() <= self.highest
        ):
            raise InputError(
                f"{name} runs from {array.min()} to {array.max()}, and not from 0 to {self.highest:g}"
            )
        return array

    def _fitting(self, arrays: Arrays) -> Arrays:
        """Refuse a text whose mask is of another length."""
        if self.text and self.text.get("mask"):
            mask, tokens = self.text["mask"], self.text["tokens"]
            if arrays[mask].shape != arrays[tokens].shape:
                raise InputError(f"{mask} and {tokens} differ in length")
        return arrays

    def _filling(self, name: str) -> int:
        return int(self.text["padding"]) if self.text and name == self.text["tokens"] else 0

    def _image(self, name: str | None) -> str:
        """Give the input that is an image people can send; empty where there is none."""
        shape = self.takes[name]["shape"] if name in self.takes else []
        fits = (
            len(self.takes) == 1
            and len(shape) == 4
            and all(isinstance(side, int) for side in shape[1:])
        )
        return str(name) if fits and shape[1] in (GREY, COLOUR) else ""

    def _wanted(self) -> str:
        forms = [
            f'{{"{word}": "..."}}'
            for word, has in (("b64", self.image), ("text", self.text))
            if has
        ]
        if self.columns:
            forms.append(f"an object of {', '.join(one['name'] for one in self.columns)}")
        arrays = [
            f"{name} {one['dtype']} {list(one['shape'][1:])}" for name, one in self.takes.items()
        ]
        return f"the model takes {' or '.join([*forms, ' and '.join(arrays)])}"


def _check(value: Any, shape: Sequence[int | str], dtype: np.dtype, name: str) -> None:
    """Refuse what NumPy would make numbers of all the same: texts, truths, rows of other lengths."""
    if not shape:
        _check_number(value, dtype, name)
        return
    side, *rest = shape
    if type(value) is not list or (isinstance(side, int) and len(value) != side):
        had = f"a list of {len(value)}" if type(value) is list else f"a {type(value).__name__}"
        raise InputError(
            f"{name} has {had} where {'a list' if isinstance(side, str) else f'a list of {side}'} has to be"
        )
    if isinstance(side, str) and not value:
        raise InputError(f"{name} is empty")
    if not rest and set(map(type, value)) <= SURE.get(dtype.kind, set()):
        return
    for each in value:
        _check(each, rest, dtype, name)


def _check_number(value: Any, dtype: np.dtype, name: str) -> None:
    kind = type(value)
    if kind is bool or dtype.kind == "b":
        if kind is not bool or dtype.kind != "b":
            raise InputError(f"{name} holds a {kind.__name__} in place of a {dtype}")
    elif kind not in (int, float):
        raise InputError(f"{name} holds a {kind.__name__} in place of a {dtype}")
    elif kind is float and (
        not math.isfinite(value) or (dtype.kind in "iu" and value != int(value))
    ):
        raise InputError(f"{name} holds {value}, which is no {dtype}")


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise InputError("its b64 is no text")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("its b64 is not base64") from None


def _stacked(arrays: Sequence[np.ndarray], filling: int) -> np.ndarray:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    if len({array.ndim for array in arrays}) > 1:
        raise InputError("the instances have different numbers of sides")
    shape = np.max([array.shape for array in arrays], axis=0)
    if len(arrays) * np.prod(shape) > MOST_FREE:
        raise InputError(
            f"the instances are too long together; {MOST_FREE:,} numbers are the most, each filled up to the longest"
        )
    batch = np.full((len(arrays), *shape), filling, arrays[0].dtype)
    for row, array in zip(batch, arrays, strict=True):
        row[tuple(slice(side) for side in array.shape)] = array
    return batch
