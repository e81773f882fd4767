"""What Vertex AI refuses in a custom job, as its reference documents it; Google's own types carry no such rules."""

import functools
import importlib
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import json_format

from stage.rest import RequestError

Violation = tuple[str, str]  # field, what is wrong with it

# Machine types of custom training and the GPUs that go with them, all by
# https://docs.cloud.google.com/vertex-ai/docs/training/configure-compute, read in November 2026.
# Family -> numbers of vCPUs.
FAMILIES = {
    "n1-standard": (4, 8, 16, 32, 64, 96),
    "n1-highmem": (2, 4, 8, 16, 32, 64, 96),
    "n1-highcpu": (16, 32, 64, 96),
    **{f"n4-{kind}": (2, 4, 8, 16, 32, 48, 64, 80) for kind in ("standard", "highmem", "highcpu")},
    "n2-standard": (4, 8, 16, 32, 48, 64, 80),
    "n2-highmem": (2, 4, 8, 16, 32, 48, 64, 80),
    "n2-highcpu": (16, 32, 48, 64, 80),
    "e2-standard": (4, 8, 16, 32),
    "e2-highmem": (2, 4, 8, 16),
    "e2-highcpu": (16, 32),
    "c2-standard": (4, 8, 16, 30, 60),
    "m1-ultramem": (40, 80, 160),
    "m1-megamem": (96,),
    "g2-standard": (4, 8, 12, 16, 24, 32, 48, 96),
    "g4-standard": (48, 96, 192, 384),
}
MACHINES = {f"{family}-{cpus}" for family, sizes in FAMILIES.items() for cpus in sizes}

# Machine types that come with their GPUs: exactly these must be named.
BUILT_IN: dict[str, tuple[str, int]] = {
    **{
        f"g2-standard-{cpus}": ("NVIDIA_L4", {24: 2, 48: 4, 96: 8}.get(cpus, 1))
        for cpus in FAMILIES["g2-standard"]
    },
    **{f"a2-highgpu-{gpus}g": ("NVIDIA_TESLA_A100", gpus) for gpus in (1, 2, 4, 8)},
    "a2-megagpu-16g": ("NVIDIA_TESLA_A100", 16),
    **{f"a2-ultragpu-{gpus}g": ("NVIDIA_A100_80GB", gpus) for gpus in (1, 2, 4, 8)},
    **{f"a3-highgpu-{gpus}g": ("NVIDIA_H100_80GB", gpus) for gpus in (1, 2, 4, 8)},
    "a3-megagpu-8g": ("NVIDIA_H100_MEGA_80GB", 8),
    "a3-ultragpu-8g": ("NVIDIA_H200_141GB", 8),
    "a4-highgpu-8g": ("NVIDIA_B200", 8),
    "a4x-highgpu-4g": ("NVIDIA_GB200", 4),
    **{f"g4-standard-{cpus}": ("NVIDIA_RTX_PRO_6000", cpus // 48) for cpus in FAMILIES["g4-standard"]},
}
MACHINES |= set(BUILT_IN)

# GPUs that may be attached to an n1 machine: how many -> the most vCPUs beside them. P100 has had its end in September 2026.
ATTACHED = {
    "NVIDIA_TESLA_T4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_P4": {1: 16, 2: 32, 4: 96},
    "NVIDIA_TESLA_V100": {1: 8, 2: 16, 4: 32, 8: 96},
}

DISKS = ("pd-ssd", "pd-standard", "hyperdisk-balanced")
ACCOUNT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]@[a-z][a-z0-9-]{4,28}[a-z0-9]\.iam\.gserviceaccount\.com")
TAG = r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
NAME = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
ARTIFACT_REGISTRY = re.compile(rf"[a-z0-9-]+-docker\.pkg\.dev/[a-z][a-z0-9:.-]+(/{NAME}){{2,}}{TAG}")
DOCKER_HUB = re.compile(rf"((docker\.io|index\.docker\.io)/)?{NAME}(/{NAME})?{TAG}")


@functools.cache
def _types() -> tuple[Any, Any, Any]:
    """Google's own messages, in the modules custom_job, accelerator_type and hyperparameter_tuning_job.

    The packages that they are in import the clients of every service, which takes ten seconds. For as long as these
    are imported, empty packages stand in for them, and half a second is enough.
    """
    import google.cloud

    packages = ("google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1.types")
    folder = next(
        Path(path) for path in google.cloud.__path__ if (Path(path) / "aiplatform_v1/types").is_dir()
    )
    empty = {name: ModuleType(name) for name in packages if name not in sys.modules}
    for name, package in empty.items():
        package.__path__ = [str(folder.joinpath(*name.split(".")[2:]))]
    sys.modules.update(empty)
    try:
        modules = ("custom_job", "accelerator_type", "hyperparameter_tuning_job")
        job, accelerator, tuning = (importlib.import_module(f"{packages[1]}.{name}") for name in modules)
    finally:
        for name in empty:
            del sys.modules[name]
    return job, accelerator, tuning


def prepare() -> None:
    """Imports what reading a job needs, so that the first request need not wait for it."""
    _types()


def accelerator(machine: Any) -> str:
    """The name of a machine's accelerator; "" for none."""
    return _types()[1].AcceleratorType(machine.accelerator_type).name if machine.accelerator_type else ""


def parse(body: bytes, tuning: bool = False) -> Any:
    """Reads a CustomJob, or a HyperparameterTuningJob, as protobuf; refuses what its schema does not know.

    Raises:
        RequestError: 400, with the parser's words.
    """
    kind = _types()[2].HyperparameterTuningJob if tuning else _types()[0].CustomJob
    message = kind.pb(kind())
    try:
        return json_format.Parse(body, message, ignore_unknown_fields=False)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise RequestError(400, f"Invalid JSON payload received. {error}", [("", str(error))]) from error


def check(job: Any, registries: Collection[str] = ()) -> None:
    """Refuses a parsed job that breaks a documented rule, naming every field at fault.

    Args:
        registries: hosts of which images are taken beside Artifact Registry and Docker Hub.
    """
    refuse([*about_job(job, ("web_access_uris",)), *about_spec(job.job_spec, "job_spec", registries)])


def refuse(found: list[Violation]) -> None:
    """Answers 400 with all violations, if there are any."""
    if found:
        raise RequestError(400, "; ".join(f"{name}: {text}" for name, text in found), found)


def about_job(job: Any, output_only: Collection[str]) -> Iterator[Violation]:
    """Finds what is wrong with what every kind of job has; `output_only` are further fields of the service's own."""
    if not 1 <= len(job.display_name) <= 128:
        yield "display_name", "is required, and has at most 128 characters"
    for name in (
        "name",
        "create_time",
        "start_time",
        "end_time",
        "update_time",
        "state",
        "error",
        *output_only,
    ):
        if job.HasField(name) if name.endswith("time") or name == "error" else getattr(job, name):
            yield name, "is set by the service only"
    yield from _labels(job.labels)


def about_spec(spec: Any, where: str, registries: Collection[str]) -> Iterator[Violation]:
    """Finds what is wrong with a CustomJobSpec, which is the field `where` of a job."""
    pools = spec.worker_pool_specs
    if not 1 <= len(pools) <= 4:
        yield f"{where}.worker_pool_specs", "one to four are required"
    for number, pool in enumerate(pools):
        # All pools but the first may be skipped by an empty value.
        if number == 0 or pool.ByteSize():
            for name, text in _pool(pool, number, registries):
                yield f"{where}.worker_pool_specs[{number}].{name}", text
    for name, text in _scheduling(spec.scheduling):
        yield f"{where}.scheduling.{name}", text
    if spec.service_account and not ACCOUNT.fullmatch(spec.service_account):
        yield f"{where}.service_account", "is no e-mail address of a service account"
    output = spec.base_output_directory.output_uri_prefix
    if spec.HasField("base_output_directory") and not re.fullmatch(
        r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?", output
    ):
        yield f"{where}.base_output_directory.output_uri_prefix", "is no Cloud Storage location"


def _labels(labels: Any) -> Iterator[Violation]:
    if len(labels) > 64:
        yield "labels", "at most 64"
    for key, value in labels.items():
        if not 1 <= len(key) <= 63 or not key[0].isalpha() or not _is_label(key):
            yield (
                f"labels.{key}",
                "a key has 1 to 63 lower-case letters, digits, - and _, and starts with a letter",
            )
        if len(value) > 63 or not _is_label(value):
            yield (
                f"labels.{key}",
                f"the value {value!r} may have up to 63 lower-case letters, digits, - and _",
            )


def _is_label(text: str) -> bool:
    """International characters are allowed, upper case is not."""
    return all((c.isalnum() and c == c.lower()) or c in "-_" for c in text)


def _pool(pool: Any, number: int, registries: Collection[str]) -> Iterator[Violation]:
    if number == 0 and pool.replica_count != 1:
        yield "replica_count", "the first pool is the primary replica: exactly 1"
    if pool.replica_count < 1:
        yield "replica_count", "must be greater than 0"
    if pool.WhichOneof("task") != "container_spec":
        yield "container_spec", "is required (the stand-in runs containers only)"
    image = pool.container_spec.image_uri
    if not image:
        yield "container_spec.image_uri", "is required"
    elif not is_image(image, registries):
        yield "container_spec.image_uri", f"{image!r} is in neither Artifact Registry nor Docker Hub"
    yield from _environment(pool.container_spec.env)
    yield from _machine(pool.machine_spec)
    disk = pool.disk_spec
    if disk.boot_disk_type and disk.boot_disk_type not in DISKS:
        yield "disk_spec.boot_disk_type", f"one of {', '.join(DISKS)}"
    if disk.boot_disk_size_gb and not 100 <= disk.boot_disk_size_gb <= 64000:
        yield "disk_spec.boot_disk_size_gb", "100 to 64000"


def is_image(image: str, registries: Collection[str]) -> bool:
    """Whether it names an image of Google's registries, of Docker Hub, or of one of these hosts."""
    host, _, rest = image.partition("/")
    if host in registries:
        return re.fullmatch(rf"{NAME}(/{NAME})*{TAG}", rest) is not None
    return bool(ARTIFACT_REGISTRY.fullmatch(image) or DOCKER_HUB.fullmatch(image))


def _environment(variables: Any) -> Iterator[Violation]:
    if len(variables) > 100:
        yield "container_spec.env", "at most 100"
    names = [variable.name for variable in variables]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield "container_spec.env.name", f"{name!r} is no C identifier"
        elif names.count(name) > 1:
            yield "container_spec.env.name", f"{name} is there twice"


def _machine(machine: Any) -> Iterator[Violation]:
    name, count = machine.machine_type, machine.accelerator_count
    gpu = accelerator(machine)
    if name not in MACHINES:
        yield (
            "machine_spec.machine_type",
            f"{name!r} is not supported for training" if name else "is required",
        )
    elif name in BUILT_IN:
        if (gpu, count) != BUILT_IN[name]:
            yield (
                "machine_spec.accelerator_type",
                f"{name} comes with {BUILT_IN[name][1]} {BUILT_IN[name][0]}",
            )
    elif not gpu:
        if count:
            yield "machine_spec.accelerator_count", "without an accelerator type"
    elif not name.startswith("n1-") or gpu not in ATTACHED:
        yield "machine_spec.accelerator_type", f"{gpu} cannot be attached to {name}"
    elif int(name.rpartition("-")[2]) > ATTACHED[gpu].get(count, 0):
        yield "machine_spec.accelerator_count", f"{count} {gpu} cannot be attached to {name}"


def _scheduling(scheduling: Any) -> Iterator[Violation]:
    strategy = _types()[0].Scheduling.Strategy(scheduling.strategy).name
    timeout, wait = scheduling.timeout.ToTimedelta(), scheduling.max_wait_duration.ToTimedelta()
    if scheduling.HasField("timeout") and timeout.total_seconds() <= 0:
        yield "timeout", "must be positive"
    if strategy == "FLEX_START" and timeout.days >= 7 and timeout.total_seconds() > 7 * 24 * 3600:
        yield "timeout", "at most 7 days with FLEX_START"
    if scheduling.HasField("max_wait_duration") and (strategy != "FLEX_START" or wait.total_seconds() < 0):
        yield "max_wait_duration", "is for FLEX_START only, and not negative"


def gpus(spec: Any) -> dict[str, int]:
    """Accelerator type -> how many of them all replicas of a job of this specification take together."""
    total: dict[str, int] = {}
    for pool in spec.worker_pool_specs:
        machine = pool.machine_spec
        if machine.accelerator_count:
            name = accelerator(machine)
            total[name] = total.get(name, 0) + machine.accelerator_count * pool.replica_count
    return total
