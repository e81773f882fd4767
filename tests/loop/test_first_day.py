"""The first day with an account, whole, on the stage of test_loop.py. It ends with the cloud destroyed: it comes last."""

import re

import pytest
from stage.google.project import PROJECT
from stage.scene import Stage

pytestmark = pytest.mark.usefixtures("pushed")


def environment(stage: Stage) -> dict[str, str]:
    """A person who is logged in with gcloud, gh and for programs."""
    return stage.laptop | stage.setup.env | {"PROJECT": PROJECT, "FIRST_DAY_POLL": "0.5", "SETTLE": "0"}


def test_it_begins_only_when_a_person_agrees(stage: Stage) -> None:
    before = stage.submitted()
    done = stage.project.run("make", "first-day", check=False, timeout=600, **environment(stage))
    assert done.returncode != 0
    assert "removes what `cloud setup` has made" in done.stdout
    assert "Nothing was done." in done.stderr
    assert stage.submitted() == before


def test_the_table_tells_what_is_as_we_say_and_what_is_not(stage: Stage) -> None:
    env = environment(stage) | {"YES": "1"}
    done = stage.project.run("make", "first-day", check=False, timeout=1800, **env)
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in done.stdout.splitlines()
        if line.startswith("| ") and not line.startswith("| what")
    ]
    marks = {row[0]: row[-1].strip(" |") for row in rows}
    wrong = {what for what, mark in marks.items() if mark == "**not**"}
    # The stage has no GPU, which the table has to say: what a T4 has left is a failure in one sentence.
    assert wrong == {
        f"vertex, gpu: {what}" for what in ("state", "exit status", "log", "results in the bucket")
    }, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode != 0
    for place in ("vertex", "batch"):
        for what in ("state", "labels", "exit status", "log", "results in the bucket", "cost"):
            assert marks[f"{place}, cpu: {what}"] == "as we say"
    assert marks["vertex, gpu: GPU and driver"] == "as we say"
    for what in ("cloud setup", "cloud setup again", "janitor --dry-run", "cloud destroy"):
        assert marks[what] == "as we say"
    assert {mark for what, mark in marks.items() if what.endswith(": runs stop")} == {"as we say"}
    assert re.search(r"4 of \d+ not as we say. Please paste the table into an issue.", done.stdout)
    pools = [value for key, value in stage.setup.resources.items() if key[0] == "pool"]
    assert [pool["state"] for pool in pools] == ["DELETED"]
    assert stage.vertex.containers() == []
    assert stage.batch.containers() == []
