"""What a stage knows of the results of a run, whichever cloud's bucket holds them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import xxhash

# Settings of a training that is slow enough to be disturbed: a checkpoint every third step, and half a thousand steps.
LONG = ("trainer.max_epochs=30", "checkpoint.steps=3", "trainer.log_every=3", "tracking=none")
# And of one that somebody has to end, which costs little until then: `slow.digits` writes its data.
UNSAVED = ("data=slow", "trainer.max_epochs=100000", "tracking=none")  # but each minute, as usual
ENDLESS = (*UNSAVED, "checkpoint.steps=20")

# In place of the project's own tests, which run elsewhere: the workflow's first job only has to wait for some.
QUICK = """
check test:
	uv run --no-sync train --help
"""


def read_all(names: Callable[[], Iterable[str]], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Name -> content of what is in a bucket, less what is removed meanwhile: a run that goes on replaces its checkpoints."""
    found = {}
    for name in names():
        try:
            found[name] = read(name)
        except Exception:
            if name in names():
                raise
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """What a folder holds that stands for a run's in a bucket: path in it -> content."""

    def names() -> list[str]:
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

    return read_all(names, lambda name: (folder / name).read_bytes())


class Results:
    """Reads what the bucket holds of runs."""

    def results(self, run_id: str) -> dict[str, bytes]:
        """What the bucket holds of a run: path in its folder -> content."""
        raise NotImplementedError

    def outcome(self, run_id: str) -> dict[str, Any]:
        """What the worker says has become of a run."""
        return json.loads(self.results(run_id)["outcome.json"])

    def weights_and_log(self, run_id: str) -> tuple[bytes, list[dict[str, Any]]]:
        """The bits of a run's weights, and its log without what depends on the clock."""
        results = self.results(run_id)
        lines = [json.loads(line) for line in results["metrics.jsonl"].decode().splitlines()]
        for line in lines:
            line.pop("samples_per_second", None)
        return results["model.safetensors"], lines

    def checkpoints(self, run_id: str) -> list[str]:
        """The published checkpoints of a run; fails if one is not what its name says."""
        found = {path: data for path, data in self.results(run_id).items() if path.endswith(".pt")}
        for path, data in found.items():
            assert xxhash.xxh3_128_hexdigest(data) in path
        return sorted(found)
