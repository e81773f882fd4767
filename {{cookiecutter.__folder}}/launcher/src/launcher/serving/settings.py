"""What a server keeps to: its address, and the limits of what it takes. Set by the environment, as containers are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError

# The routes that the clouds' services ask for, beside those that one of them may choose itself.
HEALTH = ("/health", "/ping")
PREDICT = ("/predict", "/invocations", "/score")

MOST_PORT = 65535
NUMBERS: dict[str, type[int | float]] = {
    **dict.fromkeys(("instances", "body", "values", "workers", "queue"), int),
    **dict.fromkeys(("body_seconds", "drain_seconds"), float),
}


@dataclass(frozen=True)
class Settings:
    """Args:
    host, port: to listen at.
    health, predict: routes.
    instances: most of one request.
    body: most bytes of one request.
    values: most numbers of one answer.
    body_seconds: in which it has to be there.
    workers: requests that are computed at a time.
    queue: requests that wait for that; more are sent away with 503.
    drain_seconds: for which it goes on after SIGTERM, so that what is on its way still gets an answer.
    page: whether there is one for people at /.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    health: tuple[str, ...] = HEALTH
    predict: tuple[str, ...] = PREDICT
    instances: int = 64
    body: int = 1_500_000
    values: int = 1_000_000
    body_seconds: float = 10.0
    workers: int = field(default_factory=lambda: max(4, os.cpu_count() or 1))
    queue: int = 64
    drain_seconds: float = 3.0
    page: bool = True


def read(env: Mapping[str, str], **given: Any) -> Settings:
    """Read the settings from an environment; what is given goes first, but for None.

    Raises:
        UserError: a number is none.
    """
    values: dict[str, Any] = {}
    for name, kind in NUMBERS.items():
        variable = f"SERVE_{name.upper()}"
        if text := env.get(variable):
            values[name] = _number(variable, text, kind)
    if host := env.get("HOST"):
        values["host"] = host
    for variable in ("AIP_HTTP_PORT", "PORT"):
        if text := env.get(variable):
            values["port"] = _number(variable, text, int)
            if values["port"] > MOST_PORT:
                raise UserError(f"{variable}={text} is no port; correct it.")
            break
    for name, variable, usual in (
        ("health", "AIP_HEALTH_ROUTE", HEALTH),
        ("predict", "AIP_PREDICT_ROUTE", PREDICT),
    ):
        if route := env.get(variable):
            if not route.startswith("/") or set(route) & set("{}"):
                raise UserError(
                    f"{variable}={route} is no route; it begins with / and has no braces."
                )
            values[name] = tuple(dict.fromkeys([*usual, route]))
    return Settings(**values | {key: value for key, value in given.items() if value is not None})


def _number(name: str, text: str, kind: type[int | float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise UserError(f"{name}={text} is no number above 0; correct it.")
    return value
