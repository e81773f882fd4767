"""Models at managed online endpoints, with their strict stand-in: private, and a deployment for each version."""

import re

import azureml_endpoints
import pytest
from azureml_endpoints import LAST, deploy, image, rollback
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target, targets
from launcher.providers.azure import azureml_endpoint_request as asked

pytestmark = pytest.mark.cloud("azure")
made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures


def test_the_first_version_is_private_has_an_end_and_an_identity_that_reaches_no_data(stage, capsys):
    said = deploy(1, until="2999-12-31")
    assert (str(said), said.percent) == ("digits@v1", 100)
    assert re.fullmatch(r"https://demo-digits-[0-9a-f]{6}\.westeurope\.inference\.ml\.azure\.com/", said.url)
    given = stage.endpoint.given
    assert given["properties"]["authMode"] == "AADToken"
    mark = given["tags"].pop("mark")
    assert re.fullmatch("[0-9a-f]{8}", mark)
    assert given["tags"] == {"project": "demo", "model": "digits", "version": "v1", "until": LAST}
    (identity,) = given["identity"]["userAssignedIdentities"]
    assert identity.rpartition("/")[2] == "demo-server"
    (one,) = stage.endpoint.deployments.values()
    of = one.given["properties"]
    assert (of["instanceType"], one.instances) == ("Standard_F2s_v2", 1)
    assert of["appInsightsEnabled"] is False
    assert stage.world.ml.environments.image(of["environmentId"]) == image(1)
    assert stage.callers == []
    printed = capsys.readouterr().out
    assert (
        "0.097 USD for each hour, day and night, also while nobody asks: about 70.81 USD in the 30 days"
        in printed
    )
    assert "The janitor removes it after 2999-12-31" in printed


def test_it_is_found_by_what_folders_and_models_are_called(stage):
    assert targets()["azureml"].endswith("providers.azure.azureml_endpoint")
    names = [asked.endpoint_name(stage.place.workspace, model) for model in ("a", "a" * 60, "x--y", "1")]
    assert all(re.fullmatch(r"demo-[a-z0-9-]+-[0-9a-f]{6}", name) and len(name) <= 32 for name in names)
    assert not [name for name in names if "--" in name]
    other = stage.place.workspace.replace("demo-ml", "other-ml")
    assert asked.endpoint_name(other, "a") != names[0]


def test_a_new_version_gets_its_part_of_the_requests_and_then_all_and_back(stage):
    deploy(1)
    said = deploy(2, traffic="10")
    assert stage.traffic == {1: 90, 2: 10}
    assert said.state == (
        "10 % of the requests, and v1 stays for a rollback until the next deployment, for about 0.097 USD an hour"
    )
    deploy(2)  # the one that is there, and no third one
    assert (stage.traffic, stage.versions) == ({2: 100}, [1, 2])
    assert len(stage.started) == 2
    told = target("azureml").deployments()
    assert [(str(one), one.percent, one.state) for one in told] == [
        ("digits@v1", 0, "no requests, and paid for, for a rollback"),
        ("digits@v2", 100, ""),
    ]
    assert rollback() == "digits@v1"
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])  # what was rejected is paid for no longer
    with pytest.raises(UserError, match="has no version before on Azure ML"):
        rollback()


def test_what_was_kept_for_a_rollback_ends_with_the_next_version(stage):
    for version in (1, 2, 3):
        deploy(version)
    assert (stage.traffic, stage.versions) == ({3: 100}, [2, 3])
    assert rollback() == "digits@v2"
    assert stage.endpoint.given["tags"]["version"] == "v2"


def test_a_rollback_is_one_order_of_traffic_and_waits_for_no_machine(stage):
    deploy(1)
    deploy(2)
    before = len(stage.changes())
    rollback()
    put, delete = stage.changes()[before:]
    assert put.startswith("PUT ")
    assert put.endswith(stage.endpoint.name)
    assert delete.startswith("DELETE ")
    assert "/deployments/v2-" in delete


def test_after_a_canary_that_had_most_requests_a_rollback_leads_to_what_was_before(stage):
    deploy(1)
    deploy(2, traffic="60")
    deploy(2)
    assert rollback() == "digits@v1"
    deploy(3)
    deploy(3, max="2")
    assert rollback() == "digits@v1"


def test_undeploying_leaves_nothing_and_doing_so_again_is_no_error(stage):
    who = stage.person("somebody")
    deploy(1, allow=f"user:{who.object_id}")
    deploy(2)
    assert target("azureml").remove("digits") is True
    assert stage.world.ml.endpoints.known == {}
    assert stage.world.ml.environments.known == {}
    assert stage.callers == []
    assert all(one.ended for one in stage.started)
    assert target("azureml").remove("digits") is False
    assert target("azureml").deployments() == []


def test_an_endpoint_of_somebody_else_is_left_alone(stage):
    deploy(1)
    stage.endpoint.given["tags"]["project"] = "another"
    for do in (lambda: deploy(2), lambda: target("azureml").remove("digits"), rollback):
        with pytest.raises(UserError, match="is not of this project"):
            do()
    assert target("azureml").deployments() == []
    assert stage.traffic == {1: 100}


def test_lists_are_read_to_their_end(stage):
    there = target("azureml")
    for model in ("digits", "shapes", "texts"):
        there.deploy(Order(model, 1, image(1), {"until": LAST}), lambda ask: None)
    assert [one.model for one in there.deployments()] == ["digits", "shapes", "texts"]


def test_an_image_of_another_registry_is_refused(stage):
    with pytest.raises(UserError, match=r"cannot fetch registry\.example/demo/serve"):
        asked.check(Order("digits", 1, "registry.example/demo/serve@sha256:1", {"until": LAST}))
