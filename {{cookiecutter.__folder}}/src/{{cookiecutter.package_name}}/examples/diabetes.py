"""Tabular regression: how far diabetes has come a year after ten measurements were made of a patient."""

from typing import Any

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
        try:
            from sklearn.datasets import load_diabetes
        except ImportError as error:
            raise UserError(
                "scikit-learn, which holds the table, is not installed; install it with `uv sync --group data`."
            ) from error

        table: Any = load_diabetes(scaled=False)
        self.columns: list[str] = table.feature_names
        self.rows = torch.from_numpy(np.column_stack([table.data, table.target])).float()
        order = np.random.default_rng(seed).permutation(len(self.rows))
        self.parts = dict(zip(SPLITS, np.split(order, [310, 376]), strict=True))
        # What is measured on the training split alone: the others must stay unknown.
        train = self.rows[self.parts["train"]]
        self.mean, self.spread = train.mean(dim=0), train.std(dim=0, correction=0)

    def split(self, name: str) -> TensorDataset:
        """Give patients: ten measurements, float32 (10,), and the progression, float32 (1,), as they are in the table."""
        rows = self.rows[self.parts[name]]
        return TensorDataset(rows[:, :-1], rows[:, -1:])

    def on_device(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give both in standard deviations from the mean."""
        mean, spread = self.mean.to(inputs.device), self.spread.to(inputs.device)
        return (inputs - mean[:-1]) / spread[:-1], (targets - mean[-1]) / spread[-1]

    def signature(self) -> dict[str, Any]:
        """Give what a served model tells people: the columns, each with what is usual, and the prediction's unit."""
        usual = [round(float(value), 2) for value in self.mean[:-1]]
        columns = [{"name": n, "usual": v} for n, v in zip(self.columns, usual, strict=True)]
        return {"columns": columns, "unit": "standard deviations of the progression"}


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
