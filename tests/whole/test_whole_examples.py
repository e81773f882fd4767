"""The worked examples, trained whole, reach what the README says of them."""

import test_examples
from baking import BakedProject
from test_examples import train

prepared = test_examples.prepared  # a fixture


def test_segmentation_finds_the_shapes(prepared: BakedProject) -> None:
    metrics = train(prepared, "unet", "experiment=shapes_unet")
    assert metrics["test/mean_iou"] >= 0.85
    assert prepared.has_file("runs/unet/plots/predictions.png")


def test_depth_beats_predicting_the_mean_by_a_factor_of_three(prepared: BakedProject) -> None:
    metrics = train(prepared, "depth", "experiment=shapes_depth")
    # measured: 0.063 against 0.239, a factor of 3.8
    assert metrics["test/rmse"] * 3 <= metrics["test/baseline_rmse"]
