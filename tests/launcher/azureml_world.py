"""A workspace of Azure ML on the stage, and the backend in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure_logins import logged_in
from azureml_jobs import backend
from launcher.providers.azure import auth, quotas
from launcher.providers.azure.azureml import AzureML
from stage import azure
from stage.azure.ml_usages import ALL_LOW_PRIORITY
from stage.azure.world import World

REGION = "westeurope"


class Place:
    """A workspace `demo-ml` in the group `demo`, with the identity `demo-trainer`.

    Attributes:
        bucket: a folder, in the bucket's place.
    """

    def __init__(self, world: World, workspace: str, bucket: Path) -> None:
        self.world, self.workspace, self.bucket = world, workspace, bucket

    def backend(self, **changes: Any) -> AzureML:
        given = {"project": self.world.subscription, "region": REGION, "bucket": str(self.bucket)}
        return backend(**{**given, **changes})

    @property
    def jobs(self) -> list[str]:
        """The names of all jobs, oldest first."""
        return [name for _, name in self.world.ml.jobs]

    def clear(self) -> None:
        """Leaves the workspace without a job, and nobody's quota asked."""
        self.world.heal()
        self.world.ml.jobs.clear()
        self.world.ml.computes.clear()
        self.world.ml.environments.known.clear()
        self.world.asked.clear()
        quotas._answer.cache_clear()


@contextmanager
def workspace(folder: Path) -> Iterator[Place]:
    """The world while the block lasts, as its owner sees it; with quota for some T4."""
    with azure.serve(folder, REGION) as world, logged_in(world, "owner"):
        path = world.make.workspace("demo-ml", "demobucket", "demo-trainer")
        trainer = world.people.named("demo-trainer")
        group = f"/subscriptions/{world.subscription}/resourceGroups/demo"
        world.make.role(trainer, "AcrPull", group)
        world.make.role(trainer, "Storage Blob Data Contributor", group)
        for name in ("Standard_NC4as_T4_v3", "Standard_F8s_v2", ALL_LOW_PRIORITY):
            world.ml.usages.set(name, 64)
        yield Place(world, path, folder / "bucket")


def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(auth, "DELAYS", (0.0, 0.0))
    monkeypatch.setattr(auth, "_pause", lambda *_: 0.0)
