"""Models at managed online endpoints are paid for by the hour: what they may cost, until when, and who ends them then."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import azureml_endpoints
import pytest
from azure_logins import logged_in
from azureml_endpoints import LAST, Served, deploy, image
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target
from launcher.providers.azure import azureml_endpoint as client

pytestmark = pytest.mark.cloud("azure")
made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"traffic": "0"}, "traffic=0 is no number from 1 to 100"),
        ({"max": "51"}, "max=51 is no number from 1 to 50"),
        ({"machine": "t4"}, "machine=t4 is none of those for endpoints; give cpu-tiny, cpu-small, cpu"),
        ({"until": "2020-01-31"}, "until=2020-01-31 is no day to come"),
        ({"until": "tomorrow"}, "until=tomorrow is no day to come"),
        ({"until": "2999-W01-1"}, "until=2999-W01-1 is no day to come"),
        ({"max_usd": "none"}, "no number of USD"),
        ({"max_usd": "nan"}, "nan are the most"),
        ({"max_usd": "50"}, r"would cost about 70\.81 USD in 30 days, and 50 are the most.*max_usd=72"),
        ({"max": "3", "max_usd": "200"}, r"212\.43 USD"),
    ],
)
def test_what_azure_or_the_cap_would_refuse_is_refused_before(settings, why, stage):
    with pytest.raises(UserError, match=why):
        deploy(1, **settings)
    assert stage.changes() == []


def test_what_it_could_cost_is_given_as_it_is_said(stage, capsys):
    usd = target("azureml").prepare(Order("digits", 1, image(1), {"max_usd": "1000", "until": LAST}))
    assert f"about {usd:.2f} USD in the 30 days to come" in capsys.readouterr().out


def test_what_costs_without_an_end_is_refused(stage):
    order = Order("digits", 1, image(1), {"max_usd": "1000"})
    with pytest.raises(UserError, match="costs day and night: give until=DATE"):
        target("azureml").prepare(order)


def test_what_ends_earlier_may_cost_less_and_a_second_version_counts_twice(stage, capsys):
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    deploy(1, max_usd="5", until=tomorrow)
    with pytest.raises(UserError, match=r"with the version before, and 100 are the most"):
        deploy(2, max_usd="100")
    assert stage.traffic == {1: 100}
    deploy(2, max_usd="150")
    assert "and 0.097 USD for the version before, which stays" in capsys.readouterr().out


def test_the_version_before_is_priced_as_what_it_is(stage, capsys):
    deploy(1, max="3")
    said = deploy(2)
    assert "and 0.291 USD for the version before" in capsys.readouterr().out
    assert "v1 stays for a rollback until the next deployment, for about 0.291 USD an hour" in said.state
    with pytest.raises(UserError, match=r"about 141\.62 USD in 30 days, with the version before"):
        deploy(3, max_usd="140")  # v2 is what stays then
    deploy(2, max_usd="283.5")  # nothing new: what is there, and v1
    with pytest.raises(UserError, match=r"about 283\.24 USD in 30 days, with the version before"):
        deploy(2, max_usd="283")


def test_a_canary_is_finished_where_the_quota_has_no_room_for_a_third_machine(stage):
    from launcher.providers.azure import quotas

    stage.world.ml.usages.set("Standard_F2s_v2", 8)
    deploy(1)
    deploy(2, traffic="10")
    quotas._answer.cache_clear()
    deploy(2)
    assert (stage.traffic, stage.versions) == ({2: 100}, [1, 2])
    quotas._answer.cache_clear()
    with pytest.raises(UserError, match="8 of 8 vCPUs are in use"):
        deploy(3)
    order = Order("digits", 2, f"{image(2).partition('@')[0]}:v2", {"max_usd": "1000", "until": LAST})
    assert target("azureml").prepare(order) > 70  # as the command asks before the image is pushed


def test_it_is_removed_in_the_workspace_that_was_noted(stage, monkeypatch):
    where = target("azureml").where
    assert where == f"{stage.world.subscription}/demo/demo-ml/westeurope"
    deploy(1)
    other = stage.place.backend(
        project="00000000-0000-4000-8000-000000000000", workspace="x/y-ml", region="eastus"
    )
    monkeypatch.setattr(client, "connect", lambda: client.Endpoints(other, 50.0))
    now = target("azureml")
    assert now.where != where
    assert now.at(where).where == where
    assert now.at(where).remove("digits") is True
    assert stage.world.ml.endpoints.known == {}
    assert now.at("") is now


def test_the_last_day_is_told_by_the_service_too(stage):
    deploy(1)
    assert [one.until for one in target("azureml").deployments()] == [LAST]


def test_the_janitor_s_login_may_end_it_and_nothing_else(stage):
    import json

    from launcher.providers.azure import setup
    from stage.azure.role_definitions import Definition

    actions = json.loads((Path(setup.__file__).parent / "roles.json").read_text())["custom"]["launcher"][
        "actions"
    ]
    role = Definition("33333333-0000-0000-0000-000000000000", "Launcher of demo", tuple(actions))
    stage.world.roles.definitions[role.name] = role
    stage.world.make.principal("launcher", ("Launcher of demo", stage.place.workspace))
    deploy(1)
    with logged_in(stage.world, "launcher"):
        assert [one.model for one in target("azureml").deployments()] == ["digits"]
        with pytest.raises(UserError):
            deploy(2)
        assert stage.traffic == {1: 100}
        assert target("azureml").remove("digits") is True
    assert stage.world.ml.endpoints.known == {}


def noted(stage: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: str) -> list[str]:
    """What the janitor says where a deployment is noted until a day, and the endpoint itself tells LAST."""
    from types import SimpleNamespace
    from typing import Any

    from launcher.janitor import services
    from launcher.models import deployed, places

    monkeypatch.setattr(places, "bucket", lambda: str(tmp_path / "models"))
    monkeypatch.setattr(services, "log_in", lambda service: None)
    deployed.note("azureml", "digits", 1, day, target("azureml").where)
    place: Any = SimpleNamespace(cloud=SimpleNamespace(bucket="b"), service=None)
    said: list[str] = []
    return services.tidy([place], False, said.append) + said


def test_the_janitor_ends_what_is_past_its_last_day(stage, tmp_path, monkeypatch):
    deploy(1)
    stage.endpoint.given["tags"]["until"] = "2020-01-31"
    (said,) = noted(stage, tmp_path, monkeypatch, "2020-01-31")
    assert "azureml: removed digits, deployed until 2020-01-31" in said
    assert stage.world.ml.endpoints.known == {}


def test_the_janitor_leaves_what_tells_another_day_itself(stage, tmp_path, monkeypatch):
    deploy(1)
    (said,) = noted(stage, tmp_path, monkeypatch, "2020-01-31")
    assert f"the service itself says until={LAST}" in said
    assert stage.traffic == {1: 100}


def test_what_was_deployed_is_noted_with_the_workspace_and_forgotten_with_the_endpoint(
    stage, tmp_path, monkeypatch
):
    from launcher.models import deploy as command
    from launcher.models import deployed, places
    from launcher.models.versions import Version

    monkeypatch.setattr(places, "bucket", lambda: str(tmp_path / "models"))
    monkeypatch.setattr(command, "remote_tag", lambda version: image(version.number))
    monkeypatch.setattr(command, "pushed", lambda version: image(version.number))
    settings = {"max_usd": "1000", "until": LAST}
    version = Version("models", "digits", 1, "r", {}, {}, {})
    stage.broken = {image(1)}
    with pytest.raises(UserError, match="crashed"):
        command.deploy("azureml", version, settings, None)
    assert deployed.notes() == ([], [])
    stage.broken.clear()
    command.deploy("azureml", version, settings, None)
    ((note,), troubles) = deployed.notes()
    assert (note.where, note.until, troubles) == (target("azureml").where, LAST, [])
    # The next version keeps the last day of the one before.
    command.deploy("azureml", Version("models", "digits", 2, "r", {}, {}, {}), {"max_usd": "1000"}, None)
    assert stage.endpoint.given["tags"]["until"] == LAST
    assert command.undeploy("azureml", "digits") is True
    assert deployed.notes() == ([], [])
