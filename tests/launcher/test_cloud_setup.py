"""`cloud destroy` looks for jobs in each region that a launch has named; what is not asked for asks nobody."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from baking import ROOT
from fake_backend import FakeBackend, record
from launcher import records
from launcher.commands import setup
from launcher.records import places
from omegaconf import OmegaConf

SCRIPTS = ROOT / "{{cookiecutter.__folder}}/launcher/src/launcher/providers/google/setup"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that the script was started with."""
    given: dict[str, str] = {}
    monkeypatch.setattr(os, "execvpe", lambda program, words, env: given.update(env))
    return given


@pytest.fixture
def elsewhere(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch of today in another region, and one of long ago in a third."""
    home = str(tmp_path / "bucket/runs")
    today = datetime.now(UTC).isoformat(timespec="seconds")
    records.write(home, record("far", region="us-east5", launched=today))
    records.write(home, record("old", region="us-west1"))
    section = {"backend": "one", "bucket": str(tmp_path / "bucket"), "labels": {}, "max_month_usd": 50.0}
    cloud = OmegaConf.create({**section, "region": "us-central1"})
    monkeypatch.setattr(places, "connect", lambda cloud: FakeBackend())
    monkeypatch.setattr(places, "places", lambda: [places._place("one", cloud)])


@pytest.mark.parametrize("slip", ["DRYRUN", "dry_run", "DRY_RUNS", "DRY-RUN"])
def test_what_was_meant_as_a_trial_is_not_made_real(started, monkeypatch, slip):
    monkeypatch.setenv(slip, "1")
    monkeypatch.setattr(sys, "argv", ["cloud", "setup"])
    with pytest.raises(SystemExit, match=f"{slip} is no setting here: give DRY_RUN=1"):
        setup.main()
    assert started == {}


@pytest.mark.parametrize("off", ["0", "no", "False"])
def test_a_switch_that_is_off_is_not_there(started, monkeypatch, off):
    for name in setup.SWITCHES:
        monkeypatch.setenv(name, off)
    monkeypatch.setattr(sys, "argv", ["cloud", "setup"])
    setup.main()
    assert started["SLUG"] == "demo"
    assert not started.keys() & set(setup.SWITCHES)


def test_destroy_is_told_every_region_that_may_still_have_a_job(started, elsewhere, monkeypatch):
    monkeypatch.delenv("DRY_RUN", raising=False)
    setup.run("destroy")
    assert started["REGIONS"] == "us-central1 us-east5"


@pytest.mark.parametrize(("command", "dry"), [("setup", ""), ("destroy", "1")])
def test_whoever_need_not_know_asks_nobody(started, command, dry, monkeypatch):
    monkeypatch.setenv("DRY_RUN", dry)
    monkeypatch.setattr(places, "places", lambda: pytest.fail("asked"))
    setup.run(command)
    assert started["REGIONS"] == "us-central1"


def test_jobs_of_each_of_them_are_ended():
    names = {"SLUG": "demo", "REGION": "r1", "BUCKET": "b", "ACCOUNT": "demo", "REGIONS": "r1 r2"}
    env = {**os.environ, **names, "DRY_RUN": "1", "PROJECT": "my-project", "YES": "1"}
    done = subprocess.run(
        ["bash", str(SCRIPTS / "destroy")], env=env, capture_output=True, text=True, check=False
    )
    kinds = ("custom-jobs", "hp-tuning-jobs", "endpoints", "models")
    lists = [line.split() for line in done.stdout.splitlines() if "gcloud ai " in line and " list " in line]
    found = [(words[2], words[4].removeprefix("--region=")) for words in lists]
    assert found == [(kind, region) for region in ("r1", "r2") for kind in kinds], done.stdout + done.stderr
    # What has requests is not undeployed, and what is deployed is not deleted.
    steps = [
        line for line in done.stdout.splitlines() if "gcloud ai endpoints" in line and "--region=r1" in line
    ]
    verbs = [line.split()[3] for line in steps]
    assert verbs == ["list", "update", "describe", "undeploy-model", "delete"]


@pytest.mark.parametrize(
    ("said", "status", "shown"),
    [
        ("", 0, "went on"),
        ("Service account x does not exist.", 0, "not there yet; went on"),
        ("PERMISSION_DENIED", 1, "This command failed"),
    ],
)
def test_an_account_that_google_has_not_made_yet_stops_no_setup(said, status, shown):
    script = f"""
        WAIT=0 DRY_RUN= SLUG=demo REGION=r1 BUCKET=b ACCOUNT=demo; set -euo pipefail
        cd '{SCRIPTS}'; here=.; . ./common.sh
        give() {{ [ -z '{said}' ] || {{ echo '{said}' >&2; return 1; }}; }}
        may give it || printf 'not there yet; '
        echo went on
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, shown in done.stdout + done.stderr) == (status, True), done
