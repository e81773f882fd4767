"""ECR's registry on the stage: who may pull and push there, by the passwords that ECR gives out."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from stage import aws
from stage.aws import ecr
from stage.aws.bench import client, refused, role
from stage.aws.people import ACCOUNT
from stage.rest import Answer, Request, RequestError, serve

WHERE = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/demo/train"
PULL = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
PUSH = ["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"]
LOGIN = {"Action": "ecr:GetAuthorizationToken", "Resource": "*"}
PROGRAMS = Path(ecr.__file__).parent
SHARED = PROGRAMS.parent  # with the stages of other clouds


def bytes_of(request: Request) -> Answer:
    """The registry behind it, which has one image."""
    if request.path == "/v2/demo/train/manifests/main":
        return Answer({"schemaVersion": 2}, headers={"Docker-Content-Digest": "sha256:" + "1" * 64})
    raise RequestError(404, "not found")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("ecr")
    with serve(bytes_of) as url, aws.serve(folder) as world:
        host = url.partition("//")[2]
        with ecr.registry_of(world, host, folder / "ecr") as registry:
            client(world, "ecr").create_repository(repositoryName="demo/train")
            role(
                world, "pusher", "ec2.amazonaws.com", may=[LOGIN, {"Action": PULL + PUSH, "Resource": WHERE}]
            )
            role(world, "puller", "ec2.amazonaws.com", may=[LOGIN, {"Action": PULL, "Resource": WHERE}])
            half = {"Action": [*PULL, *PUSH[:3]], "Resource": WHERE}
            role(world, "half", "ec2.amazonaws.com", may=[LOGIN, half])
            role(world, "nobody", "ec2.amazonaws.com", may=[{"Action": PULL, "Resource": WHERE}])
            yield SimpleNamespace(world=world, registry=registry)


def login(stage: SimpleNamespace, name: str) -> str:
    """The password of a role, as a header has it."""
    ecr_client = client(stage.world, "ecr", stage.world.people.session(name))
    return ecr_client.get_authorization_token()["authorizationData"][0]["authorizationToken"]


def ask(stage: SimpleNamespace, token: str, path: str, method: str = "GET") -> Any:
    return requests.request(
        method,
        f"https://{ecr.host_of(stage.world)}{path}",
        headers={"Authorization": f"Basic {token}"},
        proxies={"https": stage.registry.url},
        verify=str(stage.registry.certificates),
        timeout=30,
    )


def program(stage: SimpleNamespace, name: str, *words: str, role: str, home: Path, given: str = "") -> Any:
    env = os.environ | stage.world.credentials(role) | stage.registry.environment | {"HOME": str(home)}
    place = PROGRAMS if name == "aws" else SHARED
    command = [sys.executable, str(place / f"{name}_program.py"), *words]
    return subprocess.run(command, env=env, input=given, capture_output=True, text=True, check=False)


def test_an_image_is_told_of_with_its_digest(stage: SimpleNamespace) -> None:
    answer = ask(stage, login(stage, "puller"), "/v2/demo/train/manifests/main")
    assert (answer.status_code, answer.json()) == (200, {"schemaVersion": 2})
    assert answer.headers["Docker-Content-Digest"] == "sha256:" + "1" * 64
    assert ask(stage, login(stage, "puller"), "/v2/demo/train/manifests/other").status_code == 404


def test_without_a_password_that_ecr_gave_out_nothing_is_told(stage: SimpleNamespace) -> None:
    for token in ("", base64.b64encode(b"AWS:guessed").decode(), "no base64"):
        assert ask(stage, token, "/v2/").status_code == 401
    with refused("AccessDeniedException", "ecr:GetAuthorizationToken"):
        login(stage, "nobody")


def test_a_password_ends_after_twelve_hours(stage: SimpleNamespace) -> None:
    token = login(stage, "puller")
    stage.world.pass_time(12 * 3600 - 1)
    assert ask(stage, token, "/v2/").status_code == 200
    stage.world.pass_time(1)
    assert ask(stage, token, "/v2/").status_code == 401


@pytest.mark.parametrize(("name", "status"), [("pusher", 202), ("half", 403), ("puller", 403)])
def test_a_push_takes_all_four_rights(stage: SimpleNamespace, name: str, status: int) -> None:
    answer = ask(stage, login(stage, name), "/v2/demo/train/blobs/uploads/", "POST")
    assert answer.status_code == status
    elsewhere = ask(stage, login(stage, name), "/v2/other/train/blobs/uploads/", "POST")
    assert elsewhere.status_code == 403


def test_there_is_no_repository_but_what_was_made(stage: SimpleNamespace) -> None:
    role(stage.world, "all", "ec2.amazonaws.com", may=[LOGIN, {"Action": "ecr:*", "Resource": "*"}])
    answer = ask(stage, login(stage, "all"), "/v2/other/train/blobs/uploads/", "POST")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_the_programs_log_in_and_are_refused_as_the_real_ones(stage: SimpleNamespace, tmp_path: Path) -> None:
    host = ecr.host_of(stage.world)
    words = ("login", "--username", "AWS", "--password-stdin", host)
    push = ("push", f"{host}/demo/train:main")
    without = program(stage, "docker", *push, role="puller", home=tmp_path)
    assert "no basic auth credentials" in without.stderr
    wrong = program(stage, "docker", *words, role="puller", home=tmp_path, given="guessed\n")
    assert wrong.returncode
    assert "401" in wrong.stderr
    password = program(stage, "aws", "ecr", "get-login-password", role="puller", home=tmp_path).stdout
    done = program(stage, "docker", *words, role="puller", home=tmp_path, given=password)
    assert done.stdout == "Login Succeeded\n", done.stderr
    denied = program(stage, "docker", *push, role="puller", home=tmp_path)
    assert "denied: User" in denied.stderr
    assert "ecr:InitiateLayerUpload" in denied.stderr
    refusal = program(stage, "aws", "ecr", "get-login-password", role="nobody", home=tmp_path)
    assert (refusal.returncode, refusal.stdout) == (254, "")
    assert "AccessDeniedException" in refusal.stderr
    assert program(stage, "aws", "s3", "ls", role="puller", home=tmp_path).returncode == 252
