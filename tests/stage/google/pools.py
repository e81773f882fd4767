"""Workload identity pools: who may log in from elsewhere, and on which conditions."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from stage.google.project import Match, Project, Resource, done, need
from stage.rest import Request, RequestError


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
    for expression in mapping.values():
        mapped(expression, None)
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


def mapped(expression: str, claims: Mapping[str, Any] | None) -> str:
    """What an expression of an attribute mapping makes of a token's claims: claims and texts, joined by `+`.

    That much is all that is known here of the language (https://docs.cloud.google.com/iam/docs/workload-identity-federation);
    without claims only the form is looked at.

    Raises:
        RequestError: 400 for any other form, and for a claim that the token does not have.
    """
    values = []
    for term in re.split(r"\s*\+\s*", expression):
        found = re.fullmatch(r"assertion\.(\w+)|([\"'])([^\"'+]*)\2", term)
        if found is None:
            raise RequestError(400, f"Attribute mapping cannot be compiled: {expression}")
        if found[1] and claims is not None:
            need(isinstance(claims.get(found[1]), str), f"No such claim, or no text: {term}")
            values.append(claims[found[1]])
        else:
            values.append(found[3] or "")
    return "".join(values)


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
