"""Augmentation: images are changed in training, masks go with them, and a resumed run changes them alike."""

import pytest
import torch

from {{ cookiecutter.package_name }}.data.augment import FlipCrop
from {{ cookiecutter.package_name }}.train import train

from .conftest import ALONE, KilledError, kill

IMAGES = torch.arange(4 * 6 * 5, dtype=torch.float32).view(4, 1, 6, 5)


def test_nothing_is_changed_where_nothing_is_asked_for():
    images, classes = FlipCrop(flip=False, shift=0.0)(IMAGES, torch.arange(4))
    assert torch.equal(images, IMAGES)
    assert classes.tolist() == [0, 1, 2, 3]


def test_masks_and_maps_move_with_their_images():
    torch.manual_seed(0)
    images, masks = FlipCrop(flip=True, shift=0.5)(IMAGES, IMAGES[:, 0].long())
    assert not torch.equal(images, IMAGES)
    assert torch.equal(images[:, 0].long(), masks)
    images, maps = FlipCrop(flip=True, shift=0.5)(IMAGES, IMAGES)
    assert torch.equal(images, maps)


def test_some_images_are_mirrored_and_some_are_not():
    torch.manual_seed(0)
    images, _ = FlipCrop(flip=True, shift=0.0)(IMAGES, torch.arange(4))
    kept = [torch.equal(new, old) for new, old in zip(images, IMAGES, strict=True)]
    mirrored = [torch.equal(new, old.flip(2)) for new, old in zip(images, IMAGES, strict=True)]
    assert sum(kept) + sum(mirrored) == 4
    assert 0 < sum(kept) < 4


def test_a_shift_repeats_the_rim_and_stays_in_its_bounds():
    torch.manual_seed(0)
    images, _ = FlipCrop(flip=False, shift=0.2)(IMAGES.repeat(50, 1, 1, 1), torch.zeros(200))
    left = images[:, 0, 2, 0] - IMAGES.repeat(50, 1, 1, 1)[:, 0, 2, 0]
    # one pixel along either side, or none
    assert set(left.tolist()) == {0.0, 1.0, 5.0, 6.0, -5.0, -4.0}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_killed_in_mid_epoch_it_ends_with_the_same_bits(
    small_config, run_folder, interrupt, workers
):
    settings = ("augment=flip_crop", f"trainer.num_workers={workers}")
    train(small_config("augment=flip_crop", "run.id=whole"), run_folder("whole"), ALONE)
    interrupt(6, kill)
    with pytest.raises(KilledError):
        train(small_config(*settings), run_folder(), ALONE)
    train(small_config(*settings), run_folder(), ALONE)
    assert run_folder().weights.read_bytes() == run_folder("whole").weights.read_bytes()
