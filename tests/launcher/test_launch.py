"""A launch is refused before it costs anything, says what it may cost, and leaves a record of what it started."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_backend import DIGEST
from launcher import providers as backends
from launcher import records
from launcher.commands import launch
from launcher.errors import UserError, readers_may_leave
from launcher.job import Problem, State
from launcher.money import ledger
from launcher.planning import code


@pytest.mark.parametrize("interrupted", ["import hydra", "make_plan", "check_training"])
def test_ctrl_c_ends_a_launch_without_a_traceback(project, interrupted):
    program = (
        "import importlib.abc, sys\n"
        "def interrupt(*words, **named): raise KeyboardInterrupt\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if 'import ' + name == {interrupted!r}: interrupt()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from launcher.commands import launch\n"
        f"setattr(launch, {interrupted!r}, interrupt)\n"
        "launch.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "cloud=local"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    # A shell says 130 of both: of a program that says so, and of one that the signal has ended.
    assert done.returncode in (130, -signal.SIGINT)
    assert done.stderr == ""


def test_the_price_is_printed_with_its_date_before_the_guard(run_launch):
    done = run_launch("cloud.spot=true", "cloud.max_cost_usd=0.5")
    assert "l4: g2-standard-8 with 1 NVIDIA_L4 in us-central1, spot" in done.out
    assert "0.60 USD an hour and node on spot, 1.01 on demand" in done.out
    assert "table of 20" in done.out
    assert "at most   1.20 USD: 1 node, 2 hours" in done.out
    assert "cloud.max_hours=0.84 or less" in str(done.status)


def test_nodes_and_standard_machines_count_in_the_worst_case(run_launch):
    done = run_launch("cloud.spot=false", "cloud.nodes=3", "cloud.max_hours=1", "dry_run=true")
    assert "at most   3.04 USD: 3 nodes, 1 hours" in done.err


def test_a_dry_run_prints_json_alone_and_changes_nothing(run_launch, backend, tmp_path):
    done = run_launch("dry_run=true", "trainer.max_epochs=20", "run.id=try")
    assert done.status == 0
    request = json.loads(done.out)
    assert request["args"] == ["trainer.max_epochs=20", "trainer.device=cuda", "run.id=try"]
    assert request["env"]["RUN_MAX_SECONDS"] == "7200"
    assert "The digest of registry.example/train:main is looked up" in done.err
    assert backend.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_launch_passes_on_what_the_training_is_for_and_keeps_its_own(run_launch, backend, bucket):
    done = run_launch(
        "experiment=shapes_unet", "++model.width=8", "run.id=mine", "dry_run=false", "code=image"
    )
    assert done.status == 0
    (job,) = backend.submitted
    assert job.args == ("experiment=shapes_unet", "++model.width=8", "trainer.device=cuda", "run.id=mine")
    assert job.image == job.env["RUN_IMAGE"] == DIGEST
    assert job.env["RUN_OUTPUT"] == job.output == f"{bucket}/runs/mine"
    assert job.env["RUN_DATA"] == "data/shapes"
    assert job.env["RUN_COMMIT"] == "c" * 40
    assert job.env["RUN_MAX_ATTEMPTS"] == "5"
    assert (job.labels["run"], job.labels["branch"]) == ("mine", "main")
    assert "RUN_CODE" not in job.env
    assert "https://console.example/jobs/1" in done.out
    assert "uv run runs stop mine" in done.out


def test_a_launch_is_on_record_before_it_is_submitted_and_complete_after(
    run_launch, backend, bucket, monkeypatch
):
    before = []
    submit = backend.submit
    monkeypatch.setattr(
        backend,
        "submit",
        lambda job: (before.append(records.read(str(bucket / "runs"), "mine")), submit(job))[1],
    )
    assert run_launch("run.id=mine", "cloud.spot=true").status == 0
    record = records.read(str(bucket / "runs"), "mine")
    assert before[0] is not None
    assert record is not None
    assert (before[0].job, record.job) == (None, "jobs/1")
    assert record.url == "https://console.example/jobs/1"
    assert (record.worst_case_usd, record.branch, record.spot) == (1.2, "main", True)


def test_this_month_may_not_cost_more_than_was_allowed(run_launch, backend, bucket):
    assert run_launch("run.id=first", "cloud.max_month_usd=3").status == 0
    refused = run_launch("run.id=second", "cloud.max_month_usd=3")
    assert "of cloud.max_month_usd=3 there were spent 0.00 and are reserved" in str(refused.status)
    assert [job.run_id for job in backend.submitted] == ["first"]
    assert records.read(str(bucket / "runs"), "second") is None
    # What the first did cost, as far as it is known, takes the place of what it could have cost.
    backend.jobs = {"first": (State.stopped, 360.0)}
    assert run_launch("run.id=first", "cloud.max_month_usd=3").status == 0
    month = ledger.month(str(bucket / "runs"), "2026-01")
    assert month.spent == pytest.approx(0.1 * 1.01, abs=0.01)
    assert len(month.entries) == 1 + 1


def test_a_launch_that_was_refused_costs_nothing_and_one_that_may_run_keeps_its_money(
    run_launch, backend, bucket, monkeypatch
):
    def refuse(job):
        raise UserError("No such machine.")

    def reserved():
        return ledger.month(str(bucket / "runs"), "2026-01").reserved

    monkeypatch.setattr(backend, "submit", refuse)
    assert run_launch("run.id=first").status == "No such machine."
    assert reserved() == 0
    backend.jobs = {"first": (State.running, 1.0)}  # the answer was lost, the job was not
    monkeypatch.setattr(launch, "refuse_active", lambda *given: None)
    assert run_launch("run.id=first").status == "No such machine."
    assert reserved() > 0


def test_a_launch_that_failed_says_why_although_nothing_more_can_be_told(
    run_launch, backend, bucket, monkeypatch
):
    def refuse(job):
        backend.refusal = "Nobody answers."  # whatever is asked from now on
        raise UserError("No such machine.")

    monkeypatch.setattr(backend, "submit", refuse)
    assert run_launch("run.id=first").status == "No such machine."
    assert ledger.month(str(bucket / "runs"), "2026-01").reserved > 0


def test_what_forbids_a_launch_is_one_line_with_its_remedy(run_launch, backend, bucket):
    backend.problems = [
        Problem("The quota is 0", "ask for more"),
        Problem("The tree is dirty", "commit", fatal=False),
    ]
    done = run_launch()
    assert done.status == 1
    assert "stop     The quota is 0: ask for more\n" in done.err
    assert "note     The tree is dirty: commit\n" in done.err
    assert backend.submitted == []
    assert not bucket.exists()


def test_what_is_only_worth_knowing_does_not_stop_a_launch(run_launch, backend):
    backend.problems = [Problem("The tree is dirty", "commit", fatal=False)]
    done = run_launch()
    assert done.status == 0
    assert "The tree is dirty: commit" in done.err
    assert len(backend.submitted) == 1


def test_doctor_only_starts_nothing(run_launch, backend, bucket):
    done = run_launch("doctor_only=true")
    assert done.status == 0
    assert "check" in backend.calls
    assert backend.submitted == []
    assert not bucket.exists()


def test_where_no_machine_can_be_had_the_doctor_shows_which_could(run_launch, backend, monkeypatch):
    monkeypatch.setattr(backend, "allowance", lambda machine, spot: 0, raising=False)
    refused = run_launch("cloud.machine=[l4,t4]")
    assert "`uv run launch doctor_only=true` shows which" in str(refused.status)
    assert "may have: spot" not in refused.out
    assert "may have: spot" in run_launch("cloud.machine=[l4,t4]", "doctor_only=true").out


def test_a_run_that_is_at_work_is_not_launched_again(run_launch, backend):
    backend.jobs = {"mine": (State.running, 60.0)}
    done = run_launch("run.id=mine")
    assert "Run mine is running; wait for it, end it by `uv run runs stop mine`" in str(done.status)
    assert backend.submitted == []


def test_a_run_that_has_ended_goes_on_with_time_and_attempts_of_its_own(run_launch, backend, bucket):
    backend.jobs = {"mine": (State.stopped, 7200.0)}
    folder = bucket / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / records.OUTCOME).write_text('{"state": "stopped", "exit_code": 1}')
    (folder / records.ATTEMPTS).write_text('[{"seconds": 5000.5}, {"seconds": 2199.5}]')
    (folder / "metrics.jsonl").write_text("{}")
    assert run_launch("run.id=mine").status == 0
    (job,) = backend.submitted
    assert job.env["RUN_MAX_SECONDS"] == str(7200 + 7200)
    assert job.env["RUN_MAX_ATTEMPTS"] == str(5 + 2)
    assert job.max_hours == 2
    assert not (folder / records.OUTCOME).exists()
    assert (folder / "metrics.jsonl").exists()
    record = records.read(str(bucket / "runs"), "mine")
    assert record
    assert record.earlier_seconds == 7200


def test_one_run_of_a_branch_at_a_time_where_it_is_asked_for(run_launch, backend, monkeypatch):
    assert run_launch("run.id=first").status == 0
    backend.jobs = {"first": (State.queued, 0.0)}
    done = run_launch("cloud.one_per_branch=true")
    assert "Run first of branch main is queued, and one at a time" in str(done.status)
    monkeypatch.setenv("GITHUB_REF_NAME", "other")
    assert run_launch("cloud.one_per_branch=true").status == 0
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    backend.jobs = {"first": (State.failed, 0.0)}
    assert run_launch("cloud.one_per_branch=true").status == 0


def test_a_summary_goes_to_the_page_of_the_workflow(run_launch, tmp_path, monkeypatch):
    page = tmp_path / "summary.md"
    page.write_text("# before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert run_launch("run.id=mine").status == 0
    text = page.read_text()
    assert text.startswith("# before\n### Training launched")
    for fact in (
        "| run | mine |",
        "https://console.example/jobs/1",
        "1.01 USD an hour",
        "2.03 USD",
    ):
        assert fact in text


def test_the_working_tree_travels_as_an_archive_named_by_its_digest(run_launch, backend, bucket, monkeypatch):
    monkeypatch.setattr(code, "pack", lambda root: b"packed")
    done = run_launch("code=worktree")
    assert done.status == 0
    (job,) = backend.submitted
    archive = Path(job.env["RUN_CODE"])
    assert archive.parent == bucket / "code"
    assert archive.read_bytes() == b"packed"
    assert "uploaded" in done.out
    assert "in the bucket already" in run_launch("code=worktree").out


def test_an_unknown_backend_is_one_sentence():
    with pytest.raises(UserError, match="no backend nowhere"):
        backends.connect(SimpleNamespace(backend="nowhere"))
    with pytest.raises(UserError, match="There is no backend auth"):
        backends.connect(SimpleNamespace(backend="auth"))


@pytest.mark.parametrize("words", [("launch", "cloud=local", "dry_run=true"), ("runs", "cost")])
def test_a_reader_that_leaves_is_no_error(words, project):
    program, *arguments = words
    for path in (project / "configs/cloud").glob("[!l]*.yaml"):  # all but local, for there is no network
        path.unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", f"launcher.commands.{program}", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()
    _, said = process.communicate(timeout=600)
    assert process.returncode == 141
    assert "Error" not in said
    assert "Exception" not in said


def test_another_pipe_that_breaks_is_an_error():
    with pytest.raises(BrokenPipeError), readers_may_leave():
        raise BrokenPipeError("a connection")


def test_help_shows_the_settings_and_where_one_can_train(project):
    done = subprocess.run(
        [sys.executable, "-m", "launcher.commands.launch", "--help"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "print the exact request as JSON, and change nothing" in done.stdout
    experiments = sorted(path.stem for path in (project / "configs/experiment").glob("*.yaml"))
    assert f"experiment={' | '.join(experiments)}" in done.stdout
    assert re.search(r"cloud=.*\blocal\b", done.stdout)
    assert "\n  sweep=lr\n" in done.stdout, "a group of what it is built on"
    assert "their settings are in configs/<group>/<choice>.yaml" in done.stdout
    assert "More settings are in configs/train.yaml." in done.stdout
