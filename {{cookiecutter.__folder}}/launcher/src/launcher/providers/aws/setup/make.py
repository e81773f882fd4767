"""`cloud setup`: what is checked before anything is made, what is made, and what is said of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....errors import UserError
from ....project import Project, project
from ... import repository as github
from ...steps import Steps, budget_options, option
from .. import auth as aws
from . import extras, ground
from .ground import Network
from .stack import CAPABILITIES, Stack
from .template import Row, compact, readable, rows, template

HOURS = "24"
MOST_HOURS = 28 * 24  # of a training job (botocore's model of sagemaker: MaxRuntimeInSeconds)
ALL = "all"  # of MACHINES, as it is kept


@dataclass(frozen=True)
class Ground:
    """What the stack is made for, and on.

    Args:
        before: what is there already, of what the stack would else make: its names in the template.
    """

    account: str
    network: Network
    repository: github.Repository
    before: frozenset[str]


def make() -> None:
    """Do all of it. Raises UserError, in one sentence."""
    here, steps = project(), Steps(bool(option("DRY_RUN")))
    key = os.environ.pop("WANDB_API_KEY", "").strip()  # so that no program which is started has it
    budget, mail = budget_options()
    _check_settings(here)
    if steps.dry:
        place, found = _imagined(here), None
        stack = Stack(here.slug, here.region, steps)
    else:
        place = _look(here)
        steps.say("account", f"{place.account} in {here.region}, as {aws.who()}")
        stack = Stack(here.slug, here.region, steps)
        found = stack.ready()
    ground.make_service_roles(steps)
    deployed = _deploy(here, place, stack, found, bool(key))
    _say_bucket(here, steps, "Bucket" in stack.resources() if not steps.dry else True)
    _keep_key(here, key, stack)
    if budget:
        extras.set_budget(here.slug, budget, mail, place.account, steps)
    else:
        steps.say("budget", "none is set here: BUDGET=50 MAIL=you@example.org has mails sent")
    variables = {
        "AWS_REGION": here.region,
        "AWS_ROLE": deployed["Role"],
        "CLOUD_IMAGE": deployed["Image"],  # last: it tells the workflow that all is prepared
    }
    github.tell(place.repository, variables, option("REVIEWER"), steps)
    if not steps.dry:
        print(_next(here, steps.changes))


def _look(here: Project) -> Ground:
    """Ask all that can be known beforehand, so that nothing is left half done."""
    github.check_program()
    account = aws.account()
    repository = github.look()
    if reviewer := option("REVIEWER"):
        github.reviewer_number(reviewer)
    provider = ground.find_provider(account)
    ground.check_provider(provider)
    there = {
        "Bucket": ground.find_bucket(here, account),
        "Provider": provider is not None,
        "Secret": ground.find_secret(f"{here.slug}-wandb", here.region) is not None,
        **{each: ground.has_log(name, here.region) for each, name in ground.LOGS.items()},
    }
    before = frozenset(name for name, found in there.items() if found)
    return Ground(account, ground.find_network(here.region), repository, before)


def _imagined(here: Project) -> Ground:
    """Stand in capitals for what a dry run asks nobody."""
    name = github.find_name() or "OWNER/NAME"
    repository = github.Repository(name, "REPOSITORY_ID", "OWNER_ID")
    network = Network("VPC_ID", ("SUBNET_ID", "SUBNET_ID"))
    return Ground("ACCOUNT_ID", network, repository, frozenset())


def _deploy(
    here: Project, place: Ground, stack: Stack, found: dict[str, Any] | None, key: bool
) -> dict[str, str]:
    """Make or update the stack; give its outputs."""
    steps, kept = stack.steps, _values(found, "Parameters", "ParameterKey", "ParameterValue")
    machines = option("MACHINES", kept.get("Machines", ALL))
    queues = _chosen(here.region, "batch", machines)
    if not steps.dry:
        queues = _offered(queues, here.region, steps)
    types = sorted({f"ml.{row.type}" for row in _chosen(here.region, "sagemaker", machines)})
    whole = template(here.account, queues, types)
    owned = set(stack.resources()) if found else set[str]()
    parameters = _parameters(here, place, machines)
    if hours := option("MAX_HOURS", "" if "MaxSeconds" in kept else HOURS):
        parameters["MaxSeconds"] = str(int(float(hours) * 3600))
    else:
        parameters["MaxSeconds"] = kept["MaxSeconds"]
    wanted = {"Bucket", "Provider", *ground.LOGS, *(["Secret"] if key else [])}
    for name in ("Bucket", "Provider", *ground.LOGS, "Secret"):
        made = name in owned or (name in wanted and name not in place.before)
        parameters[f"Make{name}"] = "yes" if made else "no"
    if steps.dry:
        _show(here, whole, parameters, steps)
        image = f"{place.account}.dkr.ecr.{here.region}.amazonaws.com/{here.slug}/train"
        return {
            "Image": image,
            "Role": f"arn:aws:iam::{place.account}:role/{here.account}-launcher",
        }
    done = stack.deploy(found, compact(whole), parameters)
    steps.say(
        "stack", f"{here.slug}: {len(queues)} machines, each with a queue on spot and one on demand"
    )
    return _values(done, "Outputs", "OutputKey", "OutputValue")


def _parameters(here: Project, place: Ground, machines: str) -> dict[str, str]:
    owner, name = place.repository.name.split("/")
    return {
        "Slug": here.slug,
        "Prefix": here.account,
        "BucketName": here.bucket,
        "Owner": owner,
        "OwnerId": place.repository.owner_number,
        "Repository": name,
        "RepositoryId": place.repository.number,
        "Machines": machines,
        "Vpc": place.network.vpc,
        "Subnets": ",".join(place.network.subnets),
    }


def _show(
    here: Project, whole: dict[str, Any], parameters: Mapping[str, str], steps: Steps
) -> None:
    """Print the template, and in comments what goes with it: all of it is YAML that other tools take."""
    words = (f"StackName={here.slug}", f"Capabilities={','.join(CAPABILITIES)}")
    steps.show("cloudformation", "create_stack", "or", "update_stack", *words)
    for name, value in parameters.items():
        print(f"#   {name}={value}")
    print(readable(whole))


def _chosen(region: str, backend: str, machines: str) -> list[Row]:
    """Give the rows that MACHINES names."""
    there = rows(region, backend)
    return there if machines == ALL else [row for row in there if row.name in machines.split()]


def _offered(queues: list[Row], region: str, steps: Steps) -> list[Row]:
    """Leave out what EC2 does not have here after all: its environment would spoil the whole stack."""
    known = ground.offered(sorted({row.type for row in queues}), region)
    for row in queues:
        if row.type not in known:
            steps.say("machines", f"{row.name}: left out, EC2 has no {row.type} in {region}")
    return [row for row in queues if row.type in known]


def _check_settings(here: Project) -> None:
    """Refuse a region without machines, and settings that mean nothing."""
    aws.check_region(here.region)
    names = {row.name for backend in ("batch", "sagemaker") for row in rows(here.region, backend)}
    if not names:
        raise UserError(
            f"The price table has no machine in {here.region}: choose another region in pyproject.toml ([tool.launcher])."
        )
    machines = option("MACHINES", ALL)
    if machines != ALL and (unknown := sorted(set(machines.split()) - names)):
        raise UserError(
            f"MACHINES: there is no {', '.join(unknown)} in {here.region}; there are {', '.join(sorted(names))}, and '{ALL}' for all."
        )
    hours = option("MAX_HOURS", HOURS)
    if not re.fullmatch(r"\d+(\.\d+)?", hours) or not 1 / 60 <= float(hours) <= MOST_HOURS:
        raise UserError(
            f"'{hours}' is no limit: write MAX_HOURS=24, or another number up to {MOST_HOURS}."
        )


def _say_bucket(here: Project, steps: Steps, owned: bool) -> None:
    if owned or ground.is_ours(here):
        steps.say("bucket", f"s3://{here.bucket}")
        return
    steps.say("bucket", f"s3://{here.bucket}: was there before, and is used as it is")
    if ground.is_open(here):
        steps.say(
            "bucket",
            "it is NOT CLOSED to the public: S3 > the bucket > Permissions > Block public access",
        )


def _keep_key(here: Project, key: str, stack: Stack) -> None:
    name, steps = f"{here.slug}-wandb", stack.steps
    if key:
        extras.put_key(name, key, here.region, steps)
    else:
        found = None if steps.dry else ground.find_secret(name, here.region)
        if not found or found.get("DeletedDate"):
            why = "WANDB_API_KEY is not set, so runs in the cloud are tracked offline"
            steps.say("secret", f"none: {why}")
            return
    steps.say("secret", name)


def _values(found: dict[str, Any] | None, what: str, key: str, value: str) -> dict[str, str]:
    return {each[key]: each[value] for each in (found or {}).get(what) or ()}


def _next(here: Project, changes: int) -> str:
    nothing = "\nAll of it was there already: nothing was changed.\n" if not changes else ""
    return f"""{nothing}
Next:
  uv run dvc push                                  the data, to where the jobs find it
  uv run launch cloud=sagemaker doctor_only=true   is anything missing?
  git push                                         builds the image and trains
It may take AWS a minute to know the new roles everywhere.
Others who are to open the tunnel to a notebook need ssm:StartSession on the machines tagged project={here.slug}."""
