"""An account with what setup makes for endpoints, on the stage of AWS, and versions that answer there by a function."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from launcher.deployment import Deployment, Order
from launcher.models import golden
from launcher.providers.aws import auth, sagemaker_endpoint_ask, sagemaker_endpoint_calls
from launcher.providers.aws.sagemaker_endpoint import Endpoints
from launcher.providers.aws.sagemaker_endpoint_request import Where
from moto.ecr.models import ecr_backends
from moto.logs.models import logs_backends
from sagemaker_jobs import forget
from stage import aws
from stage.aws import images
from stage.aws.bench import client, role
from stage.aws.endpoint_hosts import Pretended
from stage.aws.people import ACCOUNT, role_of

REGION = "us-east-1"
NAME = "demo-digits"
TRAINS = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/demo/train:main"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
EXAMPLE = [1, 2]
TAGGED = {"StringEquals": {"aws:ResourceTag/project": "demo"}}
SERVER = [
    {"Action": "ecr:GetAuthorizationToken", "Resource": "*"},
    {
        "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Resource": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/demo/serve",
    },
    {
        "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/Endpoints/demo-*",
    },
]


def answering(image: str, asked: Any) -> tuple[int, Any]:
    """What a version gives: the number that its image is made of."""
    number = VERSIONS[image]
    name = f"digits@v{number}"
    if asked == {"describe": True}:
        content = {"application/json": {"example": {"instances": [EXAMPLE]}}}
        paths = {"/predict": {"post": {"requestBody": {"content": content}}}}
        return 200, {"info": {"version": name}, "paths": paths}
    if asked.get("instances") != [EXAMPLE]:
        return 400, {"error": "Send instances."}
    return 200, {"registry_version": name, "predictions": [{"values": [float(number)]}]}


VERSIONS: dict[str, int] = {}  # by their images


def image(version: int) -> str:
    """The image of a version, which ECR has from now on."""
    found = images.put("demo/serve", REGION, tag=f"digits-v{version}")
    VERSIONS[found] = version
    return found


def oci(
    version: int, layer: str = "application/vnd.oci.image.layer.v1.tar+gzip", kind: str = images.OCI
) -> str:
    """The image of a version as Docker pushes it where containerd keeps its images."""
    part = {"digest": "sha256:" + f"{version}" * 64, "size": 7}
    config = part | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config,
        "layers": [part | {"mediaType": layer}],
    }
    return images.put("demo/serve", REGION, manifest, tag=f"oci-v{version}")


def manifests() -> dict[str, dict[str, Any]]:
    """What ECR has of images that serve, by digest."""
    found = ecr_backends[ACCOUNT][REGION].repositories["demo/serve"].images
    return {str(one.get_image_digest()): json.loads(one.image_manifest) for one in found}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws.World]:
    """The account of a file of tests."""
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as monkeypatch, on_stage(folder, monkeypatch) as world:
        yield world


@contextmanager
def on_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[aws.World]:
    """The account, as a person sees it who may do everything."""
    forget()
    monkeypatch.setattr(auth, "ATTEMPTS", 1)
    for name, value in {"POLL": 0.0, "KNOWN": 5.0, "PATIENCE": 60.0}.items():
        monkeypatch.setattr(sagemaker_endpoint_calls, name, value)
    monkeypatch.setattr(sagemaker_endpoint_ask, "POLL", 0.0)
    monkeypatch.setattr(golden, "POLL", 0)
    with aws.serve(folder) as world:
        for name, value in world.environment.items():
            monkeypatch.setenv(name, value)
        yield world
    forget()


@pytest.fixture
def stage(account: aws.World) -> Iterator[aws.World]:
    """That account for one test."""
    with emptied(account) as world:
        yield world
    forget()


@contextmanager
def emptied(world: aws.World) -> Iterator[aws.World]:
    """The account without any endpoint, package or log, and with what setup makes; nobody may have destroyed what was in use."""
    world.sagemaker.endpoints.__init__(world.clock, Pretended(answering))  # type: ignore[misc]
    world.sagemaker.packages.__init__(world.clock)  # type: ignore[misc]
    world.sagemaker.endpoints.machines["ml.m5.large"] = 4
    world.server.heal()
    if role_of("demo-server") is None:
        role(world, "demo-server", "sagemaker.amazonaws.com", may=SERVER)
    if "demo/serve" not in ecr_backends[ACCOUNT][REGION].repositories:
        client(world, "ecr").create_repository(repositoryName="demo/serve")
    logs_backends[ACCOUNT][REGION].groups.clear()
    world.server.asked.clear()
    yield world
    assert world.sagemaker.endpoints.harm == []


def there(cap: float = 1000) -> Endpoints:
    return Endpoints(Where(ACCOUNT, REGION), cap, TRAINS)


def deploy(version: int, right: bool = True, /, **settings: str) -> Deployment:
    """What the command does once the image is there."""
    order = Order("digits", version, image(version), settings)
    there().prepare(order)
    answer = [{"values": [float(version if right else -1)]}]
    return there().deploy(
        order, lambda ask: golden.check(ask, str(order), lambda example: answer, patience=0)
    )


def answers(world: aws.World) -> dict[int, int]:
    """Version -> percent of the requests, as SageMaker has it."""
    [endpoint] = world.sagemaker.endpoints.endpoints.values()
    assert endpoint.status == "InService"
    variants = world.sagemaker.endpoints.configs[REGION, endpoint.config].given["ProductionVariants"]
    whole = sum(one["InitialVariantWeight"] for one in variants)
    running = world.sagemaker.endpoints.host.running  # type: ignore[union-attr]
    found = {
        VERSIONS[running[endpoint.name, endpoint.config, one["VariantName"]]]: round(
            100 * one["InitialVariantWeight"] / whole
        )
        for one in variants
    }
    assert len(running) == len(variants), "another container runs, and is paid for"
    return found


def left(world: aws.World) -> list[str]:
    """Names of all that there is of endpoints, configurations and models."""
    return [name for kind in world.sagemaker.endpoints.names() for name in kind]
