"""MNIST in its original four files, from the web, a bucket or a folder."""

import gzip
import hashlib
import tempfile
import zlib
from pathlib import Path

import numpy as np
from launcher import UserError, storage

from .base import Arrays, ImageData

FILES = {
    "train_images": "train-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_images": "t10k-images-idx3-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


class Mnist(ImageData):
    """70,000 handwritten digits, 28x28 pixels.

    Args:
        source: where the four files are: http(s)://, gs://, s3://, az:// or a folder.
        sha256: the SHA-256 of each file, by the keys of `FILES`.
        val_samples: how many of the training file's samples are kept to validate on.
        seed: which ones those are.
        settings: what every data set has, see `ImageData`.
    """

    def __init__(
        self, source: str, sha256: dict[str, str], val_samples: int, seed: int = 0, **settings
    ) -> None:
        super().__init__(**settings)
        self.source = source
        self.sha256 = dict(sha256)
        self.val_samples = val_samples
        self.seed = seed

    def make(self) -> tuple[dict[str, Arrays], dict]:
        """Fetch and check all four files, then carve the validation split from the training file."""
        with tempfile.TemporaryDirectory(prefix="mnist-") as folder:
            read = {key: self._read(key, Path(folder, name)) for key, name in FILES.items()}
        train, test = self._pair(read, "train"), self._pair(read, "test")

        count = len(train["inputs"])
        if not 0 < self.val_samples < count:
            raise UserError(f"data.val_samples is {self.val_samples}; give 1 to {count - 1}.")
        order = np.random.default_rng(self.seed).permutation(count)
        val, rest = np.sort(order[: self.val_samples]), np.sort(order[self.val_samples :])
        splits = {
            "train": {key: array[rest] for key, array in train.items()},
            "val": {key: array[val] for key, array in train.items()},
            "test": test,
        }
        return splits, {"source": self.source, "seed": self.seed, "sha256": self.sha256}

    def _read(self, key: str, path: Path) -> np.ndarray:
        uri = f"{self.source.rstrip('/')}/{path.name}"
        storage.fetch(uri, path)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != self.sha256[key]:
            raise UserError(
                f"{uri} is not the file that was expected: its SHA-256 is {found}, "
                f"not {self.sha256[key]}; use another data.source, "
                f"or correct data.sha256.{key} if you trust this one."
            )
        try:
            return read_idx(path)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise UserError(f"{uri} is not a whole IDX file: {error}.") from error

    def _pair(self, read: dict[str, np.ndarray], part: str) -> Arrays:
        images, labels = read[f"{part}_images"], read[f"{part}_labels"]
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"{self.source} holds {part} images of shape {images.shape} and labels of shape "
                f"{labels.shape}, which do not belong together; use another data.source."
            )
        return {"inputs": images[:, np.newaxis], "targets": labels.astype(np.int64)}


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes: two zeros, type 8, the number of sides, each side, values.

    Raises:
        ValueError, OSError, EOFError, zlib.error: it is damaged, or no such file at all.
    """
    content = gzip.decompress(path.read_bytes())
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("it does not begin with an IDX header for bytes")
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(int)
    values = np.frombuffer(content[start:], dtype=np.uint8)
    if len(shape) != content[3] or len(values) != shape.prod():
        raise ValueError(f"it holds {len(values)} values where its header says {shape.tolist()}")
    return values.reshape(shape)
