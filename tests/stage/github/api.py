"""A strict stand-in for GitHub's REST API: commit statuses and the comments of pull requests."""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stage.rest import Answer, Request, RequestError, serve

STATES = ("error", "failure", "pending", "success")
ACCEPTED = ("application/vnd.github+json", "application/json", "application/vnd.github.v3+json", "*/*")
LONGEST_DESCRIPTION = 140
LONGEST_BODY = 65536
MOST_PER_PAGE = 100


@dataclass
class Token:
    """One job's token."""

    permissions: Mapping[str, str]
    valid: bool = True


@dataclass
class Api:
    """One repository, as far as runs are reported there.

    Args:
        repository: owner/name.
        has_commit: whether the repository has a commit of this full id.
        statuses: what was set, in order: the commit, and what was said of it.
        comments: number of a pull request -> its comments.
        trouble: statuses of the next answers, whatever is asked.
        requests: all that was asked.
    """

    repository: str
    has_commit: Callable[[str], bool]
    statuses: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    comments: dict[int, list[str]] = field(default_factory=dict)
    trouble: list[int] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    _tokens: dict[str, Token] = field(default_factory=dict)

    def open_pull_request(self, number: int) -> None:
        """Knows a pull request by its number from now on."""
        self.comments.setdefault(number, [])

    @contextmanager
    def token(self, permissions: Mapping[str, str]) -> Iterator[str]:
        """A token with these permissions, such as {"statuses": "write"}, until the block ends."""
        name = "ghs_" + secrets.token_hex(18)
        self._tokens[name] = Token(dict(permissions))
        try:
            yield name
        finally:
            self._tokens[name].valid = False

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.trouble:
            code = self.trouble.pop(0)
            return Answer({"message": "We had issues producing the response to your request."}, code)
        try:
            return self._answer(request)
        except RequestError as error:
            text = {"message": error.message, "documentation_url": "https://docs.github.com/rest"}
            return Answer(text, error.code)

    def _answer(self, request: Request) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not headers.get("user-agent"):
            raise RequestError(403, "Request forbidden by administrative rules.")
        if headers.get("accept") not in ACCEPTED:
            raise RequestError(415, "Unsupported 'Accept' header", status="UNSUPPORTED")
        token = self._token(headers.get("authorization", ""))
        prefix = f"/repos/{self.repository}/"
        if not request.path.startswith(prefix):
            raise RequestError(404, "Not Found")
        path = request.path.removeprefix(prefix)
        if (found := re.fullmatch(r"statuses/(\w+)", path)) and request.method == "POST":
            _require(token, "write", "statuses")
            return self._set_status(found[1], _body(request))
        found = re.fullmatch(r"issues/(\d+)/comments", path)
        if not found or request.method not in ("GET", "POST"):
            raise RequestError(404, "Not Found")
        # Of a pull request either permission will do; an issue's comment needs that of issues.
        _require(token, "write" if request.method == "POST" else "read", "issues", "pull-requests")
        number = int(found[1])
        if number not in self.comments:
            raise RequestError(404, "Not Found")
        if request.method == "GET":
            return self._list(request, number)
        return self._comment(number, _body(request))

    def _token(self, header: str) -> Token:
        kind, _, name = header.partition(" ")
        token = self._tokens.get(name)
        if kind.lower() not in ("bearer", "token") or token is None or not token.valid:
            raise RequestError(401, "Bad credentials")
        return token

    def _set_status(self, commit: str, body: dict[str, Any]) -> Answer:
        _only(body, "state", "target_url", "description", "context")
        if body.get("state") not in STATES:
            raise RequestError(422, f"Validation Failed: state is one of {STATES}", status="INVALID")
        if len(body.get("description") or "") > LONGEST_DESCRIPTION:
            raise RequestError(422, "Validation Failed: description is too long", status="INVALID")
        url = urlsplit(body.get("target_url") or "https://github.com")
        if url.scheme not in ("http", "https") or not url.netloc:
            raise RequestError(422, "Validation Failed: target_url must use http(s)", status="INVALID")
        if not re.fullmatch(r"[0-9a-f]{40}", commit) or not self.has_commit(commit):
            raise RequestError(422, f"No commit found for SHA: {commit}", status="INVALID")
        self.statuses.append((commit, {"context": "default", **body}))
        return Answer({"id": len(self.statuses), **body}, 201)

    def _list(self, request: Request, number: int) -> Answer:
        query = {name: values[0] for name, values in request.query.items()}
        _only(query, "per_page", "page", "since")
        size = min(int(query.get("per_page", 30)), MOST_PER_PAGE)
        start = (max(1, int(query.get("page", 1))) - 1) * size
        texts = self.comments[number][start : start + size]
        return Answer([{"id": start + index, "body": text} for index, text in enumerate(texts)])

    def _comment(self, number: int, body: dict[str, Any]) -> Answer:
        _only(body, "body")
        text = body.get("body")
        if not isinstance(text, str) or not text.strip():
            raise RequestError(422, "Validation Failed: body can't be blank", status="INVALID")
        if len(text) > LONGEST_BODY:
            raise RequestError(422, "Validation Failed: body is too long", status="INVALID")
        self.comments[number].append(text)
        return Answer({"id": len(self.comments[number]), "body": text}, 201)


def _require(token: Token, level: str, *scopes: str) -> None:
    enough = ("write",) if level == "write" else ("read", "write")
    if not any(token.permissions.get(scope) in enough for scope in scopes):
        raise RequestError(403, "Resource not accessible by integration")


def _body(request: Request) -> dict[str, Any]:
    try:
        return request.json()
    except RequestError as error:
        raise RequestError(400, "Problems parsing JSON") from error


def _only(given: Mapping[str, Any], *names: str) -> None:
    """Stricter than GitHub, which passes over what it does not know: a misspelt name would say nothing."""
    if unknown := sorted(given.keys() - set(names)):
        raise RequestError(422, f"Validation Failed: there is no {', '.join(unknown)}", status="INVALID")


@contextmanager
def github_api(repository: str, has_commit: Callable[[str], bool]) -> Iterator[Api]:
    """Runs the API of one repository while the block lasts."""
    api = Api(repository, has_commit)
    with serve(api.handle) as api.url:
        yield api
