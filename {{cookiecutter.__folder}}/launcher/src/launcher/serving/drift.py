"""How far what a model meets is from what it was tested on: modestly, by means and by shares of classes.

A number far from 0 says that inputs are of another kind; one near 0 does not say that they are of the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import numpy as np

FAR = 0.5  # of either measure; half a spread, or half of all decisions
FEWEST = 30  # instances, below which a mean says little


class Drift:
    """Adds up inputs and decisions, and compares them with the test split's.

    Args:
        statistics: of the test split, as the export has written them.
        classes: their names, by number.
    """

    def __init__(self, statistics: Mapping[str, Any], classes: list[str]) -> None:
        shares = statistics.get("class") or {}
        self._inputs = {name: one for name, one in statistics.items() if name != "class"}
        self._shares = {_named(int(number), classes): share for number, share in shares.items()}
        self._sums: dict[str, tuple[int, float]] = {}
        self._decided: Counter[str] = Counter()
        self._instances, self._lock = 0, Lock()

    def add(self, arrays: Mapping[str, np.ndarray], decided: Iterable[str | None]) -> None:
        """Count a batch of inputs, and what was decided of them."""
        with self._lock:
            for name, array in arrays.items():
                count, total = self._sums.get(name, (0, 0.0))
                self._sums[name] = count + array.size, total + float(array.sum(dtype=np.float64))
            self._instances += len(next(iter(arrays.values())))
            self._decided.update(each for each in decided if each is not None)

    def distances(self) -> dict[str, float]:
        """Give how far each input's mean is from the test split's, in its spreads; of classes the part that is decided otherwise."""
        with self._lock:
            if self._instances < FEWEST:
                return {}
            found = {
                name: abs(total / count - self._inputs[name]["mean"])
                / (self._inputs[name]["spread"] or 1.0)
                for name, (count, total) in self._sums.items()
                if name in self._inputs
            }
            if all_of_them := sum(self._decided.values()):
                names = {*self._shares, *self._decided}
                parts = (
                    abs(self._decided[name] / all_of_them - self._shares.get(name, 0.0))
                    for name in names
                )
                found["class"] = sum(parts) / 2
        return found

    def said(self) -> str:
        """Give a sentence about what is far; empty where nothing is."""
        far = {name: value for name, value in self.distances().items() if value > FAR}
        if not far:
            return ""
        listed = ", ".join(f"{name} by {value:.2f}" for name, value in far.items())
        return f"These inputs are unlike those that the model was tested on ({listed}; docs/models.md)."


def _named(number: int, classes: list[str]) -> str:
    return classes[number] if number < len(classes) else str(number)
