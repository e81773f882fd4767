"""What a launch of predictions needs: `uv run launch cloud=... job=predict model=NAME[@...] input=URI output=URI`.

What a training's settings call `model` is another thing, so these words are moved to a section of their own before Hydra
sees them. The version is settled once, when the job is started: an alias may move while it waits for a machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ..errors import UserError
from ..job import Job, Kind
from ..models import names

if TYPE_CHECKING:
    from ..models.versions import Version

JOB = f"job={Kind.predict.value}"
TEXTS, SWITCHES = ("model", "input", "output"), ("arrays", "once")
ONNX = "model.onnx"
MACHINE = "cpu"  # where none is named: a model computes on the processor
BUCKETS = ("gs://", "s3://", "abfss://", "abfs://", "az://")
AWKWARD = re.compile(r"[\s'\"\\$]")  # each means something else to Hydra or to a shell
# What else a launch may be told: of where, and of the run; all else is a training's.
COMMON = re.compile(r"-|[+~]{0,2}(cloud[.=@]|hydra[./]|(job|dry_run|doctor_only|code|run\.id)=)")
EXAMPLE = "uv run launch cloud={} job=predict model=NAME input=URI output=URI"


def for_launch(words: Sequence[str]) -> list[str]:
    """Give the words of a launch such that Hydra takes those of a prediction for a section `predict`.

    Raises:
        UserError: one is a setting of a training.
    """
    if JOB not in words:
        return list(words)
    return [_moved(word) for word in words]


def _moved(word: str) -> str:
    name, _, value = word.partition("=")
    if name in SWITCHES:
        return f"predict.{word}"
    if name in TEXTS:
        if AWKWARD.search(value):
            raise UserError(
                f"{word} holds a blank, a quote, $ or a backslash; give it another name."
            )
        return f"predict.{name}='{value}'"
    if not COMMON.match(word):
        known = ", ".join(f"{each}=" for each in (*TEXTS, *SWITCHES))
        raise UserError(f"{word} is a training's setting; {JOB} has {known}, cloud.*= and run.id=.")
    return word


def choose_machine(config: DictConfig, typed: Sequence[str]) -> None:
    """Take a machine without a GPU where the command line names none."""
    named = any(word.lstrip("+").startswith("cloud.machine=") for word in typed)
    if not named and config.cloud.backend != "local":
        config.cloud.machine = MACHINE


def check(config: DictConfig) -> None:
    """Refuse what cannot work. Asks nobody.

    Raises:
        UserError: naming the setting, and what to give.
    """
    given, cloud = config.predict, config.cloud
    if not all(given[name] for name in TEXTS):
        raise UserError(f"Say what and where: {EXAMPLE.format(cloud.backend)}.")
    if cloud.nodes > 1:
        raise UserError(f"{JOB} works on one machine; leave cloud.nodes={cloud.nodes} out.")
    names.parse(given.model)
    source, output = (f"{given[name].rstrip('/')}/" for name in ("input", "output"))
    for name, uri in (("input", source), ("output", output)):
        inside = cloud.bucket and uri.startswith(f"{cloud.bucket.rstrip('/')}/")
        if not inside and not uri.startswith(BUCKETS):
            where = cloud.bucket or "gs://bucket, s3://bucket"
            raise UserError(
                f"{name}={given[name]} is in no bucket, where the job could find it; give {name}={where}/..."
            )
    if output.startswith(source):
        raise UserError(
            f"output={given.output} lies in input={given.input}, and predictions would be taken for inputs; choose another."
        )


def arguments(config: DictConfig) -> tuple[str, ...]:
    """Give the words with which the job predicts."""
    given = config.predict
    texts = [f"{name}={given[name].rstrip('/')}" for name in TEXTS]
    return (*texts, *(f"{name}=true" for name in SWITCHES if given[name]))


def registry(config: DictConfig) -> str:
    """Give the registry that the job reads: the one in the bucket.

    Raises:
        UserError: there is no bucket.
    """
    from ..models import places

    bucket = config.cloud.bucket
    home = f"{bucket.rstrip('/')}/models" if bucket else places.bucket()
    if not home:
        raise UserError("A model to predict with is in a bucket; give cloud.bucket=...")
    return home


def open_name(config: DictConfig) -> str:
    """Say what a dry run leaves open; nothing where the version is named."""
    reference = names.parse(config.predict.model)
    if reference.version:
        return ""
    return f"The version of {reference} is looked up when the job is started."


def settle(job: Job, config: DictConfig) -> tuple[Job, int, str]:
    """Name the job's version for good, and look whether there is anything to do.

    Returns:
        the job, how many files are new, and that for people.

    Raises:
        UserError: there is no such version, it cannot predict, or the inputs or the output are not what they should be.
        StorageUnavailable: the bucket cannot be reached.
    """
    from ..serving import waiting

    given = config.predict
    version = _version(names.parse(given.model), registry(config))
    source, root = given.input.rstrip("/"), given.output.rstrip("/")
    output = waiting.folder(root, str(version), given.once)
    if (other := waiting.owner(output)) not in ("", str(version)):
        raise UserError(
            f"{output} holds predictions of {other}, and this is {version}; choose another output=, or give once=true."
        )
    found = waiting.find(source, given.once)
    before = waiting.done(root if given.once else output, given.once)
    new = {name for name in found if waiting.called(name, source) not in before}
    args = tuple(f"model={version}" if word.startswith("model=") else word for word in job.args)
    if new:
        said = f"{len(new)} of {len(found)} files at {source}, with {version}"
    else:
        bad = sum(len(before[waiting.called(name, source)]) for name in found)
        said = "nothing: all is predicted"
        said += f", but for {bad} that could not be read" if bad else ""
    return replace(job, args=args), len(new), said


def _version(reference: names.Reference, home: str) -> Version:
    """Give the version that is meant.

    Raises:
        UserError: there is none, or it has no ONNX file.
    """
    from ..models import aliases, versions

    number = reference.version or aliases.target(home, reference.name, reference.alias)
    version = versions.read(home, reference.name, number) if number else None
    if not version:
        known = ", ".join(f"v{one.number}" for one in versions.all_of(home, reference.name))
        has = f"it has {known} of that name" if known else "register a run"
        raise UserError(
            f"There is no model {reference} in {home}; {has} (uv run models register run=ID to=bucket)."
        )
    if ONNX not in version.files:
        raise UserError(
            f"{version} has no {ONNX}, which predicts; register a run whose export works."
        )
    return version
