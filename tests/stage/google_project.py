"""A Google Cloud project as the APIs that `make cloud-setup` uses show it: it keeps what is made, refuses what Google refuses.

gcloud itself sees to the spelling of fields, with Google's own types; the rules here are about values, what must be there
before, and what becomes of a name. Each rule is one that the service documents.
"""

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stage.rest import Answer, Request, RequestError

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
READS = re.compile(r":(getIamPolicy|testIamPermissions)$")

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

    def answer(self, host: str, request: Request) -> Answer:
        """Does what is asked."""
        with self.lock:
            for method, api, pattern, handle in ROUTES:
                match = re.fullmatch(pattern, request.path)
                if method == request.method and re.fullmatch(api, host) and match:
                    self._need_api(host)
                    return Answer(handle(self, match, request))
        raise RequestError(501, f"No such method here: {request.method} {host}{request.path}")

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

    def _need_api(self, host: str) -> None:
        always = {
            "cloudresourcemanager",
            "cloudbilling",
            "serviceusage",
            "iam",
            "storage",
        }  # gcloud's own project has them
        api = host.removeprefix("us-central1-").partition(".")[0]
        if api not in always and f"{api}.googleapis.com" not in self.services:
            text = f"{api} API has not been used in project {PROJECT} before or it is disabled."
            raise RequestError(403, text)


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


def get_project(project: Project, match: Match, request: Request) -> Resource:
    if match[1] not in (PROJECT, NUMBER):
        raise RequestError(403, "The caller does not have permission")
    return {"projectId": PROJECT, "projectNumber": NUMBER, "lifecycleState": "ACTIVE", "name": "Mine"}


def get_billing(project: Project, match: Match, request: Request) -> Resource:
    name = f"billingAccounts/{ACCOUNT}" if project.billing else ""
    return {"projectId": PROJECT, "billingEnabled": project.billing, "billingAccountName": name}


def list_services(project: Project, match: Match, request: Request) -> Resource:
    return {"services": [{"config": {"name": name}, "state": "ENABLED"} for name in sorted(project.services)]}


def enable_services(project: Project, match: Match, request: Request) -> Resource:
    names = request.json()["serviceIds"]
    need(0 < len(names) <= 20, "Between 1 and 20 services can be enabled at once.")
    need(all(re.fullmatch(r"[a-z]+\.googleapis\.com", name) for name in names), "No such service.")
    need(project.billing, "Billing must be enabled.")
    project.services.update(names)
    return done({"services": []})


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


def make_bucket(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    need(request.query["project"] == [PROJECT], "Unknown project id.")
    need(re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", body["name"]), "Invalid bucket name.")
    _check_lifecycle(body)
    body |= {
        "location": body.get("location", "US").upper(),
        "locationType": "region",
        "projectNumber": NUMBER,
    }
    body |= {
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        "metageneration": "1",
        "storageClass": "STANDARD",
    }
    project.policies["bucket", body["name"]] = {"version": 1, "etag": "CAE=", "bindings": []}
    return project.add("bucket", body["name"], body)


def change_bucket(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    _check_lifecycle(body)
    return _merge(project.get("bucket", match["name"]), body)


def _check_lifecycle(bucket: Resource) -> None:
    for rule in bucket.get("lifecycle", {}).get("rule", []):
        condition = rule["condition"]
        need(condition, "A lifecycle rule needs a condition.")
        if rule["action"]["type"] == "AbortIncompleteMultipartUpload":
            need(
                set(condition) <= {"age", "matchesPrefix", "matchesSuffix"},
                "Unsupported condition for this action.",
            )
        else:
            need(rule["action"]["type"] == "Delete", "Unknown action.")


def _merge(old: Resource, new: Resource) -> Resource:
    for name, value in new.items():
        old[name] = (
            _merge(old.get(name) or {}, value) if isinstance(value, dict) and name != "lifecycle" else value
        )
    return old


def list_objects(project: Project, match: Match, request: Request) -> Resource:
    project.get("bucket", match["name"])
    return {"kind": "storage#objects", "items": []}


def show_layout(project: Project, match: Match, request: Request) -> Resource:
    bucket = project.get("bucket", match["name"])
    return {"kind": "storage#storageLayout", "bucket": match["name"], "location": bucket["location"]}


def make_repository(project: Project, match: Match, request: Request) -> Resource:
    name, body = request.query["repositoryId"][0], request.json()
    need(re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", name), "Invalid repository id.")
    need(body.get("format") == "DOCKER", "A format is needed.")
    body["name"] = f"projects/{PROJECT}/locations/{match['region']}/repositories/{name}"
    return done(project.add("repository", name, body))


def change_repository(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    for name, policy in body.get("cleanupPolicies", {}).items():
        need(policy["id"] == name and policy["action"] in ("DELETE", "KEEP"), "Malformed clean-up policy.")
        need(
            ("condition" in policy) != ("mostRecentVersions" in policy),
            "One of condition and mostRecentVersions.",
        )
        need(policy["action"] == "KEEP" or "condition" in policy, "Most recent versions can only be kept.")
        condition = policy.get("condition", {})
        need(condition.get("tagState", "ANY") in ("ANY", "TAGGED", "UNTAGGED"), "Unknown tag state.")
        if "olderThan" in condition:  # gcloud sends 60.0s, Google gives 60s back
            condition["olderThan"] = condition["olderThan"].replace(".0s", "s")
        need(
            "tagPrefixes" not in condition or condition["tagState"] == "TAGGED",
            "Tag prefixes need tagState TAGGED.",
        )
    project.get("repository", match["name"]).update(body)
    return project.get("repository", match["name"])


def make_account(project: Project, match: Match, request: Request) -> Resource:
    name = request.json()["accountId"]
    need(re.fullmatch(r"[a-z]([a-z0-9-]{4,28}[a-z0-9])", name), "Invalid account id.")
    email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
    return project.add(
        "account", email, {"email": email, "name": f"projects/{PROJECT}/serviceAccounts/{email}"}
    )


def make_pool(project: Project, match: Match, request: Request) -> Resource:
    name = request.query["workloadIdentityPoolId"][0]
    need(re.fullmatch(r"(?!gcp-)[a-z0-9-]{4,32}", name), "Invalid pool id.")
    return done(project.add("pool", name, {**request.json(), "name": name, "state": "ACTIVE"}))


def make_provider(project: Project, match: Match, request: Request) -> Resource:
    name = request.query["workloadIdentityPoolProviderId"][0]
    need(re.fullmatch(r"(?!gcp-)[a-z0-9-]{4,32}", name), "Invalid provider id.")
    need(project.get("pool", match["pool"])["state"] == "ACTIVE", "The pool is deleted.")
    body = request.json()
    _check_provider(body)
    return done(project.add("provider", name, {**body, "name": name, "state": "ACTIVE"}))


def change_provider(project: Project, match: Match, request: Request) -> Resource:
    provider = project.get("provider", match["name"])
    _check_provider(provider | request.json())
    provider.update(request.json())
    return done(provider)


def _check_provider(provider: Resource) -> None:
    mapping = provider["attributeMapping"]
    need("google.subject" in mapping, "google.subject must be mapped.")
    need(
        all(re.fullmatch(r"google\.(subject|groups)|attribute\.[a-z_0-9]+", name) for name in mapping),
        "Bad attribute.",
    )
    need(provider["oidc"]["issuerUri"].startswith("https://"), "The issuer must be https.")
    # Google refuses GitHub's issuer without a condition on claims: it is everybody's.
    need(
        "assertion." in provider.get("attributeCondition", ""),
        "The attribute condition must refer to a claim.",
    )


def delete_pool(project: Project, match: Match, request: Request) -> Resource:
    pool = project.get("pool", match["name"])
    need(pool["state"] == "ACTIVE", "The pool is deleted already.")
    pool["state"] = "DELETED"
    for name in project.names("provider"):
        project.get("provider", name)["state"] = "DELETED"
    return done(pool)


def undelete(kind: str) -> Callable[[Project, Match, Request], Resource]:
    def write(project: Project, match: Match, request: Request) -> Resource:
        resource = project.get(kind, match["name"])
        need(resource["state"] == "DELETED", "It is not deleted.")
        resource["state"] = "ACTIVE"
        return done(resource)

    return write


def make_secret(project: Project, match: Match, request: Request) -> Resource:
    name, body = request.query["secretId"][0], request.json()
    need(len(body["replication"]) == 1, "A replication is needed.")
    return project.add("secret", name, {**body, "name": f"projects/{NUMBER}/secrets/{name}", "versions": []})


def show_secret(project: Project, match: Match, request: Request) -> Resource:
    secret = project.get("secret", match["name"])
    return {name: value for name, value in secret.items() if name != "versions"}


def add_version(project: Project, match: Match, request: Request) -> Resource:
    secret, payload = project.get("secret", match["name"]), request.json()["payload"]
    need(payload.get("data"), "The payload is empty.")
    secret["versions"].append(payload)
    name = f"{secret['name']}/versions/{len(secret['versions'])}"
    return {"name": name, "state": "ENABLED", "clientSpecifiedPayloadChecksum": "dataCrc32c" in payload}


def read_version(project: Project, match: Match, request: Request) -> Resource:
    secret = project.get("secret", match["name"])
    if not secret["versions"]:
        raise RequestError(404, "Secret Version not found.")
    number = len(secret["versions"])
    return {"name": f"{secret['name']}/versions/{number}", "payload": secret["versions"][-1]}


def _need_budgets(project: Project, request: Request) -> None:
    if not project.budgets_allowed:
        raise RequestError(403, "The caller does not have permission")
    # Without it the request counts as gcloud's own project's, which has not enabled this API.
    need(request.headers.get("X-Goog-User-Project") == PROJECT, "This API wants a quota project.")


def list_budgets(project: Project, match: Match, request: Request) -> Resource:
    _need_budgets(project, request)
    return {"budgets": [project.get("budget", name) for name in sorted(project.names("budget"))]}


def make_budget(project: Project, match: Match, request: Request) -> Resource:
    _need_budgets(project, request)
    body = request.json()
    need(int(body["amount"]["specifiedAmount"]["units"]) > 0, "The amount must be positive.")
    need(all(rule["thresholdPercent"] > 0 for rule in body["thresholdRules"]), "Thresholds must be positive.")
    # Google gives projects back by their numbers.
    filtered = [name.replace(PROJECT, NUMBER) for name in body["budgetFilter"]["projects"]]
    body["budgetFilter"]["projects"] = filtered
    name = f"budget-{len(project.names('budget')) + 1}"
    return project.add("budget", name, {**body, "name": f"billingAccounts/{ACCOUNT}/budgets/{name}"})


def change_budget(project: Project, match: Match, request: Request) -> Resource:
    _need_budgets(project, request)
    need(request.query.get("updateMask"), "An update mask is needed.")
    return _merge(project.get("budget", match["name"]), request.json())


def list_jobs(project: Project, match: Match, request: Request) -> Resource:
    return {"customJobs": [project.get("job", name) for name in sorted(project.names("job"))]}


def cancel_job(project: Project, match: Match, request: Request) -> Resource:
    job = project.get("job", match["name"])
    need(job["state"] in ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"), "The job is over.")
    job["state"] = "JOB_STATE_CANCELLED"
    project.cancelled.append(match["name"])
    return {}


def show(kind: str) -> Callable[[Project, Match, Request], Resource]:
    return lambda project, match, request: project.get(kind, match["name"])


def delete(kind: str, operation: bool = False) -> Callable[[Project, Match, Request], Resource]:
    def handle(project: Project, match: Match, request: Request) -> Resource:
        project.remove(kind, match["name"])
        return done({}) if operation else {}

    return handle


def _routes() -> list[tuple[str, str, str, Callable[[Project, Match, Request], Resource]]]:
    at = rf"/v1/projects/(?:{PROJECT}|-)"
    name = r"(?P<name>[^/:]+)"
    manager, iam, storage = (
        "cloudresourcemanager.googleapis.com",
        "iam.googleapis.com",
        "storage.googleapis.com",
    )
    usage, registry = "serviceusage.googleapis.com", "artifactregistry.googleapis.com"
    secrets, budgets, vertex = (
        "secretmanager.googleapis.com",
        "billingbudgets.googleapis.com",
        r"us-central1-aiplatform.googleapis.com",
    )
    repositories = rf"{at}/locations/(?P<region>[a-z0-9-]+)/repositories"
    pools, jobs = rf"{at}/locations/global/workloadIdentityPools", rf"{at}/locations/us-central1/customJobs"
    providers = rf"{pools}/(?P<pool>[^/:]+)/providers"
    accounts, account, budget = (
        f"{at}/serviceAccounts",
        r"(?P<name>[^/:]+@[^/:]+)",
        f"/v1/billingAccounts/{ACCOUNT}/budgets",
    )
    bucket = rf"/storage/v1/b/{name}"
    return [
        ("GET", manager, r"/v1/projects/([^/:]+)", get_project),
        ("POST", manager, rf"/v1/projects/{name}:getIamPolicy", read_policy("project")),
        ("POST", manager, rf"/v1/projects/{name}:setIamPolicy", write_policy("project")),
        ("GET", "cloudbilling.googleapis.com", f"{at}/billingInfo", get_billing),
        ("GET", usage, f"{at}/services", list_services),
        ("POST", usage, f"{at}/services:batchEnable", enable_services),
        ("POST", storage, "/storage/v1/b", make_bucket),
        ("GET", storage, bucket, show("bucket")),
        ("PATCH", storage, bucket, change_bucket),
        ("DELETE", storage, bucket, delete("bucket")),
        ("GET", storage, f"{bucket}/o", list_objects),
        ("GET", storage, f"{bucket}/storageLayout", show_layout),
        ("GET", storage, f"{bucket}/iam", read_policy("bucket")),
        ("PUT", storage, f"{bucket}/iam", write_policy("bucket")),
        ("POST", registry, repositories, make_repository),
        ("GET", registry, f"{repositories}/{name}", show("repository")),
        ("PATCH", registry, f"{repositories}/{name}", change_repository),
        ("DELETE", registry, f"{repositories}/{name}", delete("repository", True)),
        ("GET", registry, f"{repositories}/{name}:getIamPolicy", read_policy("repository")),
        ("POST", registry, f"{repositories}/{name}:setIamPolicy", write_policy("repository")),
        ("POST", iam, accounts, make_account),
        ("GET", iam, f"{accounts}/{account}", show("account")),
        ("DELETE", iam, f"{accounts}/{account}", delete("account")),
        ("POST", iam, f"{accounts}/{account}:getIamPolicy", read_policy("account")),
        ("POST", iam, f"{accounts}/{account}:setIamPolicy", write_policy("account")),
        ("POST", iam, pools, make_pool),
        ("GET", iam, f"{pools}/{name}", show("pool")),
        ("DELETE", iam, f"{pools}/{name}", delete_pool),
        ("POST", iam, f"{pools}/{name}:undelete", undelete("pool")),
        ("POST", iam, providers, make_provider),
        ("GET", iam, f"{providers}/{name}", show("provider")),
        ("PATCH", iam, f"{providers}/{name}", change_provider),
        ("POST", iam, f"{providers}/{name}:undelete", undelete("provider")),
        ("POST", secrets, f"{at}/secrets", make_secret),
        ("GET", secrets, f"{at}/secrets/{name}", show_secret),
        ("DELETE", secrets, f"{at}/secrets/{name}", delete("secret")),
        ("POST", secrets, f"{at}/secrets/{name}:addVersion", add_version),
        ("GET", secrets, f"{at}/secrets/{name}/versions/latest:access", read_version),
        ("GET", secrets, f"{at}/secrets/{name}:getIamPolicy", read_policy("secret")),
        ("POST", secrets, f"{at}/secrets/{name}:setIamPolicy", write_policy("secret")),
        ("GET", budgets, budget, list_budgets),
        ("POST", budgets, budget, make_budget),
        ("PATCH", budgets, f"{budget}/{name}", change_budget),
        ("DELETE", budgets, f"{budget}/{name}", delete("budget")),
        ("GET", vertex, jobs, list_jobs),
        ("POST", vertex, f"{jobs}/{name}:cancel", cancel_job),
    ]


ROUTES = _routes()
