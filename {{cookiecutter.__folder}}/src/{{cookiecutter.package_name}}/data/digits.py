"""Real handwritten digits, 8x8 pixels, that come with scikit-learn: no download, no account."""

import numpy as np
from launcher import UserError

from .base import SPLITS, Arrays, ImageData


class Digits(ImageData):
    """1,797 digits of 43 writers: 1,347 to train on, 225 each to validate and to test.

    Args:
        seed: which digits go into which split.
        settings: what every data set has, see `ImageData`.
    """

    scale = 1 / 16  # scikit-learn's pixels are 0 to 16

    def __init__(self, seed: int = 0, **settings) -> None:
        super().__init__(**settings)
        self.seed = seed

    def make(self) -> tuple[dict[str, Arrays], dict]:
        """Split scikit-learn's digits so that each class has its share of each split."""
        try:
            from sklearn.datasets import load_digits
            from sklearn.model_selection import train_test_split
        except ImportError as error:
            raise UserError(
                "scikit-learn, which holds the digits, is not installed; "
                "install it with `uv sync --group data`."
            ) from error

        images, labels = load_digits(return_X_y=True)
        held_out = {"test_size": 0.25, "random_state": self.seed}
        train, rest = train_test_split(np.arange(len(labels)), stratify=labels, **held_out)
        held_out["test_size"] = 0.5
        val, test = train_test_split(rest, stratify=labels[rest], **held_out)

        inputs = images.astype(np.uint8).reshape(-1, 1, 8, 8)
        splits = {
            name: {"inputs": inputs[chosen], "targets": labels[chosen].astype(np.int64)}
            for name, chosen in zip(SPLITS, (train, val, test), strict=True)
        }
        return splits, {"source": "scikit-learn load_digits", "seed": self.seed}
