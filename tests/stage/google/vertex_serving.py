"""A strict stand-in for Vertex AI's model registry and endpoints, and for the addresses at which endpoints answer.

What takes time is an operation: it is done after a few more requests of anybody, and until then it has changed nothing.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

from stage.faults import Faults
from stage.google.identity import Identity
from stage.google.vertex_checks import Agents, check_account, check_place
from stage.google.vertex_endpoints import Endpoints
from stage.google.vertex_serving_containers import Backend
from stage.google.vertex_serving_models import Models
from stage.google.vertex_serving_rules import METRIC, check_puller, parse
from stage.rest import Answer, Request, RequestError, serve

OPERATION = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+/(?:models|endpoints)/[^/]+/operations/[0-9]+)")
OPERATIONS = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)/(models|endpoints)/([^/:]+)/operations")
PATH = re.compile(
    r"/(v1|v1beta1)/projects/([^/]+)/locations/([^/]+)/(models|endpoints)(?:/([^/:]+))?(?::(\w+))?"
)
ACCOUNTS = re.compile(r"/v1/projects/([^/]+)/serviceAccounts(?:/([^/]+))?")
# Those of which nothing else is known than that they are of v1beta1:
# https://docs.cloud.google.com/vertex-ai/docs/general/endpoint-access-control
BETA = ("getIamPolicy", "setIamPolicy")
SHOWN = 100

Effect = Callable[[], dict[str, Any]]


@dataclass
class Operation:
    """Something that is under way: what it does, and how many requests there are until it does."""

    name: str
    effect: Effect
    left: int
    outcome: dict[str, Any] | None = None

    def json(self) -> dict[str, Any]:
        done = {} if self.outcome is None else {"done": True, **self.outcome}
        return {"name": self.name, "metadata": {}, **done}


class Serving:
    """The service of one region, as a test handles it.

    Attributes:
        requests: everything that was asked, in order.
        waits: requests until an operation is done.
        faults: what goes wrong with requests on their way.
        agents: e-mail -> roles of the service's own accounts; None where all is as it is after a first use.
        models, endpoints: what is there.
    """

    def __init__(self, identity: Identity, region: str, backend: Backend, agents: Agents | None) -> None:
        self.identity, self.region, self.agents = identity, region, agents
        self.url, self.requests, self.waits = "", list[Request](), 2
        self.faults = Faults()
        parent = f"projects/{identity.number}/locations/{region}"
        self.models = Models(parent)
        self.endpoints = Endpoints(parent, identity, region, backend, self.models, self.begin)
        self.operations: list[Operation] = []
        self._numbers, self._lock = itertools.count(10**12), RLock()
        identity.quotas.setdefault(METRIC, {region: 20})

    @property
    def env(self) -> dict[str, str]:
        """Leads clients here."""
        names = ("AIPLATFORM", "IAM")
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": f"{self.url}/" for name in names}

    def begin(self, of: str, effect: Effect) -> Answer:
        """Begins an operation of a resource."""
        name = f"{self.models.parent}/{of}/operations/{next(self._numbers)}"
        self.operations.append(Operation(name, effect, self.waits))
        self._go_on(0)
        return Answer(self.operations[-1].json())

    def busy(self, of: str) -> list[str]:
        """The operations of a resource that are under way."""
        return [
            one.name for one in self.operations if one.outcome is None and f"/{of}/operations/" in one.name
        ]

    def handle(self, request: Request) -> Answer:
        with self._lock:
            return self.faults.around(request, self._handle)

    def _handle(self, request: Request) -> Answer:
        self.requests.append(request)
        self._go_on(1)
        if found := OPERATION.fullmatch(request.path):
            return self._operation(request, found[1].partition("/locations/")[2])
        if found := OPERATIONS.fullmatch(request.path):
            self.identity.require(request, "aiplatform.operations.list")
            query = request.only("pageSize", "pageToken", "filter")
            listed = [one.json() for one in self.operations if f"/{found[3]}/{found[4]}/" in one.name]
            return Answer(_page("operations", listed, query))
        if found := ACCOUNTS.fullmatch(request.path):
            return self._account(request, found[2])
        found = PATH.fullmatch(request.path)
        if not found:
            raise RequestError(404, f"The requested URL {request.path} was not found on this server.")
        version, project, region, kind, name, verb = found.groups()
        if (version == "v1beta1") != (verb in BETA):
            raise RequestError(501, f"{request.path} is not part of the stand-in.")
        check_place(self.identity, self.region, project, region)
        if kind == "endpoints":
            return self.endpoints.handle(request, name or "", verb or "", self.busy)
        return self._model(request, name or "", verb or "")

    def _go_on(self, by: int) -> None:
        """Lets what is under way come nearer to its end."""
        for one in self.operations:
            if one.outcome is None:
                one.left -= by
                if one.left <= 0:
                    try:
                        one.outcome = {"response": one.effect()}
                    except RequestError as error:
                        code = 9 if error.status == "FAILED_PRECONDITION" else 13
                        one.outcome = {"error": {"code": code, "message": error.message}}

    def _operation(self, request: Request, tail: str) -> Answer:
        self.identity.require(request, "aiplatform.locations.get")
        for one in self.operations:
            if one.name.endswith(f"/locations/{tail}"):
                return Answer(one.json())
        raise RequestError(404, f"Operation {tail} not found.")

    def _model(self, request: Request, name: str, verb: str) -> Answer:
        plain = name.partition("@")[0]
        match request.method, bool(name), verb:
            case "POST", False, "upload":
                self.identity.require(request, "aiplatform.models.upload")
                return self._upload(request)
            case "GET", True, "":
                self.identity.require(request, "aiplatform.models.get")
                return Answer(self.models.json(*self.models.find(name)))
            case "GET", True, "listVersions":
                self.identity.require(request, "aiplatform.models.list")
                query = request.only("pageSize", "pageToken", "filter")
                self.models.find(name)
                return Answer(_page("models", self.models.listed(name), query))
            case "POST", True, "mergeVersionAliases":
                self.identity.require(request, "aiplatform.models.update")
                aliases = parse(request.body, "MergeVersionAliasesRequest").version_aliases
                return Answer(self.models.merge(name, list(aliases)))
            case "DELETE", True, "":
                self.identity.require(request, "aiplatform.models.delete")
                self.models.delete(plain, self.endpoints.deployed_models())
                return self.begin(f"models/{plain}", dict)
        raise RequestError(501, f"{request.method} {request.path} is not part of the stand-in.")

    def _upload(self, request: Request) -> Answer:
        request.only()
        upload = parse(request.body, "UploadModelRequest")
        name = self.models.checked(upload)
        check_account(self.identity, request, upload.service_account)
        check_puller(self.identity, self.region, self.agents, upload.model.container_spec.image_uri)
        return self.begin(f"models/{name}", lambda: self.models.add(name, upload.model))

    def _account(self, request: Request, email: str | None) -> Answer:
        self.identity.require(request, f"iam.serviceAccounts.{'get' if email else 'create'}")
        if email is None:
            return Answer({"email": self.identity.account(request.json()["accountId"]).email})
        if email not in self.identity.accounts:
            raise RequestError(404, f"Unknown service account {email}")
        return Answer({"email": email})


def _page(kind: str, found: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """A page, which may always be shorter than was asked for."""
    start, size = int(query.get("pageToken") or 0), min(int(query.get("pageSize") or SHOWN), 2)
    more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
    shown = found[start : start + size]
    return ({kind: shown} if shown else {}) | more


@contextmanager
def serving(
    identity: Identity, backend: Backend, region: str = "us-central1", agents: Agents | None = None
) -> Iterator[Serving]:
    """Runs it while the block lasts."""
    here = Serving(identity, region, backend, agents)
    with ExitStack() as addresses, serve(here.handle) as here.url:
        here.endpoints.addresses = addresses
        yield here
        here.endpoints.close()
