"""The stand-in for GitHub's REST API takes what GitHub takes, from whom it takes it, and nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from stage.github.api import Api, github_api

KNOWN = "c" * 40
STATUS = {"state": "success", "context": "train", "description": "all is well"}
REPORTS = {"statuses": "write", "pull-requests": "write"}


@pytest.fixture
def api() -> Iterator[Api]:
    with github_api("owner/name", lambda commit: commit == KNOWN) as here:
        here.open_pull_request(7)
        yield here


@pytest.fixture
def token(api: Api) -> Iterator[str]:
    with api.token(REPORTS) as name:
        yield name


def ask(api: Api, token: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    given = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json", **headers}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{api.url}/repos/owner/name/{path}"
    answer = requests.request(
        "POST" if body is not None else "GET", url, data=data, headers=given, timeout=10
    )
    return answer.status_code, answer.json()


def test_a_status_is_kept(api: Api, token: str) -> None:
    assert ask(api, token, f"statuses/{KNOWN}", STATUS)[0] == 201
    assert api.statuses == [(KNOWN, STATUS)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"state": "done"}, "state is one of"),
        ({"state": None}, "state is one of"),
        ({"description": "x" * 141}, "description is too long"),
        ({"target_url": "runs/a"}, "target_url"),
        ({"target": "https://a.example"}, "there is no target"),
    ],
)
def test_a_status_that_says_nothing_is_refused(change: dict, says: str, api: Api, token: str) -> None:
    code, answer = ask(api, token, f"statuses/{KNOWN}", STATUS | change)
    assert code == 422
    assert says in answer["message"]
    assert api.statuses == []


@pytest.mark.parametrize("commit", ["d" * 40, "c" * 12, "main"])
def test_a_commit_has_to_be_there(commit: str, api: Api, token: str) -> None:
    code, answer = ask(api, token, f"statuses/{commit}", STATUS)
    assert (code, answer["message"]) == (422, f"No commit found for SHA: {commit}")


def test_comments_are_kept_and_listed_in_pages(api: Api, token: str) -> None:
    for number in range(3):
        assert ask(api, token, "issues/7/comments", {"body": f"number {number}"})[0] == 201
    code, page = ask(api, token, "issues/7/comments?per_page=2&page=2")
    assert (code, [comment["body"] for comment in page]) == (200, ["number 2"])


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("issues/7/comments", {"body": "x" * 65537}, 422),
        ("issues/7/comments", {"body": " "}, 422),
        ("issues/7/comments", {"text": "a"}, 422),
        ("issues/7/comments", b"{", 400),
        ("issues/8/comments", {"body": "a"}, 404),
        ("issues/7/comments?size=3", None, 422),
        ("pulls/7/comments", {"body": "a"}, 404),
    ],
)
def test_a_comment_that_cannot_be_is_refused(path: str, body: Any, code: int, api: Api, token: str) -> None:
    assert ask(api, token, path, body)[0] == code
    assert api.comments == {7: []}


@pytest.mark.parametrize(
    ("permissions", "status", "comment"),
    [
        (REPORTS, 201, 201),
        ({"statuses": "write", "issues": "write"}, 201, 201),
        ({"statuses": "read", "pull-requests": "read"}, 403, 403),
        ({"contents": "write", "id-token": "write"}, 403, 403),
        ({}, 403, 403),
    ],
)
def test_a_token_may_do_what_its_job_may(permissions: dict, status: int, comment: int, api: Api) -> None:
    with api.token(permissions) as token:
        assert ask(api, token, f"statuses/{KNOWN}", STATUS)[0] == status
        assert ask(api, token, "issues/7/comments", {"body": "a"})[0] == comment
    assert ask(api, token, f"statuses/{KNOWN}", STATUS)[0] == 401  # its run is over
    assert ask(api, "ghs_unknown", "issues/7/comments")[0] == 401


def test_requests_are_as_github_wants_them(api: Api, token: str) -> None:
    assert ask(api, token, "issues/7/comments", **{"User-Agent": ""})[0] == 403
    assert ask(api, token, "issues/7/comments", Accept="text/html")[0] == 415


def test_trouble_is_had_as_a_test_wants_it(api: Api, token: str) -> None:
    api.trouble = [503]
    assert [ask(api, token, "issues/7/comments")[0] for _ in range(2)] == [503, 200]
