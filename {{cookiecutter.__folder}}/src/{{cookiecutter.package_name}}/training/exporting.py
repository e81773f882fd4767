"""A model as ONNX: flat tensors as the data stores them in, predictions in float32 out."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from launcher import UserError
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate

from .explain import opened, working
from .onnx_files import stripped, why_not
from .statistics import Statistics
from .trees import as_float, call, map_tensors, tensors

if TYPE_CHECKING:
    from .batches import Data
    from .tasks import Task

# The runtime tells its maker of each machine that loads it, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

OPSET = 20
TOLERANCE = 1e-4  # largest difference of a prediction: ten times what was measured of the examples
LARGE = 100.0  # predictions up to this may differ by so much; larger ones by the same part of it
GAP = 1e-3  # where the two best classes are nearer than this, either is right
SIZES = (1, 3, 32)  # samples of the first batches that are compared, and of all others
CLASSES = ("classification", "segmentation")  # kinds of tasks whose predictions are classes
EXAMPLES = 8  # samples whose shapes tell which sides differ


class ExportError(UserError):
    """The model has something that ONNX does not know; it can be registered without."""


class Served(nn.Module):
    """A model behind what is done to its inputs on the device, called with their tensors one by one.

    Args:
        model: is left in evaluation mode.
        data: whose `on_device` is used, if it has one.
        inputs, targets: of an example batch; their form is kept.
    """

    def __init__(self, model: nn.Module, data: Data, inputs: Any, targets: Any) -> None:
        super().__init__()
        self.model = model.eval()
        self._on_device = getattr(data, "on_device", None)
        self._inputs, self._targets = inputs, targets

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        left = iter(flat)
        inputs = map_tensors(lambda _: next(left), self._inputs)
        if self._on_device:
            inputs, _ = self._on_device(inputs, self._targets)
        return tuple(tensors(as_float(call(self.model, inputs))))


class Exported:
    """The model of a run, and the split that it is tried on.

    Args:
        model, task, data: as the run's configuration names them, the model with its weights.
    """

    def __init__(self, model: nn.Module, task: Task, data: Data) -> None:
        self.task, self.data = task, data
        self.split = opened(data, "test")
        # Always several samples, if need be the same again: of a side of 1 the exporter thinks that it is never another.
        some = [number % len(self.split) for number in range(SIZES[1])]  # type: ignore[arg-type]
        inputs, targets = next(self._read([some]))
        self.example = [tensor.clone() for tensor in tensors(inputs)]
        self.inputs = _names(inputs, "inputs")
        self.module = Served(model, data, inputs, targets)
        with torch.no_grad(), working("model", "computing predictions", inputs=inputs):
            predictions = as_float(call(model, self._on_device(inputs, targets)))
        self.outputs = _names(predictions, "predictions")
        self.given = list(tensors(predictions))
        self._free = self._free_sides()

    def signature(self) -> dict[str, Any]:
        """Give what the model takes and gives: names, types, shapes, and what the data knows of classes and columns."""
        known = getattr(self.data, "signature", dict)()
        takes = [
            {"name": name, "dtype": _dtype(tensor), "shape": self._shape(name, tensor)}
            for name, tensor in zip(self.inputs, self.example, strict=True)
        ]
        gives = [
            {"name": name, "dtype": _dtype(tensor), "shape": ["batch", *tensor.shape[1:]]}
            for name, tensor in zip(self.outputs, self.given, strict=True)
        ]
        kind = getattr(self.task, "kind", "values")
        if kind not in CLASSES:
            known = {key: value for key, value in known.items() if key != "classes"}
        return {"kind": kind, "inputs": takes, "outputs": gives, **known}

    def write(self, path: Path) -> None:
        """Write the model as ONNX: the same bytes for the same weights, from whichever folder.

        Raises:
            ExportError: naming what ONNX does not know.
        """
        dynamic = [
            {0: torch.export.Dim("batch", min=1), **dict.fromkeys(sides, torch.export.Dim.AUTO)}
            for sides in (self._free[name] for name in self.inputs)
        ]
        for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):  # which tell of each step
            logging.getLogger(chatty).setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    self.module,
                    tuple(self.example),
                    dynamo=True,
                    input_names=self.inputs,
                    output_names=self.outputs,
                    dynamic_shapes=(tuple(dynamic),),
                    opset_version=OPSET,
                    verbose=False,
                )
        except ImportError as error:
            raise UserError(
                f"The packages that write ONNX are not installed ({error}); install them with `uv sync --group export`."
            ) from error
        except Exception as error:
            raise ExportError(why_not(error)) from error
        assert program is not None
        path.write_bytes(stripped(program.model_proto))

    def compare(self, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Compare ONNX with PyTorch on the whole test split; give what was found, and statistics of inputs and outputs.

        Raises:
            UserError: they differ by more than rounding.
        """
        session = _session(path) if path.exists() else None
        samples: int = len(self.split)  # type: ignore[arg-type]
        largest, apart, decided, differing = 0.0, 0.0, 0, 0
        seen, data = Statistics(), hashlib.sha256()
        for inputs, targets in self._batches(_sizes(samples)):
            flat = list(tensors(inputs))
            with torch.no_grad():
                expected = self.module(*flat)
            for tensor in (*flat, *tensors(targets)):
                data.update(tensor.contiguous().numpy().tobytes())
            named = zip(self.inputs, flat, strict=True)
            # What is filled up to the longest of a batch has another mean alone than among others: it is not counted.
            seen.add(
                {name: tensor for name, tensor in named if not self._free[name]},
                self._facts(expected),
            )
            if not session:
                continue
            feeds = {name: tensor.numpy() for name, tensor in zip(self.inputs, flat, strict=True)}
            for found, wanted in zip(_run(session, self.outputs, feeds), expected, strict=True):
                got = torch.from_numpy(found)
                if not torch.equal(wanted.isfinite(), got.isfinite()) or got.shape != wanted.shape:
                    raise _differs("it gives other shapes, or numbers where PyTorch gives none")
                difference = float((got - wanted).abs().nan_to_num().max())
                largest, apart = max(largest, difference), max(apart, difference / _size(wanted))
                count, other = _decisions(wanted, got, getattr(self.task, "kind", ""))
                decided, differing = decided + count, differing + other
        if apart > TOLERANCE or differing:
            raise _differs(f"by up to {largest:.2g}, and in {differing} of {decided} decisions")
        facts: dict[str, Any] = {"samples": samples, "test_data": data.hexdigest()}
        if session:
            facts |= {"largest_difference": largest, "decisions": decided, "differing": differing}
        return facts, seen.summary()

    def _facts(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Give what is worth counting of predictions: classes where there are, else the numbers."""
        kind = getattr(self.task, "kind", "")
        if kind in CLASSES:
            return {"class": outputs[0].argmax(dim=1)}
        return dict(zip(self.outputs, outputs, strict=True))

    def _on_device(self, inputs: Any, targets: Any) -> Any:
        finish = getattr(self.data, "on_device", None)
        return finish(inputs, targets)[0] if finish else inputs

    def _batches(self, sizes: list[int]) -> Iterator[tuple[Any, Any]]:
        """Give batches of the test split, of these sizes one after the other."""
        ends = torch.tensor(sizes).cumsum(0).tolist()
        return self._read(
            [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
        )

    def _read(self, rows: list[list[int]]) -> Iterator[tuple[Any, Any]]:
        """Give batches of these samples, as they are before the device."""
        collate = getattr(self.data, "collate", None) or default_collate
        loader = DataLoader(self.split, batch_sampler=rows, collate_fn=collate)
        with working("data", "reading its test split"):
            for inputs, targets in loader:
                yield map_tensors(torch.as_tensor, inputs), targets

    def _free_sides(self) -> dict[str, list[int]]:
        """Find the sides that differ from sample to sample, such as the length of a text."""
        count = min(EXAMPLES, len(self.split))  # type: ignore[arg-type]
        shapes: list[set[tuple[int, ...]]] = [set() for _ in self.inputs]
        for inputs, _ in self._batches([1] * count):
            for known, tensor in zip(shapes, tensors(inputs), strict=True):
                known.add(tuple(tensor.shape[1:]))
        return {
            name: [
                side + 1
                for side, values in enumerate(zip(*known, strict=True))
                if len(set(values)) > 1
            ]
            for name, known in zip(self.inputs, shapes, strict=True)
        }

    def _shape(self, name: str, tensor: Tensor) -> list[int | str]:
        return [
            "batch" if side == 0 else "any" if side in self._free[name] else int(length)
            for side, length in enumerate(tensor.shape)
        ]


def _sizes(samples: int) -> list[int]:
    """Divide the samples into batches: one of each size, the last as often as it goes, and what is left."""
    sizes, left = [], samples
    for size in SIZES:
        if left >= size:
            sizes.append(size)
            left -= size
    sizes += [SIZES[-1]] * (left // SIZES[-1])
    return [*sizes, left % SIZES[-1]] if left % SIZES[-1] else sizes


def _decisions(wanted: Tensor, got: Tensor, kind: str) -> tuple[int, int]:
    """Count the decisions that are clear, and those that differ."""
    if kind not in CLASSES or wanted.shape[1] < 2:
        return 0, 0
    best = wanted.topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1]) > GAP
    other = (wanted.argmax(dim=1) != got.argmax(dim=1)) & clear
    return int(clear.sum()), int(other.sum())


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _size(wanted: Tensor) -> float:
    """Give by how much more predictions may differ that are so large that float32 has few digits behind their point."""
    finite = wanted[wanted.isfinite()].abs()
    return max(1.0, float(finite.max()) / LARGE) if len(finite) else 1.0


def _run(session: Any, outputs: list[str], feeds: Mapping[str, Any]) -> list[Any]:
    try:
        return session.run(outputs, feeds)
    except Exception as error:  # the runtime's errors share no base
        raise _differs(
            f"in what they take: some samples of the test split cannot be computed with ({str(error)[:200]})"
        ) from error


def _names(tree: Any, name: str) -> list[str]:
    """Give a name for each tensor of a tree, in its order."""
    if isinstance(tree, Tensor):
        return [name]
    if isinstance(tree, Mapping):
        return [one for key, value in tree.items() for one in _names(value, str(key))]
    if isinstance(tree, tuple | list):
        keys = getattr(tree, "_fields", None) or [f"{name}_{place}" for place in range(len(tree))]
        return [one for key, value in zip(keys, tree, strict=True) for one in _names(value, key)]
    return []


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _differs(how: str) -> UserError:
    return UserError(
        f"ONNX and PyTorch differ {how}; a model is not deterministic, or has an operation whose export is wrong: look at "
        "it, and do not serve this."
    )
