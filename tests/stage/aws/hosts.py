"""The machines of both services as a container sees them: its files, its environment, its keys, its limits."""

import datetime
import json
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stage.aws import policies
from stage.aws.batch_jobs import BatchJob
from stage.aws.images import NAME
from stage.aws.people import ACCOUNT, documents, role_of
from stage.aws.training import TrainingJob
from stage.aws.wire import Raw, Reply
from stage.aws.world import World
from stage.containers import Container

if TYPE_CHECKING:
    from stage.aws.runner import Runner

PULL = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")
# sagemaker-roles.md of the developer guide.
LOG = ("logs:CreateLogStream", "logs:PutLogEvents")


def _may(arn: str, action: str, resource: str) -> bool:
    role = role_of(arn)
    return role is not None and policies.verdict(documents(role), action, resource, {}) == policies.ALLOWED


def may_pull(arn: str, image: str) -> str:
    """Why a job's role cannot fetch its image, which SageMaker does with it; "" where it can."""
    parts = NAME.fullmatch(image)
    where = f"arn:aws:ecr:{parts['region']}:{ACCOUNT}:repository/{parts['repository']}" if parts else "*"
    missing = [action for action in PULL if not _may(arn, action, where)]
    missing += [] if _may(arn, "ecr:GetAuthorizationToken", "*") else ["ecr:GetAuthorizationToken"]
    return f"ClientError: The role {arn} may not {missing[0]} the training image." if missing else ""


def may_log(arn: str) -> bool:
    """Whether a training job's lines reach the log: its own role writes them."""
    where = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs:log-stream:x"
    return all(_may(arn, action, where) for action in LOG)


class Keys:
    """The services' address for a container's own keys.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html; the relative address of the real
    services needs an address of the link that this machine may not have.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._roles: dict[str, tuple[str, str]] = {}
        world.server.extra["/stage/keys/"] = self._answer

    def environment(self, role: str) -> dict[str, str]:
        """Variables of a container whose role this is."""
        name, token = secrets.token_hex(8), secrets.token_urlsafe(16)
        self._roles[name] = (role, token)
        address = f"{self._world.url}/stage/keys/{name}"
        return {"AWS_CONTAINER_CREDENTIALS_FULL_URI": address, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}

    def _answer(self, raw: Raw) -> Reply:
        role, token = self._roles.get(raw.path.rpartition("/")[2], ("", ""))
        if not role or raw.headers.get("authorization") != token:
            return Reply(403, b"{}", {"Content-Type": "application/json"})
        # The world's time may be far ahead of the clock that the container goes by: they end later than is said.
        keys = self._world.people.session(role, "container", 365 * 86400)
        end = datetime.datetime.fromtimestamp(time.time() + 6 * 3600, datetime.UTC)
        said = {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret, "Token": keys.token}
        said |= {"RoleArn": role, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return Reply(200, json.dumps(said).encode(), {"Content-Type": "application/json"})


def _platform(runner: "Runner", role: str, region: str) -> dict[str, str]:
    found = {"AWS_ENDPOINT_URL": runner.world.url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    found |= runner.keys.environment(role) if role else {}
    return found | {"AWS_EC2_METADATA_DISABLED": "true"} | runner.platform


def training_host(runner: "Runner", job: TrainingJob) -> tuple[list[tuple[str, Container]], Path]:
    """Starts the containers of a training job; gives them by their log streams, and the first one's /opt/ml.

    /opt/ml is root's and /tmp everybody's; both are on the large disk (model-train-storage.md).
    """
    algorithm, hosts = job.given["AlgorithmSpecification"], [f"algo-{i + 1}" for i in range(job.machines)]
    image = runner.mirror.pull(algorithm["TrainingImage"])
    moment, started = round(runner.world.clock.now()), []
    environment = _platform(runner, job.given["RoleArn"], job.region)
    environment |= {"TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": job.arn} | job.given.get(
        "Environment", {}
    )
    names = [word for host in hosts for word in ("--add-host", f"{host}:127.0.0.1")]
    folders = []
    for host in hosts:
        folder = runner.folder / f"{job.name}-{job.attempts}-{host}"
        folders.append(folder)
        _fill(folder, job, host, hosts)
        (folder.parent / f"{folder.name}-tmp").mkdir()
        (folder.parent / f"{folder.name}-tmp").chmod(0o1777)
        mounts = ("--volume", f"{folder}:/opt/ml", "--volume", f"{folder}-tmp:/tmp")
        container = Container(
            image,
            runner.stage,
            environment,
            algorithm.get("ContainerArguments", ["train"]),
            algorithm.get("ContainerEntrypoint", []),
            options=(*names, *mounts),
        )
        started.append((f"{job.name}/{host}-{moment}", container))
    return started, folders[0]


def _fill(folder: Path, job: TrainingJob, host: str, hosts: list[str]) -> None:
    """Makes /opt/ml as the service does, readable to everybody and root's."""
    config = folder / "input/config"
    config.mkdir(parents=True)
    for name in ("model", "output", "input/data", "checkpoints"):
        (folder / name).mkdir(exist_ok=True)
    files = {
        "resourceconfig": {"current_host": host, "hosts": hosts, "network_interface_name": "lo"},
        "hyperparameters": job.given.get("HyperParameters", {}),
        "inputdataconfig": {},
    }
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def batch_host(runner: "Runner", job: BatchJob) -> list[tuple[str, Container]]:
    """Starts the container of an attempt of a job of AWS Batch; gives it by its log stream."""
    properties = job.container
    image = runner.mirror.pull(properties["image"])
    environment = _platform(runner, properties.get("jobRoleArn", ""), job.region)
    environment |= {one["name"]: one["value"] for one in properties["environment"]}
    environment |= {"AWS_BATCH_JOB_ID": job.id, "AWS_BATCH_JOB_ATTEMPT": str(job.attempt)}
    environment["AWS_BATCH_JQ_NAME"] = job.queue.rpartition("/")[2]
    environment["AWS_BATCH_CE_NAME"] = job.environment.rpartition("/")[2]
    # MEMORY is a hard limit: API_ResourceRequirement.html.
    options = ["--memory", f"{round(job.needs['MEMORY'])}m"]
    linux = properties.get("linuxParameters", {})
    if "sharedMemorySize" in linux:
        options += ["--shm-size", f"{linux['sharedMemorySize']}m"]
    options += ["--init"] if linux.get("initProcessEnabled") else []
    options += ["--user", properties["user"]] if "user" in properties else []
    command = [_replaced(word, job.given.get("parameters", {})) for word in properties.get("command", [])]
    container = Container(image, runner.stage, environment, command, options=options)
    return [(f"{job.definition['jobDefinitionName']}/default/{job.task}", container)]


def _replaced(word: str, parameters: dict[str, str]) -> str:
    """Ref::NAME of a command: job_definition_parameters.html."""
    found = re.fullmatch(r"Ref::(\w+)", word)
    return parameters.get(found[1], word) if found else word
