"""Figures for the report. Tensors are on the CPU; images are (N, C, H, W) in [0, 1]."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor


def learning_curves(records: list[dict[str, Any]]) -> Figure:
    """Draw loss and the other validation metrics over the steps, from the lines of metrics.jsonl."""
    names = sorted({key for record in records for key in record if key.startswith("val/")})
    names = [name for name in names if name != "val/loss" and "baseline" not in name]
    figure = Figure(figsize=(5 * (1 + len(names)), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    for name in ("train/loss", "val/loss"):
        _curve(axes[0], records, name)
    axes[0].set(title="loss", yscale="log")
    axes[0].legend()
    for axis, name in zip(axes[1:], names, strict=True):
        _curve(axis, records, name)
        axis.set(title=name)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    return figure


def _curve(axis: Any, records: list[dict[str, Any]], name: str) -> None:
    points = [(record["step"], record[name]) for record in records if name in record]
    axis.plot(
        *zip(*points, strict=True) if points else ([], []),
        label=name,
        marker="." if len(points) < 40 else "",
    )


def confusion_matrix(targets: Tensor, decoded: Tensor, classes: int) -> Figure:
    """Draw how often each class (row) was taken for each class (column); both (N,)."""
    counts = torch.bincount(targets * classes + decoded, minlength=classes**2).view(
        classes, classes
    )
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axis = figure.subplots()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, column in torch.nonzero(counts).tolist():
        color = "white" if 2 * counts[row, column] > counts[row].sum() else "black"
        axis.text(
            column,
            row,
            str(int(counts[row, column])),
            ha="center",
            va="center",
            color=color,
            fontsize=8,
        )
    axis.set(
        xlabel="predicted",
        ylabel="true",
        xticks=range(classes),
        yticks=range(classes),
        title="test samples",
    )
    return figure


def mistakes(images: Tensor, targets: Tensor, decoded: Tensor, most: int = 12) -> Figure:
    """Show the first images whose class was not found, with the true and the predicted class."""
    wrong = torch.nonzero(targets != decoded)[:most, 0].tolist()
    columns = max(1, min(6, len(wrong)))
    rows = max(1, -(-len(wrong) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows), layout="constrained")
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for axis, index in zip(figure.axes, wrong, strict=False):
        _show(axis, images[index], f"{int(targets[index])} → {int(decoded[index])}")
    if not wrong:
        figure.axes[0].set_title("no mistakes")
    return figure


def pixel_predictions(
    images: Tensor, targets: Tensor, decoded: Tensor, largest: float | None
) -> Figure:
    """Show image, target and prediction side by side, one sample a row; maps are (N, H, W)."""
    figure = Figure(figsize=(5.4, 1.9 * len(images)), layout="constrained")
    for row, axes in enumerate(figure.subplots(len(images), 3, squeeze=False)):
        _show(axes[0], images[row], "image" if row == 0 else "")
        top = float(targets[row].max()) if largest is None else largest
        for axis, values, title in (
            (axes[1], targets[row], "target"),
            (axes[2], decoded[row], "prediction"),
        ):
            axis.imshow(values.numpy(), vmin=0, vmax=top, cmap="viridis", interpolation="nearest")
            axis.set_title(title if row == 0 else "")
            axis.axis("off")
    return figure


def _show(axis: Any, image: Tensor, title: str) -> None:
    pixels = image.permute(1, 2, 0) if image.shape[0] == 3 else image[0]
    axis.imshow(pixels.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.axis("off")
