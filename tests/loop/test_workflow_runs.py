"""The workflows of a project run under act, with a project that is as small as can be: the workflows are the real ones."""

import json
import re
import shutil
import urllib.error
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from baking import BakedProject
from stage import containers
from stage.github.hub import GitHub, WorkflowRun, github
from stage.google.identity import identity
from stage.registry import manifest, registry

LAUNCH = """
import json, os, subprocess, sys

def commit():
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()

def main():
    print("LAUNCHED " + json.dumps(sys.argv[1:]), flush=True)
    print("FOR PULL REQUEST", os.environ["PULL_REQUEST"], "OF COMMIT", commit())
    print("PWNED" if os.path.exists("/tmp/pwned") else "UNHARMED")
    assert os.path.isfile(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    if any("refused" in word for word in sys.argv):
        sys.exit("There is no model.refused; did you mean model.width?")
    with open(os.environ["GITHUB_STEP_SUMMARY"], "a") as page:
        page.write("A training has started.\\n")
"""
JANITOR = """
import os

def main():
    assert os.path.isfile(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    print("TIDIED", "with a token" if os.environ.get("GITHUB_TOKEN") else "", flush=True)
    if os.path.exists("untidy"):
        raise SystemExit("one: It answers 503.")
"""
PYPROJECT = """
[project]
name = "small"
version = "1"
requires-python = ">=3.11"
[dependency-groups]
launch = ["launcher"]
[tool.uv.sources]
launcher = { path = "launcher", editable = true }
"""
LAUNCHER = """
[project]
name = "launcher"
version = "1"
requires-python = ">=3.11"
scripts = { launch = "launcher.launch:main", janitor = "launcher.janitor:main" }
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
MAKEFILE = "check test:\n\t@test ! -f broken\n"


def commit(project: BakedProject, message: str, files: Mapping[str, str]) -> None:
    """Writes files and commits everything."""
    for name, text in files.items():
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text(text)
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-qm", message)


def ran(run: WorkflowRun) -> dict[str, str]:
    """The jobs of a run that were not skipped."""
    return {name: result for name, result in run.jobs.items() if result != "skipped"}


@pytest.fixture
def small(bake, tmp_path: Path) -> BakedProject:
    """A bake with its own workflows, a launch that only says what it was told, and no dependencies."""
    project = bake().copy(tmp_path / "small")
    for name in ("tests", "configs", "notebooks", "uv.lock", "src", "launcher"):
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    files = {
        "pyproject.toml": PYPROJECT,
        "launcher/pyproject.toml": LAUNCHER,
        "launcher/src/launcher/__init__.py": "",
        "launcher/src/launcher/launch.py": LAUNCH,
        "launcher/src/launcher/janitor.py": JANITOR,
        "src/small.py": "",
        "Makefile": MAKEFILE,
        "Dockerfile": "FROM scratch\nCOPY src /src\n",
    }
    for name, text in files.items():
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_text(text)
    project.run("uv", "lock", "-q")
    commit(project, "Small", {})
    return project


@pytest.fixture
def unprepared(small: BakedProject, tmp_path: Path) -> Iterator[GitHub]:
    with github(small.folder, tmp_path / "github") as here:
        yield here


@pytest.fixture
def prepared(small: BakedProject, tmp_path: Path) -> Iterator[GitHub]:
    """What `make cloud-setup` leaves: variables, an identity pool, a registry."""
    containers.require()
    with (
        registry(tmp_path / "registry") as host,
        identity() as google,
        github(small.folder, tmp_path / "github", id_token=google.github) as here,
    ):
        here.env |= {
            f"GHA_ENDPOINT_OVERRIDE_{name}": f"{google.url}/v1" for name in ("sts", "iamcredentials")
        }
        here.variables = {
            "CLOUD_IMAGE": f"{host}/stage-project/small/train",
            "GCP_PROJECT": google.project,
            "GCP_WORKLOAD_IDENTITY_PROVIDER": google.provider,
            "GCP_SERVICE_ACCOUNT": google.account("small-launch", repository=True).email,
        }
        yield here
    name = here.variables["CLOUD_IMAGE"]
    built = containers.docker(
        "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference={name}"
    )
    containers.docker("image", "rm", *built.stdout.split(), check=False)


def launched(log: str) -> list[str]:
    """The arguments that the launch of the small project was given."""
    found = re.search(r"LAUNCHED (\[.*\])", log)
    assert found, log
    return json.loads(found[1])


def test_before_the_cloud_is_prepared_a_push_is_green_and_says_what_to_do(unprepared: GitHub) -> None:
    ci, train = unprepared.push()
    assert ci.jobs == {"ci": "success"}
    assert ran(train) == {"unprepared": "success"}
    assert "make cloud-setup" in train.summary
    # By hand, somebody waits for a training.
    assert unprepared.dispatch().jobs["unprepared"] == "failure"
    # No minute is billed before there is anything to look after.
    assert [ran(run) for run in unprepared.schedule()] == [{}, {}]


def test_a_push_builds_pushes_and_launches_by_digest(prepared: GitHub, small: BakedProject) -> None:
    [train] = prepared.push(only=["train.yml"])
    assert train.succeeded, train.log
    assert ran(train) == {"test": "success", "build": "success", "launch": "success"}
    host, _, name = prepared.variables["CLOUD_IMAGE"].partition("/")
    commit_id = small.run("git", "rev-parse", "HEAD").stdout.strip()
    digest, image = manifest(host, name, "main")
    assert manifest(host, name, commit_id)[0] == digest
    assert "layers" in image  # one image, and no index with a dated attestation
    expected = ["cloud=vertex", f"cloud.image={prepared.variables['CLOUD_IMAGE']}@{digest}"]
    assert launched(train.log) == [*expected, "cloud.one_per_branch=true"]
    assert train.summary == "A training has started.\n"
    config = containers.docker(
        "image", "inspect", f"{host}/{name}:main", "--format", "{{json .Config.Labels}}"
    )
    assert json.loads(config.stdout)["org.opencontainers.image.revision"] == commit_id
    assert "gha-creds" not in "".join(path.name for path in prepared.checkout.rglob("*"))


def test_inputs_reach_the_launch_as_text_and_its_refusal_is_on_the_page(prepared: GitHub) -> None:
    prepared.push(only=[])
    overrides = "model.refused=2 a=$(touch /tmp/pwned) b=`touch /tmp/pwned` c='x; touch /tmp/pwned' && *"
    run = prepared.dispatch(
        inputs={"overrides": overrides, "machine": "l4; touch /tmp/pwned", "spot": "false"}
    )
    assert launched(run.log)[:-3] == [
        *overrides.split(),
        "cloud.machine=l4; touch /tmp/pwned",
        "cloud.spot=false",
    ]
    assert "UNHARMED" in run.log
    assert (run.jobs["build"], run.jobs["launch"], run.jobs["tidy"]) == ("success", "failure", "success")
    assert "TIDIED with a token" in run.log  # for it may have died half-way
    assert run.errors[0] == "There is no model.refused; did you mean model.width?"
    assert run.errors[0] in run.summary


def test_nothing_is_built_or_launched_when_it_should_not_be(prepared: GitHub, small: BakedProject) -> None:
    prepared.push(only=[])
    commit(small, "Words", {"README.md": "# Small\n"})
    assert prepared.push(only=["train.yml"]) == []
    commit(small, "A comment\n\n[skip train]", {"Dockerfile": "FROM scratch\nCOPY . /\n"})
    [skipped] = prepared.push(only=["train.yml"])
    assert set(skipped.jobs.values()) == {"skipped"}
    commit(small, "Breaks", {"broken": "", "Dockerfile": "FROM scratch\nCOPY src /\n"})
    [failed] = prepared.push(only=["train.yml"])
    assert ran(failed) == {"test": "failure"}


def test_a_fork_and_a_job_without_the_permission_get_no_credentials(
    prepared: GitHub, small: BakedProject
) -> None:
    prepared.push(only=[])
    head = small.read(".github/workflows/ci.yml").split("      - uses: astral-sh")[0]
    tail = "      - uses: ./.github/actions/cloud-login\n        with:\n          vars: ${{ toJSON(vars) }}\n"
    asks = head.replace("      contents: read\n", "      contents: read\n      id-token: write\n")
    for text, fork, result in ((asks, True, "failure"), (head, False, "failure"), (asks, False, "success")):
        branch = f"{result}-{fork}"
        small.run("git", "checkout", "-q", "-b", branch, "main")
        commit(small, "Asks for credentials", {".github/workflows/ci.yml": text + tail})
        [run] = prepared.pull_request(branch, fork=fork)
        assert (run.workflow, run.jobs) == ("ci.yml", {"ci": result}), run.log
        assert ("did not inject ACTIONS_ID_TOKEN_REQUEST_TOKEN" in run.log) == (result == "failure")


def test_the_label_trains_the_head_of_a_pull_request_briefly(prepared: GitHub, small: BakedProject) -> None:
    prepared.push(only=[])
    host, _, name = prepared.variables["CLOUD_IMAGE"].partition("/")
    branch = "main$(touch${IFS}/tmp/pwned)"
    small.run("git", "checkout", "-q", "-b", branch)
    commit(small, "Wider", {"Dockerfile": "FROM scratch\nCOPY src /wider\n"})
    head = small.run("git", "rev-parse", "HEAD").stdout.strip()
    [run] = prepared.pull_request(branch, number=7, action="labeled", label="train")
    assert ran(run) == {"test": "success", "build": "success", "launch": "success"}, run.log
    assert launched(run.log)[:3] == ["trainer.max_epochs=2", "cloud.max_hours=0.5", "cloud.max_cost_usd=1"]
    assert launched(run.log)[3] == "cloud=vertex"
    assert f"FOR PULL REQUEST 7 OF COMMIT {head}" in run.log
    assert "UNHARMED" in run.log
    digest, _ = manifest(host, name, head)
    assert manifest(host, name, "branch-main--touch--IFS--tmp-pwned-")[0] == digest
    assert launched(run.log)[4] == f"cloud.image={prepared.variables['CLOUD_IMAGE']}@{digest}"
    label = containers.docker("image", "inspect", f"{host}/{name}:{head}", "--format", "{{.Config.Labels}}")
    assert f"revision:{head}" in label.stdout
    with pytest.raises(urllib.error.HTTPError, match="404"):
        manifest(host, name, "main")


def test_nothing_else_on_a_pull_request_trains(prepared: GitHub, small: BakedProject) -> None:
    prepared.push(only=[])
    small.run("git", "checkout", "-q", "-b", "main-too")
    commit(small, "Wider", {"Dockerfile": "FROM scratch\nCOPY src /wider\n"})
    for label in ("trains", "re-train", "bug", "train;true"):
        [run] = prepared.pull_request("main-too", action="labeled", label=label)
        assert ran(run) == {}, label
    for action in ("opened", "synchronize", "unlabeled", "edited", "closed"):
        runs = prepared.pull_request("main-too", action=action, label="train", only=["train.yml"])
        assert runs == [], action
    [run] = prepared.pull_request("main-too", action="labeled", label="train", fork=True)
    assert ran(run) == {"fork": "failure"}
    assert "Nothing is trained for a fork" in run.summary


def test_the_janitor_is_red_when_not_all_is_tidy(prepared: GitHub, small: BakedProject) -> None:
    prepared.push(only=[])
    [run] = prepared.schedule(only=["janitor.yml"])
    assert ran(run) == {"janitor": "success"}
    assert "TIDIED with a token" in run.summary
    commit(small, "Trouble", {"untidy": ""})
    prepared.push(only=[])
    [run] = prepared.schedule(only=["janitor.yml"])
    assert ran(run) == {"janitor": "failure"}
    assert run.errors == ["one: It answers 503."]
