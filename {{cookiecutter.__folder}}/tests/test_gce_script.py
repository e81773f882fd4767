"""The scripts of a machine, run for real by bash; Docker, the driver and the power switch are small stand-ins."""

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from {{ cookiecutter.package_name }}.cloud import gce_machine

from .google_server import google_server

FOLDER = Path(gce_machine.__file__).parent
IMAGE = "us-central1-docker.pkg.dev/p/slug/train@sha256:abc"
METADATA = "/computeMetadata/v1"
SELF = "/compute/v1/projects/my-project/zones/us-central1-b/instances/slug-run-1-1"
UPLOAD = "/upload/storage/v1/b/bucket/o"
# What each says is in a file of its own; STATUSES has what the containers end with, one after the other.
DOCKER = """#!/bin/bash
folder=$(dirname "$0")
printf '%s\\0' "$@" >> "$folder/docker.$1"
printf '\\n' >> "$folder/docker.$1"
case $1 in
    login) cat > "$folder/password" ;;
    pull) [ ! -e "$folder/no-image" ] || { echo "manifest unknown" >&2; exit 1; } ;;
    stop) touch "$folder/told" ;;
    run)
        read -r status < "$folder/statuses"
        sed -i 1d "$folder/statuses"
        if [ "$status" = wait ]; then
            for _ in $(seq 100); do [ -e "$folder/told" ] && exit 143; sleep 0.1; done
        fi
        exit "$status" ;;
esac
"""


class Guest:
    """A machine on which the scripts run."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder, self.server = folder, server
        self.started: list[int] = []
        self.patience = 1  # seconds
        folder.mkdir()
        self.program("docker", DOCKER)
        self.program("poweroff", f"#!/bin/sh\ntouch {folder}/off\n")
        self.attributes = {
            "run-id": "run-1",
            "run-image": IMAGE,
            "run-args": json.dumps(["a=$(touch x) '\"", "b=1\n2", ""]),
            "run-env": "RUN_OUTPUT=gs://bucket/runs/run-1\nRUN_MAX_ATTEMPTS=3\n",
            "run-gpus": "0",
            "run-seconds": "3600",
        }
        self.tell("instance/name", "slug-run-1-1")
        self.tell("instance/zone", "projects/7/zones/us-central1-b")
        self.tell("project/project-id", "my-project")
        token = b'{"access_token":"of-the-machine","expires_in":3599,"token_type":"Bearer"}'
        self.tell("instance/service-accounts/default/token", token.decode())
        server.say("DELETE", SELF, {}, 403)  # after which it turns itself off
        server.say("POST", UPLOAD, {})

    def tell(self, path: str, text: str) -> None:
        self.server.say("GET", f"{METADATA}/{path}", text.encode())

    def program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def start(self, *statuses: Any, script: str = "gce_startup.sh") -> subprocess.Popen[str]:
        """Run a script; the containers will end with these statuses."""
        for name, value in self.attributes.items():
            self.tell(f"instance/attributes/{name}", value)
        (self.folder / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        env = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "GCE_METADATA_HOST": self.server.host,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"http://{self.server.host}/compute/v1/",
            "STORAGE_EMULATOR_HOST": f"http://{self.server.host}",
            "STATE_DIRECTORY": str(self.folder / "state"),
            "PATIENCE": str(self.patience),
            "PAUSE": "0.1",
        }
        process = subprocess.Popen(
            ["bash", str(FOLDER / script)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process.pid)
        return process

    def close(self) -> None:
        """End what the scripts have left: a clock that ran for hours, as on a machine that is gone."""
        for pid in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def run(self, *statuses: Any) -> str:
        """Run the startup script to its end, and give what it said."""
        process = self.start(*statuses)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return said

    def docker(self, command: str) -> list[list[str]]:
        """Give the words of each call of one of Docker's commands."""
        path = self.folder / f"docker.{command}"
        text = path.read_text() if path.exists() else ""
        return [call.split("\0") for call in text.split("\0\n")[:-1]]

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return [one["body"] for one in self.server.sent("POST", UPLOAD)]


@pytest.fixture
def guest(tmp_path, monkeypatch):
    with google_server(tmp_path, monkeypatch) as server:
        guest = Guest(tmp_path / "guest", server)
        yield guest
        guest.close()


def test_the_image_runs_with_its_arguments_and_the_machine_deletes_itself(guest):
    guest.run(0)
    [command] = guest.docker("run")
    assert command[-4:] == [IMAGE, *json.loads(guest.attributes["run-args"])]
    options = command[1:-4]
    assert options[1:3] == ["--name", "slug-run-1-1"]
    for option in ("--network host", "--label run=run-1", "--log-driver gcplogs"):
        assert option in " ".join(options)
    assert "--gpus" not in options
    env = Path(options[options.index("--env-file") + 1])
    assert env.read_text() == guest.attributes["run-env"]
    [deletion] = guest.server.sent("DELETE", SELF)
    assert deletion["login"] == "Bearer of-the-machine"
    assert (guest.folder / "off").exists()
    assert guest.outcomes == []  # of its worker


def test_the_registry_gets_the_machines_token_by_standard_input(guest):
    guest.run(0)
    [command] = guest.docker("login")
    assert command[-1] == "https://us-central1-docker.pkg.dev"
    assert "of-the-machine" not in " ".join(command)
    assert (guest.folder / "password").read_text().strip() == "of-the-machine"


def test_no_other_registry_gets_it(guest):
    guest.attributes["run-image"] = "127.0.0.1:5000/train"
    guest.run(0)
    assert guest.docker("login") == []
    assert guest.docker("pull")[0][-1] == "127.0.0.1:5000/train"


@pytest.mark.parametrize(
    ("statuses", "runs", "outcome"),
    [
        ([0], 1, None),
        ([1], 1, "status 1"),
        ([143], 1, None),
        ([75, 0], 2, None),
        ([137, 75, 75], 3, "started 3 times"),
        ([125, 0], 2, None),
        ([125, 125], 2, "cannot be started"),
    ],
)
def test_a_container_is_started_again_only_where_that_may_help(guest, statuses, runs, outcome):
    guest.run(*statuses)
    assert len(guest.docker("run")) == runs
    assert [outcome in one["reason"] for one in guest.outcomes] == ([True] if outcome else [])
    assert (guest.folder / "off").exists()


def test_without_cloud_logging_it_runs_all_the_same(guest):
    guest.run(125, 0)
    first, second = guest.docker("run")
    assert "gcplogs" in first
    assert "gcplogs" not in second


def test_an_image_that_cannot_be_had_is_the_end_of_the_run(guest):
    (guest.folder / "no-image").touch()
    said = guest.run()
    [outcome] = guest.outcomes
    assert outcome["state"] == "failed"
    assert outcome["reason"] == f"the image {IMAGE} cannot be pulled: manifest unknown"
    [sent] = guest.server.sent("POST", UPLOAD)
    assert sent["query"]["name"] == ["runs/run-1/outcome.json"]
    assert sent["query"]["ifGenerationMatch"] == ["0"]
    assert sent["login"] == "Bearer of-the-machine"
    assert guest.docker("run") == []
    assert len(guest.server.sent("DELETE", SELF)) == 1
    assert "manifest unknown" in said


def test_an_outcome_that_is_there_stays(guest):
    guest.server.forget("POST", UPLOAD)
    guest.server.say("POST", UPLOAD, {}, 412)
    guest.run(1)
    assert len(guest.outcomes) == 1


def test_a_gpu_that_does_not_work_is_not_paid_for(guest):
    guest.attributes["run-gpus"] = "1"
    guest.program("nvidia-smi", "#!/bin/sh\necho no devices were found\nexit 9\n")
    guest.run()
    [outcome] = guest.outcomes
    assert "no GPU driver works on slug-run-1-1: no devices were found" in outcome["reason"]
    assert guest.docker("pull") == []


def test_a_gpu_that_works_is_given_to_the_container(guest):
    guest.attributes["run-gpus"] = "1"
    guest.program("nvidia-smi", "#!/bin/sh\n")
    guest.run(0)
    [command] = guest.docker("run")
    assert command[command.index("--gpus") + 1] == "all"


def test_deletion_is_tried_again_until_it_is_taken(guest):
    guest.patience = 60
    guest.server.forget("DELETE", SELF)
    guest.server.say("DELETE", SELF, {}, 503)
    guest.server.say("DELETE", SELF, {}, 403)
    guest.run(0)
    assert len(guest.server.sent("DELETE", SELF)) == 2


def test_a_machine_that_learns_nothing_turns_itself_off(guest):
    guest.server.forget("GET", f"{METADATA}/instance/name")
    guest.run()
    assert guest.docker("run") == []
    assert (guest.folder / "off").exists()


def test_a_machine_that_is_started_anew_after_its_end_does_nothing_again(guest):
    guest.run(0)
    guest.run(0)
    assert len(guest.docker("run")) == 1
    assert len(guest.server.sent("DELETE", SELF)) == 2


def test_before_the_time_limit_the_worker_is_told_and_the_run_is_over(guest):
    guest.attributes["run-seconds"] = "3"
    guest.run("wait")
    [command] = guest.docker("stop")
    assert command == ["stop", "--time", "60", "slug-run-1-1"]
    [outcome] = guest.outcomes
    assert outcome["state"] == "stopped"


def test_a_machine_that_is_taken_away_tells_the_worker_and_starts_no_other(guest):
    process = guest.start("wait", 0, 0)
    until = time.monotonic() + 600
    while not guest.docker("run") and time.monotonic() < until:
        time.sleep(0.05)
    guest.start("wait", 0, 0, script="gce_shutdown.sh").wait(600)
    process.communicate(timeout=600)
    assert guest.docker("stop") == [["stop", "--time", "25", "slug-run-1-1"]]
    assert len(guest.docker("run")) == 1
    assert guest.outcomes == []  # it goes on, on another
