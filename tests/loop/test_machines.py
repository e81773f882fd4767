"""Training on virtual machines, on the stage of test_loop.py: each ends by itself, whatever happens, and nothing is left."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http.cookiejar import CookieJar

import pytest
from stage import registry
from stage.compute import GONE, Machine
from stage.patience import deadline
from stage.scene import Stage

# Slow enough to be disturbed: a checkpoint every third step, and half a thousand steps.
LONG = ("trainer.max_epochs=30", "checkpoint.steps=3", "trainer.log_every=3", "tracking=none")
ENDLESS = ("trainer.max_epochs=100000", "checkpoint.steps=20", "tracking=none")
ZONES = ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]

pytestmark = pytest.mark.usefixtures("pushed", "nothing_left")


@pytest.fixture
def nothing_left(stage: Stage) -> Iterator[None]:
    """After each test: no machine, no disk, no container; and no zone is full any more."""
    yield
    stage.compute.exhausted.clear()
    stage.compute.heal()
    there = [machine.name for machine in stage.compute.machines(there_only=True)]
    for name in there:
        stage.compute.machine(name).end("abandoned", seconds=None)
        stage.compute.wait(stage.compute.machine(name), timeout=30)
    assert there == []
    assert stage.compute.disks == {}
    assert stage.compute.containers(running_only=False) == []


def ended(stage: Stage, run_id: str, state: str) -> dict:
    """How a run has ended by its own word, which `runs list` agrees with."""
    outcome = stage.outcome(run_id)
    assert outcome["state"] == state, outcome
    assert re.search(rf"{run_id}\b.*\b{state}", stage.run("runs", "list").stdout)
    return outcome


def again(stage: Stage, gone: Machine, run_id: str) -> Machine:
    """Has the janitor look after a run whose machine is gone; gives the machine on which it goes on."""
    assert gone.status == GONE
    said = stage.run("janitor").stdout
    assert re.search(rf"submitted again run {run_id}\b", said), said
    machine = stage.compute.machine(run_id)
    assert machine.name != gone.name
    return machine


def test_preempted_twice_it_ends_with_the_same_bits(stage: Stage) -> None:
    calm = stage.machine("calm-machine", *LONG)
    stage.compute.wait(calm, timeout=200)
    assert calm.why == "delete", calm.console()  # by itself
    ended(stage, "calm-machine", "succeeded")
    assert stage.results("calm-machine")["report.md"]
    assert "epoch 30/30" in stage.run("runs", "logs", "calm-machine").stdout
    assert calm.resource["scheduling"]["provisioningModel"] == "SPOT"
    assert calm.resource["scheduling"]["instanceTerminationAction"] == "DELETE"

    first = stage.machine("disturbed-machine", *LONG)
    stage.compute.wait_for_line(first, r"epoch [2-9]/30", timeout=120)
    stage.compute.preempt(first)  # with notice, as Google gives it
    second = again(stage, first, "disturbed-machine")
    stage.compute.wait_for_line(second, r"epoch (1\d|2\d)/30", timeout=120)
    stage.compute.preempt(second, notice=False)  # and without
    third = again(stage, second, "disturbed-machine")
    stage.compute.wait(third, timeout=200)
    ended(stage, "disturbed-machine", "succeeded")
    assert len(json.loads(stage.results("disturbed-machine")["attempts.json"])) == 3
    assert stage.weights_and_log("disturbed-machine") == stage.weights_and_log("calm-machine")
    limits = [int(one.resource["scheduling"]["maxRunDuration"]["seconds"]) for one in (first, second, third)]
    assert limits[0] > limits[1] > limits[2]  # what is left of the one that was reserved
    assert "submitted again" not in stage.run("janitor").stdout


def test_zones_are_tried_in_order_and_stop_ends_the_machine(stage: Stage) -> None:
    stage.compute.exhausted.update(ZONES[:2])
    machine = stage.machine("unwanted-machine", *ENDLESS)
    assert machine.zone == ZONES[2]
    assert [one.zone for one in stage.compute.machines() if one.name == machine.name] == ZONES[:3]
    stage.compute.wait_for_line(machine, r"epoch 2/", timeout=120)
    assert re.search(r"unwanted-machine\b.*\brunning", stage.run("runs", "list").stdout)
    stage.run("runs", "stop", "unwanted-machine")
    stage.compute.wait(machine, timeout=60)
    assert stage.checkpoints("unwanted-machine")
    ended(stage, "unwanted-machine", "stopped")
    assert "submitted again" not in stage.run("janitor").stdout


def test_without_capacity_anywhere_nothing_is_started(stage: Stage) -> None:
    stage.compute.exhausted.update(ZONES)
    words = ("launch", "cloud=gce", "cloud.machine=cpu", "run.id=nowhere", *ENDLESS)
    result = stage.run(*words, check=False)
    assert result.returncode == 1
    assert re.search(r"No zone of us-central1 has a machine", result.stdout + result.stderr)
    assert "Traceback" not in result.stdout + result.stderr
    assert [one.zone for one in stage.compute.machines() if "nowhere" in one.name] == ZONES


def test_an_answer_that_is_lost_makes_no_second_machine(stage: Stage) -> None:
    lost = stage.compute.fail("POST", "/instances$", lost=True)
    unavailable = stage.compute.fail("POST", "/instances$", times=2)
    machine = stage.machine("lost-answer", *ENDLESS)
    assert (lost.hits, unavailable.hits) == (1, 2)
    assert [one.name for one in stage.compute.machines() if "lost-answer" in one.name] == [machine.name]
    stage.run("runs", "stop", "lost-answer")
    stage.compute.wait(machine, timeout=60)


def test_the_provider_ends_a_machine_that_does_not(stage: Stage) -> None:
    machine = stage.machine("clock-machine", *ENDLESS, "cloud.max_hours=1")
    stage.compute.wait_for_line(machine, r"epoch 2/", timeout=120)
    machine.settings = replace(machine.settings, seconds_per_hour=1)  # and so an hour has passed
    stage.compute.wait(machine, timeout=60)
    assert machine.why == "limit"
    assert stage.checkpoints("clock-machine")
    stage.run(
        "runs", "stop", "clock-machine"
    )  # else it counts as preempted: by the real clock it has time left


def test_an_image_that_cannot_be_pulled_ends_the_machine(stage: Stage) -> None:
    """It is there at the launch, and no more when the machine has started."""
    image = registry.push_bash(stage.registry)
    name, _, digest = image.partition("/")[2].partition("@")
    url = f"http://{stage.registry}/v2/{name}/manifests/{digest}"
    stage.compute.capacity.clear()
    with ThreadPoolExecutor() as pool:
        launch = pool.submit(stage.machine, "no-image", f"cloud.image={image}", "tracking=none")
        try:
            ordered(stage, "no-image", launch)
            urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30).close()
        finally:
            stage.compute.capacity.set()
        machine = launch.result()
    stage.compute.wait(machine, timeout=60)
    assert "cannot be pulled" in ended(stage, "no-image", "failed")["reason"]
    assert machine.why == "delete"


def ordered(stage: Stage, run_id: str, launch: Future[Machine]) -> Machine:
    """Waits until a launch has ordered its machine."""
    until = deadline(60)
    while time.monotonic() < until and not launch.done():
        with suppress(KeyError):
            return stage.compute.machine(run_id)
        time.sleep(0.05)
    raise AssertionError(launch.result() if launch.done() else "no machine was ordered")


class Jupyter:
    """A person's browser at the end of the tunnel: of a notebook on the machine's loopback."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.url = f"http://{address}:8888"
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, path: str, content: dict | None = None) -> bytes:
        """Gets a page, or puts a content as a page of Jupyter's own would."""
        data = None if content is None else json.dumps(content).encode()
        token = next((cookie.value or "" for cookie in self.cookies if cookie.name == "_xsrf"), "")
        headers = {"Content-Type": "application/json", "X-XSRFToken": token}
        method = "GET" if data is None else "PUT"
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with self.opener.open(request, timeout=10) as answer:
            return answer.read()

    def wait(self, machine: Machine) -> None:
        """Waits until it answers."""
        until = deadline(90)
        while True:
            try:
                self.ask("/lab")
                return
            except OSError:
                assert time.monotonic() < until, machine.console()
                time.sleep(0.3)


def outside() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return probe.getsockname()[0]


NOTEBOOK = ("launch", "cloud=gce", "cloud.machine=cpu", "job=notebook")


def test_a_notebook_keeps_what_is_saved_and_ends_when_idle(stage: Stage) -> None:
    said = stage.run(*NOTEBOOK, "run.id=at-work", "cloud.idle_minutes=1", check=True).stdout
    machine = stage.compute.machine("at-work")
    assert f"gcloud compute ssh {machine.name} --zone={machine.zone}" in said
    assert "--tunnel-through-iap" in said
    assert "-L 8888:localhost:8888" in said
    assert machine.resource["scheduling"]["provisioningModel"] == "STANDARD"
    browser = Jupyter()
    browser.wait(machine)
    with pytest.raises(urllib.error.HTTPError, match="403"):  # another site's page in the same browser
        urllib.request.urlopen(
            urllib.request.Request(f"{browser.url}/api/contents/notebooks/no.txt", b"{}", method="PUT"),
            timeout=10,
        )
    with pytest.raises(OSError, match="refused"):
        Jupyter(outside()).ask("/lab")
    file = {"type": "file", "format": "text", "content": "what I found"}
    browser.ask("/api/contents/notebooks/found.txt", file)
    stage.compute.wait(machine, timeout=150)
    assert machine.why == "delete"
    assert stage.results("at-work")["notebooks/found.txt"] == b"what I found"
    ended(stage, "at-work", "succeeded")


def test_past_its_time_limit_it_is_gone_with_its_results_saved(stage: Stage) -> None:
    """A training, and beside it a notebook that somebody still uses."""
    limit = "cloud.max_hours=0.03"  # 108 seconds, in which Jupyter starts on a busy machine too
    training = stage.machine("too-long-machine", *ENDLESS, limit)
    stage.run(*NOTEBOOK, "run.id=all-night", limit, check=True)
    notebook = stage.compute.machine("all-night")
    browser = Jupyter()
    browser.wait(notebook)
    file = {"type": "file", "format": "text", "content": "not done yet"}
    browser.ask("/api/contents/notebooks/late.txt", file)
    for machine in (training, notebook):
        stage.compute.wait(machine, timeout=150)
        assert machine.machine_seconds < 108 + 30
    ended(stage, "too-long-machine", "stopped")
    ended(stage, "all-night", "stopped")
    assert stage.checkpoints("too-long-machine")
    assert stage.results("all-night")["notebooks/late.txt"] == b"not done yet"
    assert "submitted again" not in stage.run("janitor").stdout
