"""What a stage knows of the results of a run, whichever cloud's bucket holds them."""

import json
from typing import Any

import xxhash

# In place of the project's own tests, which run elsewhere: the workflow's first job only has to wait for some.
QUICK = """
check test:
	uv run --no-sync train --help
"""


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
