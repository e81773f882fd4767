"""Microsoft.Consumption/budgets, of a subscription or a group: they tell, and stop nothing.

https://learn.microsoft.com/rest/api/consumption/budgets/create-or-update (2023-05-01, 2024-08-01)
"""

import datetime
import re

from stage.azure.arm import Arm
from stage.azure.arm_kinds import Json
from stage.azure.arm_paths import Address
from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.server import Call, Reply
from stage.azure.shapes import ANY, Each, check

VERSIONS = ("2019-10-01", "2021-10-01", "2023-03-01", "2023-05-01", "2023-11-01", "2024-08-01")
PLACE = re.compile(
    r"(?P<scope>/subscriptions/[^/]+(/resourceGroups/[^/]+)?)/providers/Microsoft\.Consumption/budgets(/(?P<name>[^/]+))?",
    re.IGNORECASE,
)
GRAINS = ("Monthly", "Quarterly", "Annually", "BillingMonth", "BillingQuarter", "BillingAnnual")
NOTIFICATION = {
    "enabled!": bool,
    "operator!": ("EqualTo", "GreaterThan", "GreaterThanOrEqualTo"),
    "threshold!": int | float,
    "contactEmails!": [str],
    "contactRoles": [str],
    "contactGroups": [str],
    "thresholdType": ("Actual", "Forecasted"),
    "locale": str,
}
SHAPE = {
    "id": str,
    "name": str,
    "type": str,
    "eTag": str,
    "properties!": {
        "category!": ("Cost",),
        "amount!": int | float,
        "timeGrain!": GRAINS,
        "timePeriod!": {"startDate!": str, "endDate": str},
        "filter": ANY,
        "notifications": Each(NOTIFICATION),
        "currentSpend": ANY,
        "forecastSpend": ANY,
    },
}


class Budgets:
    """All of them, by id in lower case."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.known: dict[str, Json] = {}
        arm.extra.append(self)
        arm.vanished.append(self._vanish)

    def _vanish(self, path: str) -> None:
        self.known = {key: one for key, one in self.known.items() if not key.startswith(path.lower() + "/")}

    def __call__(self, call: Call, address: Address, principal: Principal) -> Reply | None:
        found = PLACE.fullmatch(address.path)
        if not found:
            return None
        arm = self._arm
        if call.query["api-version"] not in VERSIONS:
            text = f"The api-version '{call.query['api-version']}' is not one of '{','.join(VERSIONS)}'."
            raise AzureError(400, "InvalidApiVersionParameter", text)
        verb = {"GET": "read", "PUT": "write", "DELETE": "delete"}.get(call.method)
        if verb is None:
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")
        arm.roles.require(principal, f"Microsoft.Consumption/budgets/{verb}", address.path)
        if address.group and address.group.lower() not in arm.groups:
            raise AzureError(
                404, "ResourceGroupNotFound", f"Resource group '{address.group}' could not be found."
            )
        if not found["name"]:
            above = f"{address.path.lower()}/"
            return Reply(200, {"value": [one for key, one in self.known.items() if key.startswith(above)]})
        key = address.path.lower()
        if call.method == "PUT":
            return self._put(call.json(), key, address.path, found["name"])
        if key not in self.known:
            raise AzureError(404, "404", "No budget found.")
        return Reply(200, self.known.pop(key) if call.method == "DELETE" else self.known[key])

    def _put(self, body: Json, key: str, path: str, name: str) -> Reply:
        check(SHAPE, body)
        self._check(name, body)
        before = self.known.get(key)
        if before and body.get("eTag") not in (before["eTag"], None):
            raise AzureError(
                409, "409", "The budget's eTag does not match the latest version. Please get the latest one."
            )
        tag = f'"{len(self.known):x}{int(self._arm.clock.now()):x}"'
        self.known[key] = {
            "id": path,
            "name": name,
            "type": "Microsoft.Consumption/budgets",
            "eTag": tag,
            "properties": {**body["properties"], "currentSpend": {"amount": 0.0, "unit": "USD"}},
        }
        return Reply(200 if before else 201, self.known[key])

    def _check(self, name: str, body: Json) -> None:
        given = body["properties"]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name):
            raise AzureError(400, "400", f"Budget name '{name}' must have 1 to 63 letters, digits, - and _.")
        if given["amount"] <= 0:
            raise AzureError(400, "400", "The budget amount must be more than 0.")
        notes = given.get("notifications") or {}
        if len(notes) > 5:
            raise AzureError(400, "400", "A budget can have up to five notifications.")
        for one in notes.values():
            if not 0 < one["threshold"] <= 1000:
                raise AzureError(400, "400", "The notification threshold must be between 0 and 1000.")
            if not (one["contactEmails"] or one.get("contactRoles") or one.get("contactGroups")):
                raise AzureError(400, "400", "At least one contact email, role or group must be specified.")
        start = _date(given["timePeriod"]["startDate"])
        now = datetime.datetime.fromtimestamp(self._arm.clock.now(), datetime.UTC)
        # "The start date must be first of the month and should be less than the end date", not before this period.
        if start.day != 1 or (start.year, start.month) < (now.year, now.month):
            raise AzureError(
                400, "400", "The start date must be the first of the month, and of this month or a later one."
            )
        if (end := given["timePeriod"].get("endDate")) and _date(end) <= start:
            raise AzureError(400, "400", "The start date should be less than the end date.")


def _date(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise AzureError(400, "400", f"Invalid date: {text}") from error
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
