"""The methods of Google's APIs that `make cloud-setup` uses: what each refuses, and what it does to a project.

gcloud itself sees to the spelling of fields, with Google's own types; the rules here are about values, what must be there
before, and what becomes of a name. Each rule is one that the service documents.
"""

import re
from collections.abc import Callable

from stage.google import compute as google_compute
from stage.google.accounts import list_accounts, make_account, make_agent
from stage.google.jobs import (
    cancel_batch_job,
    cancel_job,
    change_endpoint,
    delete_endpoint,
    delete_model,
    delete_run_service,
    get_run_service,
    list_batch_jobs,
    list_jobs,
    list_resources,
    list_run_services,
    undeploy_model,
)
from stage.google.policies import read_policy, write_policy
from stage.google.pools import change_provider, delete_pool, make_pool, make_provider, undelete
from stage.google.project import (
    ACCOUNT,
    NUMBER,
    PROJECT,
    Match,
    Project,
    Resource,
    done,
    need,
)
from stage.google.roles import (
    change_role,
    delete_role,
    list_roles,
    make_role,
    show_role,
    undelete_role,
)
from stage.google.storage import (
    change_bucket,
    change_repository,
    delete_bucket,
    delete_object,
    list_folders,
    list_objects,
    make_bucket,
    make_repository,
    merge,
    show_layout,
)
from stage.rest import Answer, Request, RequestError

Handle = Callable[[Project, Match, Request], Resource]
READS = re.compile(r":(getIamPolicy|testIamPermissions)$")


# gcloud's own project has these, whether the user's has them or not.
ALWAYS = {"cloudresourcemanager", "cloudbilling", "serviceusage", "iam", "storage"}


def answer(project: Project, host: str, request: Request) -> Answer:
    """Does what is asked."""
    with project.lock:
        for method, api, pattern, handle in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if method == request.method and api == host and match:
                _need_api(project, host)
                return Answer(handle(project, match, request))
    raise RequestError(501, f"No such method here: {request.method} {host}{request.path}")


def _need_api(project: Project, host: str) -> None:
    api = host.removeprefix("us-central1-").partition(".")[0]
    if api not in ALWAYS and f"{api}.googleapis.com" not in project.services:
        raise RequestError(403, f"{api} API has not been used in project {PROJECT} before or it is disabled.")


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
    # One service has a method of its own.
    names = [match["name"]] if "name" in match.groupdict() else request.json()["serviceIds"]
    need(0 < len(names) <= 20, "Between 1 and 20 services can be enabled at once.")
    need(all(re.fullmatch(r"[a-z]+\.googleapis\.com", name) for name in names), "No such service.")
    need(project.billing, "Billing must be enabled.")
    project.services.update(names)
    return done({"services": []})


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


def list_versions(project: Project, match: Match, request: Request) -> Resource:
    secret = project.get("secret", match["name"])
    numbers = range(len(secret["versions"]), 0, -1)
    return {"versions": [{"name": f"{secret['name']}/versions/{n}", "state": "ENABLED"} for n in numbers]}


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
    return merge(project.get("budget", match["name"]), request.json())


def show(kind: str) -> Handle:
    return lambda project, match, request: project.get(kind, match["name"])


def delete(kind: str, operation: bool = False) -> Handle:
    def handle(project: Project, match: Match, request: Request) -> Resource:
        project.remove(kind, match["name"])
        return done({}) if operation else {}

    return handle


def _routes() -> list[tuple[str, str, str, Handle]]:
    at = rf"/v1/projects/(?:{PROJECT}|{NUMBER}|-)"
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
        "us-central1-aiplatform.googleapis.com",
    )
    repositories = rf"{at}/locations/(?P<region>[a-z0-9-]+)/repositories"
    pools, roles = rf"{at}/locations/global/workloadIdentityPools", f"{at}/roles"
    jobs = rf"{at}/locations/us-central1/(?P<kind>customJobs|hyperparameterTuningJobs)"
    served = rf"{at}/locations/us-central1"
    providers = rf"{pools}/(?P<pool>[^/:]+)/providers"
    accounts, account, budget = (
        f"{at}/serviceAccounts",
        r"(?P<name>[^/:]+@[^/:]+)",
        f"/v1/billingAccounts/{ACCOUNT}/budgets",
    )
    bucket = rf"/storage/v1/b/{name}"
    compute, machines = "compute.googleapis.com", f"/compute/v1/projects/{PROJECT}"
    firewalls, operation = f"{machines}/global/firewalls", f"{machines}/global/operations/operation-1"
    batch = rf"{at}/locations/(?P<region>[a-z0-9-]+)/jobs"
    knative = rf"/apis/serving\.knative\.dev/v1/namespaces/{PROJECT}/services/{name}"
    return [
        ("GET", manager, r"/v1/projects/([^/:]+)", get_project),
        ("POST", manager, rf"/v1/projects/{name}:getIamPolicy", read_policy("project")),
        ("POST", manager, rf"/v1/projects/{name}:setIamPolicy", write_policy("project")),
        ("GET", "cloudbilling.googleapis.com", f"{at}/billingInfo", get_billing),
        ("GET", usage, f"{at}/services", list_services),
        ("POST", usage, f"{at}/services:batchEnable", enable_services),
        ("POST", usage, f"{at}/services/{name}:enable", enable_services),
        (
            "POST",
            usage,
            rf"/v1beta1/projects/(?:{PROJECT}|{NUMBER})/services/{name}:generateServiceIdentity",
            make_agent,
        ),
        ("POST", storage, "/storage/v1/b", make_bucket),
        ("GET", storage, bucket, show("bucket")),
        ("PATCH", storage, bucket, change_bucket),
        ("DELETE", storage, bucket, delete_bucket),
        ("GET", storage, f"{bucket}/o", list_objects),
        ("DELETE", storage, rf"{bucket}/o/(?P<object>.+)", delete_object),
        ("GET", storage, f"{bucket}/storageLayout", show_layout),
        ("GET", storage, f"{bucket}/managedFolders", list_folders),
        ("GET", storage, f"{bucket}/iam", read_policy("bucket")),
        ("PUT", storage, f"{bucket}/iam", write_policy("bucket")),
        ("POST", registry, repositories, make_repository),
        ("GET", registry, f"{repositories}/{name}", show("repository")),
        ("PATCH", registry, f"{repositories}/{name}", change_repository),
        ("DELETE", registry, f"{repositories}/{name}", delete("repository", True)),
        ("GET", registry, f"{repositories}/{name}:getIamPolicy", read_policy("repository")),
        ("POST", registry, f"{repositories}/{name}:setIamPolicy", write_policy("repository")),
        ("GET", iam, accounts, list_accounts),
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
        ("GET", iam, roles, list_roles),
        ("POST", iam, roles, make_role),
        ("GET", iam, f"{roles}/{name}", show_role),
        ("PATCH", iam, f"{roles}/{name}", change_role),
        ("DELETE", iam, f"{roles}/{name}", delete_role),
        ("POST", iam, f"{roles}/{name}:undelete", undelete_role),
        ("POST", secrets, f"{at}/secrets", make_secret),
        ("GET", secrets, f"{at}/secrets/{name}", show_secret),
        ("DELETE", secrets, f"{at}/secrets/{name}", delete("secret")),
        ("POST", secrets, f"{at}/secrets/{name}:addVersion", add_version),
        ("GET", secrets, f"{at}/secrets/{name}/versions", list_versions),
        ("GET", secrets, f"{at}/secrets/{name}/versions/latest:access", read_version),
        ("GET", secrets, f"{at}/secrets/{name}:getIamPolicy", read_policy("secret")),
        ("POST", secrets, f"{at}/secrets/{name}:setIamPolicy", write_policy("secret")),
        ("GET", budgets, budget, list_budgets),
        ("POST", budgets, budget, make_budget),
        ("GET", budgets, f"{budget}/{name}", show("budget")),
        ("PATCH", budgets, f"{budget}/{name}", change_budget),
        ("DELETE", budgets, f"{budget}/{name}", delete("budget")),
        ("GET", vertex, jobs, list_jobs),
        ("POST", vertex, f"{jobs}/{name}:cancel", cancel_job),
        ("GET", vertex, f"{served}/(?P<kind>endpoints|models)", list_resources),
        ("GET", vertex, f"{served}/endpoints/{name}", show("endpoints")),
        ("PATCH", vertex, f"{served}/endpoints/{name}", change_endpoint),
        ("POST", vertex, f"{served}/endpoints/{name}:undeployModel", undeploy_model),
        ("DELETE", vertex, f"{served}/endpoints/{name}", delete_endpoint),
        ("DELETE", vertex, f"{served}/models/{name}", delete_model),
        ("GET", vertex, f"{served}/operations/{name}", lambda *_: done({})),
        ("GET", "batch.googleapis.com", batch, list_batch_jobs),
        ("POST", "batch.googleapis.com", f"{batch}/{name}:cancel", cancel_batch_job),
        ("GET", "run.googleapis.com", f"{at}/locations/-/services", list_run_services),
        ("GET", "us-central1-run.googleapis.com", knative, get_run_service),
        ("DELETE", "us-central1-run.googleapis.com", knative, delete_run_service),
        ("GET", compute, f"{machines}/global/networks/{name}", google_compute.show_network),
        ("GET", compute, firewalls, google_compute.list_firewalls),
        ("POST", compute, firewalls, google_compute.make_firewall),
        ("GET", compute, f"{firewalls}/{name}", show("firewall")),
        ("PATCH", compute, f"{firewalls}/{name}", google_compute.change_firewall),
        ("DELETE", compute, f"{firewalls}/{name}", google_compute.delete_firewall),
        ("GET", compute, operation, google_compute.show_operation),
        ("POST", compute, f"{operation}/wait", google_compute.show_operation),
    ]


ROUTES = _routes()
