"""MNIST from a web server and a folder: generated files in its format, whole and damaged."""

import gzip
import hashlib
import shutil
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from launcher import UserError, storage
from omegaconf import OmegaConf

from {{ cookiecutter.package_name }}.config import CONFIGS
from {{ cookiecutter.package_name }}.data.mnist import FILES, Mnist


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def source(tmp_path):
    """A folder of generated files in MNIST's format, and what they hold."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in {"train": 60, "test": 20}.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8) % 10
    folder = tmp_path / "source"
    folder.mkdir()
    for key, name in FILES.items():
        (folder / name).write_bytes(idx(arrays[key]))
    return folder, arrays


@pytest.fixture
def url(source):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=source[0])) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def mnist(files, parent, **changes):
    """configs/data/mnist.yaml, reading `files` and trusting them, writing to parent/mnist."""
    settings = OmegaConf.load(CONFIGS / "data" / "mnist.yaml")
    changes = {
        "source": str(files),
        "sha256": {
            key: hashlib.sha256((files / n).read_bytes()).hexdigest() for key, n in FILES.items()
        },
        "folder": str(parent / "mnist"),
        "val_samples": 10,
    } | changes
    return Mnist(**{str(k): v for k, v in settings.items() if k != "_target_"} | changes)


def test_mnist_comes_over_http_and_each_image_keeps_its_label(source, url, tmp_path):
    folder, arrays = source
    data = mnist(folder, tmp_path, source=url)
    data.prepare()
    pairs = set()
    for name in ("train", "val"):
        split = data.split(name)
        pairs |= {
            (i.numpy().tobytes(), int(t)) for i, t in zip(split.inputs, split.targets, strict=True)
        }
    images, labels = arrays["train_images"], arrays["train_labels"]
    assert pairs == {(i.tobytes(), int(t)) for i, t in zip(images, labels, strict=True)}
    assert (len(data.split("train")), len(data.split("val"))) == (50, 10)
    assert np.array_equal(data.split("test").inputs[:, 0], arrays["test_images"])


def test_mnist_from_a_folder_is_the_same_as_over_http(source, url, tmp_path):
    data = mnist(source[0], tmp_path)
    data.prepare()
    other = mnist(source[0], tmp_path / "other", source=url)
    other.prepare()
    for name in ("train", "val", "test"):
        file = f"{name}.safetensors"
        assert (data.folder / file).read_bytes() == (other.folder / file).read_bytes()


def test_a_wrong_hash_is_refused_and_nothing_is_made(source, url, tmp_path):
    data = mnist(source[0], tmp_path, source=url)
    data.sha256["test_labels"] = "0" * 64
    with pytest.raises(UserError, match=rf"{url}/t10k-labels-idx1-ubyte.gz.*SHA-256"):
        data.prepare()
    assert not data.folder.exists()


def test_a_missing_file_is_named_with_its_url(source, url, tmp_path):
    data = mnist(source[0], tmp_path, source=url)
    (source[0] / FILES["train_labels"]).unlink()
    with pytest.raises(UserError, match=rf"{url}/train-labels-idx1-ubyte.gz does not exist"):
        data.prepare()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-200], id="truncated"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"<html>not found</html>", id="not gzip"),
        pytest.param(lambda content: gzip.compress(b"hello"), id="not IDX"),
        pytest.param(
            lambda content: gzip.compress(gzip.decompress(content)[:-1]), id="one value short"
        ),
        pytest.param(lambda content: gzip.compress(b"\0\0\x08\x03\0\0"), id="half a header"),
    ],
)
def test_a_damaged_file_is_refused_even_if_its_hash_is_trusted(source, tmp_path, damage):
    path = source[0] / FILES["train_images"]
    path.write_bytes(damage(path.read_bytes()))
    data = mnist(source[0], tmp_path)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz is not a whole IDX file"):
        data.prepare()
    assert not data.folder.exists()


def test_images_without_their_labels_are_refused(source, tmp_path):
    shutil.copy(source[0] / FILES["test_labels"], source[0] / FILES["train_labels"])
    with pytest.raises(UserError, match="do not belong together"):
        mnist(source[0], tmp_path).prepare()


def test_a_server_that_is_not_there_is_one_sentence(source, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", 1.0)  # else it is waited for
    data = mnist(source[0], tmp_path, source="http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"http://127.0.0.1:9/train-images.*cannot be read"):
        data.prepare()


@pytest.mark.parametrize("val_samples", [0, 60])
def test_a_validation_split_that_leaves_a_split_empty_is_refused(source, tmp_path, val_samples):
    with pytest.raises(UserError, match=r"data\.val_samples.*1 to 59"):
        mnist(source[0], tmp_path, val_samples=val_samples).prepare()
