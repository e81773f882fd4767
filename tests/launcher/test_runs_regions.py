"""`runs` where a launch named a region that its configuration does not: the provider's lists are of one region each."""

from datetime import UTC, datetime

import pytest
import runs_world
from fake_backend import FakeBackend, record
from launcher import records
from launcher.job import State
from launcher.records import places
from runs_world import row

home, backends, run = runs_world.home, runs_world.backends, runs_world.run  # fixtures


@pytest.fixture
def regions(backends, tmp_path, monkeypatch) -> dict[str, FakeBackend]:
    """The cloud `one`, whose configuration names us-central1, in that region and in another."""
    path = tmp_path / "configs/cloud/one.yaml"
    path.write_text(path.read_text().replace("region: null", "region: us-central1"))
    found = {"us-central1": backends["one"], "us-east5": FakeBackend()}

    def connect(cloud):
        return found[cloud.region] if cloud.backend == "one" else backends["two"]

    monkeypatch.setattr(places, "connect", connect)
    return found


def recent(run_id: str, **values: object) -> records.Record:
    return record(run_id, launched=datetime.now(UTC).isoformat(timespec="seconds"), **values)


def test_a_run_in_a_region_of_its_own_is_listed_shown_and_stopped_there(run, regions, home):
    records.write(str(home), recent("near"))
    records.write(str(home), recent("remote", region="us-east5"))
    regions["us-central1"].jobs = {"near": (State.running, 60.0)}
    regions["us-east5"].jobs = {"remote": (State.running, 60.0)}
    regions["us-east5"].lines = ["from far away"]
    table = run("list")
    assert row(table, "near")[1:3] == ["one", "running"]
    assert row(table, "remote")[1:4] == ["one", "(us-east5)", "running"]
    assert table.count(" remote ") == table.count(" near ") == 1
    assert "from far away" in run("logs", "remote")
    run("stop", "remote")
    assert (regions["us-central1"].stopped, regions["us-east5"].stopped) == ([], ["remote"])
    run("stop", "--all")
    assert "near" in regions["us-central1"].stopped


def test_two_files_for_one_backend_and_region_list_its_runs_once(run, regions, home, tmp_path):
    (tmp_path / "configs/cloud/one-large.yaml").write_text((tmp_path / "configs/cloud/one.yaml").read_text())
    records.write(str(home), recent("near"))
    regions["us-central1"].jobs = {"near": (State.running, 60.0), "unknown": (State.running, 60.0)}
    table = run("list")
    assert table.count(" near ") == table.count(" unknown ") == 1


def test_an_old_run_of_another_region_is_still_listed_and_nobody_is_asked_there(run, regions, home):
    records.write(str(home), record("old", region="us-east5"))
    assert row(run("list"), "old")[1] == "one"
    assert regions["us-east5"].calls == []
