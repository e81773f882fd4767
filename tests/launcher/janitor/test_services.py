"""What was deployed ends after its last day, and what nobody has noted is named."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launcher.deployment import Check, Deployment, Order
from launcher.errors import UserError
from launcher.janitor import services
from launcher.models import deploy, deployed, image, places
from launcher.models.versions import Version
from launcher.providers.errors import RefusedError
from launcher.records import places as records


class Place:
    """A place in the cloud that holds what it is told to."""

    SETTINGS = ("until",)
    REMOTE = True

    def __init__(self, where: str = "projects/one/locations/here") -> None:
        self.there: dict[str, int] = {}
        self.until: dict[str, str] = {}
        self.asked = 0
        self.trouble, self.refused = "", False
        self.where = where
        self.others: dict[str, Place] = {}

    def at(self, where: str) -> "Place":
        return self if where in ("", self.where) else self.others[where]

    def prepare(self, order: Order) -> float:
        return 12.345

    def deploy(self, order: Order, check: Check) -> Deployment:
        self.there[order.model] = order.version
        self.until[order.model] = order.settings.get("until", "")
        return Deployment(order.model, order.version, "cloud", "https://there")

    def rollback(self, model: str) -> Deployment:
        raise NotImplementedError

    def remove(self, model: str) -> bool:
        if self.trouble:
            raise UserError(self.trouble)
        return self.there.pop(model, None) is not None

    def deployments(self) -> list[Deployment]:
        self.asked += 1
        if self.refused:
            raise RefusedError("The login may not do that", "ask for run.services.list")
        return [
            Deployment(model, number, "cloud", "https://there", until=self.until.get(model, ""))
            for model, number in self.there.items()
        ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place()
    monkeypatch.setattr(places, "bucket", lambda: str(tmp_path / "models"))
    monkeypatch.setattr(deploy, "target", lambda name: made)
    monkeypatch.setattr(services, "target", lambda name: made)
    monkeypatch.setattr(deploy, "remote_tag", lambda version: "host/serve:tag")
    monkeypatch.setattr(image, "build", lambda version, tag: "sha256:1")
    monkeypatch.setattr(image, "push", lambda tag: "host/serve@sha256:1")
    return made


def deployed_until(model: str, day: str) -> None:
    version = Version("models", model, 1, "r", {}, {}, {})
    deploy.deploy("cloud", version, {"until": day} if day else {}, None)


def tidy(dry_run: bool = False) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return services.tidy([bucket_of(SimpleNamespace())], dry_run, said.append), said


def bucket_of(service: Any, bucket: str | None = "gs://demo") -> records.Place:
    return records.Place("one", "one", service, "home", {}, 0.0, cloud=SimpleNamespace(bucket=bucket))


def test_what_is_past_its_last_day_is_removed_and_nothing_else(place: Place):
    for model, day in (("old", "2020-01-31"), ("new", "2999-01-31"), ("always", "")):
        deployed_until(model, day)
    assert tidy(dry_run=True)[1][0].startswith("cloud: would remove old, deployed until 2020-01-31 by ")
    assert set(place.there) == {"old", "new", "always"}
    troubles, said = tidy()
    assert (troubles, len(said)) == ([], 1)
    assert set(place.there) == {"new", "always"}
    assert tidy() == ([], [])


def test_a_note_says_what_it_could_cost(place: Place):
    deployed_until("digits", "")
    ((note,), _) = deployed.notes()
    assert note.usd == pytest.approx(12.35, abs=0.01)


def test_what_answers_and_was_never_noted_is_named_and_left(place: Place):
    deployed_until("digits", "")
    place.there["stray"] = 3
    assert tidy() == ([], [said := tidy()[1][0]])
    assert "stray@v3 answers at https://there, and nobody has noted it" in said
    assert set(place.there) == {"digits", "stray"}


def test_what_nobody_has_noted_ends_after_the_day_that_it_says_itself(place: Place):
    deployed_until("digits", "")
    for model, day in (("stray", "2020-01-31"), ("fresh", "2999-01-31")):
        place.there[model], place.until[model] = 3, day
    assert "would remove stray@v3, deployed until 2020-01-31" in "".join(tidy(dry_run=True)[1])
    assert set(place.there) == {"digits", "stray", "fresh"}
    _, said = tidy()
    assert set(place.there) == {"digits", "fresh"}
    assert any("removed stray@v3" in line for line in said)


def test_what_is_paid_for_without_requests_is_named(place: Place, monkeypatch: pytest.MonkeyPatch):
    deployed_until("digits", "2999-01-31")
    kept = Deployment("digits", 2, "cloud", "https://there", 0, "kept for a rollback", until="2999-01-31")
    monkeypatch.setattr(place, "deployments", lambda: [kept])
    assert tidy()[1] == ["cloud: digits@v2 gets no requests: kept for a rollback"]


def test_a_trial_that_says_another_day_keeps_nothing_from_its_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    deployed_until("digits", "2020-01-31")
    trial = Deployment("digits", 2, "cloud", "https://there", 0, "a trial", until="2999-01-31")
    monkeypatch.setattr(place, "deployments", lambda: [trial])
    assert "removed digits" in tidy()[1][0]


@pytest.mark.parametrize("outcome", [None, UserError("it does not start"), KeyboardInterrupt()])
def test_the_janitor_does_not_end_what_is_just_given_more_time(
    place: Place, outcome: BaseException | None, monkeypatch: pytest.MonkeyPatch
):
    deployed_until("digits", "2020-01-31")
    start = place.deploy

    def deploy_it(order: Order, check: Check) -> Deployment:
        assert tidy() == ([], []), "the janitor comes while it starts"
        if outcome:
            raise outcome
        return start(order, check)

    monkeypatch.setattr(place, "deploy", deploy_it)
    version = Version("models", "digits", 2, "r", {}, {}, {})
    with pytest.raises(type(outcome)) if outcome else nullcontext():
        deploy.deploy("cloud", version, {"until": "2999-01-31"}, None)
    ((until, number),) = [(note.until, note.version) for note in deployed.notes()[0]]
    assert (until, number) == (("2020-01-31", 1) if outcome else ("2999-01-31", 2))


def test_where_nothing_was_deployed_nobody_is_asked(place: Place):
    assert tidy() == ([], [])
    assert place.asked == 0


def test_without_a_login_or_a_bucket_nothing_is_read(place: Place, monkeypatch: pytest.MonkeyPatch):
    def refuse() -> str:
        raise UserError("There is no login.")

    monkeypatch.setattr(deployed, "notes", lambda: pytest.fail("asked"))
    there = [bucket_of(SimpleNamespace(who=refuse)), bucket_of(SimpleNamespace(), None)]
    assert services.tidy(there, False, print) == []


def test_what_cannot_be_removed_is_a_trouble_and_is_tried_again(place: Place):
    deployed_until("old", "2020-01-31")
    place.trouble = "it is refused."
    assert tidy()[0] == ["cloud: old was to end on 2020-01-31, but: it is refused."]
    place.trouble = ""
    assert tidy()[0] == []
    assert place.there == {}


def test_undeploying_takes_its_note_away(place: Place):
    deployed_until("digits", "2999-01-31")
    assert [(note.model, note.until) for note in deployed.notes()[0]] == [("digits", "2999-01-31")]
    assert deploy.undeploy("cloud", "digits") is True
    assert deploy.undeploy("cloud", "digits") is False
    assert deployed.notes() == ([], [])


def test_an_image_that_was_pushed_before_is_taken_as_it_is(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image, "build", lambda version, tag: pytest.fail("another one was made"))
    version = Version("models", "digits", 1, "r", {}, {}, {})
    ordered: list[Order] = []
    start = place.deploy

    def deploy_it(order: Order, check: Check) -> Deployment:
        ordered.append(order)
        return start(order, check)

    monkeypatch.setattr(place, "deploy", deploy_it)
    deploy.deploy("cloud", version, {}, None, "host/serve@sha256:2")
    assert [order.image for order in ordered] == ["host/serve@sha256:2"]
    monkeypatch.setattr(place, "REMOTE", False)
    with pytest.raises(UserError, match=r"to=cloud makes its image itself; leave image= out"):
        deploy.deploy("cloud", version, {}, None, "host/serve@sha256:2")


def test_a_setting_that_the_place_does_not_have_is_refused(place: Place):
    version = Version("models", "digits", 1, "r", {}, {}, {})
    with pytest.raises(UserError, match=r"port= is no setting of to=cloud; it has until="):
        deploy.deploy("cloud", version, {"port": "1"}, None)
    assert place.there == {}


def test_a_note_that_is_none_is_a_trouble(place: Place, tmp_path: Path):
    folder = tmp_path / "models" / deployed.FOLDER
    folder.mkdir(parents=True)
    (folder / "cloud-digits.json").write_text("no JSON")
    deployed_until("old", "2020-01-31")
    (trouble,), said = tidy()
    assert "is no note of a deployment" in trouble
    assert "removed old" in said[0], "the others count all the same"


def test_what_is_not_where_the_login_looks_is_not_forgotten(place: Place):
    deployed_until("digits", "2020-01-01")
    place.there.clear()
    (trouble,), _ = tidy()
    assert "it is not there any more (projects/one/locations/here)" in trouble
    assert deployed.of("cloud", "digits", place.where) is not None
    assert deploy.undeploy("cloud", "digits") is False
    assert tidy() == ([], [])


@pytest.fixture
def moved(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The place that is configured by now, after `digits` was deployed in another one."""
    deployed_until("digits", "2020-01-01")
    made = Place("projects/two/locations/there")
    made.others[place.where] = place
    monkeypatch.setattr(deploy, "target", lambda name: made)
    monkeypatch.setattr(services, "target", lambda name: made)
    return made


def test_it_ends_where_it_was_deployed_whatever_is_configured_by_then(moved: Place, place: Place):
    assert "removed digits" in tidy()[1][0]
    assert place.there == {}


def test_undeploying_ends_it_wherever_it_is_noted(moved: Place, place: Place):
    deployed_until("digits", "2999-01-01")
    assert (place.there, moved.there) == ({"digits": 1}, {"digits": 1})
    assert deploy.undeploy("cloud", "digits") is True
    assert (place.there, moved.there) == ({}, {})
    assert deployed.notes() == ([], [])


def test_what_was_deployed_anew_meanwhile_is_left(place: Place, monkeypatch: pytest.MonkeyPatch):
    deployed_until("digits", "2020-01-01")
    old = deployed.notes()
    deployed_until("digits", "never")
    monkeypatch.setattr(deployed, "notes", lambda: old)
    assert tidy() == ([], [])
    assert place.there == {"digits": 1}


def test_where_note_and_service_do_not_agree_nothing_is_removed(place: Place):
    deployed_until("digits", "2020-01-01")
    for day, said in (("2999-01-01", "until=2999-01-01"), ("", "until=never")):
        place.until["digits"] = day
        assert f"the service itself says {said}" in tidy()[0][0]
    assert place.there == {"digits": 1}


def test_that_services_may_not_be_listed_is_said_and_is_no_trouble(place: Place):
    deployed_until("digits", "2999-01-01")
    place.refused = True
    troubles, (said,) = tidy()
    assert troubles == []
    assert "whether anything else answers there is not known" in said


def test_a_new_version_keeps_the_last_day_of_the_one_before(place: Place):
    deployed_until("digits", "2027-01-01")
    version = Version("models", "digits", 2, "r", {}, {}, {})
    deploy.deploy("cloud", version, {}, None)
    note = deployed.of("cloud", "digits", place.where)
    assert note
    assert (note.version, note.until) == (2, "2027-01-01")
    assert place.until == {"digits": "2027-01-01"}, "so that its cost is counted to then"
    deploy.deploy("cloud", version, {"until": "never"}, None)
    note = deployed.of("cloud", "digits", place.where)
    assert note
    assert note.until == place.until["digits"] == ""


@pytest.mark.parametrize("left", [True, False])
def test_of_a_first_one_that_fails_the_note_stays_while_anything_is_there(
    left: bool, place: Place, monkeypatch: pytest.MonkeyPatch
):
    def fail(order: Order, check: Check) -> Deployment:
        place.there = {"digits": 1} if left else {}
        raise UserError("it does not start")

    monkeypatch.setattr(place, "deploy", fail)
    with pytest.raises(UserError, match="does not start"):
        deployed_until("digits", "2999-01-01")
    assert bool(deployed.of("cloud", "digits", place.where)) is left


def test_one_that_does_not_start_leaves_the_note_of_the_one_that_answers(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    deployed_until("digits", "2027-01-01")

    def fail(order: Order, check: Check) -> Deployment:
        raise UserError("it does not start")

    monkeypatch.setattr(place, "deploy", fail)
    with pytest.raises(UserError, match="does not start"):
        deployed_until("digits", "2020-01-01")
    note = deployed.of("cloud", "digits", place.where)
    assert note
    assert note.until == "2027-01-01"


def test_a_last_day_that_nobody_would_read_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(places, "bucket", lambda: None)
    with pytest.raises(UserError, match="until= is kept in the bucket"):
        deployed_until("digits", "2027-01-01")
    assert place.there == {}
