"""Service accounts: those that a project makes, and those as which Google's services work in it."""

import re

from stage.google.project import NUMBER, PROJECT, Match, Project, Resource, done, need
from stage.rest import Request

# The accounts as which services work in a project, by https://docs.cloud.google.com/iam/docs/service-agents.
# The first is the primary one.
AGENTS = {"aiplatform": ("gcp-sa-aiplatform", "gcp-sa-aiplatform-cc"), "batch": ("gcp-sa-cloudbatch",)}


def make_agent(project: Project, match: Match, request: Request) -> Resource:
    """All of a service's agents are there from then on; they have no role, which only those have that it made itself.

    https://docs.cloud.google.com/iam/docs/create-service-agents
    """
    service = match["name"].removesuffix(".googleapis.com")
    need(match["name"] in project.services and service in AGENTS, f"Service {match['name']} is not enabled.")
    emails = [f"service-{NUMBER}@{name}.iam.gserviceaccount.com" for name in AGENTS[service]]
    project.agents.update(emails)
    return done({"email": emails[0], "uniqueId": "1"})


def make_account(project: Project, match: Match, request: Request) -> Resource:
    name = request.json()["accountId"]
    need(re.fullmatch(r"[a-z]([a-z0-9-]{4,28}[a-z0-9])", name), "Invalid account id.")
    email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
    return project.add(
        "account", email, {"email": email, "name": f"projects/{PROJECT}/serviceAccounts/{email}"}
    )


def list_accounts(project: Project, match: Match, request: Request) -> Resource:
    return {"accounts": [project.get("account", name) for name in sorted(project.names("account"))]}
