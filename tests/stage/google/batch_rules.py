"""What Google Cloud Batch refuses in a job, as its reference and its .proto document it; the types carry no such rules."""

import re
import shlex
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from google.cloud.batch_v1.types import Job
from google.protobuf import json_format

from stage.google.vertex_rules import ARTIFACT_REGISTRY, BUILT_IN, DOCKER_HUB, Violation, refuse
from stage.rest import RequestError

# https://docs.cloud.google.com/batch/docs/reference/rest/v1/projects.locations.jobs/create: jobId, requestId
JOB_ID = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
# https://docs.cloud.google.com/compute/docs/labeling-resources#requirements
LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
LABEL = re.compile(r"[-_a-z0-9]{0,63}")
LONGEST_RUN = 14 * 24 * 3600  # https://docs.cloud.google.com/batch/quotas
MOST_RETRIES = 10  # https://docs.cloud.google.com/batch/docs/automate-task-retries
SMALLEST_DISK = 30  # GB of batch-cos: AllocationPolicy.Disk.sizeGb, whose least is that of the image
# Options that the service's `docker run` was seen to take; another may well be good, but nobody here has looked it up.
# https://docs.cloud.google.com/batch/docs/reference/rest/v1/projects.locations.jobs#container: "options"
OPTIONS = ("--network", "--shm-size", "--stop-timeout", "--ipc", "--ulimit")
# Families that take no persistent disk: https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines
HYPERDISK_ONLY = re.compile(r"(a4|a4x|g4)-|a3-ultragpu")
# https://docs.cloud.google.com/compute/docs/gpus#n1-gpus
ATTACHED = {"nvidia-tesla-t4": (1, 2, 4), "nvidia-tesla-p4": (1, 2, 4), "nvidia-tesla-v100": (1, 2, 4, 8)}
MACHINE = re.compile(r"[a-z]\w*(-[a-z]+)+-\w+")


def parse(body: bytes) -> Any:
    """Reads a Job as protobuf; refuses what its schema does not know.

    Raises:
        RequestError: 400, with the parser's words.
    """
    try:
        return json_format.Parse(body, Job.pb(Job()), ignore_unknown_fields=False)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise RequestError(400, f"Invalid JSON payload received. {error}", [("", str(error))]) from error


def check_names(job_id: str, request_id: str) -> None:
    """Refuses names that are none."""
    if not JOB_ID.fullmatch(job_id):
        raise RequestError(400, f"Job ID {job_id!r} is not valid.", [("job_id", JOB_ID.pattern)])
    try:
        valid = not request_id or uuid.UUID(request_id).int != 0
    except ValueError:
        valid = False
    if not valid:
        text = f"Request ID {request_id!r} is not a valid UUID, or is the zero UUID."
        raise RequestError(400, text, [("request_id", text)])


def check(job: Any, region: str, registries: Collection[str]) -> None:
    """Refuses a parsed job that breaks a documented rule, naming every field at fault."""
    refuse([*_about_job(job), *_about_tasks(job, registries), *_about_machines(job, region)])


def _about_job(job: Any) -> Iterator[Violation]:
    # Output-only: https://docs.cloud.google.com/batch/docs/reference/rest/v1/projects.locations.jobs. The parser takes
    # them; whether the service ignores or refuses them is not documented: it refuses.
    for name in ("name", "uid", "create_time", "update_time", "status"):
        if job.HasField(name) if name in ("create_time", "update_time", "status") else getattr(job, name):
            yield name, "is output only"
    for where, labels in (("labels", job.labels), ("allocation_policy.labels", job.allocation_policy.labels)):
        for key, value in labels.items():
            if not LABEL_KEY.fullmatch(key) or not LABEL.fullmatch(value):
                yield where, f"{key}={value} is no label"
            if key.startswith(("goog-", "google")):
                yield where, f"{key}: reserved by the service"
        if len(labels) > 64:
            yield where, "64 are the most"
    if len(job.task_groups) != 1:
        yield "task_groups", "exactly one is supported"


def _about_tasks(job: Any, registries: Collection[str]) -> Iterator[Violation]:
    for group in job.task_groups:
        spec, where = group.task_spec, "task_groups[0].task_spec"
        if group.task_count != 1:
            yield "task_groups[0].task_count", "the stand-in runs one task a job"
        if not spec.runnables:
            yield f"{where}.runnables", "is required"
        if not 0 <= spec.max_retry_count <= MOST_RETRIES:
            yield f"{where}.max_retry_count", f"is 0 to {MOST_RETRIES}"
        if spec.HasField("max_run_duration") and not 0 < spec.max_run_duration.seconds <= LONGEST_RUN:
            yield f"{where}.max_run_duration", "is up to 14 days"
        # "Currently we only support one policy": TaskSpec in google/cloud/batch/v1/task.proto
        if len(spec.lifecycle_policies) > 1:
            yield f"{where}.lifecycle_policies", "one is supported"
        for runnable in spec.runnables:
            yield from _about_container(runnable, f"{where}.runnables[0]", registries)


def _about_container(runnable: Any, where: str, registries: Collection[str]) -> Iterator[Violation]:
    if runnable.WhichOneof("executable") != "container":
        yield where, "the stand-in runs containers only"
        return
    image = runnable.container.image_uri
    host = image.partition("/")[0]
    if host not in registries and not ARTIFACT_REGISTRY.fullmatch(image) and not DOCKER_HUB.fullmatch(image):
        yield f"{where}.container.image_uri", f"{image!r} is no image"
    for word in shlex.split(runnable.container.options):
        if word.partition("=")[0] not in OPTIONS or "=" not in word:
            yield f"{where}.container.options", f"{word} is not known to the stand-in"


def _about_machines(job: Any, region: str) -> Iterator[Violation]:
    policy, where = job.allocation_policy, "allocation_policy"
    # Since 2026-07-31 only the job's own region, for projects that are new then:
    # https://docs.cloud.google.com/batch/docs/release-notes
    for place in policy.location.allowed_locations:
        kind, _, name = place.partition("/")
        if (kind, name) != ("regions", region) and (kind, name.rpartition("-")[0]) != ("zones", region):
            yield f"{where}.location.allowed_locations", f"{place} is not in the job's region {region}"
    # "Currently only instances[0] is supported": AllocationPolicy in google/cloud/batch/v1/job.proto
    if len(policy.instances) != 1:
        yield f"{where}.instances", "exactly one is supported"
    for interface in policy.network.network_interfaces:
        # both, or neither: https://docs.cloud.google.com/batch/docs/specify-network
        if bool(interface.network) != bool(interface.subnetwork):
            yield f"{where}.network.network_interfaces[0]", "network and subnetwork go together"
        if interface.subnetwork and f"regions/{region}/" not in interface.subnetwork:
            yield f"{where}.network.network_interfaces[0].subnetwork", f"is not in {region}"
    for one in policy.instances:
        yield from _about_machine(one.policy, f"{where}.instances[0].policy")


def _about_machine(policy: Any, where: str) -> Iterator[Violation]:
    machine = policy.machine_type
    if not MACHINE.fullmatch(machine):
        yield f"{where}.machine_type", f"{machine!r} is no machine type"
    disk = policy.boot_disk
    if disk.size_gb and disk.size_gb < SMALLEST_DISK:
        yield f"{where}.boot_disk.size_gb", f"{SMALLEST_DISK} are the least"
    if HYPERDISK_ONLY.match(machine) and disk.type_.startswith("pd-"):
        yield f"{where}.boot_disk.type", f"{machine} takes no {disk.type_}"
    for accelerator in policy.accelerators:
        kind, count = accelerator.type_, accelerator.count
        if machine in BUILT_IN:
            gpu, own = BUILT_IN[machine]
            if (kind.replace("-", "_").upper(), count) != (gpu, own):
                yield f"{where}.accelerators", f"{machine} comes with {own} {gpu}"
        elif not machine.startswith("n1-") or count not in ATTACHED.get(kind, ()):
            yield f"{where}.accelerators", f"{count} {kind} cannot be attached to {machine}"


def gpus(instance: Any) -> tuple[str, int]:
    """The GPUs of a machine in Vertex AI's words, and how many; ("", 0) without any."""
    policy = instance.policy
    if policy.machine_type in BUILT_IN:
        return BUILT_IN[policy.machine_type]
    for accelerator in policy.accelerators:
        return accelerator.type_.replace("-", "_").upper(), accelerator.count
    return "", 0
