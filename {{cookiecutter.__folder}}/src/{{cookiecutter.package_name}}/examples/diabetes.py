"""Tabular regression: how far diabetes has come a year after ten measurements were made of a patient."""

import numpy as np
import torch
from launcher import UserError
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ..data.base import SPLITS


class Diabetes:
    """442 patients, a table that comes with scikit-learn (Efron et al., "Least Angle Regression", 2004); no files.

    Args:
        seed: which patients go into which split.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def split(self, name: str) -> TensorDataset:
        """Give patients: ten measurements, float32 (10,), and the progression, float32 (1,), in standard deviations."""
        try:
            from sklearn.datasets import load_diabetes
        except ImportError as error:
            raise UserError(
                "scikit-learn, which holds the table, is not installed; install it with `uv sync --group data`."
            ) from error

        inputs, targets = load_diabetes(return_X_y=True, scaled=False)
        order = np.random.default_rng(self.seed).permutation(len(inputs))
        parts = np.split(order, [310, 376])
        train, wanted = parts[0], parts[SPLITS.index(name)]
        columns = np.column_stack([inputs, targets])
        # What is measured on the training split alone: the others must stay unknown.
        mean, spread = columns[train].mean(axis=0), columns[train].std(axis=0)
        chosen = torch.from_numpy((columns[wanted] - mean) / spread).float()
        return TensorDataset(chosen[:, :-1], chosen[:, -1:])


class MLP(nn.Module):
    """Two hidden layers.

    Args:
        columns: inputs of a sample.
        width: of the hidden layers.
        outputs: numbers that are predicted.
        dropout: part of a hidden layer that is left out in training, in [0, 1).
    """

    def __init__(self, columns: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(columns, width), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(width, outputs),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """(B, columns) -> (B, outputs)."""
        return self.layers(rows)
