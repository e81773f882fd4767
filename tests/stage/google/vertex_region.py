"""What Vertex AI has in a region for jobs: machines, which may be sold out, and what is left of the account's quotas."""

import threading
from typing import Any

from stage.google.identity import Identity
from stage.google.vertex_quotas import fits, needs


class Region:
    """One region, as the service and all its jobs see it.

    Args:
        identity: of the project, with its quotas.
        name: such as us-central1.

    Attributes:
        capacity: while it is cleared, jobs stay queued.
        waiting: ids of jobs that are queued because others use what they need of a quota.
    """

    def __init__(self, identity: Identity, name: str) -> None:
        self.identity, self.name = identity, name
        self.capacity = threading.Event()
        self.capacity.set()
        self.waiting: set[str] = set()
        self._sold_out = 0
        self._used: dict[str, dict[str, int]] = {}  # by job
        self._lock = threading.Lock()

    @property
    def stockout(self) -> str:
        """What is said where machines are sold out.

        https://docs.cloud.google.com/vertex-ai/docs/training/understanding-training-service#common-errors
        """
        return (
            f"Resources are insufficient in region: {self.name}. "
            "Try a different region or use a different accelerator."
        )

    def sell_out(self, jobs: int) -> None:
        """As many jobs find no machine, at their start or after a preemption; on spot and on demand alike."""
        with self._lock:
            self._sold_out = jobs

    def finds_none(self) -> bool:
        """Whether a job that asks for machines now finds none; the service's own three tries are behind it then."""
        with self._lock:
            self._sold_out, none = max(0, self._sold_out - 1), self._sold_out > 0
            return none

    def admit(self, job: str, spec: Any) -> bool:
        """Takes what a job needs of the quotas; False where others use it, and the job stays queued as documented.

        https://docs.cloud.google.com/vertex-ai/docs/training/understanding-training-service
        """
        with self._lock:
            wanted = needs(spec)
            for metric, count in wanted.items():
                used = sum(other.get(metric, 0) for other in self._used.values())
                if not fits(self.identity, self.name, metric, used + count):
                    self.waiting.add(job)
                    return False
            self.waiting.discard(job)
            self._used[job] = wanted
            return True

    def release(self, job: str) -> None:
        """Gives back what a job took."""
        with self._lock:
            self.waiting.discard(job)
            self._used.pop(job, None)
