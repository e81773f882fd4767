"""What no template can hold: the value of the secret, a vault that was deleted, and the budget."""

from __future__ import annotations

import time
from typing import Any

from ....errors import UserError
from ...errors import MissingError, RefusedError, ServiceError
from ...steps import Steps, option
from .. import auth as azure
from .. import login
from . import access
from . import names as apis
from .ground import find
from .names import Names

THRESHOLDS = (50, 90, 100)  # percent of the budget
LOOKS = 60  # ten seconds apart: a role may take that long until it counts
# learn.microsoft.com/azure/role-based-access-control/troubleshooting


def recover_vault(names: Names, steps: Steps) -> None:
    """Take a deleted vault back, with its secrets: its name cannot be had otherwise. Its roles do not come back."""
    properties = {
        "tenantId": azure.tenant(),
        "sku": {"family": "A", "name": "standard"},
        "createMode": "recover",
    }
    body = {"location": names.project.region, "tags": names.tags, "properties": properties}
    azure.wait("PUT", names.paths["vault"], api=apis.VAULTS, body=body)
    steps.changes += 1
    steps.say("vault", f"{names.vault}: recovered, with what was in it")


def put_key(names: Names, key: str, steps: Steps) -> None:
    """Put the key into the vault, unless it is there. It is in no other request, and nowhere printed."""
    if steps.dry:
        access.give(names, "PERSON", access.KEYS, names.paths["vault"], steps, kind=None)
        steps.show(*access.put(names.secret, apis.SECRETS), "--body", "value=WANDB_API_KEY")
        return
    person = login.principal()
    access.give(names, person, access.KEYS, names.paths["vault"], steps, kind=None)
    if _when_allowed(lambda: _value(names)) != key:
        try:
            _put(names, key)
        except ServiceError as error:
            if "recover" not in str(error).lower():
                raise
            _recover(names)  # it was deleted, and keeps its name for a week
            _put(names, key)
        steps.changes += 1


def secret_path(names: Names) -> str:
    """Give where Azure Resource Manager has the secret, of which it does not tell the value."""
    return f"{names.paths['vault']}/secrets/wandb"


def set_budget(names: Names, amount: str, mail: str, steps: Steps) -> None:
    """Have mails sent at shares of an amount a month. What ends a training is its time limit, so trouble here is no failure."""
    text = f"{names.group}: mails to {mail} at 50, 90 and 100 % of {amount} a month"
    path = names.below("Microsoft.Consumption/budgets", names.project.account)
    if steps.dry:
        steps.show(
            *access.put(path, apis.BUDGETS), "--body", f"amount={amount}", f"contactEmails={mail}"
        )
    else:
        try:
            _set_budget(path, amount, mail, steps)
        except ServiceError as error:  # not all kinds of subscriptions have them
            steps.say("budget", f"NOT SET: {error}")
            return
    steps.say("budget", text)


def remove_budget(names: Names, steps: Steps) -> None:
    """Remove it. What is gone already is no error."""
    path = names.below("Microsoft.Consumption/budgets", names.project.account)
    if steps.dry:
        steps.show(*access.rest("delete", path, apis.BUDGETS))
        return
    try:
        if not find(path, apis.BUDGETS):
            return
        azure.call("DELETE", path, api=apis.BUDGETS)
    except ServiceError as error:
        steps.say("budget", f"{names.group}: NOT REMOVED: {error}")
        return
    steps.say("budget", f"{names.group}: removed")


def _set_budget(path: str, amount: str, mail: str, steps: Steps) -> None:
    found = find(path, apis.BUDGETS) or {}
    known = found.get("properties") or {}
    wanted = {f"actual-{each}": _notice(each, mail) for each in THRESHOLDS}
    same = float(known.get("amount", 0)) == float(amount)
    if same and {each: _plain(notice) for each, notice in known["notifications"].items()} == wanted:
        return
    start = azure.now().strftime("%Y-%m-01T00:00:00Z")  # what has begun may not be begun anew
    properties = {
        "category": "Cost",
        "amount": int(amount),
        "timeGrain": "Monthly",
        "timePeriod": known.get("timePeriod") or {"startDate": start},
        "notifications": wanted,
    }
    body: dict[str, Any] = {"properties": properties}
    if found.get("eTag"):
        body["eTag"] = found["eTag"]
    azure.call("PUT", path, api=apis.BUDGETS, body=body)
    steps.changes += 1


def _notice(percent: int, mail: str) -> dict[str, Any]:
    return {
        "enabled": True,
        "operator": "GreaterThan",
        "threshold": percent,
        "thresholdType": "Actual",
        "contactEmails": [mail],
    }


def _plain(notice: dict[str, Any]) -> dict[str, Any]:
    """Give of a notice what is asked for; the service adds fields of its own."""
    return {key: notice.get(key) for key in _notice(0, "")}


def _value(names: Names) -> str | None:
    try:
        found = azure.call("GET", names.secret, api=apis.SECRETS, scope=azure.VAULT_SCOPE)
    except MissingError:
        return None
    return str(found.get("value"))


def _put(names: Names, key: str) -> None:
    body = {"value": key, "tags": names.tags}
    azure.call("PUT", names.secret, api=apis.SECRETS, body=body, scope=azure.VAULT_SCOPE)


def _recover(names: Names) -> None:
    host, _, name = names.secret.partition("/secrets/")
    url = f"{host}/deletedsecrets/{name}/recover"
    azure.call("POST", url, api=apis.SECRETS, scope=azure.VAULT_SCOPE)
    for _ in range(LOOKS):
        if _value(names) is not None:
            return
        time.sleep(float(option("WAIT", "10")))
    raise UserError(
        f"The deleted secret {names.secret} does not come back: run this again in a while."
    )


def _when_allowed(look: Any) -> Any:
    """Give what a look gives, once a role that was just given counts.

    Raises:
        RefusedError: it never does.
    """
    for left in reversed(range(LOOKS)):
        try:
            return look()
        except RefusedError:
            if not left:
                raise
            time.sleep(float(option("WAIT", "10")))
    return None
