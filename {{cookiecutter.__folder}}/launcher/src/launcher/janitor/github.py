"""GitHub's REST API, as far as runs are reported there; only in a workflow, whose token may do so."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import UserError

if TYPE_CHECKING:
    from requests import Response

API = "https://api.github.com"
VERSION = "2022-11-28"
TIMEOUT = 30  # seconds, for one answer
PER_PAGE = 100
CONTEXT = "train"  # of the commit status
LONGEST_DESCRIPTION = 140  # characters
LONGEST_BODY = 65536
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
STATES = ("success", "failure", "error")


class GitHubError(UserError):
    """GitHub did not do what was asked; one sentence."""


class CommitMissingError(GitHubError):
    """The repository on GitHub has no such commit."""


def connect(env: Mapping[str, str] = os.environ) -> GitHub | None:
    """Give the repository that a workflow runs in; None outside of one."""
    repository, token = env.get("GITHUB_REPOSITORY"), env.get("GITHUB_TOKEN")
    if not repository or not token:
        return None
    return GitHub(repository, token, env.get("GITHUB_API_URL") or API)


class GitHub:
    """One repository.

    Args:
        repository: owner/name.
        token: the workflow's own; needs the permissions statuses: write and pull-requests: write.
        api: address of the API.
    """

    def __init__(self, repository: str, token: str, api: str = API) -> None:
        self.repository, self.api = repository, api.rstrip("/")
        self._token = token

    def set_status(
        self, commit: str, state: str, description: str, url: str = "", context: str = CONTEXT
    ) -> None:
        """Set a commit status, in place of an earlier one of its name, `train` unless another is given.

        Raises:
            CommitMissingError: GitHub has no such commit; perhaps it was not pushed.
            GitHubError: it cannot be set.
        """
        if state not in STATES:
            raise ValueError(f"{state} is none of {STATES}")
        body = {
            "state": state,
            "context": context,
            "description": description[:LONGEST_DESCRIPTION],
        }
        if url.startswith(("https://", "http://")):
            body["target_url"] = url
        response = self._send("POST", f"statuses/{commit}", body)
        missing = response.status_code == 422 and "No commit found" in response.text
        if response.status_code == 404 or missing:
            raise CommitMissingError(f"GitHub has no commit {commit[:12]} in {self.repository}.")
        self._check(response, f"set the status of commit {commit[:12]}", "statuses: write")

    def comment(self, number: int, marker: str, body: str) -> bool:
        """Comment on a pull request, unless a comment with this marker is there; tell whether it was not.

        Raises:
            GitHubError: it cannot be read or written.
        """
        what = f"comment on pull request {number}"
        if any(marker in text for text in self._comments(number, what)):
            return False
        text = f"{body[: LONGEST_BODY - len(marker) - 2]}\n\n{marker}"
        response = self._send("POST", f"issues/{number}/comments", {"body": text})
        self._check(response, what, "pull-requests: write")
        return True

    def _comments(self, number: int, what: str) -> list[str]:
        found: list[str] = []
        page = 0
        while page * PER_PAGE == len(found):
            page += 1
            where = f"issues/{number}/comments?per_page={PER_PAGE}&page={page}"
            response = self._send("GET", where)
            self._check(response, what, "pull-requests: write")
            found += [str(comment.get("body") or "") for comment in response.json()]
        return found

    def _send(self, method: str, path: str, body: Any = None) -> Response:
        import requests

        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "X-GitHub-Api-Version": VERSION,
        }
        url = f"{self.api}/repos/{self.repository}/{path}"
        try:
            return requests.request(
                method, url, json=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            where = urlsplit(self.api).netloc
            raise GitHubError(f"{where} cannot be reached ({type(error).__name__}).") from error

    def _check(self, response: Response, what: str, permission: str) -> None:
        """Raise an error with one sentence for every answer that is not a good one."""
        if response.ok and response.status_code < 300:
            return
        status, said = response.status_code, _message(response)
        limited = (
            response.headers.get("x-ratelimit-remaining") == "0" or "rate limit" in said.lower()
        )
        if status == 429 or (status == 403 and limited):
            raise GitHubError(f"GitHub's rate limit does not let us {what} now; it is tried again.")
        if status in (401, 403):
            raise GitHubError(
                f"GitHub does not let us {what} ({status}: {said}); the workflow's job needs "
                f"`permissions: {permission}`."
            )
        if status >= 500:
            raise GitHubError(f"GitHub cannot {what} now ({status}: {said}); it is tried again.")
        raise GitHubError(f"GitHub cannot {what} ({status}: {said}).")


def _message(response: Response) -> str:
    try:
        said = str(response.json().get("message"))
    except (ValueError, AttributeError):
        said = response.reason or ""
    return " ".join(said.split())[:200].rstrip(".")
