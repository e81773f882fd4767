"""The stage of AWS: what takes minutes is made once a session, the account for each file, and it ends with the file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import Bake
from stage import containers

if TYPE_CHECKING:
    from stage.aws.scene import Built, Stage


@pytest.fixture(scope="session")
def aws_built(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Built"]:
    """A bake for AWS whose image is in a registry of this machine."""
    from stage import scene as google
    from stage.aws import scene
    from stage.registry import registry

    containers.require()
    folder = tmp_path_factory.mktemp("aws")
    # While working on the loop, a folder that stays saves the minutes in which torch's layer is pushed.
    kept = (
        Path(os.environ["STAGE_REGISTRY"] + "-aws") if "STAGE_REGISTRY" in os.environ else folder / "registry"
    )
    with registry(kept.absolute()) as host:
        try:
            yield scene.project_of(bake(cloud="aws"), folder, host)
        finally:
            google.remove_images(host)


@pytest.fixture(scope="module")
def aws(aws_built: "Built", tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stage"]:
    """The account of that project as `cloud setup` makes it, with the data in its bucket."""
    from stage.aws import scene

    with scene.stage(aws_built, tmp_path_factory.mktemp("account")) as here:
        yield here
        assert here.runs.running == {}, "a job is still at work"
    assert containers.ids(here.runs.stage) == [], "a container of the stage is still there"
