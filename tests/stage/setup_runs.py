"""Runs `cloud setup` and `cloud destroy` in a bake, and keeps what came of it."""

import copy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baking import BakedProject, only_programs

from stage.github.gh_program import GitHub
from stage.google.grants import Grant
from stage.google.project import ACCOUNT, NUMBER, PROJECT, Resource
from stage.google.roles import grants
from stage.google.setup import Setup

KEY = "wandb-key-that-nobody-may-see"
LAUNCH = f"serviceAccount:cloud-training-launch@{PROJECT}.iam.gserviceaccount.com"
TRAIN = f"serviceAccount:cloud-training-trainer@{PROJECT}.iam.gserviceaccount.com"
BUCKET = ("bucket", "cloud-training-bucket")
CONDITION = 'assertion.repository_id == "4711" && assertion.repository_owner_id == "815"'
IMAGE = f"us-central1-docker.pkg.dev/{PROJECT}/cloud-training/train"
POOL = f"projects/{NUMBER}/locations/global/workloadIdentityPools/cloud-training-github"
LAUNCHER_ROLE = f"projects/{PROJECT}/roles/cloud_training_launch"
OLD_ROLE = f"projects/{PROJECT}/roles/cloud_training_trainer"
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-aiplatform"
AGENTS = {
    ("roles/aiplatform.serviceAgent", f"{AGENT}.iam.gserviceaccount.com"),
    ("roles/aiplatform.customCodeServiceAgent", f"{AGENT}-cc.iam.gserviceaccount.com"),
}
SUBJECT = 'assertion.repository_id + ":" + assertion.run_id'
SCRIPTS = "launcher/src/launcher/providers/google/setup"
# All that the two accounts may do, and where.
ROLES = {
    ("project", PROJECT): {
        ("roles/aiplatform.user", LAUNCH),
        ("roles/batch.jobsEditor", LAUNCH),
        ("roles/logging.viewer", LAUNCH),
        ("roles/serviceusage.serviceUsageViewer", LAUNCH),
        (LAUNCHER_ROLE, LAUNCH),
        ("roles/batch.agentReporter", TRAIN),
        ("roles/logging.logWriter", TRAIN),
        *AGENTS,
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
    """What one run of a script has printed, asked for, and left behind.

    Args:
        grants: what the project's own roles allow launcher and trainer.
        kept: what was deleted from buckets and is still paid for.
    """

    code: int
    output: str
    errors: str
    written: list[str]
    resources: dict[tuple[str, str], Resource]
    roles: dict[tuple[str, str], set[tuple[str, str]]]
    github: GitHub
    conditions: dict[tuple[str, str], str]
    grants: tuple[list[Grant], list[Grant]]
    kept: list[tuple[str, str]]


def cloud(project: BakedProject, command: str, **env: Any) -> subprocess.CompletedProcess[str]:
    """Runs `cloud COMMAND` of the bake's own launcher, without installing the bake; nobody answers its questions."""
    words = (
        "bash",
        "-c",
        'exec "$@" < /dev/null',
        "-",
        sys.executable,
        "-m",
        "launcher.commands.setup",
        command,
    )
    return project.run(*words, check=False, PYTHONPATH=str(project.folder / "launcher" / "src"), **env)


def take(stage: Setup, project: BakedProject, script: str, **env: str) -> Step:
    """Runs a command, and keeps what came of it."""
    before = len(stage.written)
    result = cloud(project, script, **(stage.env | env))
    state = stage.project
    roles = {where: state.roles(*where) for where in state.policies if state.roles(*where)}
    own = grants(state, LAUNCH.partition(":")[2]), grants(state, TRAIN.partition(":")[2])
    left = (
        copy.deepcopy(state.resources),
        roles,
        stage.github,
        state.conditions("project", PROJECT),
        own,
        list(state.kept),
    )
    return Step(result.returncode, result.stdout, result.stderr, stage.written[before:], *left)


def on_github(project: BakedProject, folder: Path) -> BakedProject:
    """A copy of a bake that has a repository on GitHub."""
    copied = project.copy(folder)
    copied.run("git", "remote", "add", "origin", "git@github.com:octo-org/leaves.git")
    return copied


def dry_run(project: BakedProject, script: str, **env: Any) -> list[str]:
    """The commands that are printed, with no program at hand that could talk to anybody."""
    env = {"PROJECT": PROJECT, "WANDB_API_KEY": KEY, "BILLING_ACCOUNT": ACCOUNT} | env
    with only_programs("bash", "cat", "dirname", "git", "grep", "mktemp", "rm", "tr"):
        result = cloud(project, script, DRY_RUN="1", **env)
    assert result.returncode == 0, result.stderr
    assert KEY not in result.stdout
    lines = result.stdout.splitlines()
    return [line for line in lines if not line.startswith("# ")]
