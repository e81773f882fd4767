"""Training by Google Cloud Batch, on the stage of test_loop.py: each job ends by itself, whatever happens, and nothing is left."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.cookiejar import CookieJar

import pytest
from stage import registry
from stage.google.batch import CANCELLED, FAILED, SUCCEEDED, BatchJob
from stage.google.batch_jobs import OVER_TIME, PREEMPTED
from stage.patience import deadline
from stage.results import ENDLESS, LONG
from stage.scene import Stage

pytestmark = pytest.mark.usefixtures("pushed", "nothing_left")


@pytest.fixture
def nothing_left(stage: Stage) -> Iterator[None]:
    """After each test: no job at work, no container; and there are machines again."""
    yield
    stage.batch.capacity.set()
    stage.batch.faults.heal()
    at_work = [job.id for job in stage.batch.jobs() if job.state not in (SUCCEEDED, FAILED, CANCELLED)]
    for job in stage.batch.jobs():
        job.abandon()
        job.join()
    assert at_work == []
    assert stage.batch.containers(running_only=False) == []


def listed(stage: Stage, run_id: str, state: str) -> None:
    assert re.search(rf"{run_id}\b.*\b{state}", stage.run("runs", "list").stdout)


def ended(stage: Stage, run_id: str, state: str) -> dict:
    """How a run has ended by its own word, which `runs list` agrees with."""
    outcome = stage.outcome(run_id)
    assert outcome["state"] == state, outcome
    listed(stage, run_id, state)
    return outcome


def test_preempted_twice_it_ends_with_the_same_bits(stage: Stage) -> None:
    calm = stage.batch_job("calm-batch", *LONG)
    stage.batch.wait(calm, {SUCCEEDED}, timeout=200)
    ended(stage, "calm-batch", "succeeded")
    assert stage.results("calm-batch")["report.md"]
    assert "epoch 30/30" in stage.run("runs", "logs", "calm-batch").stdout
    assert calm.json()["allocationPolicy"]["instances"][0]["policy"]["provisioningModel"] == "SPOT"

    job = stage.batch_job("disturbed-batch", *LONG)
    stage.batch.wait_for_line(job, r"epoch [2-9]/30", timeout=120)
    stage.batch.preempt(job, 25)  # with notice, as nobody has promised it
    stage.batch.wait_for_line(job, r"attempt 2\b", timeout=120)
    before = sum("/30 " in line for line in job.lines())
    stage.batch.wait_for_line(job, "/30 ", timeout=120, count=before + 20)
    stage.batch.preempt(job, None)  # and without
    stage.batch.wait(job, {SUCCEEDED}, timeout=200)
    assert job.codes == [PREEMPTED, PREEMPTED, 0]
    ended(stage, "disturbed-batch", "succeeded")
    assert len(json.loads(stage.results("disturbed-batch")["attempts.json"])) == 3
    assert stage.weights_and_log("disturbed-batch") == stage.weights_and_log("calm-batch")
    assert "submitted again" not in stage.run("janitor").stdout


def saved(stage: Stage, run_id: str) -> None:
    """Waits until a checkpoint is in the bucket: it is uploaded beside the training."""
    until = deadline(60)
    while not stage.checkpoints(run_id):
        assert time.monotonic() < until
        time.sleep(0.2)


def test_stop_ends_a_job_and_what_it_had_saved_stays(stage: Stage) -> None:
    job = stage.batch_job("unwanted-batch", *ENDLESS)
    stage.batch.wait_for_line(job, r"epoch 2/", timeout=120)
    listed(stage, "unwanted-batch", "running")
    saved(stage, "unwanted-batch")
    stage.run("runs", "stop", "unwanted-batch")
    stage.batch.wait(job, {CANCELLED}, timeout=60)
    assert stage.checkpoints("unwanted-batch")
    listed(stage, "unwanted-batch", "stopped")
    assert "submitted again" not in stage.run("janitor").stdout


def test_a_job_without_a_machine_waits_and_says_why(stage: Stage) -> None:
    stage.batch.capacity.clear()
    job = stage.batch_job("nowhere", *ENDLESS)
    until = deadline(60)
    while not re.search(r"nowhere waits: .*RESOURCE_POOL_EXHAUSTED", stage.run("runs", "list").stdout):
        assert time.monotonic() < until, stage.run("runs", "list").stdout
    stage.run("runs", "stop", "nowhere")
    stage.batch.wait(job, {CANCELLED}, timeout=60)
    assert job.machines == []


def test_an_answer_that_is_lost_makes_no_second_job(stage: Stage) -> None:
    lost = stage.batch.faults.add("POST", "/jobs$", lost=True)
    unavailable = stage.batch.faults.add("POST", "/jobs$", times=2)
    job = stage.batch_job("lost-answer", *ENDLESS)
    assert (lost.hits, unavailable.hits) == (1, 2)
    assert [one.id for one in stage.batch.jobs() if "lost-answer" in one.id] == [job.id]
    stage.run("runs", "stop", "lost-answer")
    stage.batch.wait(job, {CANCELLED}, timeout=60)


def test_the_provider_ends_a_job_that_does_not(stage: Stage) -> None:
    job = stage.batch_job("clock-batch", *ENDLESS, "cloud.max_hours=1")
    stage.batch.wait_for_line(job, r"epoch 2/", timeout=120)
    saved(stage, "clock-batch")
    job.settings = replace(job.settings, seconds_per_hour=1)  # and so an hour has passed
    job.take_away(None, OVER_TIME)
    stage.batch.wait(job, {FAILED}, timeout=60)
    assert job.codes == [
        OVER_TIME
    ]  # which is not tried again: that would be paid for beyond what was allowed
    assert stage.checkpoints("clock-batch")
    listed(stage, "clock-batch", "stopped")


def test_an_image_that_cannot_be_pulled_fails_the_job(stage: Stage) -> None:
    """It is there at the launch, and no more when there is a machine."""
    image = registry.push_bash(stage.registry)
    name, _, digest = image.partition("/")[2].partition("@")
    url = f"http://{stage.registry}/v2/{name}/manifests/{digest}"
    stage.batch.capacity.clear()
    job = stage.batch_job("no-image", f"cloud.image={image}", "tracking=none")
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30).close()
    stage.batch.capacity.set()
    stage.batch.wait(job, {FAILED}, timeout=60)
    listed(stage, "no-image", "failed")


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
        with self.opener.open(request, timeout=60) as answer:
            return answer.read()

    def wait(self, job: BatchJob) -> None:
        """Waits until it answers."""
        until = deadline(90)
        while True:
            try:
                self.ask("/lab")
                return
            except OSError:
                assert time.monotonic() < until, job.error()
                time.sleep(0.3)


def outside() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return probe.getsockname()[0]


NOTEBOOK = ("launch", "cloud=batch", "cloud.machine=cpu", "job=notebook")


def test_a_notebook_keeps_what_is_saved_and_ends_when_idle(stage: Stage) -> None:
    said = stage.run(*NOTEBOOK, "run.id=at-work", "cloud.idle_minutes=1", check=True).stdout
    job = stage.batch.job("at-work")
    assert re.search(
        rf"gcloud compute ssh .*({job.uid}).* --tunnel-through-iap -- -N -L 8888:localhost:8888", said
    )
    browser = Jupyter()
    browser.wait(job)
    assert job.json()["allocationPolicy"]["instances"][0]["policy"]["provisioningModel"] == "STANDARD"
    with pytest.raises(urllib.error.HTTPError, match="403"):  # another site's page in the same browser
        urllib.request.urlopen(
            urllib.request.Request(f"{browser.url}/api/contents/notebooks/no.txt", b"{}", method="PUT"),
            timeout=60,
        )
    with pytest.raises(OSError, match="refused"):
        Jupyter(outside()).ask("/lab")
    file = {"type": "file", "format": "text", "content": "what I found"}
    browser.ask("/api/contents/notebooks/found.txt", file)
    stage.batch.wait(job, {SUCCEEDED}, timeout=150)
    assert stage.results("at-work")["notebooks/found.txt"] == b"what I found"
    ended(stage, "at-work", "succeeded")


def test_past_its_time_limit_it_is_gone_with_its_results_saved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training, and beside it a notebook that somebody still uses."""
    # The service's own limit is another test's, and began before there was a container.
    monkeypatch.setattr(stage.batch, "settings", replace(stage.batch.settings, seconds_per_hour=7200))
    limit = "cloud.max_hours=0.04"  # 144 seconds, in which Jupyter starts on a busy machine too
    training = stage.batch_job("too-long-batch", *ENDLESS, limit)
    stage.run(*NOTEBOOK, "run.id=all-night", limit, check=True)
    notebook = stage.batch.job("all-night")
    browser = Jupyter()
    browser.wait(notebook)
    file = {"type": "file", "format": "text", "content": "not done yet"}
    browser.ask("/api/contents/notebooks/late.txt", file)
    for job in (training, notebook):
        stage.batch.wait(job, timeout=150)
    ended(stage, "too-long-batch", "stopped")
    ended(stage, "all-night", "stopped")
    assert stage.checkpoints("too-long-batch")
    assert stage.results("all-night")["notebooks/late.txt"] == b"not done yet"
    assert "submitted again" not in stage.run("janitor").stdout
