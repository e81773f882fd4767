"""What no stack can hold: the value of the secret, and the budget, which CloudFormation does not know in every region."""

from __future__ import annotations

from typing import Any

from ...errors import MissingError, ServiceError
from ...steps import Steps
from .. import auth as aws

THRESHOLDS = (50, 90, 100)  # percent of the budget


def put_key(name: str, key: str, region: str, steps: Steps) -> None:
    """Put the key into the secret, unless it is there. It is in no other request, and nowhere printed."""
    if steps.dry:
        value = "SecretString=WANDB_API_KEY"
        steps.show("secretsmanager", "put_secret_value", f"SecretId={name}", value)
        return
    found = aws.call("secretsmanager", "describe_secret", region, SecretId=name)
    if found.get("DeletedDate"):  # it keeps its name for weeks
        aws.call("secretsmanager", "restore_secret", region, SecretId=name)
    try:
        known = aws.call("secretsmanager", "get_secret_value", region, SecretId=name)
    except MissingError:  # none was put there yet
        known = {}
    if known.get("SecretString") != key:
        aws.call("secretsmanager", "put_secret_value", region, SecretId=name, SecretString=key)
        steps.changes += 1


def set_budget(name: str, amount: str, mail: str, account: str, steps: Steps) -> None:
    """Have mails sent at shares of an amount a month. What ends a training is its time limit, so trouble here is no failure.

    Args:
        name: of the budget, and of the tag whose costs it counts.
    """
    text = f"{name}: mails to {mail} at 50, 90 and 100 % of {amount} USD a month"
    if steps.dry:
        steps.show("budgets", "create_budget", f"BudgetName={name}", f"Amount={amount}", mail)
    else:
        try:
            _set_budget(name, amount, mail, account, steps)
        except ServiceError as error:
            steps.say("budget", f"NOT SET: {error}")
            return
    steps.say("budget", text)
    steps.say(
        "budget",
        "it counts nothing until the tag 'project' is activated: Billing > Cost allocation tags, a day after the first job",
    )


def remove_budget(name: str, account: str, steps: Steps) -> None:
    """Remove it. What is gone already is no error."""
    if steps.dry:
        steps.show("budgets", "delete_budget", f"BudgetName={name}")
        return
    try:
        aws.call("budgets", "delete_budget", AccountId=account, BudgetName=name)
    except MissingError:
        return
    except ServiceError as error:
        steps.say("budget", f"{name}: NOT REMOVED: {error}")
        return
    steps.say("budget", f"{name}: removed")


def _set_budget(name: str, amount: str, mail: str, account: str, steps: Steps) -> None:
    which = {"AccountId": account, "BudgetName": name}
    try:
        found = aws.call("budgets", "describe_budget", **which)["Budget"]
    except MissingError:
        found = None
    if found:
        same = float(found.get("BudgetLimit", {}).get("Amount", 0)) == float(amount)
        if same and _mails(which) == {mail}:
            return
        # Its notices cannot be changed with it; nothing is lost with a budget, which only adds up the month's bill.
        aws.call("budgets", "delete_budget", **which)
    subscribers = [{"SubscriptionType": "EMAIL", "Address": mail}]
    notices = [{"Notification": _notice(each), "Subscribers": subscribers} for each in THRESHOLDS]
    budget = {
        "BudgetName": name,
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": amount, "Unit": "USD"},
        "CostFilters": {"TagKeyValue": [f"user:project${name}"]},
    }
    aws.call(
        "budgets",
        "create_budget",
        AccountId=account,
        Budget=budget,
        NotificationsWithSubscribers=notices,
    )
    steps.changes += 1


def _notice(percent: int) -> dict[str, Any]:
    return {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": float(percent),
        "ThresholdType": "PERCENTAGE",
    }


def _mails(which: dict[str, str]) -> set[str]:
    """Give who gets the mails."""
    operation = "describe_subscribers_for_notification"
    found: set[str] = set()
    for each in THRESHOLDS:
        try:
            answer = aws.call("budgets", operation, **which, Notification=_notice(each))
        except MissingError:
            return set()
        found |= {subscriber["Address"] for subscriber in answer["Subscribers"]}
    return found
