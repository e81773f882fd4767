"""Who may do what on which resource: policies, what Google refuses in them, and what it shows of them."""

import base64
import json
import re
from collections.abc import Callable

from stage.google.project import NUMBER, PROJECT, Match, Project, Resource, need
from stage.google.roles import starts_with
from stage.rest import Request, RequestError

ROLES = {
    "aiplatform.customCodeServiceAgent",
    "aiplatform.serviceAgent",
    "aiplatform.user",
    "artifactregistry.reader",
    "artifactregistry.writer",
    "batch.agentReporter",
    "batch.jobsEditor",
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


def read_policy(kind: str) -> Callable[[Project, Match, Request], Resource]:
    def read(project: Project, match: Match, request: Request) -> Resource:
        policy = _policy(project, kind, match["name"])
        # Google shows others a policy with odd names of roles in the place of conditions, which must not be written back.
        shown = _asked_version(request) == 3 or not _has_conditions(policy)
        need(shown, "Conditions are shown to those only who ask for version 3.")
        return policy

    return read


def write_policy(kind: str) -> Callable[[Project, Match, Request], Resource]:
    def write(project: Project, match: Match, request: Request) -> Resource:
        name, body = match["name"], request.json()
        policy = body.get("policy", body)
        if policy.get("etag") != _policy(project, kind, name)["etag"]:
            raise RequestError(409, "There were concurrent policy changes.", status="ABORTED")
        version = policy.get("version", 1)
        need(version == 3 or not _has_conditions(policy), "Conditions need a policy of version 3.")
        for binding in policy.get("bindings", []):
            _check_binding(project, kind, binding)
        etag = base64.b64encode(str(hash(json.dumps(policy))).encode()).decode()
        written = {"version": version, "bindings": policy.get("bindings", []), "etag": etag}
        project.policies[kind, name] = written
        return written

    return write


def _policy(project: Project, kind: str, name: str) -> Resource:
    if kind != "project":
        project.get(kind, name)
    return project.policies.get((kind, name), {"etag": "BwAA", "version": 1})


def _asked_version(request: Request) -> int:
    for name in ("optionsRequestedPolicyVersion", "options.requestedPolicyVersion"):
        if name in request.query:
            return int(request.query[name][0])
    return request.json().get("options", {}).get("requestedPolicyVersion", 1)


def _has_conditions(policy: Resource) -> bool:
    return any("condition" in binding for binding in policy.get("bindings", []))


def _check_binding(project: Project, kind: str, binding: Resource) -> None:
    _check_role(project, kind, binding["role"])
    if "condition" in binding:
        condition = binding["condition"]
        need(kind == "project", "Conditions are known here on the project only.")
        need(set(condition) <= {"title", "description", "expression"}, "Malformed condition.")
        need(0 < len(condition.get("title", "")) <= 100, "A condition needs a title.")
        starts_with(condition.get("expression", ""))
    need(len(set(binding["members"])) == len(binding["members"]) > 0, "Members are missing or stand twice.")
    for member in binding["members"]:
        _check_member(project, member)


def _check_role(project: Project, kind: str, role: str) -> None:
    own, given = role.partition(f"projects/{PROJECT}/roles/")[2], role.removeprefix("roles/")
    if own and kind == "project":
        there = not project.resources.get(("role", own), {"deleted": True}).get("deleted")
        need(there, f"Role ({role}) does not exist in the resource's hierarchy.")
        return
    supported = given in ROLES and (kind not in NARROW or given.startswith(NARROW[kind]))
    need(supported, f"Role {role} is not supported for this resource.")


def _check_member(project: Project, member: str) -> None:
    what, _, name = member.partition(":")
    if what == "serviceAccount":
        known = name in project.names("account") | project.agents
        if known and project.slow_accounts:
            project.slow_accounts, known = project.slow_accounts - 1, False
        need(known, f"Service account {name} does not exist.")
    else:
        pattern = rf"//iam\.googleapis\.com/projects/{NUMBER}/locations/global/workloadIdentityPools/[a-z0-9-]+/attribute\.[a-z_]+/.+"
        need(what == "principalSet" and re.fullmatch(pattern, name), f"Member {member} is malformed.")
