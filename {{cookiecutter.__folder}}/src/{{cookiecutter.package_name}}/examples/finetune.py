"""Fine-tuning: a model that knows digits learns to tell odd ones from even ones, from a few of them."""

import numpy as np

from ..data.base import Arrays
from ..data.digits import Digits


class OddDigits(Digits):
    """The digits of `Digits`, with class 1 for odd ones.

    Args:
        settings: what `Digits` has.
    """

    def make(self) -> tuple[dict[str, Arrays], dict]:
        """Make the digits, and look only at whether they are odd."""
        splits, facts = super().make()
        odd = {
            name: {"inputs": arrays["inputs"], "targets": np.mod(arrays["targets"], 2)}
            for name, arrays in splits.items()
        }
        return odd, {**facts, "classes": ["even", "odd"]}
