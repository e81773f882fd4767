"""A project whose runs go to the cluster through SkyPilot, with a folder that both see in place of a bucket."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from baking import BakedProject
from servers import Environment

from stage import slow
from stage.results import Results, files_of
from stage.slurm.cluster import Cluster, cluster, wait_until
from stage.slurm.sky import INFRA, skypilot

# The table comes with a package, so nothing has to be pulled.
TABLE = "experiment=diabetes"
TRAINING = (TABLE, "tracking=none")
SETTINGS = {"infra": f"slurm/{INFRA}", "machine": "cpu:1"}


@dataclass(frozen=True)
class Scene(Results):
    """A person's project, the cluster, and the environment in which SkyPilot knows it."""

    project: BakedProject
    cluster: Cluster
    env: Environment
    bucket: Path

    def run(self, *words: str, check: bool = True) -> str:
        """What a command of the project prints, to either side."""
        done = self.project.run("uv", "run", "--no-sync", *words, check=check, **self.env)
        return done.stdout + done.stderr

    def sky(self, *words: str) -> str:
        """What SkyPilot itself prints."""
        return self.project.run("sky", *words, check=False, **self.env).stdout

    def launch(self, run_id: str, *words: str) -> str:
        """Launches a training; of the table, unless the words name another experiment."""
        table = () if any(word.startswith("experiment=") for word in words) else (TABLE,)
        return self.run("launch", "cloud=sky", *table, "tracking=none", *words, f"run.id={run_id}")

    def results(self, run_id: str) -> dict[str, bytes]:
        return files_of(self.bucket / "runs" / run_id)

    def log(self, run_id: str) -> str:
        """What the worker has kept of the run's lines."""
        return self.results(run_id).get("worker.log", b"").decode(errors="replace")

    def trained(self, run_id: str, epoch: int) -> None:
        """Waits until a run has been through an epoch, and until what it had then is in the bucket."""

        def there() -> bool:
            epochs = [int(found) for found in re.findall(r"epoch (\d+)/", self.log(run_id))]
            return max(epochs, default=0) >= epoch and bool(self.checkpoints(run_id))

        wait_until(there, f"{run_id} has not come to epoch {epoch}: {self.log(run_id)[-2000:]}", 120)

    def ended(self, run_id: str) -> dict:
        """Waits until a run has said how it ended."""
        wait_until(lambda: "outcome.json" in self.results(run_id), f"{run_id} has not ended", 120)
        return self.outcome(run_id)

    def silence(self, run_id: str) -> timedelta:
        """Since when a run's worker has not noted that it is at work."""
        last = json.loads(self.results(run_id)["attempts.json"])[-1]
        heard = datetime.fromisoformat(last["started"]) + timedelta(seconds=last["seconds"] or 0)
        return datetime.now(UTC) - heard

    def job(self, run_id: str) -> str:
        """What Slurm calls the job of a run, that has begun and not ended; empty where it has none."""
        name = f"{self.project.answers.get('project_slug', 'cloud-training')}-{run_id}"
        return next((each for each in self.cluster.jobs() if each.startswith(name)), "")

    def gone(self, run_id: str) -> None:
        """Waits until Slurm has no job of a run."""
        wait_until(lambda: not self.job(run_id), f"the job of {run_id} goes on", 120)


@contextmanager
def scene(project: BakedProject, folder: Path) -> Iterator[Scene]:
    """Gives all of it for a project whose environment is installed; everything ends with the block."""
    for path in (project.folder / "configs/cloud").glob("*.yaml"):
        if path.stem not in ("local", "sky"):
            path.unlink()  # there is no such account here, and asking for one takes seconds
    bucket = folder / "shared"
    bucket.mkdir(parents=True)
    slow.table(project)
    path = project.folder / "configs/cloud/sky.yaml"
    text = path.read_text()
    for name, value in {**SETTINGS, "bucket": str(bucket)}.items():
        text = re.sub(rf"(?m)^{name}: \S+", f"{name}: {value}", text)
    path.write_text(text)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message=The cluster")
    with cluster(folder) as here, skypilot(folder, here) as env:
        try:
            yield Scene(project, here, env, bucket)
        finally:
            for job in here.jobs():
                here.cancel(job)
            wait_until(lambda: not here.jobs(), "a job cannot be cancelled")
