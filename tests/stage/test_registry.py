"""Registries of several processes on one engine: what one has taken, the engine does not compress for another again."""

from pathlib import Path

import pytest

from stage import containers, registry


@pytest.mark.engine
def test_a_layer_that_was_kept_is_not_pushed_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    containers.require()
    monkeypatch.setenv("STAGE_LAYERS", str(tmp_path / "layers"))
    monkeypatch.setattr(registry, "LARGE", 10_000_000)
    registry.seed(tmp_path / "b", "other/train")  # of nothing, as in the process that is first
    names = []
    for folder, name in (("a", "project/train"), ("b", "other/train")):
        registry.seed(tmp_path / folder, name)
        with registry.registry(tmp_path / folder) as host:
            names.append(f"{host}/{name}:main")
            containers.docker("tag", "python:3.13-slim", names[-1])
            said = containers.docker("push", names[-1]).stdout
            assert registry.layers(host, name, "main")
            assert ("Layer already exists" in said) == (folder == "b"), said
        registry.keep(tmp_path / folder)
    containers.docker("rmi", *names)
