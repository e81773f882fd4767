"""What Compute Engine tells of the machines of Batch: quotas, which decide whether a job starts, and the machines."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stage.google.batch_jobs import OVER, BatchJob
from stage.google.batch_rules import gpus
from stage.google.identity import Identity
from stage.google.vertex_quotas import cpus
from stage.rest import Answer, Request, RequestError

# Quotas by metric of an account with a payment history, as users of 2025 and 2026 show them in their reports; where
# they differ, the smaller. "": of the whole project.
# https://github.com/GoogleCloudPlatform/cluster-toolkit/issues/2034 (GPUs 1 a region), and for those without:
# https://docs.cloud.google.com/compute/resource-usage#gpu_quota ("GPUs (all regions)" must be raised from 0 first)
REGION = {
    "CPUS": 24,
    "PREEMPTIBLE_CPUS": 0,
    "NVIDIA_T4_GPUS": 1,
    "PREEMPTIBLE_NVIDIA_T4_GPUS": 1,
    "NVIDIA_L4_GPUS": 1,
    "PREEMPTIBLE_NVIDIA_L4_GPUS": 1,
    "NVIDIA_A100_GPUS": 0,
    "PREEMPTIBLE_NVIDIA_A100_GPUS": 0,
    "SSD_TOTAL_GB": 500,
    "IN_USE_ADDRESSES": 8,
}
EVERYWHERE = {"CPUS_ALL_REGIONS": 32, "GPUS_ALL_REGIONS": 0}
PATH = re.compile(r"/compute/v1/projects/([^/]+)(?:/(regions/[^/]+|aggregated/instances))?")


def needs(instance: Any) -> dict[str, int]:
    """Quota -> what a machine takes of it: https://docs.cloud.google.com/compute/resource-usage."""
    policy = instance.policy
    spot = policy.provisioning_model in (2, 3)  # SPOT, PREEMPTIBLE
    tier = "PREEMPTIBLE_" if spot else ""
    gpu, count = gpus(instance)
    wanted = {"IN_USE_ADDRESSES": 1}
    if gpu:
        name = re.sub(r"^NVIDIA_(TESLA_)?", "", gpu)
        name = name if name.startswith("A100") else re.sub(r"_\d+GB$", "", name)
        wanted |= {f"{tier}NVIDIA_{name}_GPUS": count, "GPUS_ALL_REGIONS": count}
    if policy.machine_type.startswith(("n1-", "e2-")):
        number = cpus(policy.machine_type)
        wanted |= {f"{tier}CPUS": number, "CPUS_ALL_REGIONS": number}
    if policy.boot_disk.type_.startswith("pd-"):
        wanted["SSD_TOTAL_GB"] = policy.boot_disk.size_gb
    return wanted


class Compute:
    """Quotas and machines of one project, in one region.

    Attributes:
        quotas: metric -> limit.
    """

    def __init__(self, identity: Identity, region: str, jobs: Mapping[str, BatchJob]) -> None:
        self.identity, self.region, self._jobs = identity, region, jobs
        self.quotas = {**REGION, **EVERYWHERE}

    def used(self, besides: BatchJob | None = None) -> dict[str, int]:
        """Metric -> what the machines of jobs take of it now."""
        total: dict[str, int] = {}
        for job in list(self._jobs.values()):
            if job is besides or job.state in ("QUEUED", *OVER):
                continue
            for metric, count in self._counted(needs(job.instance)).items():
                total[metric] = total.get(metric, 0) + count
        return total

    def lacks(self, job: BatchJob) -> str:
        """Which quota a job has to wait for, in the service's words; "" for none.

        https://docs.cloud.google.com/batch/docs/troubleshooting#insufficient-quota
        """
        used = self.used(besides=job)
        for metric, count in self._counted(needs(job.instance)).items():
            limit, usage = self.quotas.get(metric, 0), used.get(metric, 0)
            if usage + count > limit:
                return (
                    f"inadequate quotas [Quota: {metric}, limit: {limit}, usage: {usage}, wanted: {count}.]"
                )
        return ""

    def _counted(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Spot counts against the usual quota where the one for spot is 0.

        https://docs.cloud.google.com/compute/docs/instances/spot#quotas
        """
        counted: dict[str, int] = {}
        for metric, count in wanted.items():
            usual = metric.removeprefix("PREEMPTIBLE_")
            name = metric if self.quotas.get(metric) or not self.quotas.get(usual) else usual
            counted[name] = count
        return counted

    def answer(self, request: Request) -> Answer | None:
        """Answers what is asked of Compute Engine; None where something else is."""
        found = PATH.fullmatch(request.path)
        if not found or request.method != "GET":
            return None
        project, what = found.groups()
        if not self.identity.is_project(project):
            raise RequestError(404, f"The resource 'projects/{project}' was not found")
        if what is None:
            self.identity.require(request, "compute.projects.get")
            return Answer({"name": project, "quotas": self._quotas(EVERYWHERE)})
        if what == "aggregated/instances":
            self.identity.require(request, "compute.instances.list")
            return Answer({"items": self._instances(request.only("filter", "returnPartialSuccess"))})
        self.identity.require(request, "compute.regions.get")
        if what != f"regions/{self.region}":
            raise RequestError(404, f"The resource 'projects/{project}/{what}' was not found")
        return Answer({"name": self.region, "quotas": self._quotas(REGION)})

    def _quotas(self, metrics: Iterable[str]) -> list[dict[str, Any]]:
        used = self.used()
        extra = [name for name in self.quotas if name not in REGION and name not in EVERYWHERE]
        names = [*metrics, *(extra if metrics is REGION else ())]
        return [
            {"metric": name, "limit": float(self.quotas[name]), "usage": float(used.get(name, 0))}
            for name in names
        ]

    def _instances(self, query: Mapping[str, str]) -> dict[str, Any]:
        wanted = re.fullmatch(r'labels\.([-_a-z0-9]+)="?([-_a-z0-9]+)"?', query.get("filter", ""))
        if not wanted:
            raise RequestError(400, f"Invalid value for field 'filter': {query.get('filter')!r}.")
        items: dict[str, Any] = {}
        for job in list(self._jobs.values()):
            for machine in job.machines:
                if machine["status"] == "RUNNING" and machine["labels"].get(wanted[1]) == wanted[2]:
                    zone = f"zones/{machine['zone'].rpartition('/')[2]}"
                    items.setdefault(zone, {"instances": []})["instances"].append(machine)
        return items
