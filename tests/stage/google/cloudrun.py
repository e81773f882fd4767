"""A strict stand-in for Cloud Run's Admin API v2, for who may invoke its services, and for their answers."""

import base64
import itertools
import json
import re
import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from stage.google.cloudrun_rules import SERVICE, check_labels, check_template, check_traffic, need, parse
from stage.google.cloudrun_tokens import id_token
from stage.google.grants import ROLES
from stage.google.identity import Identity
from stage.google.vertex_checks import check_account
from stage.rest import Answer, Request, RequestError, serve

# https://docs.cloud.google.com/run/docs/reference/iam/roles#run.admin, as far as the stand-in asks
VERBS = ("create", "get", "list", "update", "delete", "getIamPolicy", "setIamPolicy")
ADMIN = {*(f"run.services.{verb}" for verb in VERBS), "run.operations.get", "run.routes.invoke"}
ROLES.setdefault("roles/run.admin", ADMIN)
PATHS = re.compile(r"/v2/projects/([^/]+)/locations/([^/]+)/services(?:/([^/:]+))?(?::(\w+))?")
OPERATIONS = re.compile(r"/v2/(projects/[^/]+/locations/[^/]+/operations/[^/]+)")
ACCOUNTS = re.compile(r"/v1/projects/([^/]+)/serviceAccounts(?:/([^/]+))?")
TOKENS = re.compile(r"/v1/projects/-/serviceAccounts/([^/]+):generateIdToken")
LIVE = re.compile(r"/at/([^/]+)/([^/]+)(/.*)")  # a service, its tag or "main", and what is asked of it

# What an image answers: its name, a path and a body; the status and the JSON.
Serve = Callable[[str, str, bytes], tuple[int, Any]]


@dataclass
class Kept:
    """One service."""

    message: Any
    generation: int = 1
    revisions: dict[str, str] = field(default_factory=dict)  # each with its image
    ready: str = ""
    policy: dict[str, Any] = field(default_factory=lambda: {"etag": "ACAB"})


class CloudRun:
    """The service of one region, as a test handles it.

    Attributes:
        requests: everything that was asked, in order.
        waits: how often an operation is asked for until it is done.
        broken: images that do not start.
        late_rights: how many requests to services are refused as if a right did not count yet.
        late_accounts: how many creations are refused as if an account was not known yet.
    """

    def __init__(
        self, identity: Identity, region: str, images: Serve, registries: Collection[str] = ()
    ) -> None:
        self.identity, self.region, self.images, self.registries = identity, region, images, registries
        self.url, self.requests = "", list[Request]()
        self.waits, self.broken = 2, set[str]()
        self.late_rights = self.late_accounts = 0
        self.services: dict[str, Kept] = {}
        self._operations: dict[str, list[dict[str, Any]]] = {}
        self._numbers, self._lock = itertools.count(1), threading.Lock()

    @property
    def env(self) -> dict[str, str]:
        """Leads clients here."""
        names = ("RUN", "IAM", "IAMCREDENTIALS")
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{self.url}/" for name in names}

    def invokers(self, name: str) -> list[str]:
        """Who may ask a service."""
        bindings = self.services[name].policy.get("bindings", ())
        return [one for each in bindings if each["role"] == "roles/run.invoker" for one in each["members"]]

    def handle(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            if found := LIVE.fullmatch(request.path):
                return self._live(request, *found.groups())
            if found := TOKENS.fullmatch(request.path):
                return Answer(id_token(self.identity, request, found[1]))
            if found := ACCOUNTS.fullmatch(request.path):
                return self._account(request, found[2])
            if found := OPERATIONS.fullmatch(request.path):
                self.identity.require(request, "run.operations.get")
                return Answer(self._operation(found[1]))
            if found := PATHS.fullmatch(request.path):
                return self._serve(request, *found.groups())
            raise RequestError(404, f"The requested URL {request.path} was not found on this server.")

    def _serve(
        self, request: Request, project: str, region: str, name: str | None, verb: str | None
    ) -> Answer:
        verbs = {
            ("POST", False, None): ("create", self._create),
            ("GET", False, None): ("list", self._list),
            ("GET", True, None): ("get", self._get),
            ("PATCH", True, None): ("update", self._update),
            ("DELETE", True, None): ("delete", self._delete),
            ("GET", True, "getIamPolicy"): ("getIamPolicy", self._read_policy),
            ("POST", True, "setIamPolicy"): ("setIamPolicy", self._write_policy),
        }
        permission, does = verbs.get((request.method, bool(name), verb), ("", None))
        if does is None:
            raise RequestError(501, f"{request.method} {request.path} is not part of the stand-in.")
        if "run.googleapis.com" in self.identity.disabled_services:
            text = f"Cloud Run Admin API has not been used in project {project} before or it is disabled."
            raise RequestError(403, text)
        self.identity.require(request, f"run.services.{permission}")
        if not self.identity.is_project(project) or region != self.region:
            raise RequestError(403, f"Permission denied on location {region} of project {project}.")
        return does(request, name or "")

    def _create(self, request: Request, _: str) -> Answer:
        name = request.only("serviceId", "validateOnly").get("serviceId", "")
        need(SERVICE.fullmatch(name), "service_id", "49 lower-case letters, digits and dashes at most")
        if name in self.services:
            raise RequestError(409, f"Resource '{name}' already exists.")
        message = parse(request.body)
        self._check(request, name, message)
        if self.late_accounts:
            self.late_accounts -= 1
            raise RequestError(403, "Permission 'iam.serviceaccounts.actAs' denied (or it may not exist).")
        kept = Kept(message)
        revision = self._revision(name, kept, message)
        check_traffic(message.traffic, set(kept.revisions))
        self.services[name] = kept
        return self._started(name, kept, revision)

    def _update(self, request: Request, name: str) -> Answer:
        kept = self._known(name)
        mask = request.only("updateMask", "validateOnly", "allowMissing").get("updateMask", "")
        message = parse(request.body)
        self._same(name, kept, message.etag)
        if mask:
            need(mask == "traffic", "updateMask", "only traffic is part of the stand-in")
            check_traffic(message.traffic, set(kept.revisions))
            kept.message.ClearField("traffic")
            kept.message.traffic.extend(message.traffic)
            kept.generation += 1
            return self._started(name, kept, "")
        self._check(request, name, message)
        fresh = Kept(message, kept.generation + 1, dict(kept.revisions), kept.ready, kept.policy)
        revision = self._revision(name, fresh, message)
        check_traffic(message.traffic, set(fresh.revisions))
        self.services[name] = fresh
        return self._started(name, fresh, revision)

    def _check(self, request: Request, name: str, message: Any) -> None:
        check_labels(message.labels)
        check_labels(message.template.labels)
        check_template(name, message.template, self.registries)
        check_account(self.identity, request, message.template.service_account)

    def _revision(self, name: str, kept: Kept, message: Any) -> str:
        revision = message.template.revision or f"{name}-{len(kept.revisions) + 1:05d}-{secrets.token_hex(2)}"
        if revision in kept.revisions:
            raise RequestError(
                409, f"Revision named '{revision}' with different configuration already exists."
            )
        kept.revisions[revision] = message.template.containers[0].image
        return revision

    def _started(self, name: str, kept: Kept, revision: str) -> Answer:
        """Begins an operation; a revision that does not start is its error, and the requests stay where they were."""
        image = kept.revisions.get(revision, "")
        starts = getattr(self.images, "starts", None)  # what only plays an image always does
        if not image or not starts:
            return self._begun(self._outcome(name, kept, revision, image not in self.broken))
        where = self._operation_name()
        self._operations[where] = [{"name": where}]

        def start() -> None:  # which takes as long as a container does: nobody's request waits for it
            well = image not in self.broken and starts(image)
            with self._lock:
                outcome = self._outcome(name, kept, revision, well)
                self._operations[where].append({"name": where, "done": True, **outcome})

        threading.Thread(target=start, daemon=True).start()
        return Answer(self._operation(where))

    def _outcome(self, name: str, kept: Kept, revision: str, well: bool) -> dict[str, Any]:
        """A revision is ready once its container passes the startup probe."""
        if not well:
            # https://docs.cloud.google.com/run/docs/troubleshooting#container-failed-to-start
            text = f"Revision '{revision}' is not ready and cannot serve traffic. The user-provided container failed to start."
            return {"error": {"code": 9, "message": text}}
        kept.ready = revision or kept.ready
        return {"response": self._json(name, kept)}

    def _operation_name(self) -> str:
        return f"projects/{self.identity.project}/locations/{self.region}/operations/op-{next(self._numbers)}"

    def _begun(self, outcome: dict[str, Any]) -> Answer:
        where = self._operation_name()
        waiting = [{"name": where}] * self.waits
        self._operations[where] = [*waiting, {"name": where, "done": True, **outcome}]
        return Answer(self._operation(where))

    def _operation(self, name: str) -> dict[str, Any]:
        if name not in self._operations:
            raise RequestError(404, f"Operation {name} not found.")
        left = self._operations[name]
        return left.pop(0) if len(left) > 1 else left[0]

    def _get(self, request: Request, name: str) -> Answer:
        request.only()
        return Answer(self._json(name, self._known(name)))

    def _list(self, request: Request, _: str) -> Answer:
        query = request.only("pageSize", "pageToken", "showDeleted")
        start = int(query.get("pageToken") or 0)
        names = sorted(self.services)[start : start + 1]  # a page may always be shorter than was asked for
        more = {"nextPageToken": str(start + 1)} if start + 1 < len(self.services) else {}
        found = [self._json(name, self.services[name]) for name in names]
        return Answer(({"services": found} if found else {}) | more)

    def _delete(self, request: Request, name: str) -> Answer:
        query = request.only("etag", "validateOnly")
        kept = self._known(name)
        self._same(name, kept, query.get("etag", ""))
        gone = self._json(name, kept)
        del self.services[name]
        return self._begun({"response": gone})

    def _read_policy(self, request: Request, name: str) -> Answer:
        request.only("options.requestedPolicyVersion")
        return Answer(self._known(name).policy)

    def _write_policy(self, request: Request, name: str) -> Answer:
        kept, policy = self._known(name), request.json().get("policy")
        need(isinstance(policy, dict), "policy", "a policy is needed")
        if policy.get("etag", kept.policy["etag"]) != kept.policy["etag"]:
            raise RequestError(409, "There were concurrent policy changes.", status="ABORTED")
        kept.policy = {**policy, "etag": secrets.token_hex(4)}
        return Answer(kept.policy)

    def _known(self, name: str) -> Kept:
        if name not in self.services:
            raise RequestError(
                404, f"Resource '{name}' of kind 'SERVICE' in region '{self.region}' does not exist."
            )
        return self.services[name]

    def _same(self, name: str, kept: Kept, etag: str) -> None:
        """Service.etag and DeleteServiceRequest.etag: "may be used to detect modification conflict"."""
        if etag not in ("", self._etag(kept)):
            text = f"Conflict for resource '{name}': its version is another one."
            raise RequestError(409, text, status="ABORTED")

    def _etag(self, kept: Kept) -> str:
        return f'"generation-{kept.generation}"'

    def _json(self, name: str, kept: Kept) -> dict[str, Any]:
        described = json_format.MessageToDict(kept.message)
        parent = f"projects/{self.identity.project}/locations/{self.region}/services/{name}"
        base = f"{self.url}/at/{name}"
        # Of a percent of zero, JSON says nothing; only a target with a tag has an address of its own.
        statuses = [
            {**one, "uri": f"{base}/{one['tag']}"} if one.get("tag") else one
            for one in described.get("traffic", ())
        ]
        described |= {"name": parent, "etag": self._etag(kept)}
        if not kept.ready:  # what has never started has no address
            return described
        ready = f"{parent}/revisions/{kept.ready}"
        return described | {
            "uri": f"{base}/main",
            "trafficStatuses": statuses,
            "latestReadyRevision": ready,
        }

    # Beside the Admin API

    def _account(self, request: Request, email: str | None) -> Answer:
        verb = "get" if email else "create"
        self.identity.require(request, f"iam.serviceAccounts.{verb}")
        if email:
            if email not in self.identity.accounts:
                raise RequestError(404, f"Unknown service account {email}")
            return Answer({"email": email})
        name = request.json()["accountId"]
        need(re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", name), "accountId", "6 to 30 characters")
        return Answer({"email": self.identity.account(name).email})

    def _live(self, request: Request, name: str, tag: str, path: str) -> Answer:
        """A request to the service itself: https://docs.cloud.google.com/run/docs/authenticating/service-to-service."""
        kept = self._known(name)
        word = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        try:
            claims = json.loads(base64.urlsafe_b64decode(word))
        except ValueError:
            claims = {}
        if claims.get("aud") != f"{self.url}/at/{name}/main":
            raise RequestError(401, "The access token could not be verified")
        admin = self.identity.accounts[claims["email"]].allows("run.routes.invoke")
        if not admin and f"serviceAccount:{claims['email']}" not in self.invokers(name):
            raise RequestError(403, "The request was not authenticated.")
        if self.late_rights:
            self.late_rights -= 1
            raise RequestError(403, "The request was not authenticated.")
        found = [one for one in kept.message.traffic if tag in (one.tag, "main")]
        if not found:
            raise RequestError(404, "Page not found")
        revision = max(found, key=lambda one: one.percent).revision or kept.ready
        status, content = self.images(kept.revisions[revision], path, request.body)
        return Answer(content, status)


@contextmanager
def cloudrun(
    identity: Identity, images: Serve, region: str = "us-central1", registries: Collection[str] = ()
) -> Iterator[CloudRun]:
    """Runs it while the block lasts.

    Args:
        images: who answers in the place of containers, or stage.served.Served, which runs them.
        registries: hosts of which images are taken beside Google's and Docker Hub.
    """
    here = CloudRun(identity, region, images, registries)
    with serve(here.handle) as here.url:
        yield here
