"""Calls of Azure's services: what is tried again and how often, what takes long, and each refusal in one sentence."""

from datetime import UTC, datetime

import pytest
from azure_answers import CUT, Answers, answers
from launcher.providers.azure import auth as azure
from launcher.providers.errors import (
    LoginError,
    MissingError,
    QuotaError,
    RefusedError,
    ServiceError,
    UnreachableError,
)

pytestmark = pytest.mark.cloud("azure")
PATH = "/subscriptions/s/resourceGroups/demo"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return answers(monkeypatch)


def test_a_path_is_asked_of_azure_resource_manager_with_its_own_token(service: Answers) -> None:
    service.say({"name": "demo"})
    assert azure.call("GET", PATH, api="2021-04-01") == {"name": "demo"}
    (asked,) = service.asked
    assert (asked.method, asked.url) == ("GET", f"https://management.azure.com{PATH}")
    assert asked.query == {"api-version": "2021-04-01"}
    assert asked.headers["Authorization"] == "Bearer token for https://management.azure.com/.default"


def test_another_host_gets_the_token_of_its_own_scope_or_none(service: Answers) -> None:
    service.say({})
    service.say(b"a log")
    azure.call("POST", "https://westeurope.api.azureml.ms/history", body={"a": 1}, scope=azure.ML_SCOPE)
    assert azure.request("GET", "https://a.blob.core.windows.net/log?sig=x", scope="").text == "a log"
    assert service.asked[0].headers["Authorization"] == "Bearer token for https://ml.azure.com/.default"
    assert service.asked[0].body == {"a": 1}
    assert "Authorization" not in service.asked[1].headers


def test_an_address_that_is_open_by_its_signature_is_in_no_message(service: Answers) -> None:
    service.say(status=CUT)
    with pytest.raises(UnreachableError) as caught:
        azure.request(
            "GET", "https://a.blob.core.windows.net/log?sp=r&sig=SECRET%3D&se=1", scope="", once=True
        )
    assert "SECRET" not in str(caught.value)


def test_an_answer_without_content_is_nothing(service: Answers) -> None:
    service.say(None, 204)
    assert azure.call("DELETE", PATH) == {}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_be_done_twice_is_tried_again_while_azure_is_busy(service: Answers, method: str) -> None:
    service.refuse(503, "ServiceUnavailable")
    service.say(status=CUT)
    service.refuse(429, "TooManyRequests", Retry_After="7")
    service.say({"done": True})
    assert azure.call(method, PATH) == {"done": True}
    assert len(service.pauses) == 3
    assert service.pauses[2] == 7


def test_what_was_perhaps_done_is_not_done_again(service: Answers) -> None:
    service.refuse(503, "ServiceUnavailable")
    with pytest.raises(UnreachableError, match=r"management\.azure\.com answers 503"):
        azure.call("POST", PATH)
    service.say(status=CUT)
    with pytest.raises(UnreachableError, match="check the network"):
        azure.call("POST", PATH)
    assert service.pauses == []


def test_what_was_not_done_for_it_was_too_much_is_done_again(service: Answers) -> None:
    service.refuse(429, "TooManyRequests", Retry_After="2")
    service.say({"done": True})
    assert azure.call("POST", PATH) == {"done": True}


def test_a_call_that_is_made_once_is_made_once(service: Answers) -> None:
    service.refuse(503, "ServiceUnavailable")
    with pytest.raises(UnreachableError):
        azure.call("PUT", PATH, once=True)
    assert len(service.asked) == 1


def test_patience_has_an_end_however_long_azure_wants_to_be_waited_for(service: Answers) -> None:
    for _ in range(5):
        service.refuse(429, "SubscriptionRequestsThrottled", Retry_After="3600")
    with pytest.raises(QuotaError, match="A limit is reached"):
        azure.call("GET", PATH)
    assert service.pauses == [60] * 4


def test_a_token_that_is_refused_is_asked_for_anew_once(service: Answers) -> None:
    service.refuse(401, "ExpiredAuthenticationToken")
    service.say({"done": True})
    assert azure.call("POST", PATH) == {"done": True}
    for _ in range(2):
        service.refuse(401, "InvalidAuthenticationToken", "The access token is invalid.")
    with pytest.raises(
        LoginError, match=r"does not accept the login \(The access token is invalid\); run `az login`"
    ):
        azure.call("GET", PATH)


def test_all_pages_are_given(service: Answers) -> None:
    service.say({"value": [{"n": 1}], "nextLink": "https://management.azure.com/next?api-version=1&$skip=2"})
    service.say({"value": [{"n": 2}]})
    assert [one["n"] for one in azure.pages(PATH, api="1")] == [1, 2]
    assert service.asked[1].query == {"api-version": "1", "$skip": "2"}


def test_a_page_of_a_proxy_is_no_answer(service: Answers) -> None:
    service.say(b"<html>Please sign in")
    with pytest.raises(ServiceError, match=r"gives something other than JSON; check for a proxy"):
        azure.call("GET", PATH)


def test_the_time_is_azures(service: Answers) -> None:
    service.say({}, Date="Sat, 01 Jan 2028 00:00:00 GMT")
    azure.call("GET", PATH)
    assert abs((azure.now() - datetime(2028, 1, 1, tzinfo=UTC)).total_seconds()) < 60


# What takes long: https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations

OPERATION = "https://management.azure.com/subscriptions/s/operations/1?api-version=9"
PLACE = "https://management.azure.com/subscriptions/s/results/1?api-version=9"


def test_what_is_made_is_given_as_it_is_in_the_end(service: Answers) -> None:
    service.say({"properties": {}}, 201, Azure_AsyncOperation=OPERATION, Retry_After="3")
    service.say({"status": "InProgress"}, Retry_After="11")
    service.say({"status": "Succeeded"})
    service.say({"properties": {"made": True}})
    assert azure.wait("PUT", PATH, api="1", body={}) == {"properties": {"made": True}}
    assert service.pauses == [3, 11]
    assert [one.url.rpartition("/")[2] for one in service.asked] == ["demo", "1", "1", "demo"]
    assert [one.query["api-version"] for one in service.asked] == ["1", "9", "9", "1"]


def test_a_resource_that_tells_its_own_state_is_looked_at_until_it_is_made(service: Answers) -> None:
    service.say({"properties": {"provisioningState": "Creating"}}, 201)
    service.say({"properties": {"provisioningState": "Succeeded"}})
    assert azure.wait("PUT", PATH, api="1", body={})["properties"]["provisioningState"] == "Succeeded"


def test_what_is_made_at_once_is_not_asked_for_again(service: Answers) -> None:
    service.say({"properties": {"clientId": "x"}}, 201)
    assert azure.wait("PUT", PATH, api="1", body={}) == {"properties": {"clientId": "x"}}
    assert len(service.asked) == 1


def test_a_deletion_is_waited_for(service: Answers) -> None:
    service.say(None, 202, Location=PLACE, Retry_After="15")
    service.say(None, 202, Retry_After="15")
    service.say(None, 204)
    assert azure.wait("DELETE", PATH, api="1") == {}
    assert service.pauses == [15, 15]


def test_the_result_of_a_long_action_is_where_it_says(service: Answers) -> None:
    service.say(None, 202, Azure_AsyncOperation=OPERATION, Location=PLACE)
    service.say({"status": "Succeeded"})
    service.say({"key": "value"})
    assert azure.wait("POST", PATH, api="1") == {"key": "value"}


def test_a_deletion_that_is_done_at_once_is_not_waited_for(service: Answers) -> None:
    service.say(None, 204)
    assert azure.wait("DELETE", PATH, api="1") == {}


@pytest.mark.parametrize("word", ["Failed", "Canceled"])
def test_what_fails_in_the_end_says_why(service: Answers, word: str) -> None:
    service.say({}, 201, Azure_AsyncOperation=OPERATION)
    service.say({"status": word, "error": {"code": "Conflict", "message": "the name is taken"}})
    with pytest.raises(ServiceError, match="the name is taken") as failed:
        azure.wait("PUT", PATH, api="1", body={})
    assert failed.value.code == "Conflict"


def test_what_is_not_done_in_time_is_not_known_to_have_failed(service: Answers) -> None:
    service.say({}, 201, Azure_AsyncOperation=OPERATION)
    with pytest.raises(UnreachableError, match="still being worked on"):
        azure.wait("PUT", PATH, api="1", body={}, patience=-1)


# Refusals, as the services word them.

NOT_ALLOWED = (
    "The client 'a@b.c' with object id '1' does not have authorization to perform action "
    "'Microsoft.MachineLearningServices/workspaces/jobs/write' over scope '/subscriptions/s' or the scope is invalid. "
    "If access was recently granted, please refresh your credentials."
)
NOT_LINKED = (
    "The client has permission to perform action 'Microsoft.MachineLearningServices/workspaces/jobs/write' on scope "
    "'/subscriptions/s'; however, it does not have permission to perform action(s) "
    "'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on the linked scope(s) '/subscriptions/s/i'."
)
WRONG_TENANT = (
    "The access token is from the wrong issuer 'https://sts.windows.net/11111111-1111-1111-1111-111111111111/'. It must "
    "match the tenant 'https://sts.windows.net/22222222-2222-2222-2222-222222222222/' associated with this subscription."
)
WRONG_VAULT = (
    "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/22222222-2222-2222-2222-222222222222/, "
    "found https://sts.windows.net/11111111-1111-1111-1111-111111111111/."
)
UNREGISTERED = (
    "The subscription is not registered to use namespace 'Microsoft.MachineLearningServices'. "
    "See https://aka.ms/rps-not-found for how to register subscriptions."
)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "said"),
    [
        (
            403,
            "AuthorizationFailed",
            NOT_ALLOWED,
            RefusedError,
            r"jobs/write \(role AzureML Data Scientist\)",
        ),
        (
            403,
            "LinkedAuthorizationFailed",
            NOT_LINKED,
            RefusedError,
            r"assign/action \(role Managed Identity Operator\)",
        ),
        (
            401,
            "InvalidAuthenticationTokenTenant",
            WRONG_TENANT,
            LoginError,
            r"az login --tenant 2222222[2-]+`",
        ),
        (
            401,
            "InvalidAuthenticationTokenTenant",
            WRONG_VAULT,
            LoginError,
            r"az login --tenant 2222222[2-]+`",
        ),
        (
            409,
            "MissingSubscriptionRegistration",
            UNREGISTERED,
            RefusedError,
            r"az provider register --namespace Micro",
        ),
        (
            403,
            "RequestDisallowedByPolicy",
            "Resource 'x' was disallowed.",
            RefusedError,
            "A policy forbids it",
        ),
        (
            404,
            "ResourceGroupNotFound",
            "Resource group 'demo' could not be found.",
            MissingError,
            "check the name",
        ),
        (400, "ResourceNotFound", "It was not found.", MissingError, "Not found: It was not found"),
        (409, "QuotaExceeded", "No cores.", QuotaError, "QuotaMenuBlade"),
        (409, "OperationNotAllowed", "It results in exceeding quota.", QuotaError, "A limit is reached"),
        (409, "OperationNotAllowed", "It is stopped.", ServiceError, "refuses the request: It is stopped"),
        (
            400,
            "ValidationError",
            "The field is wrong.",
            ServiceError,
            "refuses the request: The field is wrong;",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    service: Answers, status: int, code: str, message: str, kind: type[ServiceError], said: str
) -> None:
    for _ in range(2 if status == 401 else 1):
        service.refuse(status, code, message)
    with pytest.raises(kind, match=said) as refused:
        azure.call("POST", PATH)
    assert (type(refused.value), refused.value.code) == (kind, code)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (
            {"error": {"code": "BadRequest", "message": "No.", "details": [{"message": "The size."}]}},
            "BadRequest",
            "No: The size",
        ),
        ({"errors": [{"code": "NAME_INVALID", "message": "invalid name"}]}, "NAME_INVALID", "invalid name"),
        ({"error_code": "INVALID_PARAMETER_VALUE", "message": "no run"}, "INVALID_PARAMETER_VALUE", "no run"),
        (b"<html>", "", "status 400"),
    ],
    ids=["arm", "registry", "mlflow", "none"],
)
def test_every_service_has_its_own_form_of_an_error(
    service: Answers, body: object, code: str, said: str
) -> None:
    service.say(body, 400)
    with pytest.raises(ServiceError, match=said) as refused:
        azure.call("POST", PATH)
    assert refused.value.code == code
