"""The worker: what it makes of a bare machine, and that nothing is lost or done twice when that is taken away."""

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass

import pytest
from launcher import job, providers, storage
from launcher.errors import UserError
from launcher.storage import StorageUnavailable
from launcher.worker import __main__, secrets, sync, worker
from launcher.worker.cluster import Node
from launcher.worker.settings import Settings
from launcher.worker.worker import Worker
from test_sync import checkpoint

WAITS = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"


@dataclass(frozen=True)
class Scripted(Node):
    """A node whose training is a few lines of Python; it runs in the project's folder."""

    script: str = ""

    def command(self, args: list[str]) -> list[str]:
        return [sys.executable, "-c", self.script]


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Runs one attempt on a fresh machine; gives its exit status."""
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    monkeypatch.setattr(storage, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(sync, "POLL", 0.05)

    def run(script="", rank=0, count=1, processes=1, **settings):
        given = {"output": str(tmp_path / "bucket/runs/a"), "data": None, "code": None}
        given |= {"secrets": {}, "max_seconds": None, "max_attempts": 5} | settings
        machine = tmp_path / "machine"
        shutil.rmtree(machine, ignore_errors=True)
        (machine / "runs/a/checkpoints").mkdir(parents=True)
        node = Scripted(rank, count, processes=processes, script=script)
        return Worker(Settings("a", **given), node, [], machine).run()

    return run


@pytest.fixture
def bucket(tmp_path):
    """Reads a file of the run in the bucket; None where there is none."""

    def read(name):
        path = tmp_path / "bucket/runs/a" / name
        if not path.is_file():
            return None
        return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()

    return read


def codes(bucket):
    return [attempt["exit_code"] for attempt in bucket("attempts.json")]


def test_a_training_that_ends_well_leaves_all_in_the_bucket(attempt, bucket):
    script = "import pathlib\nfor name in ('report.md', '.hidden', 'plots/a.png'):\n"
    script += (
        "    path = pathlib.Path('runs/a', name); path.parent.mkdir(exist_ok=True); path.write_text('x')\n"
    )
    assert attempt(script + "print('trained')") == 0
    assert bucket("outcome.json")["state"] == "succeeded"
    assert bucket("report.md") == bucket("plots/a.png") == "x"
    assert bucket(".hidden") is None
    assert "attempt 1 of 5" in bucket("worker.log")
    assert "\ntrained\n" in bucket("worker.log")
    assert codes(bucket) == [0]


def test_without_a_bucket_results_stay_here(attempt, tmp_path):
    assert attempt("print('trained')", output=None) == 0
    here = tmp_path / "machine/runs/a"
    assert {path.name for path in here.iterdir()} >= {"attempts.json", "outcome.json", "worker.log"}


def test_an_error_of_the_training_is_final_and_costs_the_next_attempt_nothing(attempt, bucket):
    assert attempt("import sys; print('one'); sys.exit('no such setting')") == job.EXIT_FINAL
    assert bucket("outcome.json")["reason"] == "no such setting"
    assert attempt("print('trained')") == job.EXIT_FINAL
    assert codes(bucket) == [job.EXIT_FINAL]
    assert "trained" not in bucket("worker.log")


def test_a_lost_process_is_tried_again_and_a_bad_setting_is_not(attempt, bucket):
    assert attempt("raise SystemExit(1)", processes=2) == job.EXIT_RETRY
    assert bucket("outcome.json") is None
    noted = "import os; from launcher.worker import observed\n"
    noted += "observed.note('no such setting', final=True); raise SystemExit(1)"
    assert attempt(noted, processes=2) == job.EXIT_FINAL
    assert bucket("outcome.json")["reason"] == "no such setting"


def test_a_killed_training_is_tried_again_but_not_for_ever(attempt, bucket):
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert attempt(killed, max_attempts=2) == job.EXIT_RETRY
    assert attempt(killed, max_attempts=2) == job.EXIT_FINAL
    assert "signal 9 (attempt 2, the last)" in bucket("outcome.json")["reason"]
    assert bucket("worker.log").count("signal 9") >= 2  # of both attempts


def test_more_attempts_than_allowed_end_at_once(attempt, bucket, tmp_path):
    storage.write_text(f"{tmp_path}/bucket/runs/a/attempts.json", '[{"seconds": 1}]')
    assert attempt("print('trained')", max_attempts=1) == job.EXIT_FINAL
    assert "started 1 times" in bucket("outcome.json")["reason"]
    assert "trained" not in bucket("worker.log")


@pytest.mark.parametrize("signals", [0, 1])
def test_near_the_time_limit_the_training_saves_and_the_run_is_over(
    attempt, bucket, tmp_path, monkeypatch, signals
):
    """Also where a service with the same limit ends it then."""
    ready, expire = tmp_path / "ready", worker.Worker._expire

    def once_it_listens(self):
        while not ready.exists():
            time.sleep(0.02)
        expire(self)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(worker.Worker, "_expire", once_it_listens)
    script = WAITS.replace("sys.exit(143)", "print('saved') or sys.exit(143)")
    script += f"open({str(ready)!r}, 'w').close()\ntime.sleep(600)"
    assert attempt(script, max_seconds=10) == job.EXIT_STOPPED
    assert bucket("outcome.json")["state"] == "stopped"
    assert "saved" in bucket("worker.log")


def test_the_time_of_earlier_attempts_counts(attempt, bucket, tmp_path):
    storage.write_text(f"{tmp_path}/bucket/runs/a/attempts.json", '[{"seconds": 3000}]')
    assert attempt("print('trained')", max_seconds=3000) == job.EXIT_STOPPED
    assert bucket("outcome.json")["state"] == "stopped"
    assert "trained" not in bucket("worker.log")


def test_the_time_of_a_killed_attempt_is_known(attempt, bucket, monkeypatch):
    monkeypatch.setattr(sync, "LOGS_EVERY", 0.05)
    script = "import json, time\nuntil = time.time() + 600\n"
    script += "while not json.load(open('../bucket/runs/a/attempts.json'))[0]['seconds']:\n"
    script += "    assert time.time() < until\n    time.sleep(0.05)"
    assert attempt(script) == 0


def test_sigterm_is_passed_on_and_what_was_saved_then_is_in_the_bucket(attempt, bucket, tmp_path):
    name = checkpoint(tmp_path, 7).name
    save = f"lambda *_: shutil.copy('../checkpoints/{name}', 'runs/a/checkpoints') and sys.exit(143)"
    script = "import os, shutil, signal, sys, time\n"
    script += f"signal.signal(signal.SIGTERM, {save})\n"
    script += "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    assert attempt(script) == job.EXIT_PREEMPTED
    assert (tmp_path / "bucket/runs/a/checkpoints" / name).exists()
    assert bucket("outcome.json") is None
    assert codes(bucket) == [job.EXIT_PREEMPTED]


def test_sigterm_before_the_training_ends_the_attempt(attempt, bucket, monkeypatch):
    monkeypatch.setattr(worker, "pull", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert attempt("print('trained')", data="data/digits") == job.EXIT_PREEMPTED
    assert codes(bucket) == [job.EXIT_PREEMPTED]
    assert "trained" not in bucket("worker.log")


def unavailable(*_, **__):
    raise StorageUnavailable("no answer")


def test_a_bucket_that_does_not_answer_at_the_start_is_worth_a_retry(attempt, monkeypatch):
    monkeypatch.setattr("launcher.worker.attempts.read_text", unavailable)
    assert attempt("print('trained')") == job.EXIT_RETRY


def test_bucket_trouble_stops_no_training_but_unpublished_results_are_no_success(
    attempt, bucket, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(sync, "store", unavailable)
    assert attempt("import time; time.sleep(0.5); print('trained')") == job.EXIT_RETRY
    said = capfd.readouterr().out
    assert "\ntrained\n" in said
    assert said.count("uploads fail, the training goes on") == 1
    assert bucket("outcome.json") is None


def test_bucket_trouble_that_ends_during_the_training_leaves_no_trace(attempt, bucket, monkeypatch):
    calls = []

    def recovers(*args, **options):
        calls.append(args)
        if len(calls) < 4:
            unavailable()
        storage.store(*args, **options)

    monkeypatch.setattr(sync, "store", recovers)
    waits = "import os, time\nwhile not os.path.exists('../bucket/runs/a/worker.log'):\n    time.sleep(0.05)"
    assert attempt(waits) == 0
    assert "uploads work again" in bucket("worker.log")
    assert bucket("outcome.json")["state"] == "succeeded"


def test_other_nodes_train_and_write_nothing(attempt, tmp_path):
    assert attempt("print('trained')", rank=1, count=2) == 0
    assert not (tmp_path / "bucket").exists()


@pytest.fixture
def google(monkeypatch):
    """Puts a Secret Manager in place that gives, or raises, this answer."""

    def put(answer):
        def access(resource):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(secrets, "secret_reader", lambda: access)

    return put


SECRETS = {"WANDB_API_KEY": "projects/p/secrets/s/versions/latest"}


def test_a_secret_reaches_the_training_and_no_log(attempt, bucket, google, capfd):
    google("abcdef123456")
    script = "import os; print('key', os.environ['WANDB_API_KEY'], len(os.environ['WANDB_API_KEY']))"
    assert attempt(script, secrets=SECRETS) == 0
    assert "key *** 12" in bucket("worker.log")
    assert "abcdef123456" not in capfd.readouterr().out + bucket("worker.log")
    assert "WANDB_API_KEY" not in os.environ


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("there is none"), job.EXIT_FINAL),
        (StorageUnavailable("no answer"), job.EXIT_RETRY),
    ],
)
def test_a_secret_that_cannot_be_had_ends_the_attempt(attempt, bucket, google, error, status):
    google(error)
    assert attempt("print('trained')", secrets=SECRETS) == status
    assert "trained" not in bucket("worker.log")
    assert str(error) in bucket("worker.log")


def test_other_clouds_have_no_secrets_and_say_so(attempt, bucket, monkeypatch):
    monkeypatch.setattr(providers, "FOLDERS", {"gcp": "nowhere"})
    assert attempt(secrets=SECRETS) == job.EXIT_FINAL
    assert "leave cloud.secrets empty" in bucket("outcome.json")["reason"]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "RUN_ID is not set"),
        ({"RUN_ID": "../a"}, "cannot name a run"),
        ({"RUN_ID": "a", "RUN_MAX_SECONDS": "soon"}, "RUN_MAX_SECONDS=soon"),
        ({"RUN_ID": "a", "RUN_SECRETS": "KEY"}, "no resource for KEY"),
        ({"RUN_ID": "a", "CLUSTER_SPEC": "{}"}, "CLUSTER_SPEC cannot be understood"),
    ],
)
def test_a_wrong_environment_is_one_sentence(env, says, monkeypatch):
    for name in [name for name in os.environ if name.startswith("RUN_")]:
        monkeypatch.delenv(name)
    for name, text in env.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(sys, "argv", ["worker"])
    with pytest.raises(SystemExit, match=says) as ended:
        __main__.main()
    assert len(str(ended.value).splitlines()) == 1
