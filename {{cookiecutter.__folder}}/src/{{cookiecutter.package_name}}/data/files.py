"""Writing a split's file part by part, so that no split has to fit into memory."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from launcher import UserError

# The names of the safetensors format (https://github.com/huggingface/safetensors#format), in the order in which its
# library writes arrays: wide ones first, so that all lie even in memory.
TYPES = {
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


class SplitWriter:
    """Writes arrays that come in parts to one .safetensors file: the same bytes as if they had come at once.

    The file is there when the `with` has ended.

    Args:
        path: of the file; the parts are kept in files beside it until then.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = 0
        self._arrays: dict[str, np.dtype] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._parts: dict[str, Any] = {}

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Add a part: arrays by name, all with as many rows.

        Raises:
            UserError: an array is of another kind than in the parts before.
        """
        for name, array in arrays.items():
            if array.dtype.name not in TYPES:
                raise UserError(
                    f"The array {name} holds {array.dtype}; give one of {', '.join(TYPES)}."
                )
            if name not in self._parts:
                self._arrays[name], self._shapes[name] = array.dtype, array.shape[1:]
                self._parts[name] = (self.path.parent / f".{self.path.name}-{name}").open("wb+")
        for name, dtype in self._arrays.items():
            if name not in arrays or (arrays[name].dtype, arrays[name].shape[1:]) != (
                dtype,
                self._shapes[name],
            ):
                raise UserError(
                    f"The parts of {self.path.stem} differ in {name}; give each part the same arrays, with the "
                    "same types and sides."
                )
            self._parts[name].write(np.ascontiguousarray(arrays[name]).data)
        self.samples += len(next(iter(arrays.values())))

    @property
    def kinds(self) -> dict[str, str]:
        """What each array holds for a sample: `uint8 1x8x8`."""
        return {
            name: f"{dtype} {'x'.join(map(str, self._shapes[name])) or 'scalar'}"
            for name, dtype in self._arrays.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._parts:
            self._join()
        for part in self._parts.values():
            part.close()
            Path(part.name).unlink()

    def _join(self) -> None:
        order = list(TYPES)
        names = sorted(self._arrays, key=lambda name: (order.index(self._arrays[name].name), name))
        header, end = {}, 0
        for name in names:
            start, end = end, end + self._parts[name].tell()
            header[name] = {
                "dtype": TYPES[self._arrays[name].name],
                "shape": [self.samples, *self._shapes[name]],
                "data_offsets": [start, end],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with self.path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in names:
                self._parts[name].seek(0)
                shutil.copyfileobj(self._parts[name], file, 1 << 20)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values as JSON for people and for git."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
