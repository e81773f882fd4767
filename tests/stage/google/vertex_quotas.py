"""How much of Vertex AI's custom training an account may have at a time, as new accounts were met in 2026."""

from collections.abc import Mapping
from typing import Any

from stage.google.identity import Identity
from stage.google.vertex_rules import BUILT_IN, gpus
from stage.rest import RequestError

TRAINING = "aiplatform.googleapis.com/custom_model_training_"
SPOT = 4  # Scheduling.Strategy
UNLIMITED = -1

REGIONS = (
    *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west2", "us-west4"),
    *("northamerica-northeast1", "northamerica-northeast2", "southamerica-east1"),
    *("europe-west1", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west9"),
    *("asia-east1", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1"),
    "australia-southeast1",
)

# 42 or 20 by region, of n1 and e2 together: https://github.com/GoogleCloudPlatform/training-data-analyst/issues/2457
# There the number of us-central1 is not told: the smaller one.
CPUS = dict.fromkeys(REGIONS, 20) | {"us-west1": 42}

# Spot T4: 1 in five regions, L4: 0 everywhere, spot or not; a job with a T4 and 8 CPUs ran on spot there:
# https://github.com/ArthurZizumbo/agrosat-copilot/blob/main/docs/l4_log.md
# GPUs on demand: 0 everywhere; CPUs of g2 and a2 on demand: -1, which is no limit:
# https://github.com/kartikshirode/sih26158-single-pass-3d/blob/main/docs/06-gcp-deployment.md
# Spot A100: 8 in us-central1, as the audit of November 2026 has met it. How many CPUs on spot such an account has is not
# told: as many as on demand.
# What is not named here is 0, such as H100, A100 with 80 GB and RTX PRO 6000.
T4_REGIONS = ("us-central1", "us-east1", "us-west1", "europe-west2", "europe-west4")
NEW_ACCOUNT: dict[str, dict[str, int]] = {
    f"{TRAINING}cpus": CPUS,
    f"{TRAINING}preemptible_cpus": CPUS,
    **{f"{TRAINING}{family}_cpus": dict.fromkeys(REGIONS, 20) for family in ("n2", "c2")},
    **{f"{TRAINING}{family}_cpus": dict.fromkeys(REGIONS, UNLIMITED) for family in ("a2", "a3", "g2")},
    f"{TRAINING}preemptible_nvidia_t4_gpus": dict.fromkeys(T4_REGIONS, 1),
    f"{TRAINING}preemptible_nvidia_a100_gpus": {"us-central1": 8},
    **{
        f"{TRAINING}{tier}nvidia_{gpu}_gpus": dict.fromkeys(REGIONS, 0)
        for gpu in ("l4", "h100", "a100_80gb", "rtx_pro_6000")
        for tier in ("", "preemptible_")
    },
    **{f"{TRAINING}nvidia_{gpu}_gpus": dict.fromkeys(REGIONS, 0) for gpu in ("t4", "a100")},
}

# What an account without any history of payments has: GPUs on spot, and not the CPUs of the smallest machine that has
# them; "preemptible_cpus is a separate metric and binds first regardless of machine family" (the second report above).
UNPROVEN_ACCOUNT: dict[str, dict[str, int]] = {
    **NEW_ACCOUNT,
    f"{TRAINING}preemptible_cpus": dict.fromkeys(REGIONS, 1),
    f"{TRAINING}preemptible_nvidia_a100_gpus": {"us-central1": 1},
}

# Those of which a name does not end with the number of its virtual CPUs, by
# https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines
CPUS_OF_A_GPU = {"a2-highgpu": 12, "a2-ultragpu": 12, "a2-megagpu": 6, "a3-highgpu": 26, "a3-megagpu": 26}
CPUS_OF_A_GPU |= {"a3-ultragpu": 28, "a4-highgpu": 28, "a4x-highgpu": 35}


def give(identity: Identity, account: Mapping[str, Mapping[str, int]] | None = None) -> None:
    """Gives the project the quotas of an account (NEW_ACCOUNT), where a test has set no others."""
    for metric, regions in (NEW_ACCOUNT if account is None else account).items():
        identity.quotas.setdefault(metric, dict(regions))


def gpu_metric(gpu: str, spot: bool) -> str:
    """The quota that a GPU counts against, such as ...custom_model_training_nvidia_l4_gpus.

    The names of refusals are so, as in https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12. Only of
    the A100 are there two sizes, so only its quotas name the memory.
    """
    name = gpu.lower().replace("nvidia_tesla_", "nvidia_")
    if "a100" not in name:
        name = "_".join(part for part in name.split("_") if not part.endswith("gb"))
    return f"{TRAINING}{'preemptible_' if spot else ''}{name}_gpus"


def cpu_metric(machine: str, spot: bool) -> str:
    """The quota that a machine's CPUs count against: n1 and e2 have one together, other families one each."""
    if spot:
        return f"{TRAINING}preemptible_cpus"
    family = machine.partition("-")[0]
    return f"{TRAINING}cpus" if family in ("n1", "e2") else f"{TRAINING}{family}_cpus"


def cpus(machine: str) -> int:
    """Virtual CPUs of a machine type."""
    kind, _, size = machine.rpartition("-")
    return (
        CPUS_OF_A_GPU[kind] * BUILT_IN[machine][1]
        if machine in BUILT_IN and size.endswith("g")
        else int(size)
    )


def needs(spec: Any) -> dict[str, int]:
    """Quota -> how much of it all replicas of a job take together."""
    spot = spec.scheduling.strategy == SPOT
    total = {gpu_metric(gpu, spot): count for gpu, count in gpus(spec).items()}
    for pool in spec.worker_pool_specs:
        machine = pool.machine_spec.machine_type
        if machine:
            metric = cpu_metric(machine, spot)
            total[metric] = total.get(metric, 0) + cpus(machine) * pool.replica_count
    return total


def fits(identity: Identity, region: str, metric: str, count: int) -> bool:
    """Whether a quota is at least so large."""
    limit = identity.quotas.get(metric, {}).get(region, 0)
    return limit == UNLIMITED or count <= limit


def check_quotas(identity: Identity, region: str, spec: Any, times: int) -> None:
    """Refuses what the quotas would never allow, even if nothing else ran: `times` jobs at a time.

    Such is refused at once, code and words by
    https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12. What only has to wait is queued, by
    https://docs.cloud.google.com/vertex-ai/docs/training/understanding-training-service; see `Region.admit`. That all
    parallel trials have to fit is not documented: the worse thing.
    """
    wanted = needs(spec)
    exceeded = [
        metric for metric, count in wanted.items() if not fits(identity, region, metric, count * times)
    ]
    if exceeded:
        raise RequestError(429, f"The following quota metrics exceed quota limits: {','.join(exceeded)}")
