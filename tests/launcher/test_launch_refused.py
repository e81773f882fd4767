"""A launch with a mistake is refused in one sentence, before anything is asked of anyone."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from launcher import records
from launcher.commands import launch
from launcher.errors import UserError
from launcher.providers.google.backend import GoogleBackend


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("model.wdith=3", "There is no model.wdith; did you mean model.width?"),
        ("sweep=lr", "cloud=local runs no sweeps, but cloud=vertex can; `uv run train sweep=lr` runs it"),
        ("cloud.machine=l4", "cloud.machine=l4 is none of this machine; choose here, container"),
        ("cloud.machine=[here,l4]", "cloud.machine=l4 is none of this machine; choose here, container"),
        (
            "job=notebook",
            "cloud=local opens no notebook, but cloud=batch can; `make notebook` opens one here.",
        ),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_slow_is_imported(project, setting, sentence):
    program = (
        "import sys; from launcher.commands.launch import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'google.auth', 'requests'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "cloud=local", setting],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (project / "runs").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("cloud.machin=l4", "There is no cloud.machin; did you mean cloud.machine?"),
        ("cloud.nodes=0", "cloud.nodes=0 is too small"),
        ("cloud.max_hours=nan", "cloud.max_hours=nan is too small"),
        ("cloud.max_hours=inf", "would never end the job"),
        ("code=tree", "code=tree is no choice; give image or worktree."),
        ("+cloud.secrets.key=a", "cannot name an environment variable"),
        ("--multirun", "One launch is one run; a sweep is launched by sweep=NAME"),
        ("hydra.mode=MULTIRUN", "One launch is one run; a sweep is launched by sweep=NAME"),
        ("run.id=a/b", "run.id=a/b cannot name a run; use up to 64 letters"),
        ("run.id=[1]", "run.id=[1] is no text; put it in quotes, or use letters."),
        ('run.id="null"', "run.id=null cannot name a run"),
        ("cloud.machine=l4,t4", "as in 'cloud.machine=[l4,t4]', and a text in quotes"),
        ("cloud.machine=l5", "There is no machine l5; did you mean l4?"),
        ("cloud.machine=[l4,nonsense]", "There is no machine nonsense; there are"),
        (
            "job=notebook",
            "cloud=vertex opens no notebook, but cloud=batch can; `make notebook` opens one here.",
        ),
        ("cloud.machine=L4", "There is no machine L4; did you mean l4?"),
        ("cloud.region=mars-north1", "no l4 in mars-north1, only in"),
        ("run.root=elsewhere", "run.root is for `uv run train`"),
        ("data.folder=/data/digits", "is on this machine only"),
        ("restore.from=earlier", "is on this machine only; give restore.from="),
        ("cloud.bucket=null", "would lose the results"),
        (
            "trainer.compile=reduce-overhead",
            "trainer.compile=reduce-overhead needs a C compiler, and the image has none",
        ),
        ("cloud.max_cost_usd=0.5", "This run could cost 2.03 USD (1 x 1.01 USD x 2 h), more than"),
    ],
)
def test_what_cannot_work_or_costs_too_much_is_refused_before_anyone_is_asked(
    run_launch, backend, setting, sentence
):
    done = run_launch(setting)
    assert sentence in str(done.status)
    assert backend.calls == []
    assert run_launch("dry_run=true", setting).status == done.status


@pytest.mark.parametrize("cloud", ["vertex", "batch"])
@pytest.mark.parametrize("dry_run", ["true", "false"])
@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("cloud.project=Bad_Name", "cloud.project=Bad_Name is no project's id; give it as `gcloud"),
        ("cloud.project=123456", "cloud.project=123456 is no project's id"),
        (
            "cloud.bucket=results",
            "cloud.bucket=results is no bucket of Google Cloud; give cloud.bucket=gs://NAME.",
        ),
        ("cloud.bucket=s3://results", "cloud.bucket=s3://results is no bucket of Google Cloud"),
    ],
)
def test_names_that_the_provider_cannot_know_are_refused_before_it_is_asked(
    project, monkeypatch, capsys, cloud, dry_run, setting, sentence
):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # as above
    monkeypatch.setattr(GoogleBackend, "who", lambda self: pytest.fail("asked"))
    monkeypatch.setattr(sys, "argv", ["launch", f"cloud={cloud}", f"dry_run={dry_run}", setting])
    with pytest.raises(SystemExit) as end:
        launch.main()
    assert sentence in str(end.value.code)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["my-project", "example.com:my-project", None])
def test_names_that_it_can_know_pass(name):
    GoogleBackend(SimpleNamespace(project=name, bucket="gs://my-bucket_1.example.com/below")).check_names()


def test_without_a_login_it_is_said_before_the_bucket_is_asked(run_launch, backend, monkeypatch):
    def refuse() -> str:
        raise UserError("There is no login; log in.")

    monkeypatch.setattr(backend, "who", refuse, raising=False)
    monkeypatch.setattr(records, "attempts", lambda *where: pytest.fail("asked"))
    assert run_launch("run.id=mine").status == "There is no login; log in."
    assert run_launch("run.id=mine", "dry_run=true").status == 0


def test_what_only_the_training_refuses_is_one_sentence_too(run_launch, backend):
    done = run_launch("trainer.batch_size=0")
    assert done.status == "trainer.batch_size=0 is too small; the least is 1."
    assert backend.calls == []


@pytest.mark.parametrize("run_id", ["1", "1e3", "007", "2026_11_27", "true"])
def test_an_id_of_digits_is_the_runs_as_it_was_typed(run_launch, backend, bucket, run_id):
    assert run_launch(f"run.id={run_id}").status == 0
    (job,) = backend.submitted
    assert (job.run_id, job.env["RUN_ID"], job.labels["run"]) == (run_id, run_id, run_id)
    assert job.args[-1] == f"run.id={run_id}"
    assert records.read(str(bucket / "runs"), run_id)
