"""What a data set is, and the kind that most are: arrays in a few files, made once and then read in whole batches.

`split(name)` is all that training asks of a data section: it gives a `torch.utils.data.Dataset` of items
`(inputs, targets)`, each a tensor, a number, or a tuple or dict of them. Where the section has one of these as well, it
is used:

- `collate(items)`: makes a batch; without it PyTorch does.
- `on_device(inputs, targets)`: changes a batch once it is where the model is, such as bytes to floats.
- `signature()`: what a served model tells people of its inputs and classes; see `ImageData.signature`.
"""

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from launcher import UserError
from omegaconf import OmegaConf

from ..config import CONFIGS
from .files import SplitWriter, write_json

if TYPE_CHECKING:  # torch takes seconds to import, and making data needs none of it
    from torch import Tensor

    from .split import Split

SPLITS: tuple[str, ...] = ("train", "val", "test")
Arrays = dict[str, np.ndarray]
Rows = Mapping[str, np.ndarray]  # arrays by name, each with a row for each sample
Parts = Rows | Iterable[Rows]


class ArrayData(ABC):
    """A data set in `folder`: train, val and test `.safetensors`, and `info.json` about them.

    A data set of your own is a subclass with one method, `make`, and a YAML file in configs/data. The arrays
    `inputs` and `targets` become the items; `inputs.words` and `inputs.length` become a dict of inputs.

    Args:
        folder: where the files are, relative to the working directory.
        fraction: train on this part of the training split, 0 < fraction <= 1.
    """

    #: What a stored byte of the inputs is multiplied by to give an input in [0, 1].
    scale: float = 1 / 255
    #: Which of the stored arrays `split` gives as targets.
    target: str = "targets"

    def __init__(self, folder: str, fraction: float = 1.0) -> None:
        if not 0 < fraction <= 1:
            raise UserError(f"data.fraction is {fraction}; give a number above 0 and at most 1.")
        self.folder = Path(folder)
        self.fraction = fraction

    @abstractmethod
    def make(self) -> tuple[Mapping[str, Parts], dict]:
        """Make the data: for each split its arrays by name, and facts about them for info.json.

        A split that is larger than memory is given as an iterable of parts, each of them such arrays. All arrays
        of a part have a row for each sample. Images are best kept as bytes (uint8), classes as int64. The same
        settings must give the same arrays: DVC knows data by its bytes.
        """

    def check(self, split: str, arrays: Rows) -> None:  # noqa: B027 - not every data set has something to check
        """Refuse arrays that do not fit the settings; each part of a split is shown to it.

        Raises:
            UserError: naming the array and the setting.
        """

    def prepare(self) -> dict:
        """Make the folder anew, whole or not at all, and return what info.json says.

        Raises:
            UserError: the data cannot be had, or the folder cannot be written.
        """
        try:
            made: Any = self.make()
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename or error} does not exist, and {type(self).__name__} makes its data of it; get it, or "
                "name another in the settings of data."
            ) from error
        if not isinstance(made, tuple) or len(made) != 2:
            raise UserError(
                f"make() of {type(self).__name__} gives {type(made).__name__}; it must give two things, the splits and "
                "facts about them, as in return splits, {}."
            )
        splits, facts = made
        folder = self.folder.resolve()  # a link to a larger disk stays one
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{folder.name}-"
            with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
                new = Path(temporary, "new")
                new.mkdir()
                samples, arrays = {}, {}
                for name in SPLITS:
                    samples[name], arrays = self._write(name, splits.get(name, {}), new)
                info = {**facts, "samples": samples, "arrays": arrays}
                write_json(new / "info.json", info)
                # A rename, not a rewrite: a training that has the old files mapped keeps reading them.
                if folder.exists():
                    os.rename(folder, Path(temporary, "old"))
                shutil.move(new, folder)
        except OSError as error:
            raise UserError(
                f"Cannot write {self.folder}: {error.strerror or error}; "
                "make room there or choose another place with data.folder=..."
            ) from error
        return info

    def _write(self, split: str, parts: Parts, folder: Path) -> tuple[int, dict[str, str]]:
        """Write one split's file, part by part; give its samples and what its arrays are."""
        with SplitWriter(folder / f"{split}.safetensors") as file:
            every: Iterable[Any] = [parts] if isinstance(parts, Mapping) else parts
            for arrays in every:
                if arrays and not any(key.partition(".")[0] == "inputs" for key in arrays):
                    raise UserError(
                        f"The {split} arrays of make() are called {', '.join(arrays)}; there have to be inputs and targets."
                    )
                counts = {key: len(array) for key, array in arrays.items()}
                if len(set(counts.values())) > 1:
                    raise UserError(
                        f"The {split} arrays differ in their number of samples: {counts}; correct make()."
                    )
                if any(counts.values()):
                    self.check(split, arrays)
                    file.add(arrays)
        if not file.samples:
            raise UserError(
                f"The {split} split is empty, and it needs at least one sample; give {type(self).__name__} more "
                f"data, or {split} a larger share of it."
            )
        return file.samples, file.kinds

    def split(self, name: str) -> "Split":
        """Open one split, `train`, `val` or `test`; `fraction` applies to `train` only.

        Raises:
            UserError: the file is missing, damaged, or does not fit the settings.
        """
        from .split import open_split

        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            raise UserError(
                f"{path} does not exist; make it with `{self.command}` "
                "or get it with `uv run dvc pull`."
            )
        split = open_split(path, self.target, self.command)
        return split.part(self.fraction) if name == "train" else split

    def collate(self, items: Any) -> Any:
        """A split gives whole batches, which need no collecting."""
        return items

    def on_device(self, inputs: Any, targets: "Tensor") -> tuple[Any, "Tensor"]:
        """Give bytes as floats in [0, 1], half floats as floats, and small whole numbers of targets as int64."""
        from .split import as_inputs, as_targets

        return as_inputs(inputs, self.scale), as_targets(targets)

    @cached_property
    def command(self) -> str:
        """What to type to make this data set: the file of configs/data, or else the experiment, that names its class."""
        target = f"{type(self).__module__}.{type(self).__qualname__}"
        found = {}
        for file in [*CONFIGS.glob("data/*.yaml"), *CONFIGS.glob("experiment/*.yaml")]:
            section, inside = OmegaConf.load(file), "" if file.parent.name == "data" else "data."
            if OmegaConf.select(section, f"{inside}_target_") == target:
                place = OmegaConf.select(section, f"{inside}folder")
                found[f"{file.parent.name}={file.stem}"] = Path(place or "")
        if not found:
            return f"uv run prepare data._target_={target} data.folder={self.folder}"
        name = min(found, key=lambda each: (found[each] != self.folder, each))
        moved = "" if found[name] == self.folder else f" data.folder={self.folder}"
        return f"uv run prepare {name}{moved}"


class ImageData(ArrayData):
    """Images: `inputs` (N, channels, size, size), and targets that are classes, masks or maps.

    Targets are int64 (N,) classes, uint8 (N, size, size) masks or float (N, 1, size, size) maps.

    Args:
        folder: where the files are, relative to the working directory.
        fraction: train on this part of the training split, 0 < fraction <= 1.
        channels: channels of an input.
        size: height and width of an input in pixels.
        classes: number of classes, or of classes in a mask.
    """

    def __init__(
        self, folder: str, fraction: float, channels: int, size: int, classes: int
    ) -> None:
        super().__init__(folder, fraction)
        self.channels = channels
        self.size = size
        self.classes = classes

    def check(self, split: str, arrays: Rows) -> None:
        """Refuse images of another shape, and classes that there are not."""
        shape, wanted = arrays["inputs"].shape[1:], self._shape
        if shape != wanted:
            raise UserError(
                f"The {split} inputs have shape {shape}, but the configuration says {wanted}; "
                "correct data.channels and data.size."
            )
        for key, array in arrays.items():
            are_classes = array.dtype.kind in "iu" and key != "inputs"
            if are_classes and not 0 <= array.min() <= array.max() < self.classes:
                raise UserError(
                    f"The {split} {key} run from {array.min()} to {array.max()}, but "
                    f"data.classes={self.classes} allows 0 to {self.classes - 1}; correct one of them."
                )

    def split(self, name: str) -> "Split":
        """Open one split of images; see `ArrayData.split`."""
        split = super().split(name)
        shape = tuple(split.inputs.shape[1:])
        if shape != self._shape:
            raise UserError(
                f"{self.folder / name}.safetensors holds inputs of shape {shape}, but the configuration says "
                f"{self._shape}; correct data.channels and data.size, or make it again with `{self.command}`."
            )
        return split

    def signature(self) -> dict[str, Any]:
        """Give what a served model tells people: which input is an image, its brightest value, the names of the classes."""
        info = json.loads((self.folder / "info.json").read_text(encoding="utf-8"))
        names = info.get("classes") or [str(number) for number in range(self.classes)]
        return {"image": "inputs", "highest": round(1 / self.scale), "classes": names}

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (self.channels, self.size, self.size)
