"""Workload identity pools: who may log in from elsewhere, and on which conditions."""

import re
from collections.abc import Callable

from stage.google.project import Match, Project, Resource, done, need
from stage.rest import Request


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
