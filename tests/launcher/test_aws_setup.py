"""The life of one project in AWS: set up, set up again, changed, taken back, and all of it once more."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aws_setup_rights import CAP, CREATE, LOG, OURS, RIGHTS, TOKENS, TRAINER, TRAINING
from aws_setup_world import KEY, PROVIDER, Place, Step, clear, place, policies, text
from botocore.exceptions import ClientError
from launcher.deployment import Order
from launcher.mirror import Entry
from launcher.providers.aws import sagemaker_endpoint_calls
from launcher.providers.aws.sagemaker_endpoint import Endpoints
from launcher.providers.aws.sagemaker_endpoint_request import Where
from launcher.providers.aws.sagemaker_models import Registry
from launcher.providers.errors import RefusedError
from stage.aws.cloudformation import STATED
from stage.aws.endpoint_hosts import Pretended
from stage.aws.policies import ALLOWED, SILENT, verdict

pytestmark = pytest.mark.cloud("aws")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, projects: Callable[[str], Path]) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("aws"), projects("aws")) as there:
        yield there


@pytest.fixture(scope="module")
def prepared(there: Place) -> Step:
    return there.run("setup", WANDB_API_KEY=KEY, REVIEWER="octo-cat")


@pytest.fixture(scope="module")
def again(there: Place, prepared: Step) -> Step:
    return there.run("setup", WANDB_API_KEY=KEY, REVIEWER="octo-cat")


def test_it_says_what_it_made_and_what_is_next(prepared):
    assert not prepared.error
    assert "123456789012 in us-east-1" in prepared.output
    assert "launch cloud=sagemaker doctor_only=true" in prepared.output


def test_the_bucket_is_closed_and_keeps_nothing_that_was_deleted(there, prepared):
    s3 = there.client("s3")
    closed = s3.get_public_access_block(Bucket="demo-bucket")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}
    assert "Status" not in s3.get_bucket_versioning(Bucket="demo-bucket")
    (rule,) = s3.get_bucket_lifecycle_configuration(Bucket="demo-bucket")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    (encryption,) = s3.get_bucket_encryption(Bucket="demo-bucket")["ServerSideEncryptionConfiguration"][
        "Rules"
    ]
    (only,) = STATED["demo-bucket"]["Statement"]
    assert (only["Effect"], only["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_each_machine_has_a_queue_on_spot_and_one_on_demand_and_none_costs_while_idle(there, prepared):
    names = there.queues()
    assert {"demo-t4-spot", "demo-t4-demand", "demo-h100x8-spot", "demo-cpu-demand"} <= {*names}
    assert len(names) == 24
    found = there.client("batch").describe_compute_environments()["computeEnvironments"]
    assert sorted(each["computeEnvironmentName"] for each in found) == names
    assert {each["computeResources"]["minvCpus"] for each in found} == {0}
    kinds = {each["computeEnvironmentName"]: each["computeResources"] for each in found}
    assert kinds["demo-t4-spot"]["type"] == "SPOT"
    assert kinds["demo-t4-spot"]["bidPercentage"] == 70
    assert kinds["demo-t4-demand"]["type"] == "EC2"


def test_logs_end(there, prepared):
    found = there.client("logs").describe_log_groups()["logGroups"]
    kept = {each["logGroupName"]: each.get("retentionInDays") for each in found}
    assert kept == {"/aws/batch/job": 30, "/aws/sagemaker/TrainingJobs": 30}


def test_the_key_is_in_its_secret_and_nowhere_else(there, prepared):
    secrets = there.client("secretsmanager")
    assert secrets.get_secret_value(SecretId="demo-wandb")["SecretString"] == KEY
    assert [name for _, name, given in prepared.asked if KEY in text(given)] == ["PutSecretValue"]
    assert KEY not in prepared.output
    assert KEY not in text(there.github.__dict__)


def test_the_workflow_finds_region_role_and_image(there, prepared):
    assert there.github.variables == {
        "AWS_REGION": "us-east-1",
        "AWS_ROLE": "arn:aws:iam::123456789012:role/demo-launcher",
        "CLOUD_IMAGE": "123456789012.dkr.ecr.us-east-1.amazonaws.com/demo/train",
    }
    assert there.github.environments == {"cloud": ["octo-cat"]}
    assert "train" in there.github.labels


@pytest.mark.parametrize(("claims", "let_in"), TOKENS.values(), ids=TOKENS)
def test_only_this_repository_gets_in_by_its_number_whatever_form_its_subject_has(
    there, prepared, claims, let_in
):
    usual = {"repository": "octo-org/leaves", "repository_id": "4711", "repository_owner_id": "815"}
    token = there.world.github.token(**{**usual, **claims})
    role = there.github.variables["AWS_ROLE"]
    asked = {"RoleArn": role, "RoleSessionName": "github", "WebIdentityToken": token}
    sts = there.client("sts")
    if let_in:
        assert sts.assume_role_with_web_identity(**asked)["Credentials"]
    else:
        with pytest.raises(ClientError):
            sts.assume_role_with_web_identity(**asked)


@pytest.mark.parametrize(("role", "action", "resource", "context", "allowed"), RIGHTS)
def test_each_role_may_what_it_needs(there, prepared, role, action, resource, context, allowed):
    said = verdict(policies(there, f"demo-{role}"), action, resource, context)
    assert said == (ALLOWED if allowed else SILENT)


def test_with_its_role_github_starts_and_ends_jobs_of_both_services_that_carry_the_projects_tag(
    there, prepared
):
    keys = there.world.credentials("demo-launcher")
    image, tags = there.world.push("demo/train"), {"project": "demo"}
    batch, sagemaker = (there.client(service, keys=keys) for service in ("batch", "sagemaker"))
    container = {
        "image": image,
        "jobRoleArn": TRAINER,
        "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8000"}],
    }
    definition = batch.register_job_definition(
        jobDefinitionName="demo-train", type="container", containerProperties=container, tags=tags
    )["jobDefinitionArn"]
    job = {"jobName": "demo-x", "jobQueue": "demo-cpu-spot", "jobDefinition": definition}
    batch.terminate_job(jobId=batch.submit_job(**job, tags=tags)["jobId"], reason="enough")
    with pytest.raises(ClientError, match="AccessDenied"):
        batch.submit_job(**job, tags={"project": "other"})
    batch.deregister_job_definition(jobDefinition=definition)
    training = {
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "RoleArn": TRAINER,
        "OutputDataConfig": {"S3OutputPath": "s3://demo-bucket/x"},
        "ResourceConfig": {"InstanceType": "ml.m7i.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "Tags": [{"Key": "project", "Value": "demo"}],
    }
    day = {"StoppingCondition": {"MaxRuntimeInSeconds": 86400}}
    sagemaker.create_training_job(TrainingJobName="within", **training, **day)
    sagemaker.stop_training_job(TrainingJobName="within")
    day["StoppingCondition"]["MaxRuntimeInSeconds"] += 1
    with pytest.raises(ClientError, match="AccessDenied"):
        sagemaker.create_training_job(TrainingJobName="beyond", **training, **day)


def test_the_same_again_changes_nothing_and_says_so(again):
    assert not again.error
    assert again.changes == ["UpdateStack"], "it is asked, and has nothing to do"
    assert "All of it was there already: nothing was changed." in again.output


def test_another_setting_changes_what_it_is_about_and_holds_until_it_is_given_again(there, again):
    batch = there.client("batch")
    before = batch.describe_compute_environments(computeEnvironments=["demo-t4-spot"])["computeEnvironments"]
    changed = there.run("setup", MACHINES="cpu t4", MAX_HOURS="48")
    assert (changed.error, changed.changes) == ("", ["UpdateStack"])
    assert there.queues() == ["demo-cpu-demand", "demo-cpu-spot", "demo-t4-demand", "demo-t4-spot"]
    assert (
        before
        == batch.describe_compute_environments(computeEnvironments=["demo-t4-spot"])["computeEnvironments"]
    )
    for types, allowed in (["ml.g4dn.xlarge"], True), (["ml.g6.xlarge"], False):
        job = {**OURS, CAP: str(48 * 3600), "sagemaker:InstanceTypes": types}
        said = verdict(policies(there, "demo-launcher"), CREATE, TRAINING, job)
        assert said == (ALLOWED if allowed else SILENT)
    kept = there.run("setup")
    assert "nothing was changed" in kept.output
    assert there.client("secretsmanager").get_secret_value(SecretId="demo-wandb")["SecretString"] == KEY


def test_with_its_role_the_janitor_ends_an_endpoint_and_makes_none(there, prepared, monkeypatch):
    image = serving(there)
    order = Order("digits", 1, image, {})
    logged_in(there, monkeypatch, there.world.environment)
    endpoints().deploy(order, lambda ask: None)
    logged_in(there, monkeypatch, there.world.credentials("demo-launcher"))
    with pytest.raises(RefusedError):
        endpoints().deploy(Order("shapes", 1, image, {}), lambda ask: None)
    assert [str(one) for one in endpoints().deployments()] == ["digits@v1"]
    assert endpoints().remove("digits") is True
    assert there.world.sagemaker.endpoints.names() == ([], [], [])
    assert not there.client("logs").describe_log_groups(logGroupNamePrefix=LOG.rpartition(":")[2])[
        "logGroups"
    ]


def serving(there: Place) -> str:
    """The image of a version, in the repository that setup has made."""
    there.world.sagemaker.endpoints.host = Pretended(lambda image, asked: (200, {}))
    return there.world.push("demo/serve", "digits-v1")


def endpoints() -> Endpoints:
    return Endpoints(Where("123456789012", "us-east-1"))


def logged_in(there: Place, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]) -> None:
    """From now on this process has these keys."""
    monkeypatch.setattr(sagemaker_endpoint_calls, "POLL", 0.0)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    clear()


@pytest.fixture(scope="module")
def removed(there: Place, again: Step) -> Step:
    image = serving(there)
    with pytest.MonkeyPatch.context() as patch:
        logged_in(there, patch, there.world.environment)
        patch.setattr("launcher.project.find_root", lambda folder: there.root)
        endpoints().deploy(Order("digits", 1, image, {}), lambda ask: None)
        facts = {
            "uri": "s3://demo-bucket/models/digits/v1",
            "files": {},
            "kind": "",
            "run": "r",
            "metrics": {},
        }
        Registry(Where("123456789012", "us-east-1")).put(
            Entry(model="digits", version=1, image=image, made={}, **facts)
        )
    there.client("s3").put_object(Bucket="demo-bucket", Key="runs/x/report.json", Body=b"{}")
    return there.run("destroy", "demo\n")


def test_what_is_typed_wrongly_removes_nothing(there, again):
    step = there.run("destroy", "no\n")
    assert (step.error, step.changes) == ("Nothing was removed.", [])
    assert there.github.variables


def test_destroy_leaves_the_data_and_nothing_else(there, removed):
    assert not removed.error
    assert "kept, and paid for" in removed.output
    assert there.world.sagemaker.endpoints.names() == ([], [], [])
    assert there.world.sagemaker.endpoints.harm == []
    assert there.world.sagemaker.packages.groups == {}
    assert (there.stack(), there.queues()) == ("", [])
    assert there.client("s3").list_objects_v2(Bucket="demo-bucket")["KeyCount"] == 1
    assert not there.client("ecr").describe_repositories()["repositories"]
    assert not there.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]
    assert not there.client("logs").describe_log_groups()["logGroups"]
    assert not there.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    roles = there.client("iam").list_roles()["Roles"]
    assert not [role for role in roles if role["RoleName"].startswith("demo")]
    github = there.github
    assert (github.variables, github.environments, github.labels) == ({}, {}, ["bug"])


def test_a_bucket_that_an_earlier_setup_made_is_used_again_and_data_delete_leaves_nothing(there, removed):
    step = there.run("setup", MACHINES="cpu")
    assert not step.error
    assert there.client("s3").list_objects_v2(Bucket="demo-bucket")["KeyCount"] == 1
    gone = there.run("destroy", "demo\ndemo-bucket\n", DATA="delete")
    assert not gone.error
    assert not there.client("s3").list_buckets()["Buckets"]
    assert PROVIDER not in text(there.client("iam").list_open_id_connect_providers())
    assert "was gone" in there.run("destroy", YES="1").output, "what is gone is no trouble"
