"""A workflow's job asks for an identity token; an issuer of the stage signs it."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from stage.github.gh_program import GitHub as Repository
from stage.rest import Answer, Request, serve


class Issuer(Protocol):
    """Who signs identity tokens as GitHub does."""

    def token(self, **claims: Any) -> str: ...


class Identities:
    """What `GitHub.id_token` wants: gives a job its means to ask.

    Args:
        url: where its jobs ask.
    """

    def __init__(self, issuer: Issuer, repository: Repository) -> None:
        self.url, self._issuer, self._repository = "", issuer, repository
        self._known: dict[str, Mapping[str, Any]] = {}

    def __call__(self, **claims: Any) -> dict[str, str]:
        """What GitHub puts into the environment of a job with these claims."""
        name = "ya.actions." + secrets.token_urlsafe(16)
        numbers = {
            "repository_id": str(self._repository.repository_id),
            "repository_owner_id": str(self._repository.owner_id),
        }
        self._known[name] = numbers | claims
        url = f"{self.url}/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": name}

    def answer(self, request: Request) -> Answer:
        """Gives a token to a job that has the right to one."""
        claims = self._known.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if claims is None:
            return Answer({}, 401)
        usual = f"https://github.com/{self._repository.repository}"
        audience = request.query.get("audience", [usual])[0]
        return Answer({"value": self._issuer.token(**{**claims, "aud": audience})})


@contextmanager
def identities(issuer: Issuer, repository: Repository) -> Iterator[Identities]:
    """Answers the jobs of a repository's workflows while the block lasts."""
    here = Identities(issuer, repository)
    with serve(here.answer) as here.url:
        yield here
