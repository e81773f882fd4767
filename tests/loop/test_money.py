"""A month's launches stay under their cap together, and one command ends whatever still costs: on the stage of test_loop.py."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from stage.google.vertex import CANCELLED
from stage.results import UNSAVED
from stage.scene import Stage

pytestmark = pytest.mark.usefixtures("pushed")
WORST = 0.39  # USD: two hours of the machine that the stage launches on, at the price that `launch` prints


def month(stage: Stage) -> tuple[float, float]:
    """USD that the ledger holds as spent and as reserved."""
    shown = stage.run("runs", "cost", "--month").stdout
    spent, reserved = re.findall(r"([\d.]+) USD spent, up to ([\d.]+) more", shown)[0]
    return float(spent), float(reserved)


def test_two_launches_at_the_same_moment_do_not_slip_under_the_cap_together(stage: Stage) -> None:
    stage.vertex.capacity.clear()  # they wait for a machine, and cost nothing
    try:
        before = stage.submitted()
        cap = f"cloud.max_month_usd={sum(month(stage)) + 1.5 * WORST:.2f}"

        def launch(run_id: str) -> subprocess.CompletedProcess[str]:
            return stage.launch(f"run.id={run_id}", cap, check=False)

        with ThreadPoolExecutor(2) as pool:
            one, other = sorted(pool.map(launch, ("twin-a", "twin-b")), key=lambda done: done.returncode)
        assert (one.returncode, other.returncode) == (0, 1), one.stderr + other.stderr
        assert "max_month_usd" in other.stderr
        assert "Traceback" not in other.stderr
        assert stage.submitted() == before + 1
        kept = [name for name in stage.bucket.objects("runs/.launches/") if "twin" in name]
        assert len(kept) == 1
        ledgers = [json.loads(stage.bucket.read(name)) for name in stage.bucket.objects("runs/.ledger/")]
        entered = [entry["run_id"] for ledger in ledgers for entry in ledger.values()]  # of a month, each
        assert [run_id for run_id in entered if "twin" in run_id] == [
            json.loads(stage.bucket.read(kept[0]))["run_id"]
        ]
    finally:
        stage.run("runs", "stop", "--all")
        stage.vertex.capacity.set()


def test_stop_all_ends_what_waits_and_what_runs(stage: Stage) -> None:
    running = stage.start("endless", *UNSAVED)
    stage.vertex.wait_for_line(running, r"epoch 1/", timeout=120)
    stage.vertex.capacity.clear()
    try:
        waiting = stage.start("in-line", *UNSAVED)
        listed = stage.run("runs", "list").stdout
        assert re.search(r"endless .* running .* \d\.\d\d +\d\.\d\d\s", listed), listed
        assert re.search(r"in-line .* queued .* 0\.00 +\d\.\d\d\s", listed), listed
        said = stage.run("runs", "stop", "--all").stdout
        assert "endless is told to stop" in said
        assert "in-line is told to stop" in said
    finally:
        stage.vertex.capacity.set()
    for job in (running, waiting):
        stage.vertex.wait(job, {CANCELLED}, timeout=60)
    assert stage.run("runs", "stop", "--all").stdout == "Nothing is running.\n"
    assert stage.vertex.containers() == []
