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
    without_deployment,
)

TRAINS = [
    *("src/cloud_training/train.py", "configs/train.yaml", "configs/model/cnn.yaml", "Dockerfile"),
    *("pyproject.toml", "uv.lock", "dvc.lock", "data.dvc", "data/digits.dvc"),
]
EACH = pytest.mark.parametrize("cloud", ["gcp", "aws", "azure"])
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
            longest = 120 if job == "promote" else 60
            assert "uses" in spec or spec["timeout-minutes"] <= longest, job


def test_each_job_that_logs_in_names_an_environment_and_only_a_launch_may_wait_for_a_reviewer(
    workflows,
) -> None:
    unattended = {"build": "unattended", "janitor": "unattended"}
    assert identity_jobs(workflows, "train.yml") == unattended | {"launch": "cloud"}
    assert identity_jobs(workflows, "janitor.yml") == {"janitor": "unattended"}
    assert identity_jobs(workflows, "predict.yml") == {"predict": "unattended", "janitor": "unattended"}
    assert identity_jobs(workflows, "serve.yml") == {"image": "unattended", "promote": "cloud"}
    for workflow, job in (
        *(("train.yml", "build"), ("janitor.yml", "janitor")),
        *(("predict.yml", "predict"), ("serve.yml", "image")),
    ):
        # Else each run would be told of as a deployment, and in a pull request too.
        assert workflows[workflow]["jobs"][job]["environment"]["deployment"] is False


def test_what_act_is_given_lacks_nothing_but_a_key_that_it_does_not_know(bake) -> None:
    for path in (bake().folder / ".github/workflows").glob("*.yml"):
        ours, given = yaml.safe_load(path.read_text()), yaml.safe_load(without_deployment(path.read_text()))
        for job in ours["jobs"].values():
            if "deployment" in (job.get("environment") or ()):
                del job["environment"]["deployment"]
        assert given == ours


def test_the_stage_refuses_an_environment_as_github_does() -> None:
    job = {"permissions": {"id-token": "write"}, "environment": {"name": "a", "reviewer": "b"}}
    with pytest.raises(RefusedWorkflowError, match="an environment has no reviewer"):
        identity_jobs({"a.yml": {"on": "push", "jobs": {"one": job}}}, "a.yml")


def test_only_the_janitor_has_the_token_and_may_report_with_it(workflows) -> None:
    allowed = {"contents": "read", "id-token": "write", "pull-requests": "write", "statuses": "write"}
    assert token_permissions(workflows, "janitor.yml") == allowed
    for name in ("train.yml", "predict.yml"):
        assert token_permissions(workflows, name) == allowed  # where it calls the janitor
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


@EACH
def test_no_expression_stands_in_a_shell_line(cloud: str, bake) -> None:
    for path in (bake(cloud=cloud).folder / ".github").rglob("*.yml"):
        lines = [step["run"] for step in steps(yaml.safe_load(path.read_text())) if "run" in step]
        assert not any("${{" in line for line in lines), path


@EACH
def test_shell_lines_pass_shellcheck(cloud: str, bake, tmp_path: Path) -> None:
    project = bake(cloud=cloud)
    for number, path in enumerate((project.folder / ".github").rglob("*.yml")):
        for index, step in enumerate(steps(yaml.safe_load(path.read_text()))):
            script = tmp_path / f"{number}-{index}.sh"
            script.write_text(f"#!/bin/bash\n{step.get('run', '')}\n")
            project.run("shellcheck", str(script))


@EACH
def test_actions_exist_are_pinned_and_get_inputs_that_they_have(cloud: str, bake) -> None:
    project = bake(cloud=cloud)
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


def run_step(step: Mapping[str, Any], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the shell lines of a step in a folder as GitHub does; `launch` and `models` print their arguments."""
    (folder / "step.sh").write_text(step["run"])
    for name in ("launch", "models"):
        program = folder / ".venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            '#!/bin/bash\nprintf "<%s>" "$@"\nif [[ $* == *wrong* ]]; then echo; echo "100% wrong."; exit 1; fi\n'
        )
        program.chmod(0o755)
    given = dict.fromkeys(step["env"], "") | env
    given |= {"RUNNER_TEMP": str(folder), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    given |= {"GITHUB_OUTPUT": str(folder / "outputs")}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step.sh"],
        check=False,
        cwd=folder,
        env=clean_env(**given),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def launch_step(bake, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the step Launch."""
    train = yaml.safe_load(bake().read(".github/workflows/train.yml"))
    [step] = [step for step in train["jobs"]["launch"]["steps"] if step.get("name") == "Launch"]
    return lambda **inputs: run_step(step, tmp_path, **{"IMAGE": "image@digest", **inputs})


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


@pytest.fixture
def predict_step(bake, tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs the shell lines that launch the nightly predictions, with a launch that prints its arguments."""
    job = yaml.safe_load(bake().read(".github/workflows/predict.yml"))["jobs"]["predict"]
    (step,) = [step for step in job["steps"] if "env" in step]
    return lambda model: run_step(
        step, tmp_path, IMAGE="image:main", MODEL=model, INPUT="gs://b/in", OUTPUT="gs://b/out"
    )


def test_each_night_what_has_come_in_is_predicted_once(predict_step) -> None:
    done = predict_step("digits@champion; touch pwned")
    given = "<model=digits@champion; touch pwned><input=gs://b/in><output=gs://b/out><once=true>"
    assert (
        done.stdout
        == f"<job=predict>{given}<cloud=vertex><cloud.image=image:main><cloud.one_per_branch=true>"
    )


def test_a_night_whose_launch_is_refused_is_red_and_says_why(predict_step, tmp_path: Path) -> None:
    done = predict_step("wrong")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "::error title=Nothing was launched::100%25 wrong."
    assert "100% wrong." in (tmp_path / "summary.md").read_text()


def test_nothing_is_predicted_before_all_that_it_needs_is_set(workflows) -> None:
    predict = workflows["predict.yml"]
    assert set(triggers(predict)) == {"schedule", "workflow_dispatch"}
    schedule: Any = triggers(predict)["schedule"]
    ((minute, hour, *rest),) = [entry["cron"].split() for entry in schedule]
    assert rest == ["*", "*", "*"]
    assert hour.isdigit()
    assert int(minute) not in (0, 15, 30, 45)
    for name in ("CLOUD_IMAGE", "PREDICT_MODEL", "PREDICT_INPUT", "PREDICT_OUTPUT"):
        assert f"vars.{name} != ''" in predict["jobs"]["predict"]["if"]
        assert f"vars.{name} == ''" in predict["jobs"]["unprepared"]["if"]
    assert "github.event_name == 'workflow_dispatch'" in predict["jobs"]["unprepared"]["if"]
    assert "||" not in predict["jobs"]["predict"]["if"]
    assert predict["concurrency"] == {"group": "predict", "cancel-in-progress": False}


@pytest.fixture
def promote_step(bake, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the shell lines that promote a version and let it answer."""
    job = yaml.safe_load(bake().read(".github/workflows/serve.yml"))["jobs"]["promote"]
    (step,) = [step for step in job["steps"] if "env" in step]
    return lambda **env: run_step(step, tmp_path, IMAGE="host/serve@sha256:1", **env)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "<promote><bucket:digits@v3; touch pwned>"),
        (
            {"FORCE": "the data was stale"},
            "<promote><bucket:digits@v3; touch pwned><force=the data was stale>",
        ),
        (
            {"SERVE_TO": "cloudrun until=2026-12-31 max=2"},
            (
                "<promote><bucket:digits@v3; touch pwned>"
                "<deploy><bucket:digits@v3; touch pwned><to=cloudrun><until=2026-12-31><max=2><image=host/serve@sha256:1>"
            ),
        ),
    ],
)
def test_a_version_is_promoted_and_answers_where_the_variable_says(
    env: dict[str, str], said: str, promote_step, tmp_path: Path
) -> None:
    done = promote_step(MODEL="digits@v3; touch pwned", **env)
    assert (done.returncode, done.stdout) == (0, said)
    assert said in (tmp_path / "summary.md").read_text()
    assert not (tmp_path / "pwned").exists()


def test_what_is_not_promoted_does_not_answer_anywhere_either(promote_step, tmp_path: Path) -> None:
    done = promote_step(MODEL="wrong", SERVE_TO="cloudrun")
    assert done.returncode == 1
    assert "<deploy>" not in done.stdout
    assert done.stdout.splitlines()[-1] == "::error title=It did not get through::100%25 wrong."
    assert "100% wrong." in (tmp_path / "summary.md").read_text()


def test_a_champion_that_does_not_answer_where_it_should_is_told_as_such(
    promote_step, tmp_path: Path
) -> None:
    done = promote_step(MODEL="digits@v3", SERVE_TO="cloudrun until=wrong")
    assert done.returncode == 1
    assert "### digits@v3 is the champion, and does not answer there" in (tmp_path / "summary.md").read_text()
    assert done.stdout.splitlines()[-1] == "::error title=It did not get through::100%25 wrong."


def test_the_reviewer_of_a_promotion_sees_which_image_it_is(bake, tmp_path: Path) -> None:
    serve = yaml.safe_load(bake().read(".github/workflows/serve.yml"))["jobs"]
    (step,) = [step for step in serve["image"]["steps"] if "env" in step]
    done = run_step(step, tmp_path, MODEL="digits@v3")
    assert done.returncode == 0
    made = "<image><bucket:digits@v3><push=true>"
    assert (tmp_path / "outputs").read_text() == f"image={made}\n"
    assert f"digits@v3 is served by `{made}`." in (tmp_path / "summary.md").read_text()
    assert run_step(step, tmp_path, MODEL="wrong@v1").returncode == 1
    for alias in ("digits", "digits@champion", "digits@v3; rm"):
        done = run_step(step, tmp_path, MODEL=alias)
        assert (done.returncode, "<image>" in done.stdout) == (1, False)
        assert f"{alias} is no version; give one such as digits@v3." in done.stdout
    (tmp_path / "summary.md").unlink()
    assert run_step(step, tmp_path, MODEL="digits@v3", FORCE="stale data").returncode == 0
    assert "It is taken though it may be worse: stale data" in (tmp_path / "summary.md").read_text()
    assert serve["promote"]["needs"] == "image"


@pytest.mark.parametrize(("name", "launching"), [("train.yml", "launch"), ("predict.yml", "predict")])
def test_a_launch_that_died_half_way_is_followed_by_the_janitor(name: str, launching: str, workflows) -> None:
    tidy = workflows[name]["jobs"]["tidy"]
    assert (tidy["needs"], tidy["uses"]) == (launching, "./.github/workflows/janitor.yml")
    for result in ("failure", "cancelled"):
        assert f"needs.{launching}.result == '{result}'" in tidy["if"]
