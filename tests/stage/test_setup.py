"""`cloud setup` and `cloud destroy`, by the real gcloud, against a project that refuses what Google documents as wrong."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from baking import BakedProject

from stage.google.grants import Account
from stage.google.project import ACCOUNT, NUMBER, PROJECT
from stage.google.setup import Setup, google_setup
from stage.setup_runs import (
    BUCKET,
    CONDITION,
    IMAGE,
    KEY,
    LAUNCH,
    OLD_ROLE,
    POOL,
    ROLES,
    SUBJECT,
    TRAIN,
    Step,
    dry_run,
    on_github,
    take,
)


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject], tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    return on_github(bake(), tmp_path_factory.mktemp("setup") / "cloud-training")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with google_setup(tmp_path_factory.mktemp("google") / "stage") as stage:
        stage.project.services.clear()
        yield stage


# The life of one project, one step after the other: each takes half a minute.


@pytest.fixture(scope="module")
def interrupted(stage: Setup, project: BakedProject) -> Step:
    """A first run that is refused something in the middle."""
    stage.faults.append(("POST .*/serviceAccounts", 403))
    return take(stage, project, "setup", PROJECT=PROJECT, WANDB_API_KEY=KEY)


@pytest.fixture(scope="module")
def prepared(interrupted: Step, stage: Setup, project: BakedProject) -> Step:
    """The same again, which Google is slow to spread the news of."""
    stage.project.slow_accounts = 2
    return take(stage, project, "setup", PROJECT=PROJECT, WANDB_API_KEY=KEY)


@pytest.fixture(scope="module")
def repeated(prepared: Step, stage: Setup, project: BakedProject) -> Step:
    return take(stage, project, "setup", PROJECT=PROJECT, WANDB_API_KEY=KEY)


@pytest.fixture(scope="module")
def repaired(repeated: Step, stage: Setup, project: BakedProject) -> Step:
    """After others have changed things, with another key, and a budget that Google refuses to change."""
    resources = stage.resources
    resources[BUCKET]["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    del resources[BUCKET]["lifecycle"]
    resources[BUCKET]["softDeletePolicy"] = {"retentionDurationSeconds": "604800"}
    resources["pool", "cloud-training-github"]["state"] = "DELETED"
    resources["provider", "github"] |= {
        "state": "DELETED",
        "attributeCondition": "assertion.repository == 'octo-org/leaves'",
    }
    resources["provider", "github"]["attributeMapping"]["google.subject"] = "assertion.sub"
    resources["repository", "cloud-training"]["cleanupPolicies"] = {}
    resources["role", "cloud_training_launch"]["deleted"] = True
    from_an_earlier_setup(stage)
    resources["firewall", "cloud-training-closed"] |= {"disabled": True, "priority": 1000}
    del resources["firewall", "cloud-training-iap"]
    stage.project.services.remove("secretmanager.googleapis.com")
    stage.faults.append(("PATCH .*/budgets/", 403))
    return take(
        stage, project, "setup", PROJECT=PROJECT, WANDB_API_KEY=KEY + "-2", BUDGET="80", REVIEWER="octo-cat"
    )


def from_an_earlier_setup(stage: Setup) -> None:
    """What a setup before Batch has left: more rights of the launcher, and a job's right to end its own machine."""
    stage.resources["role", "cloud_training_launch"]["includedPermissions"] = ["compute.instances.create"]
    role = {
        "title": "x",
        "stage": "GA",
        "includedPermissions": ["compute.instances.delete"],
        "name": OLD_ROLE,
    }
    stage.resources["role", "cloud_training_trainer"] = role
    expression = 'resource.name.extract("/instances/{name}").startsWith("cloud-training-")'
    condition = {"title": "machines-of-cloud-training", "expression": expression}
    policy = stage.project.policies["project", PROJECT]
    policy["bindings"].append({"role": OLD_ROLE, "members": [TRAIN], "condition": condition})
    policy["version"] = 3


@pytest.fixture(scope="module")
def destroyed(repaired: Step, stage: Setup, project: BakedProject) -> Step:
    """All of it removed, with data; something is gone already, jobs are running, and the bucket keeps what is deleted."""
    stage.project.remove("secret", "cloud-training-wandb")
    from_an_earlier_setup(stage)
    stage.resources[BUCKET]["softDeletePolicy"] = {"retentionDurationSeconds": "604800"}
    stage.resources["object", f"{BUCKET[1]}/runs/a/model.safetensors"] = {}
    for kind, name, slug, state in (
        ("customJobs", "1", "cloud-training", "RUNNING"),
        ("customJobs", "2", "other", "RUNNING"),
        ("customJobs", "3", "cloud-training", "SUCCEEDED"),
        ("hyperparameterTuningJobs", "4", "cloud-training", "PENDING"),
        ("hyperparameterTuningJobs", "5", "other", "RUNNING"),
    ):
        path = f"projects/{NUMBER}/locations/us-central1/{kind}/{name}"
        job = {"name": path, "labels": {"project": slug}, "state": f"JOB_STATE_{state}"}
        stage.resources[kind, name] = job
    for name, region, slug, state in (
        ("6", "us-central1", "cloud-training", "QUEUED"),
        ("7", "europe-west4", "cloud-training", "RUNNING"),
        ("8", "us-central1", "cloud-training", "SUCCEEDED"),
        ("9", "us-central1", "cloud-training-two", "RUNNING"),
    ):
        path = f"projects/{PROJECT}/locations/{region}/jobs/{name}"
        job = {"name": path, "labels": {"project": slug}, "status": {"state": state}}
        stage.resources["batchJobs", name] = job
    return take(stage, project, "destroy", PROJECT=PROJECT, YES="1", DATA="delete")


def test_says_what_failed_and_stops_there(interrupted: Step) -> None:
    assert interrupted.code == 1
    assert (
        "This command failed, and nothing was done after it: gcloud iam service-accounts create"
        in interrupted.errors
    )
    assert "run the same again" in interrupted.errors
    assert {kind for kind, _ in interrupted.resources} == {"bucket", "repository"}
    assert interrupted.github.variables == {}


def test_the_next_run_completes_it(prepared: Step) -> None:
    assert prepared.code == 0, prepared.errors
    made = " ".join(prepared.written)
    assert "customJobs" not in made
    assert "/storage/v1/b?" not in made, "the bucket was there already"
    assert {kind for kind, _ in prepared.resources} == {
        "bucket",
        "repository",
        "account",
        "pool",
        "provider",
        "secret",
        "budget",
        "role",
        "firewall",
    }
    assert f"roles/iam.serviceAccountUser on {TRAIN.partition(':')[2]}" in prepared.output, "for tunnels"
    assert "uv run launch cloud=vertex doctor_only=true" in prepared.output


def test_grants_exactly_the_roles_that_are_needed(prepared: Step) -> None:
    assert prepared.roles == ROLES


def test_github_may_look_at_machines_and_a_job_may_not(prepared: Step) -> None:
    """As the stand-ins for machines ask: by what the roles come to. Google's services start and end machines."""
    assert prepared.conditions == {}
    launcher, trainer = (Account("a", grants=grants) for grants in prepared.grants)
    seen = {"instances.get", "instances.list", "projects.get", "regions.get"}
    for each in seen:
        assert launcher.allows(f"compute.{each}"), each
        assert not trainer.allows(f"compute.{each}"), each
    permissions = prepared.resources["role", "cloud_training_launch"]["includedPermissions"]
    ends = {"run.operations.get", *(f"run.services.{verb}" for verb in ("delete", "get", "list"))}
    assert set(permissions) == {f"compute.{each}" for each in seen} | ends


def test_the_janitor_may_end_services_and_make_none(prepared: Step) -> None:
    launcher, trainer = (Account("a", {"roles/aiplatform.user"}, grants=one) for one in prepared.grants)
    assert launcher.allows("run.services.delete")
    assert not trainer.allows("run.services.delete")
    assert not launcher.allows("run.services.create")
    assert not launcher.allows("run.services.update")


def test_who_serves_has_an_account_without_a_role_and_who_asks_one_of_their_own(prepared: Step) -> None:
    server = f"cloud-training-server@{PROJECT}.iam.gserviceaccount.com"
    assert ("account", server) in prepared.resources
    assert not [one for held in prepared.roles.values() for one in held if server in one[1]]
    role = prepared.resources["role", "cloud_training_predict"]
    assert role["includedPermissions"] == ["aiplatform.endpoints.predict"]
    assert not [one for held in prepared.roles.values() for one in held if "predict" in one[0]]
    assert "Others who are to deploy models need" in prepared.output


def test_the_role_of_this_project_names_no_project(prepared: Step) -> None:
    """Its file is the package's, which is the same for all."""
    role = prepared.resources["role", "cloud_training_launch"]
    assert role["title"] == "GitHub Actions of a training project"
    assert "cloud-training" not in role["title"] + role["description"]


def test_the_account_that_pulls_images_is_there_before_the_first_job(prepared: Step, stage: Setup) -> None:
    made = [line for line in stage.written if ":generateServiceIdentity" in line]
    assert len(made) == 1
    assert "aiplatform.googleapis.com" in made[0]


def test_a_setup_of_before_batch_loses_what_it_no_longer_needs(repaired: Step) -> None:
    assert (OLD_ROLE, TRAIN) not in repaired.roles["project", PROJECT]
    assert repaired.conditions == {}


def test_machines_can_be_reached_through_googles_proxy_only(prepared: Step) -> None:
    opened, closed = (prepared.resources["firewall", f"cloud-training-{name}"] for name in ("iap", "closed"))
    assert opened["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert opened["sourceRanges"] == ["35.235.240.0/20"], "the addresses of Identity-Aware Proxy"
    assert closed["denied"] == [{"IPProtocol": "all"}]
    assert closed["sourceRanges"] == ["0.0.0.0/0"]
    assert opened["priority"] < closed["priority"] < 65534, "before the rules that `default` comes with"
    assert opened["targetTags"] == closed["targetTags"] == ["cloud-training"]
    assert not opened["disabled"]
    assert not closed["disabled"]


def test_the_bucket_is_private_and_only_checkpoints_expire(prepared: Step) -> None:
    bucket = prepared.resources[BUCKET]
    assert bucket["location"] == "US-CENTRAL1"
    assert bucket["softDeletePolicy"] == {"retentionDurationSeconds": "0"}, (
        "deleted checkpoints are not paid for"
    )
    assert bucket["iamConfiguration"] == {
        "publicAccessPrevention": "enforced",
        "uniformBucketLevelAccess": {"enabled": True},
    }
    rules = {rule["action"]["type"]: rule["condition"] for rule in bucket["lifecycle"]["rule"]}
    assert set(rules) == {"Delete", "AbortIncompleteMultipartUpload"}
    assert rules["Delete"]["matchesPrefix"] == ["runs/"]
    assert rules["Delete"]["matchesSuffix"] == [".pt"]
    assert rules["Delete"]["age"] >= 30


def test_the_registry_keeps_the_cache_and_the_newest_images(prepared: Step) -> None:
    repository = prepared.resources["repository", "cloud-training"]
    policies = repository["cleanupPolicies"]
    assert repository["cleanupPolicyDryRun"] is False
    kept = [policy for policy in policies.values() if policy["action"] == "KEEP"]
    assert {"tagPrefixes": ["buildcache", "main"], "tagState": "TAGGED"} in [
        policy.get("condition") for policy in kept
    ]
    assert {"keepCount": 20} in [policy.get("mostRecentVersions") for policy in kept]
    deleted = [policy["condition"] for policy in policies.values() if policy["action"] == "DELETE"]
    assert {condition["tagState"] for condition in deleted} == {"TAGGED", "UNTAGGED"}


def test_only_the_numbered_repository_can_log_in(prepared: Step) -> None:
    provider = prepared.resources["provider", "github"]
    assert provider["oidc"] == {"issuerUri": "https://token.actions.githubusercontent.com"}
    assert provider["attributeCondition"] == CONDITION
    assert provider["attributeMapping"] == {
        "google.subject": SUBJECT,
        "attribute.repository_id": "assertion.repository_id",
    }


def test_the_budget_sends_mails_on_the_way(prepared: Step) -> None:
    (budget,) = (content for (kind, _), content in prepared.resources.items() if kind == "budget")
    assert budget["amount"]["specifiedAmount"]["units"] == "50"
    assert [rule["thresholdPercent"] for rule in budget["thresholdRules"]] == [0.5, 0.9, 1.0]
    assert budget["budgetFilter"]["projects"] == [f"projects/{NUMBER}"]


def test_github_learns_where_to_go(prepared: Step) -> None:
    assert prepared.github.environments == {"cloud": []}
    assert prepared.github.labels == ["bug", "train"]
    assert prepared.github.variables == {
        "CLOUD_IMAGE": IMAGE,
        "GCP_PROJECT": PROJECT,
        "GCP_SERVICE_ACCOUNT": LAUNCH.partition(":")[2],
        "GCP_WORKLOAD_IDENTITY_PROVIDER": f"{POOL}/providers/github",
    }


def test_a_second_run_changes_nothing_and_says_so(repeated: Step, prepared: Step) -> None:
    assert repeated.code == 0, repeated.errors
    assert repeated.written == []
    assert "All of it was there already: nothing was changed." in repeated.output
    assert repeated.github == prepared.github


def test_puts_right_what_others_have_changed(repaired: Step, prepared: Step) -> None:
    assert repaired.code == 0, repaired.errors
    for name in (
        BUCKET,
        ("pool", "cloud-training-github"),
        ("provider", "github"),
        ("repository", "cloud-training"),
        ("role", "cloud_training_launch"),
        ("firewall", "cloud-training-iap"),
        ("firewall", "cloud-training-closed"),
    ):
        assert repaired.resources[name] == prepared.resources[name], name
    assert repaired.roles == ROLES
    assert any("secretmanager.googleapis.com:enable" in line for line in repaired.written)
    assert len(repaired.resources["secret", "cloud-training-wandb"]["versions"]) == 2


def test_a_budget_that_is_refused_is_no_failure(repaired: Step, stage: Setup) -> None:
    (asked,) = (call for call in stage.requests if call.method == "PATCH" and "/budgets/" in call.url)
    assert json.loads(asked.body)["amount"]["specifiedAmount"]["units"] == "80"
    assert "updateMask=amount" in asked.url
    assert (
        f"NOT SET, you may not: https://console.cloud.google.com/billing/{ACCOUNT}/budgets" in repaired.output
    )


def test_the_key_of_wandb_is_seen_by_nobody(repaired: Step, stage: Setup) -> None:
    versions = repaired.resources["secret", "cloud-training-wandb"]["versions"]
    assert [decode(version["data"]) for version in versions] == [KEY, f"{KEY}-2"]
    assert any("secrets versions add" in command for command in stage.commands)
    assert not any(KEY in command for command in stage.commands)
    assert KEY.encode() not in (stage.folder / "environments.log").read_bytes()
    assert KEY not in repaired.output + repaired.errors


def decode(data: str) -> str:
    return subprocess.run(["base64", "-d"], input=data, capture_output=True, text=True, check=True).stdout


def test_destroy_removes_all_of_it(destroyed: Step, stage: Setup) -> None:
    assert destroyed.code == 0, destroyed.errors
    running = ("batchJobs", "customJobs", "hyperparameterTuningJobs")
    left = {(kind, name): content for (kind, name), content in destroyed.resources.items()}
    kept = {name for name in left if name[0] not in running}
    assert kept == {
        ("pool", "cloud-training-github"),
        ("provider", "github"),
        ("role", "cloud_training_launch"),
        ("role", "cloud_training_predict"),
        ("role", "cloud_training_trainer"),
    }, "Google keeps these for a while"
    assert left["role", "cloud_training_launch"]["deleted"]
    assert left["role", "cloud_training_trainer"]["deleted"]
    assert destroyed.resources["pool", "cloud-training-github"]["state"] == "DELETED"
    assert destroyed.roles == {}, "not even those of Google's own accounts"
    assert destroyed.github.variables == {}
    assert destroyed.github.environments == {}
    assert destroyed.github.labels == ["bug"]
    assert "cloud-training-wandb: was gone" in destroyed.output


def test_destroy_ends_what_runs_of_this_project_only(destroyed: Step, stage: Setup) -> None:
    """In whichever region, and not of a project whose name begins with this one's."""
    assert sorted(stage.project.cancelled) == ["1", "4", "6", "7"]


def test_what_destroy_deletes_is_paid_for_no_longer(destroyed: Step) -> None:
    assert destroyed.kept == []
    assert "what was deleted in it before is paid for, for 7 days more" in destroyed.output


def test_a_reviewer_is_asked_for_when_one_is_named(repaired: Step) -> None:
    assert repaired.github.environments == {"cloud": ["octo-cat"]}


def test_destroy_shuts_the_doors_before_it_ends_what_runs(destroyed: Step, stage: Setup) -> None:
    """Else a workflow that is at work could start what has just been looked for."""
    started = next(i for i, line in enumerate(destroyed.written) if ":cancel" in line)
    shut = [
        i for i, line in enumerate(destroyed.written) if ":setIamPolicy" in line and "/my-project" in line
    ]
    assert shut
    assert max(shut) < started


def test_a_dry_run_prints_what_would_be_run(project: BakedProject, prepared: Step, stage: Setup) -> None:
    """As many changes as a real first setup makes: those of the run that failed, and those of the next."""
    changing = re.compile(
        r"gcloud .*\b(create|create-oidc|enable|add|add-iam-policy-binding|set-cleanup-policies)\b.* |gh (variable set|label create|api --method)"
    )
    end = next(i for i, line in enumerate(stage.commands) if "variable set CLOUD_IMAGE" in line) + 1
    commands = [line.replace(f"{project.folder}/", "") for line in stage.commands[:end]]
    really = {unquoted(line) for line in commands if changing.match(line)}
    printed = {
        unquoted(
            line.replace("PROJECT_NUMBER", NUMBER).replace("REPOSITORY_ID", "4711").replace("OWNER_ID", "815")
        )
        for line in dry_run(project, "setup")
    }
    assert printed == really


def unquoted(line: str) -> str:
    """Without what a shell takes off, so that command lines can be compared."""
    return re.sub(r"['\"\\]", "", line)
