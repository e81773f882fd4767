"""From the arrays of the model to what people are told."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

PALETTE = (
    *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178)),
    *((213, 94, 0), (204, 121, 167), (255, 255, 255)),  # Okabe and Ito's, told apart by all eyes
)
MOST_COLOURS = 256  # of a PNG with 8 bits a pixel
DIGITS = 6  # of a float32 that mean something


class Outputs:
    """What a model gives.

    Args:
        signature: as the export has written it.
    """

    def __init__(self, signature: Mapping[str, Any]) -> None:
        self.kind = str(signature.get("kind", "values"))
        self.names = [one["name"] for one in signature["outputs"]]
        self._shapes = [one["shape"] for one in signature["outputs"]]
        self.classes = [str(name) for name in signature.get("classes") or ()]
        self.unit = signature.get("unit")
        self._forms = {
            "classification": self._classes,
            "segmentation": self._mask,
            "depth": self._map,
            "regression": self._numbers,
        }

    def predictions(
        self, arrays: Sequence[np.ndarray], plain: bool = False
    ) -> list[dict[str, Any]]:
        """Give what is told of each instance of a batch.

        Args:
            plain: the numbers themselves, in place of pictures of them.
        """
        form = self._forms.get(self.kind)
        if form and not plain and len(arrays) == 1:
            return [form(row) for row in arrays[0]]
        return [
            {name: numbers(array[place]) for name, array in zip(self.names, arrays, strict=True)}
            for place in range(len(arrays[0]))
        ]

    def numbers_each(self, plain: bool) -> int:
        """Give how many numbers a prediction holds that is told as numbers; 0 where it is a picture or a class."""
        if self.kind in self._forms and not plain and len(self.names) == 1:
            return 0
        return sum(math.prod(s for s in shape[1:] if isinstance(s, int)) for shape in self._shapes)

    def decided(self, prediction: Mapping[str, Any]) -> str | None:
        """Give the class of a prediction, to be counted; None where there is none."""
        return prediction.get("class")

    def _classes(self, row: np.ndarray) -> dict[str, Any]:
        shares = softmax(row)
        if not np.isfinite(shares).all():  # nothing was decided
            return {"class": None, "index": None, "probabilities": numbers(shares)}
        best = int(shares.argmax())
        return {"class": self._name(best), "index": best, "probabilities": numbers(shares)}

    def _mask(self, row: np.ndarray) -> dict[str, Any]:
        mask = row.argmax(axis=0).astype(np.uint8 if len(row) <= MOST_COLOURS else np.uint16)
        image = Image.fromarray(mask)
        if len(row) <= MOST_COLOURS:
            image.putpalette([value for colour in self.colours(len(row)) for value in colour])
        counts = np.bincount(mask.ravel(), minlength=len(row)) / mask.size
        shares = {self._name(number): round(float(share), 4) for number, share in enumerate(counts)}
        return {"b64": _png(image), "shares": shares}

    def _map(self, row: np.ndarray) -> dict[str, Any]:
        low, high = float(row.min()), float(row.max())
        scaled = (row[0] - low) / (high - low or 1.0) * 65535
        # 16 bits a pixel: the value is low + pixel / 65535 * (high - low).
        image = Image.fromarray(np.rint(scaled).astype(np.uint16))
        return {"b64": _png(image), "low": rounded(low), "high": rounded(high)}

    def _numbers(self, row: np.ndarray) -> dict[str, Any]:
        return {"values": numbers(row), **({"unit": self.unit} if self.unit else {})}

    def _name(self, number: int) -> str:
        return self.classes[number] if number < len(self.classes) else str(number)

    @staticmethod
    def colours(count: int) -> list[tuple[int, int, int]]:
        """Give a colour for each class; they are used again where there are many."""
        return [PALETTE[number % len(PALETTE)] for number in range(count)]


def softmax(row: np.ndarray) -> np.ndarray:
    """Give the shares of a row of logits."""
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def numbers(array: np.ndarray) -> Any:
    """Give an array as lists, with as many digits as mean something."""
    if array.dtype.kind != "f":
        return array.tolist()
    if array.ndim > 1:
        return [numbers(row) for row in array]
    return [rounded(value) for value in array.tolist()] if array.ndim else rounded(float(array))


def rounded(value: float) -> float | None:
    """Give a number with the digits that a float32 has; JSON has no word for one that is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
