"""`uv run prepare`, run as a person runs it."""

import json
import re
import subprocess
import sys

import hydra
import pytest
from hydra.utils import instantiate

from {{ cookiecutter.package_name }}.config import CONFIGS


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


def prepare_own(folder, text, *overrides):
    """Prepare a data set of one's own, whose file is beside those of the project."""
    (folder / "configs/data").mkdir(parents=True)
    (folder / "configs/data/own.yaml").write_text(text)
    return prepare(folder, "--config-dir", folder / "configs", "data=own", *overrides)


def test_data_that_the_default_model_does_not_fit_is_made_all_the_same(tmp_path):
    target = "{{ cookiecutter.package_name }}.examples.finetune.OddDigits"
    own = f"_target_: {target}\nfolder: made\nfraction: 1.0\n"
    own += "size: 8\nclasses: 2\nseed: ${seed}\nchannels: 1\n"
    broken = ("model.in_channels=${data.nothing}", "task.outputs=${data.nothing}")
    done = prepare_own(tmp_path, own, *broken)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "made/info.json").read_text())["seed"] == 0


def test_a_fault_in_a_data_set_of_ones_own_names_its_line_and_leaves_nothing(tmp_path):
    program = (
        "from {{ cookiecutter.package_name }}.data.digits import Digits\n"
        "from {{ cookiecutter.package_name }}.prepare import main\n"
        "Digits.make = lambda self: {}['images']\n"
        "main()"
    )
    done = run(tmp_path, "-c", program, "data=digits")
    assert done.returncode == 1
    where = re.match(r"data failed \(making it, (.*):\d+\): KeyError: 'images'\. \(", done.stderr)
    assert where
    assert where[1].endswith("data/base.py")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_table_that_needs_no_files_says_so(tmp_path):
    target = "{{ cookiecutter.package_name }}.examples.diabetes.Diabetes"
    done = prepare_own(tmp_path, f"_target_: {target}\nseed: 0\n")
    assert done.returncode == 1
    assert done.stderr == "Diabetes reads no prepared files: there is nothing to make.\n"


@pytest.mark.parametrize(
    "data", [["data=shapes"], ["data=digits", "data.folder=elsewhere"], ["experiment=finetune"]]
)
def test_the_command_that_a_message_gives_makes_what_was_missing(tmp_path, data):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        section = instantiate(hydra.compose("train", data).data)
    program, *words = section.command.removeprefix("uv run ").split()
    assert program == "prepare"
    done = prepare(tmp_path, *words, *(["data.scenes=12"] if "data=shapes" in data else []))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / section.folder / "train.safetensors").exists()


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
