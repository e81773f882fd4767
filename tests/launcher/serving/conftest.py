"""Services of the models of model_files.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launcher.serving.app import Service
from launcher.serving.model import Model
from launcher.serving.settings import Settings
from model_files import make
from starlette.testclient import TestClient


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Model]:
    """Loads one of them."""
    return lambda kind: Model(make(tmp_path / kind, kind), f"{kind}@v1")


@pytest.fixture
def client(model: Callable[[str], Model]) -> Callable[..., TestClient]:
    """A service of one of them, that is warm."""

    def start(kind: str, **settings: Any) -> TestClient:
        service = Service(model(kind), Settings(**settings))
        service.warm_up()
        found = TestClient(service.app(), raise_server_exceptions=False)
        found.service = service  # type: ignore[attr-defined]
        return found

    return start
