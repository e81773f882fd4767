"""`uv run prepare`, run as a person runs it."""

import json
import subprocess
import sys

import pytest


def run(folder, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False
    )


def prepare(folder, *overrides):
    return run(folder, "-m", "{{ cookiecutter.package_name }}.prepare", *overrides)


def test_it_makes_the_data_and_says_what_it_made(tmp_path):
    done = prepare(tmp_path, "data=shapes", "data.scenes=24", "data.size=16")
    assert done.returncode == 0, done.stderr
    assert "data/shapes: 20 train, 2 val, 2 test samples" in done.stdout
    info = json.loads((tmp_path / "data/shapes/info.json").read_text())
    assert info["samples"] == {"train": 20, "val": 2, "test": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data=shapes", "data.scenes=2"], "data.scenes is 2; give at least 12."),
        (["data=mnist", "data.source=elsewhere"], "elsewhere/train-images-idx3-ubyte.gz does not"),
        (["data=shapez"], "did you mean shapes?"),
        (["data=digits", "data.classes=ten"], "data.classes=ten"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_made(tmp_path, overrides, sentence):
    done = prepare(tmp_path, *overrides)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    done = prepare(tmp_path, "data=shapes", "data.scenes=24", "data.size=16")
    assert done.returncode == 1
    assert "Cannot write data/shapes" in done.stderr


def test_it_needs_no_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['data.scenes=12', 'data=shapes']\n"
        "from {{ cookiecutter.package_name }}.prepare import main; main()"
    )
    done = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "shapes" / "train.safetensors").exists()
