"""Figures for the report. Tensors are on the CPU; images are (N, C, H, W) in [0, 1]."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

CHANNELS = (1, 3)  # of what can be shown as an image
LEGIBLE = 30  # classes whose numbers can still be read
NONE = torch.empty(0)


def learning_curves(records: list[dict[str, Any]], best: int | None = None) -> Figure:
    """Draw loss and the other validation metrics over the steps, from the lines of metrics.jsonl.

    Args:
        records: those lines.
        best: the step of the best validation, which is marked.
    """
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
        if best is not None:
            axis.axvline(best, color="black", linewidth=0.8, linestyle=":")
    return figure


def _curve(axis: Any, records: list[dict[str, Any]], name: str) -> None:
    points = [(record["step"], record[name]) for record in records if name in record]
    axis.plot(
        *zip(*points, strict=True) if points else ([], []),
        label=name,
        marker="." if len(points) < 40 else "",
    )


def confusion_matrix(counts: Tensor) -> Figure:
    """Draw how often each class (row) was taken for each class (column), of int64 counts (classes, classes)."""
    classes = len(counts)
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axis = figure.subplots()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true", title="test samples")
    if classes > LEGIBLE:
        return figure
    axis.set(xticks=range(classes), yticks=range(classes))
    for row, column in torch.nonzero(counts).tolist():
        color = "white" if 2 * counts[row, column] > counts[row].sum() else "black"
        axis.text(
            column,
            row,
            str(int(counts[row, column])),
            ha="center",
            va="center",
            color=color,
            fontsize=8 if classes <= 12 else 4,
        )
    return figure


def mistakes(images: Tensor = NONE, targets: Tensor = NONE, decoded: Tensor = NONE) -> Figure:
    """Show images whose class was not found, with the true and the predicted class."""
    columns = max(1, min(6, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(1.5 * columns, 1.8 * rows), layout="constrained")
    for axis in figure.subplots(rows, columns, squeeze=False).flat:
        axis.axis("off")
    for axis, image, target, taken in zip(figure.axes, images, targets, decoded, strict=False):
        _show(axis, image, f"{int(target)} → {int(taken)}")
    if not len(images):
        figure.axes[0].set_title("no mistakes")
    return figure


def scatter(targets: Tensor, predictions: Tensor) -> Figure:
    """Draw predicted over true numbers, both (N, ...), with the line on which they are equal."""
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.scatter(targets.flatten(), predictions.flatten(), s=8, alpha=0.5)
    ends = [float(targets.min()), float(targets.max())]
    axis.plot(ends, ends, color="black", linewidth=1)
    axis.set(xlabel="true", ylabel="predicted", title="test samples")
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
