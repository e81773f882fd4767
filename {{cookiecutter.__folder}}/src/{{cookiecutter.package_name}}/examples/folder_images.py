"""Images in a folder of files, one folder for each class, which worker processes read and change one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from launcher import UserError
from matplotlib.image import imsave
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..data.base import SPLITS
from ..data.digits import Digits


class Files(Dataset[tuple[Tensor, int]]):
    """The files of one split: images, uint8 (1, H, W), and the place of their folder among the others.

    Args:
        folder: holds a folder for each class.
        shift: most pixels by which an image is moved at random; 0 for none.
    """

    def __init__(self, folder: Path, shift: int) -> None:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.shift = shift
        self.files = [
            (path, number)
            for number, name in enumerate(names)
            for path in sorted((folder / name).glob("*.png"))
        ]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, number = self.files[index]
        with Image.open(path) as file:
            image = torch.from_numpy(np.array(file.convert("L")))
        if self.shift:  # the same at this place of the epoch, in whichever process it is read
            down, right = torch.randint(-self.shift, self.shift + 1, (2,)).tolist()
            image = image.roll((down, right), dims=(0, 1))
        return image[None], number


class FolderImages:
    """Images in `<folder>/<split>/<class>/<name>.png`.

    Args:
        folder: where they are, relative to the working directory.
        shift: most pixels by which a training image is moved at random.
        channels: of an image, for the model; these files have one.
        classes: how many there are.
    """

    def __init__(self, folder: str, shift: int, channels: int, classes: int) -> None:
        self.folder = Path(folder)
        self.shift = shift
        self.classes = classes

    def prepare(self) -> dict:
        """Write scikit-learn's digits as such files; images of your own you would put there yourself."""
        splits, facts = Digits(folder="", fraction=1.0, channels=1, size=8, classes=10).make()
        for name in SPLITS:
            for number, (image, digit) in enumerate(zip(*splits[name].values(), strict=True)):
                path = self.folder / name / str(digit) / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                imsave(path, image[0], cmap="gray", vmin=0, vmax=16)
        counts = {name: len(splits[name]["targets"]) for name in SPLITS}
        return {**facts, "samples": counts, "arrays": {"png": "8x8"}}

    def split(self, name: str) -> Files:
        """Open one split, `train`, `val` or `test`; only training images are moved.

        Raises:
            UserError: there are no such files, or other classes than the settings say.
        """
        if not (self.folder / name).is_dir():
            raise UserError(
                f"{self.folder / name} does not exist; make it with `uv run prepare experiment=folder_images`, "
                "or put images of your own there."
            )
        files = Files(self.folder / name, self.shift if name == "train" else 0)
        if found := {number for _, number in files.files} - set(range(self.classes)):
            raise UserError(
                f"{self.folder / name} has {max(found) + 1} folders, and data.classes={self.classes}; correct it."
            )
        return files

    def signature(self) -> dict[str, Any]:
        """Give what a served model tells people: that its input is an image, and the names of the folders."""
        names = sorted(path.name for path in (self.folder / "test").iterdir() if path.is_dir())
        return {"image": "inputs", "highest": 255, "classes": names}

    def on_device(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes travel to the device, and become floats in [0, 1] there."""
        return inputs.float() / 255, targets
