"""Models at managed online endpoints where a quota has no room, a right or the setup is missing, or a name is taken."""

import azureml_endpoints
import pytest
from azureml_endpoints import deploy
from launcher.errors import UserError
from launcher.providers.azure import azureml_endpoint_calls as calls
from launcher.providers.azure import azureml_endpoint_request as asked
from launcher.providers.errors import MissingError, QuotaError

pytestmark = pytest.mark.cloud("azure")
made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures


def test_a_quota_without_room_is_told_before_anything_is_made(stage):
    stage.world.ml.usages.set("Standard_F2s_v2", 3)
    with pytest.raises(
        QuotaError, match=r"Standard FSv2 Family Cluster Dedicated vCPUs` 0 of 3 .* 4 are needed"
    ):
        deploy(1)
    assert stage.changes() == []
    stage.world.ml.usages.set("Standard_F2s_v2", 4)
    from launcher.providers.azure import quotas

    quotas._answer.cache_clear()
    deploy(1)


def test_a_quota_that_only_the_service_sees_leaves_nothing(stage):
    stage.world.ml.usages.set("Standard_F2s_v2", 4)
    stage.world.fail("arm", "GET .*/(usages|vmSizes)$", 403, "AuthorizationFailed", None)
    deploy(1)
    with pytest.raises(QuotaError, match="Not enough quota available for Standard_F2s_v2"):
        deploy(2)
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])


def test_an_identity_that_may_not_fetch_images_is_told_by_the_service(stage):
    registry = f"{stage.group}/providers/Microsoft.ContainerRegistry/registries/demobucketimages"
    stage.world.roles.revoke(stage.server, "AcrPull", registry)
    try:
        with pytest.raises(UserError, match="has no AcrPull"):
            deploy(1)
    finally:
        stage.world.make.role(stage.server, "AcrPull", registry)
    assert stage.world.ml.endpoints.known == {}


def test_a_setup_from_before_is_told_to_run_again(stage, monkeypatch):
    stage.world.fail("arm", "GET .*/demo-server$", 404, "ResourceNotFound", None)
    with pytest.raises(MissingError, match=r"There is no identity demo-server .*make cloud-setup"):
        deploy(1)
    assert stage.changes() == []
    stage.world.heal()
    role = stage.world.roles.definitions.pop(stage.caller.name)
    try:
        with pytest.raises(MissingError, match="make cloud-setup"):
            deploy(1, allow=f"user:{stage.person('a').object_id}")
    finally:
        stage.world.roles.definitions[role.name] = role
    assert stage.world.ml.endpoints.known == {}


def test_a_name_that_somebody_has_in_the_region_is_told(stage):
    stage.world.ml.endpoints.taken.add(asked.endpoint_name(stage.place.workspace, "digits"))
    with pytest.raises(UserError, match="needs to be unique within a region"):
        deploy(1)


def test_what_is_refused_as_a_conflict_for_good_is_given_up(stage, monkeypatch):
    monkeypatch.setattr(calls, "SETTLING", 0.0)
    stage.world.fail("arm", "PUT .*/onlineEndpoints/[^/]+$", 409, "Conflict", None, "The name is somebody's.")
    with pytest.raises(UserError, match="The name is somebody's"):
        deploy(1)


def test_whoever_may_give_no_roles_deploys_without_allow(stage):
    from azure_logins import logged_in

    who = stage.world.make.principal(
        "contributor", ("Contributor", f"/subscriptions/{stage.world.subscription}")
    )
    assert who
    with logged_in(stage.world, "contributor"):
        deploy(1)
        with pytest.raises(UserError, match=r"roleAssignments/write"):
            deploy(2, allow=f"user:{stage.person('a').object_id}")
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])
