"""The workflows of a project: what starts them, what they may do, what their shell lines do with inputs."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from baking import clean_env
from stage.github.workflows import (
    RefusedWorkflowError,
    check_inputs,
    check_uses,
    identity_jobs,
    selects,
    starts,
    token_permissions,
    triggers,
)

TRAINS = [
    *("src/cloud_training/train.py", "configs/train.yaml", "configs/model/cnn.yaml", "Dockerfile"),
    *("pyproject.toml", "uv.lock", "dvc.lock", "data.dvc", "data/digits.dvc"),
]
TRAINS_NOT = ["README.md", "tests/test_data.py", "dvc.yaml", ".dvc/config", "infra/setup", "docs/src.md"]


@pytest.fixture
def workflows(bake) -> dict[str, dict[Any, Any]]:
    files = sorted((bake().folder / ".github/workflows").glob("*.yml"))
    return {path.name: yaml.safe_load(path.read_text()) for path in files}


def steps(parsed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The steps of all jobs of a workflow, or of a local action."""
    for job in [*parsed.get("jobs", {}).values(), parsed.get("runs", {})]:
        yield from job.get("steps", ())


# The examples of GitHub's own table of filter patterns, and what they leave out.
@pytest.mark.parametrize(
    ("patterns", "selected", "left_out"),
    [
        ("*", "README.md server.rb", "docs/README.md"),
        ("*.jsx?", "page.js page.jsx", "page.jsxx src/page.js"),
        ("**", "all/the/files.md", ""),
        ("*.js", "app.js index.js", "js/index.js"),
        ("**.js", "index.js js/index.js src/js/app.js", "index.jsx"),
        ("docs/*", "docs/README.md docs/file.txt", "docs/a/file.txt"),
        ("docs/**", "docs/README.md docs/mona/octocat.txt", "doc/README.md"),
        ("docs/**/*.md", "docs/README.md docs/mona/hello-world.md docs/a/markdown/file.md", "docs/file.txt"),
        ("**/docs/**", "docs/hello.md dir/docs/my-file.txt space/docs/plan/space.doc", "dir/doc/file"),
        ("**/README.md", "README.md js/README.md", "js/READMEmd"),
        ("**/*src/**", "a/src/app.js my-src/code/js/app.js", "a/srcs/app.js"),
        ("**/*-post.md", "my-post.md path/their-post.md", "post.md"),
        ("**/migrate-*.sql", "migrate-10909.sql db/sept/migrate-v1.sql", "db/migrate.sql"),
        ("*.md !README.md", "hello.md", "README.md docs/hello.md"),
        ("*.md !README.md README*", "hello.md README.md README.doc", "server.rb"),
        ("feature/**", "feature/beta-a/my-branch feature/your-branch", "feature"),
        ("*feature", "mona-feature feature ver-10-feature", "features"),
        ("v[12].[0-9]+.[0-9]+", "v1.10.1 v2.0.0", "v3.0.0 v1.10"),
    ],
)
def test_filters_select_what_github_documents(patterns: str, selected: str, left_out: str) -> None:
    assert all(selects(patterns.split(), name) for name in selected.split())
    assert not any(selects(patterns.split(), name) for name in left_out.split())


def test_events_start_what_github_documents() -> None:
    assert starts({"on": "push"}, "push", "any", ["a"])
    assert not starts({"on": ["pull_request"]}, "push", "main", ["a"])
    assert not starts({"on": {"push": {"tags": ["v*"]}}}, "push", "main", ["a"])
    assert not starts({"on": {"push": {"branches-ignore": ["wip/**"]}}}, "push", "wip/a", ["a"])
    ignored = {"on": {"push": {"paths-ignore": ["docs/**"]}}}
    assert [starts(ignored, "push", "main", paths) for paths in (["docs/a"], ["docs/a", "b"])] == [
        False,
        True,
    ]
    assert not starts({"on": "push"}, "push", "main", ["a"], "Typo [skip ci]")


@pytest.mark.parametrize("path", TRAINS + TRAINS_NOT)
def test_only_what_trains_starts_a_training(path: str, workflows) -> None:
    assert starts(workflows["train.yml"], "push", "main", ["README.md", path]) == (path in TRAINS)
    assert not starts(workflows["train.yml"], "push", "other", [path])
    assert starts(workflows["ci.yml"], "push", "main", [path])


# What can happen to a pull request, as far as a workflow may wait for it.
ACTIONS = [
    "assigned",
    "auto_merge_disabled",
    "auto_merge_enabled",
    "closed",
    "converted_to_draft",
    "demilestoned",
    "dequeued",
    "edited",
    "enqueued",
    "labeled",
    "locked",
    "milestoned",
    "opened",
    "ready_for_review",
    "reopened",
    "review_request_removed",
    "review_requested",
    "synchronize",
    "unassigned",
    "unlabeled",
    "unlocked",
]


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_but_a_label_on_a_pull_request_starts_what_can_log_in(action: str, workflows) -> None:
    started = [
        name
        for name, flow in workflows.items()
        if starts(flow, "pull_request", "main", TRAINS, action=action)
    ]
    usual = ["ci.yml"] if action in ("opened", "synchronize", "reopened") else []
    assert started == (["train.yml"] if action == "labeled" else usual)


def test_a_pull_request_reaches_no_identity_no_secret_and_no_environment(workflows) -> None:
    assert identity_jobs(workflows, "ci.yml") == {}
    assert not re.search(r"secrets|environment|vars\b|token", json.dumps(workflows["ci.yml"]["jobs"]))
    for workflow in workflows.values():
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & triggers(workflow).keys()


def test_jobs_may_do_what_they_need_and_end_in_time(workflows) -> None:
    for name, workflow in workflows.items():
        assert workflow["permissions"] == {}, name
        for job, spec in workflow["jobs"].items():
            report = {"pull-requests", "statuses"} if job in ("janitor", "tidy") else set()
            assert set(spec["permissions"]) <= {"contents", "id-token"} | report, job
            assert spec["permissions"].get("contents", "read") == "read"
            assert "uses" in spec or spec["timeout-minutes"] <= 60, job
    assert identity_jobs(workflows, "train.yml") == {"build": "", "launch": "cloud", "janitor": ""}
    # The janitor must not wait for a reviewer.
    assert identity_jobs(workflows, "janitor.yml") == {"janitor": ""}


def test_only_the_janitor_has_the_token_and_may_report_with_it(workflows) -> None:
    allowed = {"contents": "read", "id-token": "write", "pull-requests": "write", "statuses": "write"}
    assert token_permissions(workflows, "janitor.yml") == allowed
    assert token_permissions(workflows, "train.yml") == allowed  # where it calls the janitor
    assert token_permissions(workflows, "ci.yml") == {}
    workflows["train.yml"]["jobs"]["tidy"]["permissions"] = {"statuses": "read", "contents": "write"}
    assert token_permissions(workflows, "train.yml") == {"contents": "read"}


def test_the_janitor_comes_every_six_hours_and_one_at_a_time(workflows) -> None:
    janitor = workflows["janitor.yml"]
    assert set(triggers(janitor)) == {"schedule", "workflow_dispatch", "workflow_call"}
    schedule: Any = triggers(janitor)["schedule"]
    ((minute, *rest),) = [entry["cron"].split() for entry in schedule]
    assert rest == ["*/6", "*", "*", "*"]
    assert int(minute) not in (0, 15, 30, 45)  # when all the world's workflows start
    # A job that is skipped is not billed: before the cloud is set up a schedule starts none.
    conditions = {name: job["if"] for name, job in janitor["jobs"].items()}
    assert conditions["janitor"] == "vars.CLOUD_IMAGE != ''"
    assert "github.event_name == 'workflow_dispatch'" in conditions["unprepared"]
    assert janitor["concurrency"] == {"group": "janitor", "cancel-in-progress": False}


def test_what_a_label_may_cost_stands_in_one_place(workflows) -> None:
    short = dict(word.split("=") for word in workflows["train.yml"]["env"]["SHORT"].split())
    assert int(short["trainer.max_epochs"]) <= 3
    assert float(short["cloud.max_hours"]) <= 0.5
    assert float(short["cloud.max_cost_usd"]) <= 1


def test_trainings_of_a_branch_wait_for_each_other_and_not_for_their_own_tests(workflows) -> None:
    train, ci = (workflows[name]["concurrency"] for name in ("train.yml", "ci.yml"))
    assert not train["cancel-in-progress"]
    assert "github.ref" in train["group"]
    # Called by train.yml, the name that ci.yml sees is "train".
    as_called = ci["group"].replace("${{ github.workflow }}", "train").replace("-${{ github.ref }}", "-REF")
    assert as_called == "ci-train-REF"
    assert train["group"].replace("${{ github.ref }}", "REF").startswith("train-REF")


def test_no_expression_stands_in_a_shell_line(bake) -> None:
    for path in (bake().folder / ".github").rglob("*.yml"):
        lines = [step["run"] for step in steps(yaml.safe_load(path.read_text())) if "run" in step]
        assert not any("${{" in line for line in lines), path


def test_shell_lines_pass_shellcheck(bake, tmp_path: Path) -> None:
    project = bake()
    for number, path in enumerate((project.folder / ".github").rglob("*.yml")):
        for index, step in enumerate(steps(yaml.safe_load(path.read_text()))):
            script = tmp_path / f"{number}-{index}.sh"
            script.write_text(f"#!/bin/bash\n{step.get('run', '')}\n")
            project.run("shellcheck", str(script))


def test_actions_exist_are_pinned_and_get_inputs_that_they_have(bake) -> None:
    project = bake()
    check_uses(project.folder)
    for path in (project.folder / ".github").rglob("*.yml"):
        for used in re.findall(r"\buses: (.*)", path.read_text()):
            outside = re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used)
            local = re.match(r"\./(\S+)", used)
            assert outside or (local and (project.folder / local[1]).exists()), used


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("uses: docker/build-push-action@x\nwith: {pusch: true}", "no input pusch"),
        ("uses: someone/something@x", "no stand-in for someone/something"),
    ],
)
def test_the_stage_refuses_actions_and_inputs_that_there_are_not(
    step: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / ".github").mkdir()
    workflow = {"jobs": {"job": {"steps": [yaml.safe_load(step)]}}}
    (tmp_path / ".github/a.yml").write_text(yaml.safe_dump(workflow))
    with pytest.raises(RefusedWorkflowError, match=words):
        check_uses(tmp_path)


@pytest.mark.parametrize("inputs", [{"spot": "maybe"}, {"epochs": "3"}])
def test_the_stage_refuses_inputs_that_the_form_has_not(inputs: dict[str, str], workflows) -> None:
    with pytest.raises(RefusedWorkflowError):
        check_inputs(triggers(workflows["train.yml"])["workflow_dispatch"]["inputs"], inputs)


def test_permission_to_ask_for_identity_needs_the_callers_too() -> None:
    called = {"on": "workflow_call", "permissions": {"id-token": "write"}, "jobs": {"inner": {}}}
    outer: dict[str, Any] = {
        "jobs": {"call": {"uses": "./.github/workflows/a.yml"}, "own": {"permissions": "write-all"}}
    }
    files = {"a.yml": called, "b.yml": outer}
    assert identity_jobs(files, "b.yml") == {"own": ""}
    outer["jobs"]["call"]["permissions"] = {"id-token": "write"}
    assert identity_jobs(files, "b.yml") == {"own": "", "inner": ""}


@pytest.fixture
def launch_step(bake, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the shell lines of the step Launch as GitHub does, with a launch that prints its arguments."""
    train = yaml.safe_load(bake().read(".github/workflows/train.yml"))
    [step] = [step for step in train["jobs"]["launch"]["steps"] if step.get("name") == "Launch"]
    (tmp_path / "step.sh").write_text(step["run"])
    program = tmp_path / ".venv/bin/launch"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/bash\nprintf "<%s>" "$@"\nif [[ $* == *wrong* ]]; then echo; echo "100% wrong."; exit 1; fi\n'
    )
    program.chmod(0o755)

    def run(**inputs: str) -> subprocess.CompletedProcess[str]:
        env = dict.fromkeys(step["env"], "") | {"IMAGE": "image@digest"} | inputs
        env |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step.sh"]
        return subprocess.run(
            command,
            check=False,
            cwd=tmp_path,
            env=clean_env(**env),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


FIXED = "<cloud=vertex><cloud.image=image@digest><cloud.one_per_branch=true>"


@pytest.mark.parametrize(
    ("inputs", "settings"),
    [
        ({}, ""),
        ({"OVERRIDES": "  a=1   b=[1,2] "}, "<a=1><b=[1,2]>"),
        ({"OVERRIDES": "a=1\nb=2"}, "<a=1><b=2>"),
        ({"OVERRIDES": "a=$(touch pwned) ; touch pwned"}, "<a=$(touch><pwned)><;><touch><pwned>"),
        ({"OVERRIDES": "*"}, "<*>"),
        (
            {"MACHINE": "t4 $HOME", "SPOT": "true", "HOURS": "1.5"},
            "<cloud.machine=t4 $HOME><cloud.spot=true><cloud.max_hours=1.5>",
        ),
    ],
)
def test_inputs_become_settings(inputs: dict[str, str], settings: str, launch_step, tmp_path: Path) -> None:
    done = launch_step(**inputs)
    assert (done.returncode, done.stdout) == (0, settings + FIXED), done.stderr
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "summary.md").exists()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("a=wrong", "100% wrong."),
        ("a=1 --help", "--help is no setting: write name=value."),
        ("-m a=1", "-m is no setting: write name=value."),
    ],
)
def test_a_refused_launch_is_red_and_says_why(
    overrides: str, sentence: str, launch_step, tmp_path: Path
) -> None:
    done = launch_step(OVERRIDES=overrides)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"::error title=The launch failed::{sentence.replace('%', '%25')}"
    assert sentence in (tmp_path / "summary.md").read_text()
