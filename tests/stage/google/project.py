"""A Google Cloud project: what is in it, and who may do what there."""

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from stage.rest import RequestError

PROJECT, NUMBER, ACCOUNT = "my-project", "123456789012", "0X0X0X-0X0X0X-0X0X0X"
Resource = dict[str, Any]
Match = re.Match[str]


@dataclass
class Project:
    """What is in it. `resources` has a kind and a name for each: ("bucket", "b"), ("repository", "r"), ...

    Args:
        billing: whether it has a billing account.
        budgets_allowed: whether the person may see and change budgets.
        networks: the names of its networks.
        slow_accounts: how many bindings a new service account is not known to yet.
        agents: e-mails of the services' own accounts that are there.
        kept: what was deleted while its bucket had soft delete, and is paid for: (kind, name).
    """

    billing: bool = True
    budgets_allowed: bool = True
    networks: set[str] = field(default_factory=lambda: {"default"})
    slow_accounts: int = 0
    services: set[str] = field(default_factory=lambda: {"storage.googleapis.com", "logging.googleapis.com"})
    resources: dict[tuple[str, str], Resource] = field(default_factory=dict)
    policies: dict[tuple[str, str], Resource] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    kept: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def roles(self, kind: str, name: str) -> set[tuple[str, str]]:
        """The bindings of a resource as (role, member)."""
        found = self.policies.get((kind, name), {}).get("bindings", [])
        return {(binding["role"], member) for binding in found for member in binding["members"]}

    def conditions(self, kind: str, name: str) -> dict[tuple[str, str], str]:
        """Those bindings of a resource that have a condition, with its expression."""
        found = self.policies.get((kind, name), {}).get("bindings", [])
        return {
            (binding["role"], member): binding["condition"]["expression"]
            for binding in found
            if "condition" in binding
            for member in binding["members"]
        }

    def names(self, kind: str) -> set[str]:
        """The names of all resources of a kind."""
        return {name for each, name in self.resources if each == kind}

    def get(self, kind: str, name: str) -> Resource:
        """A resource that must be there."""
        if (kind, name) not in self.resources:
            raise RequestError(404, f"The {kind} {name} was not found.")
        return self.resources[kind, name]

    def add(self, kind: str, name: str, content: Resource) -> Resource:
        """Makes a resource, which must not be there."""
        if (kind, name) in self.resources:
            raise RequestError(409, f"The {kind} {name} exists already.")
        self.resources[kind, name] = content
        return content

    def remove(self, kind: str, name: str) -> Resource:
        """Removes a resource, which must be there, and its policy."""
        self.get(kind, name)
        self.policies.pop((kind, name), None)
        return self.resources.pop((kind, name))


def need(true: Any, message: str) -> None:
    """Refuses what breaks a rule."""
    if not true:
        raise RequestError(400, message)


def done(content: Resource) -> Resource:
    """A long-running operation that is over at once."""
    return {
        "name": f"projects/{PROJECT}/locations/us-central1/operations/1",
        "done": True,
        "response": content,
    }
