"""Data sets: what is made, what is read back, and what is refused."""

import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from launcher import UserError
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from {{ cookiecutter.package_name }}.config import CONFIGS
from {{ cookiecutter.package_name }}.data.digits import Digits
from {{ cookiecutter.package_name }}.data.shapes import Shapes
from {{ cookiecutter.package_name }}.data.split import Split, open_split


def configured(name, **changes):
    """The settings of configs/data/<name>.yaml with some of them changed."""
    settings = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    return {str(key): value for key, value in settings.items() if key != "_target_"} | changes


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(name="digits")
def made_digits(digits):
    return Digits(**configured("digits", folder=str(digits)))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data") / "shapes")
    data = Shapes(**configured("shapes", folder=folder, scenes=120))
    data.prepare()
    return data


# Splits


def batch(data, name, indices):
    """Samples of a split as the model gets them."""
    return data.on_device(*data.split(name).__getitems__(indices))


def test_a_batch_holds_the_samples_asked_for_in_their_order(digits):
    split = digits.split("train")
    inputs, targets = split.__getitems__([5, 2, 5])
    for row, index in enumerate([5, 2, 5]):
        one, target = split[index]
        assert torch.equal(inputs[row], one)
        assert targets[row] == target


def test_an_index_past_the_end_is_an_error(digits):
    split = digits.split("test")
    with pytest.raises(IndexError):
        split[len(split)]


def test_reading_a_batch_leaves_the_stored_data_alone(digits):
    split = digits.split("train")
    first = split[0][0].clone()
    digits.on_device(*split.__getitems__([0]))[0].zero_()
    split[0][0].zero_()
    assert torch.equal(split[0][0], first)


def test_a_small_fraction_is_part_of_a_larger_one_and_never_empty():
    split = Split(torch.arange(100).view(100, 1, 1, 1), torch.arange(100))
    small, large = ({int(item[1]) for item in split.part(f)} for f in (0.1, 0.5))
    assert (len(small), len(large)) == (10, 50)
    assert small < large
    assert small != set(range(10))
    assert len(split.part(0.001)) == 1


def test_a_part_of_a_part_is_within_it():
    split = Split(torch.arange(100).view(100, 1), torch.arange(100))
    half = split.part(0.5)
    quarter = {int(item[1]) for item in half.part(0.5)}
    assert len(quarter) == 25
    assert quarter < {int(item[1]) for item in half}


@pytest.fixture(name="large")
def large_file(tmp_path):
    """A file of 4 MB."""
    path = tmp_path / "train.safetensors"
    rng = np.random.default_rng(0)
    arrays = {
        "inputs.words": rng.integers(0, 255, (4000, 1024), dtype=np.uint8),
        "inputs.length": rng.integers(0, 255, 4000),
        "targets": np.arange(4000),
    }
    save_file(arrays, path)
    return path


def received(sent):
    return pickle.loads(sent)  # noqa: S301 - it was pickled here


@pytest.mark.parametrize("fraction", [1, 0.1])
def test_a_split_is_sent_to_another_process_without_its_data(large, fraction):
    split = open_split(large, "targets", "make").part(fraction)
    sent = pickle.dumps(split)
    # 8 bytes for each of its rows; the path and the names of types are some hundreds.
    assert len(sent) < 2000 + (8 * len(split) if fraction < 1 else 0)
    again = received(sent)
    assert len(again) == len(split)
    for index in (0, 7, len(split) - 1):
        (inputs, target), (same, also) = split[index], again[index]
        assert inputs.keys() == same.keys()
        assert all(torch.equal(inputs[name], same[name]) for name in inputs)
        assert target == also


def test_arrays_that_are_no_longer_the_files_are_sent_as_they_are(large):
    split = open_split(large, "targets", "make")
    split.targets = split.targets % 2
    split.inputs["length"] = split.inputs["length"] + 1000
    again = received(pickle.dumps(split))
    assert torch.equal(again.targets, split.targets)
    assert torch.equal(again.inputs["length"], split.inputs["length"])
    assert torch.equal(again.inputs["words"], split.inputs["words"])
    arrays = Split(torch.arange(10).view(10, 1), torch.arange(10)).part(0.5)
    assert torch.equal(received(pickle.dumps(arrays))[0][0], arrays[0][0])


def test_data_that_was_made_again_meanwhile_is_not_mixed_with_the_old(large):
    sent = pickle.dumps(open_split(large, "targets", "make"))
    os.utime(large, ns=(0, 0))  # the same data at another time
    with pytest.raises(UserError, match=r"train\.safetensors was made again"):
        received(sent)


def test_a_file_without_its_arrays_is_refused_by_name(large):
    with pytest.raises(UserError, match=r"it has no array labels\); make it again with `make`"):
        open_split(large, "labels", "make")


def test_fraction_shrinks_the_training_split_only(digits):
    part = Digits(**configured("digits", folder=str(digits.folder), fraction=0.1))
    assert len(part.split("train")) == 135
    assert len(part.split("test")) == len(digits.split("test"))


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(UserError, match=r"data\.fraction"):
        Digits(**configured("digits", fraction=fraction))


# Folders


def test_the_same_settings_make_the_same_bytes(digits, tmp_path):
    again = Digits(**configured("digits", folder=str(tmp_path / "again")))
    again.prepare()
    assert contents(again.folder) == contents(digits.folder)


def test_a_missing_folder_names_the_commands_that_get_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    commands = r"`uv run prepare data=digits`.*`uv run dvc pull`"
    with pytest.raises(UserError, match=commands):
        Digits(**configured("digits")).split("train")


def test_the_command_that_is_named_makes_the_folder_that_is_missing(tmp_path):
    data = Digits(**configured("digits", folder=str(tmp_path / "elsewhere")))
    with pytest.raises(UserError, match=f"data.folder={tmp_path}/elsewhere"):
        data.split("train")


def test_a_damaged_file_is_refused_by_name(digits, tmp_path):
    shutil.copytree(digits.folder, tmp_path / "digits")
    path = tmp_path / "digits" / "val.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"val\.safetensors cannot be read"):
        Digits(**configured("digits", folder=str(path.parent))).split("val")


def test_data_of_another_size_than_configured_is_refused(digits):
    with pytest.raises(UserError, match=r"\(1, 8, 8\).*\(1, 16, 16\)"):
        Digits(**configured("digits", folder=str(digits.folder), size=16)).split("val")


def test_data_with_more_classes_than_configured_is_not_made(tmp_path):
    data = Digits(**configured("digits", folder=str(tmp_path / "digits"), classes=9))
    with pytest.raises(UserError, match=r"0 to 9.*data\.classes=9"):
        data.prepare()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_split_is_refused_by_name(tmp_path):
    class Few(Digits):
        def make(self):
            splits, facts = super().make()
            return splits | {"val": {key: array[:0] for key, array in splits["val"].items()}}, facts

    with pytest.raises(UserError, match="The val split is empty, and it needs at least one sample"):
        Few(**configured("digits", folder=str(tmp_path / "digits"))).prepare()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda splits, facts: splits, r"make\(\) of Own gives dict; it must give two things"),
        (lambda splits, facts: None, r"make\(\) of Own gives NoneType; it must give two things"),
        (
            lambda splits, facts: ({"train": {"input": splits["train"]["inputs"]}}, facts),
            r"The train arrays of make\(\) are called input; there have to be inputs and targets",
        ),
    ],
)
def test_what_make_has_to_give_is_said(tmp_path, given, said):
    class Own(Digits):
        def make(self):
            return given(*super().make())

    with pytest.raises(UserError, match=said):
        Own(**configured("digits", folder=str(tmp_path / "digits"))).prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source_is_named(tmp_path):
    class Raw(Digits):
        def make(self):
            np.load(tmp_path / "leaves.npz")
            return super().make()

    with pytest.raises(
        UserError, match=r"leaves\.npz does not exist, and Raw makes its data of it"
    ):
        Raw(**configured("digits", folder=str(tmp_path / "digits"))).prepare()


def test_a_data_set_that_is_a_link_to_a_larger_disk_stays_one(digits, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "digits").symlink_to(tmp_path / "large/digits")
    for _ in range(2):
        Digits(**configured("digits", folder=str(tmp_path / "digits"))).prepare()
    assert (tmp_path / "digits").is_symlink()
    assert contents(tmp_path / "large/digits") == contents(digits.folder)


def test_making_data_anew_replaces_all_of_the_old(tmp_path):
    data = Shapes(**configured("shapes", folder=str(tmp_path / "shapes"), scenes=12, size=8))
    data.folder.mkdir()
    (data.folder / "left-over").touch()
    data.prepare()
    assert sorted(contents(data.folder)) == [
        "info.json",
        "test.safetensors",
        "train.safetensors",
        "val.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_failed_write_keeps_the_old_data_and_leaves_nothing_else(tmp_path, monkeypatch):
    settings = configured("shapes", folder=str(tmp_path / "shapes"), scenes=12, size=8)
    Shapes(**settings).prepare()
    before = contents(tmp_path / "shapes")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(UserError, match="No space left on device"):
        Shapes(**{**settings, "seed": 1}).prepare()
    assert contents(tmp_path / "shapes") == before
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


# Digits


def test_every_digit_is_in_exactly_one_split(digits):
    from sklearn.datasets import load_digits

    rows = [digits.split(name).inputs.flatten(1).numpy() for name in ("train", "val", "test")]
    found = np.concatenate(rows)
    expected = load_digits(return_X_y=True)[0].astype(np.uint8)
    assert sorted(map(bytes, found)) == sorted(map(bytes, expected))


def test_each_class_has_its_share_of_each_split(digits):
    for name in ("val", "test"):
        counts = torch.bincount(digits.split(name).targets, minlength=10)
        assert counts.min() >= 21
        assert counts.max() <= 24


def test_digits_fill_zero_to_one(digits):
    inputs, targets = batch(digits, "train", range(1347))
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert (inputs.min(), inputs.max()) == (0, 1)


# Shapes


def test_masks_and_depth_are_of_the_same_scenes(shapes):
    depth = Shapes(**configured("shapes", folder=str(shapes.folder), target="depth"))
    images, masks = batch(shapes, "train", range(100))
    same, maps = batch(depth, "train", range(100))
    assert torch.equal(images, same)
    assert (masks.dtype, masks.shape) == (torch.int64, (100, 64, 64))
    assert (maps.dtype, maps.shape) == (torch.float32, (100, 1, 64, 64))
    near, far = maps[:, 0][masks > 0], maps[:, 0][masks == 0]
    assert near.max() < far.min()
    assert near.min() >= 0
    assert far.max() <= 1


def test_every_class_is_common_in_the_masks(shapes):
    _, masks = batch(shapes, "train", range(100))
    share = torch.bincount(masks.flatten()) / masks.numel()
    assert len(share) == 4
    assert share.min() > 0.05


def test_the_background_is_slanted(shapes):
    depth = Shapes(**configured("shapes", folder=str(shapes.folder), target="depth"))
    _, masks = batch(shapes, "train", range(100))
    _, maps = batch(depth, "train", range(100))
    spread = [map_[0][mask == 0].std() for map_, mask in zip(maps, masks, strict=True)]
    assert min(spread) > 0.015


def test_splits_and_seeds_show_different_scenes(shapes, tmp_path):
    train, val = shapes.split("train").inputs, shapes.split("val").inputs
    assert not torch.equal(train[: len(val)], val)
    other = Shapes(**configured("shapes", folder=str(tmp_path / "o"), scenes=120, seed=1))
    other.prepare()
    assert not torch.equal(other.split("train").inputs, train)


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match=r"data\.target is edges; choose one of mask and depth"):
        Shapes(**configured("shapes", target="edges"))
