"""What a job of Azure Machine Learning finds in its environment, and where a trial of a sweep leaves what it has reached.

https://learn.microsoft.com/azure/machine-learning/how-to-train-distributed-gpu (nodes);
https://learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication (identity);
the service reads a trial's result from MLflow only: how-to-tune-hyperparameters, "Log metrics".
"""

from __future__ import annotations

import json
import math
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from ..job import EXP, EXP_INTEGER
from ..storage import StorageUnavailable

JOB = "AZUREML_RUN_ID"  # set by the service, in every one of its containers
IDENTITY, DEFAULT_IDENTITY = "AZURE_CLIENT_ID", "DEFAULT_IDENTITY_CLIENT_ID"
MASTER, PORT, RANK, SIZE = "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE"
# Of the one process that the service knows on each node; those of the training have others, or none.
RANKS = (
    RANK,
    SIZE,
    MASTER,
    PORT,
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "CROSS_RANK",
    "CROSS_SIZE",
)
TRIAL = re.compile(
    r".+_(?P<number>\d+)"
)  # the job's name and a number from 0 on, as in lr-1f0e2d-1_0
TRACKING, TRACKING_TOKEN, TRACKED = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID"
SCHEME = re.compile(r"^azureml:")
EACH = "/each"  # ends the name under which a validation is shown that is not the result
RESOURCE = "https://ml.azure.com"  # what the identity's token is for
DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before each further attempt
PASSING = {408, 429, 500, 502, 503, 504}
TIMEOUT = 30.0  # seconds, for one answer


def identity(env: Mapping[str, str]) -> dict[str, str]:
    """Give the variable by which Azure's libraries find the identity that the service names by another one.

    A request of ours gives it already; without an identity the other one holds a word
    (https://github.com/Azure/azure-sdk-for-python/pull/36047).
    """
    named = env.get(DEFAULT_IDENTITY)
    return {IDENTITY: named} if named and not env.get(IDENTITY) else {}


def place(env: Mapping[str, str], count: int) -> tuple[int, tuple[str, int]]:
    """Read which of `count` nodes this is, and the host and port of the first.

    Raises:
        UserError: the service does not say so, or of other nodes.
    """
    try:
        rank, size = int(env[RANK]), int(env[SIZE])
        master = env[MASTER], int(env[PORT])
    except (KeyError, ValueError) as error:
        said = {name: env.get(name) for name in (RANK, SIZE, MASTER, PORT)}
        raise UserError(
            f"What the service says of the nodes cannot be understood ({error!r}): {said}"
        ) from error
    if size != count or not 0 <= rank < count:
        raise UserError(
            f"The service says that this is node {rank} of {size}, and there are to be {count}."
        )
    return rank, master


def number(env: Mapping[str, str]) -> str:
    """Give the number of a trial, from 1; empty where its name has none."""
    found = TRIAL.fullmatch(env.get(JOB, ""))
    return str(int(found["number"]) + 1) if found else ""


def plain(word: str) -> str:
    """Give a setting of the service with its value, where it is given as the logarithm of that.

    Raises:
        UserError: that is no number.
    """
    name, _, value = word.removeprefix("--").partition("=")
    mark = next((each for each in (EXP_INTEGER, EXP) if name.startswith(each)), "")
    if not word.startswith("--") or not mark:
        return word
    try:
        found = math.exp(float(value))
    except (ValueError, OverflowError) as error:
        raise UserError(f"The service gave {word}, which is the logarithm of no number.") from error
    text = str(round(found)) if mark == EXP_INTEGER else f"{found:.6g}"
    return f"--{name.removeprefix(mark)}={text}"


@dataclass
class RunChannel:
    """MLflow of the workspace.

    What the service makes of several values of one metric is not documented: so the objective is told once, at the end.
    What is measured before is there to be seen, under a name of its own.

    Args:
        env: of the container.
    """

    env: Mapping[str, str]
    told: int = field(default=-1)  # the last step

    def tell(
        self, number: int, objective: str, measured: Sequence[tuple[int, float]], last: bool = False
    ) -> None:
        for step, value in measured:
            if step > self.told:
                self._log(f"{objective}{EACH}", value, step)
                self.told = step
        if last:
            step, value = measured[-1]
            self._log(objective, value, step)

    def _log(self, name: str, value: float, step: int) -> None:
        run = self.env.get(TRACKED) or self.env[JOB]
        now = int(time.time() * 1000)
        self._post({"run_id": run, "key": name, "value": value, "timestamp": now, "step": step})

    def _post(self, body: Mapping[str, Any]) -> None:
        url = f"{address(self.env)}/api/2.0/mlflow/runs/log-metric"
        data, delays = json.dumps(body).encode(), list(DELAYS)
        tokens = [*filter(None, [self.env.get(TRACKING_TOKEN)]), None]  # None: the identity's own
        while True:
            try:
                token = tokens[0] or identity_token(self.env)
                headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
                asked = urllib.request.Request(url, data, headers, method="POST")  # noqa: S310 - https
                with _answer(asked) as answer:
                    answer.read()
                    return
            except urllib.error.HTTPError as error:
                if error.code in (401, 403) and len(tokens) > 1:
                    del tokens[0]
                    continue
                reason = f"status {error.code}"
                if error.code not in PASSING:
                    raise UserError(
                        f"The sweep cannot be told what the trial has reached ({reason})."
                    ) from error
            except OSError as error:
                reason = str(error)
            if not delays:
                raise StorageUnavailable(f"MLflow of the workspace does not answer ({reason}).")
            time.sleep(delays.pop(0))


def address(env: Mapping[str, str]) -> str:
    """Give where MLflow's REST API of the workspace begins.

    Raises:
        UserError: the service does not say so.
    """
    uri = env.get(TRACKING, "").partition("?")[0].rstrip("/")
    found = SCHEME.sub("https:", uri)
    if not found.startswith("https://"):
        raise UserError(
            f"{TRACKING}={uri} is no address of MLflow, by which a trial tells its result."
        )
    return found


def identity_token(env: Mapping[str, str]) -> str:
    """Get a token of the job's identity, from the service's own endpoint in the container.

    Raises:
        UserError: there is no such endpoint, or it gives none.
        OSError: it does not answer.
    """
    if not env.get("MSI_ENDPOINT"):
        raise UserError(
            f"There is neither {TRACKING_TOKEN} nor an identity to tell the trial's result with."
        )
    query = {"api-version": "2017-09-01", "resource": RESOURCE}
    if client := env.get(IDENTITY) or env.get(DEFAULT_IDENTITY):
        query["clientid"] = client
    url, headers = env["MSI_ENDPOINT"], {"secret": env.get("MSI_SECRET", "")}
    asked = urllib.request.Request(f"{url}?{urllib.parse.urlencode(query)}", headers=headers)  # noqa: S310 - http
    with _answer(asked) as answer:
        try:
            return str(json.load(answer)["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"The job's identity has no token ({error!r}).") from error


def _answer(asked: urllib.request.Request) -> Any:
    # An opener of its own: urlopen remembers the proxies of the process's first call.
    return urllib.request.build_opener().open(asked, timeout=TIMEOUT)
