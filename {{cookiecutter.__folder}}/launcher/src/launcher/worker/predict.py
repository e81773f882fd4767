"""Predictions instead of a training: by a registered model, of what is in a bucket.

Each part of the inputs is written whole and is not done again, so that a machine that is taken away costs one part.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from .. import storage
from ..errors import UserError
from ..job import RUN_MODELS
from ..models import names, versions
from .cluster import Node
from .settings import Settings
from .worker import Worker

PROGRAM = "launcher.commands.predict"
NEEDED = ("model.onnx", "signature.json")  # of a version; the rest is for who trains on


class Predict(Worker):
    """A worker whose training is a program that predicts.

    Args:
        settings, node, root: as of `Worker`.
        args: of that program: model=NAME@vN, input=, output=.
        home: of the registry.

    Raises:
        UserError: they name no version, or there is no registry.
    """

    WORK, KEPT = "prediction", "what was predicted is kept"

    def __init__(
        self, settings: Settings, node: Node, args: list[str], root: Path, home: str | None
    ) -> None:
        super().__init__(settings, replace(node, processes=1), args, root)
        named = [word.partition("=")[2] for word in args if word.startswith("model=")]
        reference = names.parse(named[0]) if named else None
        if not reference or not reference.version or not home:
            raise UserError(f"A prediction needs model=NAME@vN and {RUN_MODELS}; launch it anew.")
        self.home, self.name, self.version = home, reference.name, reference.version
        self.model = root / versions.HERE / versions.CACHE / self.name / f"v{self.version}"

    def _prepare(self) -> dict[str, str]:
        env = super()._prepare()
        version = versions.need(self.home, self.name, self.version)
        versions.download(version, self.model, NEEDED)
        # By it the program knows what the model is called.
        manifest = versions.MANIFEST
        storage.fetch(f"{version.uri}/{manifest}", self.model / manifest)
        self.log.say(f"model {version} of {self.home}")
        return env

    def _command(self) -> list[str]:
        words = [word for word in self.args if not word.startswith("model=")]
        observed = [sys.executable, "-m", "launcher.worker.observed", PROGRAM]
        return [*observed, f"folder={self.model}", *words]
