"""One request whose answer is known: a service that gives it may take the place of another one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..deployment import Ask, SilentError
from ..errors import UserError

PATIENCE = 60.0  # seconds in which a service has to be ready
POLL = 0.2
# Another processor adds in another order; what is wrong is wrong by more.
RELATIVE, ABSOLUTE = 1e-3, 1e-4

Predict = Callable[[Any], Any]  # what the version gives for an instance, computed here


def check(ask: Ask, version: str, predict: Predict | None, patience: float = PATIENCE) -> None:
    """Wait until a service is ready, and compare what it gives for its own example with what it should.

    Args:
        predict: None where it cannot be computed here; then it is only seen that there is an answer of this version.

    Raises:
        UserError: it is not ready in time, is another version, or answers otherwise.
    """
    answer = _ready(ask, version, patience)
    if (found := answer.get("registry_version")) != version:
        raise UserError(f"What answers is {found}, not {version}; build its image anew.")
    example = _example(ask, version)
    asked = {"instances": [example], "parameters": {"arrays": True}}
    status, answer = ask("/predict", asked)
    if status != 200 or answer.get("registry_version") != version:
        raise UserError(
            f"{version} answers a request with {status}: {_short(answer)}; look at its log."
        )
    if predict and not close(answer.get("predictions"), predict(example)):
        raise UserError(
            f"{version} answers a request otherwise than it does here: {_short(answer)}; see that its files are whole."
        )


def close(one: Any, other: Any) -> bool:
    """Tell whether two answers are the same, but for the last digits of their numbers."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return set(one) == set(other) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return one == other


def _ready(ask: Ask, version: str, patience: float) -> Mapping[str, Any]:
    """Ask for its health until it is well."""
    deadline = time.monotonic() + patience
    while True:
        try:
            status, answer = ask("/health", None)
        except SilentError as error:
            status, answer = 0, str(error)
        if status == 200 and isinstance(answer, Mapping):
            return answer
        if time.monotonic() > deadline:
            raise UserError(
                f"{version} is not ready after {patience:.0f} seconds ({_short(answer)}); look at its log."
            )
        time.sleep(POLL)


def _example(ask: Ask, version: str) -> Any:
    status, answer = ask("/openapi.json", None)
    try:
        body = answer["paths"]["/predict"]["post"]["requestBody"]
        return body["content"]["application/json"]["example"]["instances"][0]
    except (KeyError, IndexError, TypeError):
        raise UserError(
            f"{version} has no example in its /openapi.json ({status}); build its image anew."
        ) from None


def _short(answer: Any) -> str:
    text = " ".join(str(answer).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
