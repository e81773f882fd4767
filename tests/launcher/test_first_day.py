"""The first day with an account: what is tried. All of it is in tests/loop/test_first_day.py."""

import pytest
from launcher.commands import first_day


@pytest.mark.parametrize(
    ("names"),
    [
        pytest.param(["batch", "vertex"], marks=pytest.mark.cloud("gcp")),
        pytest.param(["batch", "sagemaker"], marks=pytest.mark.cloud("aws")),
        pytest.param(["azureml"], marks=pytest.mark.cloud("azure")),
    ],
)
def test_the_project_s_own_cloud_is_tried_and_no_other(project, names):
    assert [place.name for place in first_day.own_places()] == names
