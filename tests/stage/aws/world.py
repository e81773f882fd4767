"""All of AWS on one address of this machine: see `serve`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from moto.core.base_backend import BackendDict
from moto.core.config import default_user_config
from moto.core.model_instances import reset_model_data
from moto.iam.models import SERVICE_NAME_CONVERSION

from stage.aws import images, journal
from stage.aws.batch import Batch
from stage.aws.batch_formation import leads_to
from stage.aws.ecr_logins import Logins
from stage.aws.endpoint_runtime import Runtime
from stage.aws.people import ACCOUNT, People, Session
from stage.aws.quotas import Quotas
from stage.aws.sagemaker import SageMaker
from stage.aws.server import Call, Server, serving
from stage.aws.shapes import check, model
from stage.aws.sts import Sts
from stage.clock import Clock
from stage.tokens import Issuer

REGION = "us-east-1"
_one = threading.Lock()  # moto keeps its state in the process


class World:
    """The services, and a test's hands on them.

    Attributes:
        url: address of everything.
        region: of `environment`; all others are there too.
        clock: the services' own time.
        people: keys that were given out.
        github: signs identity tokens as GitHub does.
        sagemaker, batch, quotas: the stand-ins.
        ecr: whose passwords of its registry are.
        server: faults (`fail`, `lose`, `heal`).
    """

    def __init__(self, folder: Path, region: str) -> None:
        self.folder, self.region, self.account = folder, region, ACCOUNT
        self.clock = Clock()
        self.people = People(self.clock)
        self.github = Issuer(self.clock)
        self.quotas = Quotas(region)
        self.sagemaker = SageMaker(self.clock, self.quotas)
        self.batch = Batch(self.clock, self.quotas)
        self.ecr = Logins(self.clock)
        own: dict[str, Any] = {
            "batch": self.batch,
            "ecr:GetAuthorizationToken": self.ecr,
            "logs:FilterLogEvents": journal.filter_events,
            "sagemaker": self.sagemaker,
            "servicequotas": self.quotas,
            "sts": Sts(self.clock, self.people, self.github),
        }
        runtime = Runtime(self.sagemaker.endpoints)
        self.server = Server(self.clock, self.people, region, own, runtime=runtime)
        self.url = ""

    @property
    def asked(self) -> list[Call]:
        """The calls so far, oldest first."""
        return self.server.asked

    def operations(self, service: str) -> list[str]:
        """Names of the operations that a service was asked for so far."""
        return [call.operation for call in self.asked if call.service == service]

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which programs find this world, as its administrator."""
        return self.at(self.people.admin)

    def at(self, session: Session | None, region: str = "") -> dict[str, str]:
        """Variables by which programs find this world, with these keys; None for none at all."""
        region = region or self.region
        found = {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
        # Nothing else on this machine may be asked for keys, nor a file of its owner be read. The file is a real one: DVC
        # reads what AWS_CONFIG_FILE names by itself, and a device is no file to it.
        nothing = self.folder / "no-settings"
        nothing.parent.mkdir(parents=True, exist_ok=True)
        nothing.touch()
        found |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(nothing)}
        found |= {"AWS_SHARED_CREDENTIALS_FILE": str(nothing)}
        return found | (session.environment if session else {})

    def credentials(self, role: str, name: str = "stage", seconds: float = 3600) -> dict[str, str]:
        """Variables of a program that has a role, by the role's name or ARN."""
        return self.at(self.people.session(role, name, seconds))

    def push(self, repository: str, tag: str = "main", region: str = "") -> str:
        """Puts an image into ECR that is nowhere else; gives its name by digest."""
        return images.put(repository, region or self.region, tag=tag)

    def pass_time(self, seconds: float) -> None:
        """Lets time pass for all services."""
        self.clock.pass_time(seconds)

    def form(self, operation: str, region: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Calls AWS Batch as CloudFormation does, which here may do everything; "settle" waits for an environment."""
        if operation == "settle":
            self.batch.places.settle(parameters["arn"])
            return {}
        check(model("batch").operation_model(operation), parameters, "ClientException")
        return self.batch(Call("batch", operation, region, parameters, self.people.admin, self.people))

    def fail(self, service: str, operation: str, code: str = "ServiceUnavailable", **how: Any) -> None:
        """Has the next calls of an operation refused; see `Server.fail`."""
        self.server.fail(service, operation, code, **how)

    def lose(self, service: str, operation: str, times: int | None = 1) -> None:
        """Has the next calls carried out and their answers lost."""
        self.server.lose(service, operation, times)


@contextmanager
def serve(folder: Path, region: str = REGION, port: int = 0) -> Iterator[World]:
    """Runs an empty world while the block lasts; one at a time in a process.

    Args:
        folder: for what the world has to write.
    """
    if not _one.acquire(blocking=False):
        raise RuntimeError("moto keeps its state in the process: there is one world at a time")
    before = default_user_config.get("iam", {})
    try:
        # Roles may have AWS's own policies attached, such as AmazonEC2ContainerServiceforEC2Role.
        default_user_config["iam"] = {"load_aws_managed_policies": True}
        _forget()
        world = World(folder, region)
        # The role's real name; moto's ends with "Forbatch".
        named = mock.patch.dict(SERVICE_NAME_CONVERSION, {"batch": "Batch"})
        with named, leads_to(world.form), serving(world.server, port) as world.url:
            yield world
        assert not world.server.broken, world.server.broken[0]
    finally:
        default_user_config["iam"] = before
        _forget()
        _one.release()


def _forget() -> None:
    """Takes everything out of moto."""
    BackendDict.reset()
    reset_model_data()
