"""What Vertex AI does when a container has ended or its machine was taken: whether it starts again, and how often.

By https://docs.cloud.google.com/vertex-ai/docs/training/understanding-training-service (restarts, common errors) and
https://docs.cloud.google.com/vertex-ai/docs/training/use-spot-vms (preemption).
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

# "potentially transient": SIGABRT and SIGSEGV of custom containers. 6 and 11, which the page names as well, are what
# prebuilt containers end with.
TRANSIENT = (134, 139)
CRASHES = 3  # after so many restarts of a job the next crash is its end
LOSSES = 6  # after so many restarts of a job the next preemption is its end


class After(Enum):
    """What follows."""

    SUCCESS = "the job is over: its primary replica has succeeded"
    NOTHING = "another replica has succeeded"
    ONE_AGAIN = "this replica starts again, on a new machine"
    ALL_AGAIN = "the whole job starts again"
    FAILURE = "the job is over: all replicas are shut down"


@dataclass
class Counts:
    """How often a job was started again after crashes, and after the loss of machines."""

    crashes: int = 0
    losses: int = 0

    def after(self, primary: bool, status: int, taken: bool, scheduling: Any) -> After:
        """Decides, and counts.

        Args:
            primary: whether it is the first replica of the first pool.
            status: of its container.
            taken: whether its machine was taken away; then nobody is left to see the status.
            scheduling: of the job.
        """
        if taken:
            return self._after_loss(scheduling)
        if status == 0:
            return After.SUCCESS if primary else After.NOTHING
        # `disableRetries` speaks of "internal errors" only, and these are errors of the user's code: that it keeps the
        # service from trying again is not documented, and another start costs, so it does not.
        if status in TRANSIENT and self.crashes < CRASHES:
            self.crashes += 1
            return After.ALL_AGAIN
        return After.FAILURE

    def _after_loss(self, scheduling: Any) -> After:
        """A replica is replaced alone, unless the job asks for more; the others run on meanwhile.

        Whether `disableRetries` forbids this restart is not documented: it does. That it overrides
        `restartJobOnWorkerRestart` is:
        https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/CustomJobSpec#Scheduling. Machines on demand are
        lost to maintenance, which has no bound of its own in the documentation: the same.
        """
        if scheduling.disable_retries or self.losses >= LOSSES:
            return After.FAILURE
        self.losses += 1
        return After.ALL_AGAIN if scheduling.restart_job_on_worker_restart else After.ONE_AGAIN
