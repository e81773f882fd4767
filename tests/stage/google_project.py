"""A Google Cloud project: what is in it, and who may do what there."""

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stage.rest import Request, RequestError

PROJECT, NUMBER, ACCOUNT = "my-project", "123456789012", "0X0X0X-0X0X0X-0X0X0X"
ROLES = {
    "aiplatform.user",
    "artifactregistry.reader",
    "artifactregistry.writer",
    "iam.serviceAccountUser",
    "iam.workloadIdentityUser",
    "logging.logWriter",
    "logging.viewer",
    "secretmanager.secretAccessor",
    "secretmanager.viewer",
    "serviceusage.serviceUsageViewer",
    "storage.legacyBucketReader",
    "storage.objectUser",
}
# What a role may be granted on, besides the project.
NARROW = {
    "bucket": ("storage.",),
    "repository": ("artifactregistry.",),
    "secret": ("secretmanager.",),
    "account": ("iam.",),
}

Resource = dict[str, Any]
Match = re.Match[str]


@dataclass
class Project:
    """What is in it. `resources` has a kind and a name for each: ("bucket", "b"), ("repository", "r"), ...

    Args:
        billing: whether it has a billing account.
        budgets_allowed: whether the person may see and change budgets.
        slow_accounts: how many bindings a new service account is not known to yet.
    """

    billing: bool = True
    budgets_allowed: bool = True
    slow_accounts: int = 0
    services: set[str] = field(default_factory=lambda: {"storage.googleapis.com", "logging.googleapis.com"})
    resources: dict[tuple[str, str], Resource] = field(default_factory=dict)
    policies: dict[tuple[str, str], Resource] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def roles(self, kind: str, name: str) -> set[tuple[str, str]]:
        """The bindings of a resource as (role, member)."""
        found = self.policies.get((kind, name), {}).get("bindings", [])
        return {(binding["role"], member) for binding in found for member in binding["members"]}

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


def read_policy(kind: str) -> Callable[[Project, Match, Request], Resource]:
    def read(project: Project, match: Match, request: Request) -> Resource:
        name = match["name"]
        if kind != "project":
            project.get(kind, name)
        return project.policies.get((kind, name), {"etag": "BwAA", "version": 1})

    return read


def write_policy(kind: str) -> Callable[[Project, Match, Request], Resource]:
    def write(project: Project, match: Match, request: Request) -> Resource:
        name, body = match["name"], request.json()
        policy = body.get("policy", body)
        old = read_policy(kind)(project, match, request)
        if policy.get("etag") != old["etag"]:
            raise RequestError(409, "There were concurrent policy changes.", status="ABORTED")
        for binding in policy.get("bindings", []):
            _check_binding(project, kind, binding)
        etag = base64.b64encode(str(hash(json.dumps(policy))).encode()).decode()
        project.policies[kind, name] = {"version": 1, "bindings": policy.get("bindings", []), "etag": etag}
        return project.policies[kind, name]

    return write


def _check_binding(project: Project, kind: str, binding: Resource) -> None:
    role = binding["role"].removeprefix("roles/")
    need(role in ROLES, f"Role {binding['role']} is not supported for this resource.")
    if kind in NARROW:
        need(role.startswith(NARROW[kind]), f"Role {binding['role']} is not supported for this resource.")
    need(len(set(binding["members"])) == len(binding["members"]) > 0, "Members are missing or stand twice.")
    for member in binding["members"]:
        what, _, name = member.partition(":")
        if what == "serviceAccount":
            known = name in project.names("account")
            if known and project.slow_accounts:
                project.slow_accounts, known = project.slow_accounts - 1, False
            need(known, f"Service account {name} does not exist.")
        else:
            pattern = rf"//iam\.googleapis\.com/projects/{NUMBER}/locations/global/workloadIdentityPools/[a-z0-9-]+/attribute\.[a-z_]+/.+"
            need(what == "principalSet" and re.fullmatch(pattern, name), f"Member {member} is malformed.")


def done(content: Resource) -> Resource:
    """A long-running operation that is over at once."""
    return {
        "name": f"projects/{PROJECT}/locations/us-central1/operations/1",
        "done": True,
        "response": content,
    }
