"""The endpoints of a strict stand-in for Vertex AI: what is deployed, which part of the requests it gets, and who may ask."""

import re
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import json_format

from stage.google.identity import Identity
from stage.google.vertex_checks import check_account
from stage.google.vertex_filter import job_filter
from stage.google.vertex_serving_containers import Backend
from stage.google.vertex_serving_models import Models
from stage.google.vertex_serving_rules import (
    ENDPOINT_ID,
    METRIC,
    check_deployed,
    check_endpoint,
    check_labels,
    check_split,
    cpus,
    parse,
    refuse,
)
from stage.rest import Answer, Request, RequestError, serve

ASKED = re.compile(r"/v1/projects/[^/]+/locations/[^/]+/endpoints/([^/:]+):(predict|rawPredict)")
SERVED = "X-Vertex-AI-Deployed-Model-id"
# https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3485
NEVER_READY = (
    "Model server never became ready. Please validate that your model file or container configuration are valid. "
    "Model server logs can be found at https://console.cloud.google.com/logs"
)
MOST_BYTES = 10_000_000  # of a request to a dedicated endpoint: .../predictions/using-dedicated-endpoints


@dataclass
class Kept:
    """One endpoint.

    Args:
        deployed: id -> what is deployed, as the request had it, with the number of its model's version.
        starting: the same of what is not there yet: it counts for the quota.
    """

    message: Any
    dns: str = ""
    deployed: dict[str, Any] = field(default_factory=dict)
    starting: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    split: dict[str, int] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=lambda: {"etag": "ACAB"})
    generation: int = 1
    before: dict[str, int] = field(default_factory=dict)  # the parts until the last change
    late: int = 0  # requests that still go by them
    shown: int = 0  # how often it was looked at


class Endpoints:
    """All endpoints of a region.

    Attributes:
        kept: by id.
        predict_roles: roles of the project's own that hold aiplatform.endpoints.predict.
        age: seconds since an endpoint was made or changed, as it says itself.
        late_dns: how often an endpoint is shown without its address: from when on it has one is not told.
        told_by: whether an answer says which of the deployed versions gave it.
        late_split: how many requests go where they went after a change of the parts; how long that takes is not told.
        used: ids that were ever taken: whether one can be taken again is not documented.
    """

    def __init__(
        self,
        parent: str,
        identity: Identity,
        region: str,
        backend: Backend,
        models: Models,
        begin: Callable[[str, Callable[[], dict[str, Any]]], Answer],
    ) -> None:
        self.parent, self.identity, self.region = parent, identity, region
        self.backend, self.models, self.begin = backend, models, begin
        self.kept: dict[str, Kept] = {}
        self.predict_roles = {f"projects/{identity.project}/roles/demo_predict"}
        self.late_split, self.used = 1, set[str]()
        self.age, self.late_dns, self.told_by = 3600.0, 0, True
        self.addresses = ExitStack()

    def close(self) -> None:
        for kept in self.kept.values():
            for number in kept.deployed:
                self.backend.stop(number)

    def deployed_models(self) -> set[str]:
        """Ids of the models of which a version is deployed."""
        found = [
            one for kept in self.kept.values() for one in (*kept.deployed.values(), *kept.starting.values())
        ]
        return {self.models.find(one.model)[0] for one in found}

    def handle(self, request: Request, name: str, verb: str, busy: Callable[[str], list[str]]) -> Answer:
        verbs: dict[tuple[str, bool, str], tuple[str, Callable[[Request, str], Answer]]] = {
            ("POST", False, ""): ("create", self._create),
            ("GET", False, ""): ("list", self._list),
            ("GET", True, ""): ("get", self._get),
            ("PATCH", True, ""): ("update", self._update),
            ("DELETE", True, ""): ("delete", self._delete),
            ("POST", True, "deployModel"): ("deploy", self._deploy),
            ("POST", True, "undeployModel"): ("undeploy", self._undeploy),
            ("POST", True, "getIamPolicy"): ("getIamPolicy", self._read_policy),
            ("POST", True, "setIamPolicy"): ("setIamPolicy", self._write_policy),
            ("POST", True, "predict"): ("predict", self._shared),
            ("POST", True, "rawPredict"): ("predict", self._shared),
        }
        permission, does = verbs.get((request.method, bool(name), verb), ("", None))
        if does is None:
            raise RequestError(501, f"{request.method} {request.path} is not part of the stand-in.")
        self.identity.require(request, f"aiplatform.endpoints.{permission}")
        if name:
            self.json(name)
        at_work = busy(f"endpoints/{name}") if name and permission in ("delete", "deploy", "undeploy") else []
        # The words are those that users report; that it is so of all three is the worse thing.
        refuse(not at_work, "", f"There are other operations running on the Endpoint: {', '.join(at_work)}")
        return does(request, name)

    def json(self, name: str) -> dict[str, Any]:
        if name not in self.kept:
            raise RequestError(404, f"The Endpoint does not exist: {self.parent}/endpoints/{name}")
        kept = self.kept[name]
        shown = json_format.MessageToDict(kept.message)
        # By its number, whatever the request has called the project, and without what is not there.
        models = [
            {
                **json_format.MessageToDict(one),
                "model": f"{self.parent}/models/{one.model.rpartition('/')[2].partition('@')[0]}",
                "modelVersionId": kept.versions[number],
            }
            for number, one in kept.deployed.items()
        ]
        shown |= {"name": f"{self.parent}/endpoints/{name}", "etag": f"e{kept.generation}"}
        told = (datetime.now(UTC) - timedelta(seconds=self.age)).isoformat().replace("+00:00", "000Z")
        shown |= {"createTime": told, "updateTime": told}
        shown |= {"dedicatedEndpointDns": kept.dns} if kept.dns else {}
        shown |= {"deployedModels": models} if models else {}
        return {**shown, **({"trafficSplit": dict(kept.split)} if kept.split else {})}

    def _create(self, request: Request, _: str) -> Answer:
        query = request.only("endpointId", "endpoint_id")
        name = query.get("endpointId") or query.get("endpoint_id") or str(secrets.randbelow(10**9))
        endpoint = parse(request.body, "Endpoint")
        refuse(ENDPOINT_ID.fullmatch(name), "endpoint_id", "63 lower-case letters, digits and dashes")
        check_endpoint(endpoint)
        if name in self.used:
            raise RequestError(409, f"Endpoint {name} already exists.")
        self.used.add(name)

        def make() -> dict[str, Any]:
            kept = self.kept[name] = Kept(endpoint)
            if endpoint.dedicated_endpoint_enabled:
                # Its own address, at which nothing else answers.
                kept.dns = self.addresses.enter_context(serve(lambda request: self._asked(name, request)))
            return self.json(name)

        return self.begin(f"endpoints/{name}", make)

    def _list(self, request: Request, _: str) -> Answer:
        query = request.only("filter", "pageSize", "pageToken")
        fits = job_filter(query.get("filter", ""))
        found = [shown for name in sorted(self.kept) if fits(shown := self.json(name))]
        start = int(query.get("pageToken") or 0)
        more = {"nextPageToken": str(start + 1)} if start + 1 < len(found) else {}
        page = found[start : start + 1]  # it may always be shorter than was asked for
        return Answer(({"endpoints": page} if page else {}) | more)

    def _get(self, request: Request, name: str) -> Answer:
        kept, shown = self.kept[name], self.json(name)
        kept.shown += 1
        if kept.shown <= self.late_dns:
            shown.pop("dedicatedEndpointDns", None)
        return Answer(shown)

    def _update(self, request: Request, name: str) -> Answer:
        """Endpoint.etag: without it "a blind overwrite" happens."""
        kept, change = self.kept[name], parse(request.body, "Endpoint")
        mask = request.only("updateMask").get("updateMask", "").split(",")
        known = {"labels", "trafficSplit", "displayName", "description"}
        refuse(set(mask) <= known, "update_mask", f"{mask} cannot be changed")
        if change.etag not in ("", f"e{kept.generation}"):
            raise RequestError(409, "The etag is not that of the Endpoint.", status="ABORTED")
        if "trafficSplit" in mask:
            check_split(change.traffic_split, set(kept.deployed))
            self._send(kept, dict(change.traffic_split))
        if "labels" in mask:
            check_labels(change.labels)
            kept.message.ClearField("labels")
            kept.message.labels.update(change.labels)
        kept.generation += 1
        return Answer(self.json(name))

    def _send(self, kept: Kept, split: dict[str, int]) -> None:
        kept.before, kept.split, kept.late = kept.split, split, self.late_split

    def _delete(self, request: Request, name: str) -> Answer:
        kept = self.kept[name]
        refuse(not kept.deployed, "", "The Endpoint has deployed or being-deployed DeployedModels.")

        def end() -> dict[str, Any]:
            del self.kept[name]
            return {}

        return self.begin(f"endpoints/{name}", end)

    def _deploy(self, request: Request, name: str) -> Answer:
        kept, asked = self.kept[name], parse(request.body, "DeployModelRequest")
        deployed, split = asked.deployed_model, dict(asked.traffic_split)
        check_deployed(deployed, {*kept.deployed, *kept.starting})
        model, version = self.models.find(deployed.model)
        check_account(self.identity, request, deployed.service_account)
        check_split(split, {*kept.deployed, "0"})
        self._check_quota(deployed)
        kept.starting[deployed.id] = deployed

        def start() -> dict[str, Any]:
            del kept.starting[deployed.id]
            container = self.models.models[model][version].message.container_spec
            route = container.predict_route
            # https://docs.cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements#aip-variables
            port = container.ports[0].container_port if container.ports else 8080
            env = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": container.health_route}
            env |= {"AIP_PREDICT_ROUTE": route, "AIP_DEPLOYED_MODEL_ID": deployed.id, "AIP_ENDPOINT_ID": name}
            healthy = self.backend.start(deployed.id, container.image_uri, env)
            refuse(healthy, "", NEVER_READY)
            kept.deployed[deployed.id], kept.versions[deployed.id] = deployed, version
            if split:
                self._send(kept, {deployed.id if key == "0" else key: one for key, one in split.items()})
                kept.late = 0
            kept.generation += 1
            return {"deployedModel": json_format.MessageToDict(deployed)}

        return self.begin(f"endpoints/{name}", start)

    def _check_quota(self, deployed: Any) -> None:
        """The words are those of jobs: https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12"""
        others = [
            one for each in self.kept.values() for one in (*each.deployed.values(), *each.starting.values())
        ]
        used = sum(map(cpus, (deployed, *others)))
        if used > self.identity.quotas[METRIC].get(self.region, 0):
            raise RequestError(429, f"The following quota metrics exceed quota limits: {METRIC}")

    def _undeploy(self, request: Request, name: str) -> Answer:
        """UndeployModelRequest.traffic_split."""
        kept, asked = self.kept[name], parse(request.body, "UndeployModelRequest")
        number, split = asked.deployed_model_id, dict(asked.traffic_split)
        if number not in kept.deployed:
            raise RequestError(404, f"DeployedModel {number} is not found.")
        check_split(split, set(kept.deployed) - {number})
        last = len(kept.deployed) == 1
        refuse(split or last or not kept.split.get(number), "", f"DeployedModel {number} still has traffic.")

        def end() -> dict[str, Any]:
            if split or last:
                self._send(kept, split)
            del kept.deployed[number], kept.versions[number]
            self.backend.stop(number)
            kept.generation += 1
            return {}

        return self.begin(f"endpoints/{name}", end)

    def _read_policy(self, request: Request, name: str) -> Answer:
        """https://docs.cloud.google.com/iam/docs/policies#versions"""
        policy = self.kept[name].policy
        asked = request.only("options.requestedPolicyVersion").get("options.requestedPolicyVersion")
        if policy.get("version") != 3 or asked == "3":
            return Answer(policy)
        plain = [
            {"role": f"{one['role']}_withcond_0", "members": one["members"]} if "condition" in one else one
            for one in policy["bindings"]
        ]
        return Answer({**policy, "version": 1, "bindings": plain})

    def _write_policy(self, request: Request, name: str) -> Answer:
        kept, policy = self.kept[name], request.json().get("policy", {})
        if policy.get("etag", kept.policy["etag"]) != kept.policy["etag"]:
            raise RequestError(409, "There were concurrent policy changes.", status="ABORTED")
        for one in policy.get("bindings", ()):
            refuse(
                "condition" not in one or policy.get("version") == 3, "policy", "a condition is of version 3"
            )
            known = one["role"].startswith("roles/aiplatform.") or one["role"] in self.predict_roles
            refuse(known, "policy", f"Role ({one['role']}) does not exist in the resource's hierarchy.")
        kept.policy = {**policy, "etag": secrets.token_hex(4)}
        return Answer(kept.policy)

    # Beside the API

    def _shared(self, request: Request, name: str) -> Answer:
        """Endpoint.dedicated_endpoint_enabled: then the shared address does not answer."""
        if self.kept[name].dns:
            text = f"Dedicated Endpoint cannot be accessed through the shared Vertex AI domain; use {self.kept[name].dns}"
            raise RequestError(400, text, status="FAILED_PRECONDITION")
        return self._predict(request, name, "predict")

    def _asked(self, name: str, request: Request) -> Answer:
        found = ASKED.fullmatch(request.path)
        if not found or found[1] != name or name not in self.kept or request.method != "POST":
            raise RequestError(404, f"{request.path} is not found here.")
        account = self.identity.caller(request)
        named = f"serviceAccount:{account.email}"
        bound = any(
            one["role"] in self.predict_roles and named in one["members"]
            for one in self.kept[name].policy.get("bindings", ())
        )
        if not bound:
            self.identity.require(request, "aiplatform.endpoints.predict")
        return self._predict(request, name, found[2])

    def _predict(self, request: Request, name: str, verb: str) -> Answer:
        kept = self.kept[name]
        if len(request.body) > MOST_BYTES:
            raise RequestError(400, "Request payload size exceeds the limit.")
        before = {key: one for key, one in kept.before.items() if key in kept.deployed}
        kept.late, late = max(0, kept.late - 1), kept.late > 0
        split = before if late and before else kept.split
        # https://github.com/GoogleCloudPlatform/explainable_ai_sdk/issues/3
        refuse(split, "", f"Endpoint {self.parent}/endpoints/{name} doesn't have traffic_split.")
        number = max(split, key=lambda key: split[key])
        model, version = self.models.find(kept.deployed[number].model)
        route = self.models.models[model][version].message.container_spec.predict_route
        status, content = self.backend.ask(number, route, request.body)
        if verb == "rawPredict":
            return Answer(content, status, {SERVED: number} if self.told_by else {})
        if status != 200:
            raise RequestError(400, f"The server answers {status}: {content}")
        # PredictResponse has these, and what else the server says is lost.
        shown = {"predictions": content["predictions"], "deployedModelId": number, "modelVersionId": version}
        return Answer({**shown, "model": f"{self.parent}/models/{model}"})
