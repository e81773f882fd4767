"""Whether a service may take the place of another one: it is ready, is the version, and answers as it should."""

from collections.abc import Mapping
from typing import Any

import pytest
from launcher.deployment import Ask, SilentError
from launcher.errors import UserError
from launcher.models import golden

EXAMPLE = {"b64": "abc"}
DESCRIBED = {
    "paths": {
        "/predict": {
            "post": {"requestBody": {"content": {"application/json": {"example": {"instances": [EXAMPLE]}}}}}
        }
    }
}
READY = {"status": "ready", "registry_version": "digits@v1"}
ANSWER = {"predictions": [{"scores": [0.25, 0.75]}], "registry_version": "digits@v1"}


def service(**answers: tuple[int, Any]) -> Ask:
    """One that gives these answers."""
    found = {"health": (200, READY), "openapi.json": (200, DESCRIBED), "predict": (200, ANSWER), **answers}

    def ask(path: str, body: Any) -> tuple[int, Any]:
        assert path != "/predict" or body["instances"] == [EXAMPLE]
        return found[path.strip("/")]

    return ask


def test_a_service_that_answers_as_it_should_passes():
    golden.check(service(), "digits@v1", lambda example: [{"scores": [0.250001, 0.749999]}])
    golden.check(service(), "digits@v1", None)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({"health": (200, READY | {"registry_version": "digits@v9"})}, "is digits@v9, not digits@v1"),
        ({"health": (503, {"status": "starting"})}, "not ready after 0 seconds .*starting"),
        ({"openapi.json": (404, {})}, "no example"),
        ({"predict": (500, {"error": "it failed"})}, "with 500: .*it failed"),
        ({"predict": (200, ANSWER | {"registry_version": "other"})}, "answers a request with 200"),
        ({"predict": (200, ANSWER | {"predictions": [{"scores": [0.3, 0.7]}]})}, "otherwise than it does"),
    ],
)
def test_one_that_does_not_is_refused_with_the_reason(answers: Mapping[str, Any], why: str):
    with pytest.raises(UserError, match=why):
        golden.check(service(**answers), "digits@v1", lambda example: [{"scores": [0.25, 0.75]}], patience=0)


def test_one_that_is_silent_at_first_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(golden, "POLL", 0)
    silent = iter([SilentError("not yet"), SilentError("not yet")])

    def ask(path: str, body: Any) -> tuple[int, Any]:
        if path == "/health" and (error := next(silent, None)):
            raise error
        return service()(path, body)

    golden.check(ask, "digits@v1", None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.00001, 2]}, True),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        (1.0, 1.01, False),
        (True, 1, False),
        ("3", "3", True),
        ("3", 3, False),
        (None, None, True),
    ],
)
def test_answers_are_compared_but_for_their_last_digits(one: Any, other: Any, same: bool):
    assert golden.close(one, other) is same
