"""What a split looks like in numbers, so that later inputs can be told to be of another kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Statistics:
    """Mean, spread and ends of each array, and how often each class is predicted, added up batch by batch."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._classes: Counter[int] = Counter()

    def add(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Count a batch."""
        for name, tensor in {**inputs, **outputs}.items():
            if name == "class":
                self._classes.update(tensor.flatten().tolist())
                continue
            values = tensor.to(torch.float64).flatten()
            found = [len(values), values.sum(), values.square().sum(), values.min(), values.max()]
            one = self._sums.setdefault(name, [0.0, 0.0, 0.0, float("inf"), -float("inf")])
            for place in range(3):
                one[place] += float(found[place])
            one[3], one[4] = min(one[3], float(found[3])), max(one[4], float(found[4]))

    def summary(self) -> dict[str, Any]:
        """Give all of it; of classes their shares."""
        summary: dict[str, Any] = {}
        for name, (count, total, squares, low, high) in self._sums.items():
            mean = total / count
            spread = max(0.0, squares / count - mean**2) ** 0.5
            summary[name] = {"mean": mean, "spread": spread, "low": low, "high": high}
        if all_of_them := sum(self._classes.values()):
            shares = {str(key): n / all_of_them for key, n in sorted(self._classes.items())}
            summary["class"] = shares
        return summary
