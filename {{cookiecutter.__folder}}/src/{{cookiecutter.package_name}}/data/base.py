"""What every data set here is: a folder with three files, made once and then read in whole batches."""

import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from launcher import UserError
from safetensors.numpy import save

if TYPE_CHECKING:  # torch takes seconds to import, and making data needs none of it
    from .split import Split

SPLITS = ("train", "val", "test")
Arrays = dict[str, np.ndarray]


class PreparedData(ABC):
    """A data set in `folder`: train, val and test `.safetensors`, and `info.json` about them.

    A data set of your own is a subclass with one method, `make`, and a YAML file in configs/data.

    Args:
        folder: where the files are, relative to the working directory.
        fraction: train on this part of the training split, 0 < fraction <= 1.
        channels: channels of an input.
        size: height and width of an input in pixels.
        classes: number of classes, or of classes in a mask.
    """

    #: What a stored value is multiplied by to give an input in [0, 1].
    scale: float = 1 / 255
    #: Which of the stored arrays `split` gives as targets.
    target: str = "targets"

    def __init__(
        self, folder: str, fraction: float, channels: int, size: int, classes: int
    ) -> None:
        if not 0 < fraction <= 1:
            raise UserError(f"data.fraction is {fraction}; give a number above 0 and at most 1.")
        self.folder = Path(folder)
        self.fraction = fraction
        self.channels = channels
        self.size = size
        self.classes = classes

    @abstractmethod
    def make(self) -> tuple[dict[str, Arrays], dict]:
        """Make the data: arrays by name for each split, and facts about them for info.json.

        Each split has `inputs` (N, channels, size, size), best as uint8, and every target the data
        has: int64 (N,) classes, uint8 (N, size, size) masks or float (N, 1, size, size) maps. The
        same settings must give the same arrays: DVC knows data by its bytes.
        """

    def prepare(self) -> dict:
        """Make the folder anew, whole or not at all, and return what info.json says.

        Raises:
            UserError: the data cannot be had, or the folder cannot be written.
        """
        splits, facts = self.make()
        self._check(splits)
        info = {
            **facts,
            "samples": {name: len(splits[name]["inputs"]) for name in SPLITS},
            "arrays": {
                key: f"{array.dtype} {'x'.join(map(str, array.shape[1:])) or 'scalar'}"
                for key, array in splits["train"].items()
            },
        }
        try:
            self._write(splits, info)
        except OSError as error:
            raise UserError(
                f"Cannot write {self.folder}: {error.strerror or error}; "
                "make room there or choose another place with data.folder=..."
            ) from error
        return info

    def _check(self, splits: dict[str, Arrays]) -> None:
        wanted = (self.channels, self.size, self.size)
        for name in SPLITS:
            arrays = splits.get(name, {})
            counts = {key: len(array) for key, array in arrays.items()}
            if not counts.get("inputs"):
                raise UserError(
                    f"The {name} split is empty, and it needs at least one sample; give {type(self).__name__} more "
                    f"data, or {name} a larger share of it."
                )
            if len(set(counts.values())) > 1:
                raise UserError(
                    f"The {name} arrays differ in their number of samples: {counts}; correct make()."
                )
            shape = arrays["inputs"].shape[1:]
            if shape != wanted:
                raise UserError(
                    f"The {name} inputs have shape {shape}, but the configuration says {wanted}; "
                    "correct data.channels and data.size."
                )
            for key, array in arrays.items():
                are_classes = array.dtype.kind in "iu" and key != "inputs"
                if are_classes and not 0 <= array.min() <= array.max() < self.classes:
                    raise UserError(
                        f"The {name} {key} run from {array.min()} to {array.max()}, but "
                        f"data.classes={self.classes} allows 0 to {self.classes - 1}; correct one of them."
                    )

    def _write(self, splits: dict[str, Arrays], info: dict) -> None:
        folder = self.folder.resolve()  # a link to a larger disk stays one
        parent = folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            for name in SPLITS:
                arrays = {key: np.ascontiguousarray(a) for key, a in splits[name].items()}
                (new / f"{name}.safetensors").write_bytes(save(arrays))
            text = json.dumps(info, indent=2, sort_keys=True) + "\n"
            (new / "info.json").write_text(text, encoding="utf-8")
            # A rename, not a rewrite: a training that has the old files mapped keeps reading them.
            if folder.exists():
                os.rename(folder, Path(temporary, "old"))
            shutil.move(new, folder)

    def split(self, name: str) -> "Split":
        """Open one split, `train`, `val` or `test`; `fraction` applies to `train` only.

        Raises:
            UserError: the file is missing, damaged, or of another shape than the settings say.
        """
        from .split import open_split

        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            raise UserError(
                f"{path} does not exist; make it with `{self.command}` "
                "or get it with `uv run dvc pull`."
            )
        split = open_split(path, self.target, self.scale, self.command)
        shape, wanted = tuple(split.inputs.shape[1:]), (self.channels, self.size, self.size)
        if shape != wanted:
            raise UserError(
                f"{path} holds inputs of shape {shape}, but the configuration says {wanted}; "
                f"correct data.channels and data.size, or make it again with `{self.command}`."
            )
        return split.part(self.fraction) if name == "train" else split

    @property
    def name(self) -> str:
        """What the data set's module, its YAML file and its stage in dvc.yaml are called."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def command(self) -> str:
        """What to type to make this data set."""
        moved = "" if self.folder == Path("data", self.name) else f" data.folder={self.folder}"
        return f"uv run prepare data={self.name}{moved}"
