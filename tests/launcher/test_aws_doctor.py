"""What would make a job on AWS fail minutes after it was submitted, found before."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher.providers import inputs
from launcher.providers.aws import doctor
from sagemaker_jobs import REGION, ROLE, on_stage
from stage.aws.bench import client
from stage.aws.world import World

pytestmark = pytest.mark.cloud("aws")
MD5 = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        on_stage(tmp_path_factory.mktemp("aws"), monkeypatch) as (made, _),
    ):
        yield made


def said(problems: list) -> str:
    return " ".join(map(str, problems))


def test_a_role_that_is_not_there_is_named_with_its_remedy(world: World) -> None:
    assert doctor.check_role(ROLE) == []
    found = said(doctor.check_role(ROLE.replace("demo-trainer", "nobody")))
    assert "There is no role nobody for the job: run `make cloud-setup`" in found


def test_a_bucket_that_is_not_there_or_elsewhere_is_said(world: World) -> None:
    assert doctor.check_bucket("s3://demo-bucket/runs", REGION) == []
    assert "There is no bucket s3://nowhere" in said(doctor.check_bucket("s3://nowhere", REGION))
    far = {"LocationConstraint": "eu-west-1"}
    client(world, "s3", region="eu-west-1").create_bucket(Bucket="far", CreateBucketConfiguration=far)
    (problem,) = doctor.check_bucket("s3://far", REGION)
    assert "eu-west-1" in problem.what
    assert not problem.fatal


def test_a_secret_without_a_value_and_one_of_another_name_are_said(world: World) -> None:
    found = said(doctor.check_secret("WANDB_API_KEY", "demo-wandb"))
    assert "does not exist: give it by `WANDB_API_KEY=... make cloud-setup`" in found
    client(world, "secretsmanager").create_secret(Name="demo-wandb", SecretString="x")
    assert doctor.check_secret("WANDB_API_KEY", "demo-wandb") == []
    assert "does not exist" in said(doctor.check_secret("TOKEN", "demo-other"))
    client(world, "secretsmanager").create_secret(Name="demo-other", SecretString="x")
    (problem,) = doctor.check_secret("TOKEN", "demo-other")
    assert "allow demo-trainer secretsmanager:GetSecretValue on it" in str(problem)
    assert not problem.fatal


def test_data_that_is_not_pushed_is_counted(world: World, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    remote = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://demo-bucket/dvc\n"
    (tmp_path / ".dvc/config").write_text(remote)
    lock = {"stages": {"data": {"outs": [{"path": "data/a", "md5": f"{MD5}.dir", "hash": "md5"}]}}}
    (tmp_path / "dvc.lock").write_text(json.dumps(lock))

    def missing() -> str:
        return said(inputs.check_data("data/a", "s3", doctor.S3(), tmp_path))

    assert "1 of 1 objects of data/a are not in s3://demo-bucket/dvc: run `uv run dvc push`" in missing()
    listing, of = json.dumps([{"md5": MD5, "relpath": "x"}]), f"dvc/files/md5/{MD5[:2]}/{MD5[2:]}"
    s3 = client(world, "s3")
    s3.put_object(Bucket="demo-bucket", Key=f"{of}.dir", Body=listing.encode())
    assert "1 of 1 objects" in missing()
    s3.put_object(Bucket="demo-bucket", Key=of, Body=b"x")
    assert missing() == ""
