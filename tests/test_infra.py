"""infra/setup and infra/destroy, by the real gcloud, against a project that refuses what Google documents as wrong."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from baking import BakedProject, only_programs
from stage.gh_program import GitHub, parse
from stage.google_project import ACCOUNT, NUMBER, PROJECT, Resource
from stage.google_setup import Setup, google_setup

KEY = "wandb-key-that-nobody-may-see"
LAUNCH = f"serviceAccount:cloud-training-launch@{PROJECT}.iam.gserviceaccount.com"
TRAIN = f"serviceAccount:cloud-training-trainer@{PROJECT}.iam.gserviceaccount.com"
BUCKET = ("bucket", "cloud-training-bucket")
CONDITION = 'assertion.repository_id == "4711" && assertion.repository_owner_id == "815"'
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/cloud-training/train"
POOL = f"projects/{NUMBER}/locations/global/workloadIdentityPools/cloud-training-github"
# All that the two accounts may do, and where.
ROLES = {
    ("project", PROJECT): {
        ("roles/aiplatform.user", LAUNCH),
        ("roles/logging.viewer", LAUNCH),
        ("roles/serviceusage.serviceUsageViewer", LAUNCH),
        ("roles/logging.logWriter", TRAIN),
    },
    BUCKET: {
        ("roles/storage.objectUser", LAUNCH),
        ("roles/storage.legacyBucketReader", LAUNCH),
        ("roles/storage.objectUser", TRAIN),
        ("roles/storage.legacyBucketReader", TRAIN),
    },
    ("repository", "cloud-training"): {
        ("roles/artifactregistry.writer", LAUNCH),
        ("roles/artifactregistry.reader", TRAIN),
    },
    ("account", TRAIN.partition(":")[2]): {("roles/iam.serviceAccountUser", LAUNCH)},
    ("account", LAUNCH.partition(":")[2]): {
        (
            "roles/iam.workloadIdentityUser",
            f"principalSet://iam.googleapis.com/{POOL}/attribute.repository_id/4711",
        )
    },
    ("secret", "cloud-training-wandb"): {
        ("roles/secretmanager.viewer", LAUNCH),
        ("roles/secretmanager.secretAccessor", TRAIN),
    },
}


@dataclass(frozen=True)
class Step:
    """What one run of a script has printed, asked for, and left behind."""

    code: int
    output: str
    errors: str
    written: list[str]
    resources: dict[tuple[str, str], Resource]
    roles: dict[tuple[str, str], set[tuple[str, str]]]
    github: GitHub


def take(stage: Setup, project: BakedProject, script: str, **env: str) -> Step:
    """Runs a script; nobody answers its questions."""
    before = len(stage.written)
    environment: dict[str, Any] = stage.env | env
    result = project.run("bash", "-c", f"exec infra/{script} < /dev/null", check=False, **environment)
    state = stage.project
    roles = {where: state.roles(*where) for where in state.policies if state.roles(*where)}
    left = copy.deepcopy(state.resources), roles, stage.github
    return Step(result.returncode, result.stdout, result.stderr, stage.written[before:], *left)


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject], tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """The default bake, with a repository on GitHub."""
    project = bake().copy(tmp_path_factory.mktemp("infra") / "cloud-training")
    project.run("git", "remote", "add", "origin", "git@github.com:octo-org/leaves.git")
    return project


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    with google_setup(tmp_path_factory.mktemp("google") / "stage") as stage:
        yield stage


# The life of one project, one step after the other: each takes gcloud about half a minute.


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
    resources["pool", "cloud-training-github"]["state"] = "DELETED"
    resources["provider", "github"] |= {
        "state": "DELETED",
        "attributeCondition": "assertion.repository == 'octo-org/leaves'",
    }
    resources["repository", "cloud-training"]["cleanupPolicies"] = {}
    stage.faults.append(("PATCH .*/budgets/", 403))
    return take(stage, project, "setup", PROJECT=PROJECT, WANDB_API_KEY=KEY + "-2", BUDGET="80")


@pytest.fixture(scope="module")
def destroyed(repaired: Step, stage: Setup, project: BakedProject) -> Step:
    """All of it removed, with data; something is gone already, and trainings are running."""
    stage.project.remove("secret", "cloud-training-wandb")
    for name, slug, state in (
        ("1", "cloud-training", "RUNNING"),
        ("2", "other", "RUNNING"),
        ("3", "cloud-training", "SUCCEEDED"),
    ):
        path = f"projects/{NUMBER}/locations/us-central1/customJobs/{name}"
        stage.resources["job", name] = {
            "name": path,
            "labels": {"project": slug},
            "state": f"JOB_STATE_{state}",
        }
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
    }
    assert "uv run launch cloud=vertex doctor_only=true" in prepared.output


def test_grants_exactly_the_roles_that_are_needed(prepared: Step) -> None:
    assert prepared.roles == ROLES


def test_the_bucket_is_private_and_only_checkpoints_expire(prepared: Step) -> None:
    bucket = prepared.resources[BUCKET]
    assert bucket["location"] == "US-CENTRAL1"
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
        "google.subject": "assertion.sub",
        "attribute.repository_id": "assertion.repository_id",
    }


def test_the_budget_sends_mails_on_the_way(prepared: Step) -> None:
    (budget,) = (content for (kind, _), content in prepared.resources.items() if kind == "budget")
    assert budget["amount"]["specifiedAmount"]["units"] == "50"
    assert [rule["thresholdPercent"] for rule in budget["thresholdRules"]] == [0.5, 0.9, 1.0]
    assert budget["budgetFilter"]["projects"] == [f"projects/{NUMBER}"]


def test_github_learns_where_to_go(prepared: Step) -> None:
    assert prepared.github.environments == ["cloud"]
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
    ):
        assert repaired.resources[name] == prepared.resources[name], name
    assert repaired.roles == ROLES
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
    left = {(kind, name) for kind, name in destroyed.resources if kind != "job"}
    assert left == {("pool", "cloud-training-github"), ("provider", "github")}, (
        "Google keeps these for 30 days"
    )
    assert destroyed.resources["pool", "cloud-training-github"]["state"] == "DELETED"
    assert destroyed.roles == {}
    assert destroyed.github.variables == {}
    assert destroyed.github.environments == []
    assert "cloud-training-wandb: was gone" in destroyed.output


def test_destroy_ends_the_trainings_of_this_project_only(destroyed: Step, stage: Setup) -> None:
    assert stage.project.cancelled == ["1"]


REFUSALS: dict[str, tuple[Callable[[Setup], dict[str, str]], str]] = {
    "no login to Google": (
        lambda stage: {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": ""},
        "You are not logged in to Google Cloud: run 'gcloud auth login' first.",
    ),
    "no login to GitHub": (
        lambda stage: change_github(stage, logged_in=False),
        "You are not logged in to GitHub: run 'gh auth login' first.",
    ),
    "no project": (
        lambda stage: {"PROJECT": ""},
        "No Google Cloud project is chosen: choose one with PROJECT=id",
    ),
    "unknown project": (lambda stage: {"PROJECT": "other"}, "There is no project 'other' that you may use:"),
    "no billing": (
        lambda stage: change(stage, billing=False),
        f"The project '{PROJECT}' has no billing account:",
    ),
    "unknown repository": (
        lambda stage: {"GITHUB_REPO": "octo-org/other"},
        "There is no repository 'octo-org/other' on GitHub that you may see:",
    ),
    "not an administrator": (
        lambda stage: change_github(stage, admin=False),
        "You may not set variables of 'octo-org/leaves':",
    ),
    "bucket elsewhere": (
        lambda stage: change(stage, resources={BUCKET: {"name": BUCKET[1], "location": "EU"}}),
        "The bucket gs://cloud-training-bucket is not in us-central1,",
    ),
    "somebody else's bucket": (
        lambda stage: stage.faults.append(("GET .*/storage/v1/b/", 403)) or {},
        "The bucket gs://cloud-training-bucket belongs to somebody else:",
    ),
    "odd budget": (lambda stage: {"BUDGET": "50 USD"}, "'50 USD' is no budget:"),
    "odd repository": (lambda stage: {"GITHUB_REPO": "https://example.org/x"}, "is no repository on GitHub:"),
}


def change(stage: Setup, **settings: object) -> dict[str, str]:
    for name, value in settings.items():
        setattr(stage.project, name, value)
    return {}


def change_github(stage: Setup, **settings: bool) -> dict[str, str]:
    github = stage.github
    for name, value in settings.items():
        setattr(github, name, value)
    github.save(stage.folder / "github.json")
    return {}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_missing_is_one_sentence_and_nothing_is_made(
    name: str, project: BakedProject, tmp_path: Path
) -> None:
    prepare, sentence = REFUSALS[name]
    with google_setup(tmp_path / "stage") as stage:
        step = take(stage, project, "setup", **({"PROJECT": PROJECT} | prepare(stage)))
        assert step.code == 1
        assert sentence in step.errors
        assert step.errors.count("\n") == 1
        assert step.output == ""
        assert step.written == []
        assert stage.github.variables == {}


@pytest.mark.parametrize("missing", ["gcloud", "gh"])
def test_a_missing_program_is_one_sentence(missing: str, project: BakedProject) -> None:
    needed = ["bash", "cat", "dirname", "git", "grep", "mktemp", "rm", "tr", *({"gcloud"} - {missing})]
    with only_programs(*needed):
        result = project.run("bash", "infra/setup", check=False, PROJECT=PROJECT)
    assert result.returncode == 1
    assert re.fullmatch(rf"{missing} is missing: install .*\n", result.stderr)


def test_destroy_without_an_answer_removes_nothing(project: BakedProject, tmp_path: Path) -> None:
    with google_setup(tmp_path / "stage") as stage:
        step = take(stage, project, "destroy", PROJECT=PROJECT)
    assert step.code == 1
    assert "Type cloud-training to go on:" in step.output
    assert step.errors == "Nothing was removed.\n"
    assert step.written == []


def dry_run(project: BakedProject, script: str, **env: Any) -> list[str]:
    """The commands that are printed, with no program at hand that could talk to anybody."""
    with only_programs("bash", "cat", "dirname", "git", "grep", "mktemp", "rm", "tr"):
        result = project.run("bash", f"infra/{script}", DRY_RUN="1", **env)
    assert KEY not in result.stdout
    lines = result.stdout.splitlines()
    return [line for line in lines if not line.startswith("# ")]


@pytest.fixture(scope="module")
def dry_runs(project: BakedProject) -> dict[str, list[str]]:
    env: dict[str, Any] = {"PROJECT": PROJECT, "WANDB_API_KEY": KEY, "BILLING_ACCOUNT": ACCOUNT}
    return {
        "setup": dry_run(project, "setup", **env),
        "destroy": dry_run(project, "destroy", **env),
        "destroy data": dry_run(project, "destroy", DATA="delete", **env),
    }


def test_a_dry_run_prints_what_gcloud_and_gh_understand(
    dry_runs: dict[str, list[str]], tmp_path: Path
) -> None:
    lines = [line for each in dry_runs.values() for line in each]
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program in ("gcloud", "gh")
        if program == "gh":
            parse(arguments)
    verdicts = check_with_gcloud(
        [*(line for line in lines if line.startswith("gcloud ")), "gcloud projects list --bogus"], tmp_path
    )
    wrong = [verdict["command_string"] for verdict in verdicts if not verdict["success"]]
    assert wrong == ["gcloud projects list --bogus"], [verdict["error_message"] for verdict in verdicts]


def check_with_gcloud(commands: list[str], folder: Path) -> list[dict]:
    """What gcloud's own parser says of each command."""
    program = shutil.which("gcloud")
    if program is None:
        pytest.skip("gcloud is not installed: its parser is needed to try what a dry run prints")
    (folder / "commands.json").write_text(json.dumps([{"command_string": command} for command in commands]))
    env = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(folder / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    }
    command = [program, "meta", "lint-gcloud-commands", f"--commands-file={folder}/commands.json"]
    return json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)


def test_a_dry_run_prints_what_would_be_run(
    dry_runs: dict[str, list[str]], prepared: Step, stage: Setup
) -> None:
    """As many changes as a real first setup makes: those of the run that failed, and those of the next."""
    changing = re.compile(
        r"gcloud .*\b(create|create-oidc|enable|add|add-iam-policy-binding|set-cleanup-policies)\b.* |gh variable set|gh api --method"
    )
    end = next(i for i, line in enumerate(stage.commands) if "variable set CLOUD_IMAGE" in line) + 1
    really = {unquoted(line) for line in stage.commands[:end] if changing.match(line)}
    printed = {
        unquoted(
            line.replace("PROJECT_NUMBER", NUMBER).replace("REPOSITORY_ID", "4711").replace("OWNER_ID", "815")
        )
        for line in dry_runs["setup"]
    }
    assert printed == really


def unquoted(line: str) -> str:
    """Without what a shell takes off, so that command lines can be compared."""
    return re.sub(r"['\"\\]", "", line)


def test_data_goes_only_when_it_is_asked_for(dry_runs: dict[str, list[str]]) -> None:
    removal = [line for line in dry_runs["destroy data"] if line.startswith("gcloud storage rm ")]
    assert len(removal) == 1
    assert not any("storage rm" in line or "buckets delete" in line for line in dry_runs["destroy"])


@pytest.mark.parametrize("slug", ["a", "gcp-leaves", "leaf-" * 12 + "abc"])
def test_names_are_such_as_google_takes(slug: str, bake: Callable[..., BakedProject]) -> None:
    project = bake(project_slug=slug, package_name="leaves", bucket="leaf-store")
    listed = project.run(
        "bash", "-c", '. infra/names.sh; echo "$POOL $LAUNCHER $TRAINER $SLUG"'
    ).stdout.split()
    pool, launcher, trainer, repository = listed
    assert re.fullmatch(r"(?!gcp-)[a-z0-9-]{4,32}", pool)
    for account in (launcher, trainer):
        assert re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", repository)


@pytest.mark.parametrize("script", ["setup", "destroy"])
def test_shellcheck_has_nothing_to_say(script: str, project: BakedProject) -> None:
    shellcheck = Path(shutil.which("shellcheck") or "/no/shellcheck")
    if not shellcheck.is_file():
        pytest.skip("shellcheck is not installed")
    result = project.run(str(shellcheck), "-x", f"infra/{script}", check=False)
    assert result.stdout == ""
