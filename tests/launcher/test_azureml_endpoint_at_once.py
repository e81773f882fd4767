"""Models at managed online endpoints where two deploy at once, or who may ask is changed only in part."""

from typing import Any

import azureml_endpoints
import pytest
from azureml_endpoints import LAST, deploy, image, rollback
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers import target
from launcher.providers.azure import azureml_endpoint_access as access
from launcher.providers.azure import azureml_endpoint_calls as calls
from launcher.providers.azure import azureml_endpoint_request as asked
from launcher.providers.errors import RefusedError

pytestmark = pytest.mark.cloud("azure")


made, stage = azureml_endpoints.made, azureml_endpoints.stage  # fixtures


def _refused(*_: Any) -> None:
    raise UserError("It does not pass.")


def _first(version: int, check: Any) -> None:
    target("azureml").deploy(Order("digits", version, image(version), {"until": LAST}), check)


def test_while_a_first_version_is_still_made_no_other_one_takes_it_for_a_leftover(stage):
    found = []

    def second(*_: Any) -> None:
        (one,) = stage.endpoint.deployments.values()
        one.state, one.looks = "Creating", 100  # as the other one finds it
        with pytest.raises(UserError, match=r"The deployment v1-\w+ is Creating just now; try again"):
            _first(2, _refused)
        one.looks = 0
        found.append(one)

    _first(1, second)
    assert found
    assert (stage.traffic, stage.versions) == ({1: 100}, [1])


@pytest.mark.parametrize("passes", [True, False])
def test_a_first_version_that_fails_leaves_the_endpoint_that_somebody_else_has_made_anew(passes, stage):
    def check(*_: Any) -> None:
        stage.world.ml.endpoints.reset()
        there: Any = target("azureml")
        order = Order("digits", 5, image(5), {"until": LAST})
        calls.put(there._path("digits"), asked.endpoint(order, "westeurope", there._server(), "another"))
        if not passes:
            _refused()

    with pytest.raises(UserError, match="deployed by somebody else meanwhile" if passes else "does not pass"):
        _first(1, check)
    assert stage.endpoint.given["tags"]["mark"] == "another"
    assert stage.versions == []


def test_what_somebody_else_sends_elsewhere_meanwhile_is_not_written_over(stage):
    deploy(1)
    with pytest.raises(UserError, match="deployed by somebody else meanwhile"):
        _first(2, lambda ask: deploy(5))
    assert (stage.traffic, stage.versions) == ({5: 100}, [1, 5])
    assert stage.endpoint.given["tags"]["version"] == "v5"
    assert rollback() == "digits@v1"


@pytest.mark.parametrize("state", ["Creating", "Updating"])
def test_what_somebody_else_is_about_to_deploy_is_not_ended(state, stage):
    deploy(1)
    deploy(2)
    old = next(one for one in stage.endpoint.deployments.values() if one.name.startswith("v1-"))

    def check(*_: Any) -> None:
        old.state, old.looks = state, 100

    asked_before = len(stage.changes())
    _first(3, check)
    assert not [one for one in stage.changes()[asked_before:] if one.startswith("DELETE")]
    assert stage.versions == [1, 2, 3]


def test_who_was_let_in_before_the_rest_was_refused_is_not_let_in_any_more(stage):
    first, second = stage.person("a"), stage.person("b")
    deploy(1, allow=f"user:{first.object_id}")
    nobody = "0f0e0d0c-1111-4222-8333-444455556666"
    stage.world.fail("arm", "DELETE .*/roleAssignments/", 403, "AuthorizationFailed", 1)
    with pytest.raises(UserError, match="Permission denied"):
        deploy(2, allow=f"user:{second.object_id}")
    assert [one.principal_id for one in stage.callers] == [first.object_id]
    with pytest.raises(UserError, match="does not exist in the directory"):
        deploy(2, allow=f"user:{second.object_id},user:{nobody}")
    assert [one.principal_id for one in stage.callers] == [first.object_id]


def test_who_was_put_out_before_the_rest_was_refused_is_let_in_again(stage, monkeypatch):
    people = [stage.person(name) for name in "abc"]
    deploy(1, allow=",".join(f"user:{who.object_id}" for who in people))
    call, taken = access.azure.call, []

    def refused(method: str, path: str, **rest: Any) -> Any:
        if method == "DELETE" and "/roleAssignments/" in path:
            taken.append(path)
            if len(taken) == 2:
                raise RefusedError("Permission denied", "ask")
        return call(method, path, **rest)

    monkeypatch.setattr(access.azure, "call", refused)
    with pytest.raises(UserError, match="Permission denied"):
        deploy(2, allow="nobody")
    assert {one.principal_id for one in stage.callers} == {who.object_id for who in people}
    assert stage.traffic == {1: 100}
