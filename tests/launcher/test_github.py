"""What GitHub is told of a run, and what its refusals become; and that a report can be nothing but text."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from google_server import CUT, GoogleServer, _handler
from launcher.janitor.github import (
    LONGEST_BODY,
    CommitMissingError,
    GitHub,
    GitHubError,
    connect,
)
from launcher.janitor.report import Facts, headline, markdown

COMMIT = "c" * 40
STATUS = f"/repos/owner/name/statuses/{COMMIT}"
COMMENTS = "/repos/owner/name/issues/7/comments"
MARKER = "<!-- run a -->"


@pytest.fixture
def server() -> Iterator[GoogleServer]:
    """A server that gives the answers which a test has laid out."""
    found = GoogleServer()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(found))
    found.host = f"127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def github(server: GoogleServer) -> GitHub:
    url = f"http://{server.host}"
    found = connect({"GITHUB_TOKEN": "secret", "GITHUB_REPOSITORY": "owner/name", "GITHUB_API_URL": url})
    assert found
    return found


@pytest.mark.parametrize("missing", ["GITHUB_TOKEN", "GITHUB_REPOSITORY"])
def test_outside_of_a_workflow_there_is_no_repository(missing):
    env = {"GITHUB_TOKEN": "secret", "GITHUB_REPOSITORY": "owner/name"}
    found = connect(env)
    assert found
    assert found.api == "https://api.github.com"
    assert connect({**env, missing: ""}) is None


def test_a_status_is_what_the_api_takes(server, github):
    server.say("POST", STATUS, {}, 201)
    github.set_status(COMMIT, "success", "x" * 200, "https://console.example/a")
    github.set_status(COMMIT, "error", "short", "runs/a")  # a folder is no page
    first, second = (one["body"] for one in server.sent("POST", STATUS))
    assert first == {
        "state": "success",
        "context": "train",
        "description": "x" * 140,
        "target_url": "https://console.example/a",
    }
    assert "target_url" not in second
    assert server.asked[0]["login"] == "Bearer secret"


def test_a_comment_is_written_once(server, github):
    others = [{"body": f"number {number}"} for number in range(100)]
    server.say("GET", COMMENTS, others)
    server.say("GET", COMMENTS, [{"body": None}])
    server.say("POST", COMMENTS, {}, 201)
    assert github.comment(7, MARKER, "x" * 100_000)
    (sent,) = server.sent("POST", COMMENTS)
    text = sent["body"]["body"]
    assert len(text) == LONGEST_BODY
    assert text.endswith(f"\n\n{MARKER}")
    server.forget("GET", COMMENTS)
    server.say("GET", COMMENTS, others)
    server.say("GET", COMMENTS, [{"body": f"report\n\n{MARKER}"}])
    assert not github.comment(7, MARKER, "report")
    assert len(server.sent("POST", COMMENTS)) == 1


@pytest.mark.parametrize(
    ("status", "message", "headers", "says"),
    [
        (401, "Bad credentials", {}, "401: Bad credentials"),
        (403, "Resource not accessible by integration", {}, "permissions: statuses: write"),
        (403, "You have exceeded a secondary rate limit.", {}, "rate limit"),
        (403, "API forbidden", {"x-ratelimit-remaining": "0"}, "rate limit"),
        (429, "Too many", {}, "rate limit"),
        (503, "Unicorn", {}, "cannot set the status of commit cccccccccccc now (503: Unicorn)"),
        (422, "Validation Failed", {}, "(422: Validation Failed)"),
        (302, "Moved", {}, "(302: Moved)"),
        (CUT, "", {}, "cannot be reached (ConnectionError)"),
    ],
)
def test_a_refusal_is_one_sentence(status, message, headers, says, server, github):
    server.say("POST", STATUS, {"message": message}, status, **headers)
    with pytest.raises(GitHubError) as caught:
        github.set_status(COMMIT, "success", "text")
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert "secret" not in text
    assert not isinstance(caught.value, CommitMissingError)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "Not Found"), (422, f"No commit found for SHA: {COMMIT}")]
)
def test_a_commit_that_is_not_there_is_an_error_of_its_own(status, message, server, github):
    server.say("POST", STATUS, {"message": message}, status)
    with pytest.raises(CommitMissingError, match="no commit cccccccccccc in owner/name"):
        github.set_status(COMMIT, "success", "text")


def test_an_answer_that_is_not_json_is_one_sentence(server, github):
    server.say("GET", COMMENTS, b"<html>Unicorn!</html>", 502)
    with pytest.raises(GitHubError, match="comment on pull request 7 now"):
        github.comment(7, MARKER, "text")


def test_a_state_that_there_is_not_is_a_mistake(github):
    with pytest.raises(ValueError, match="done"):
        github.set_status(COMMIT, "done", "text")


# The report


def curves(count: int = 5, **values: float) -> list[dict[str, Any]]:
    given = {"val/loss": 0.5, "val/accuracy": 0.9} | values
    return [{"step": 10 * step, "epoch": step, **given} for step in range(1, count + 1)]


def test_a_report_has_metrics_chart_cost_and_links():
    facts = Facts(
        "run-1",
        "succeeded",
        metrics={"test/loss": 0.123456, "test/accuracy": 0.975},
        curves=[{"step": 5, "epoch": 0, "train/loss": 2.0}, *curves(2, **{"val/loss": 1e-7})],
        machine="1 x l4, spot",
        hours=0.5,
        usd=0.21,
        commit=COMMIT,
        settings=["trainer.max_epochs=2"],
        results="https://console.cloud.google.com/storage/browser/bucket/runs/run-1",
        job="https://console.example/jobs/1?project=p",
    )
    text = markdown(facts)
    assert text.startswith("### ✅ Training `run-1`: succeeded\n")
    assert "| `test/accuracy` | 0.9750 |" in text
    assert "| cost | 0.21 USD |" in text
    assert "| settings | `trainer.max_epochs=2` |" in text
    assert f"[Results, with all plots](<{facts.results}>)" in text
    assert text.count("```mermaid\nxychart-beta\n") == 2
    assert '    x-axis "step" 10 --> 20\n' in text
    assert "    line [0.0000001, 0.0000001]\n" in text  # the charts know no exponents
    assert headline(facts) == "succeeded, test/accuracy 0.9750, 0.21 USD"


def test_a_run_that_failed_says_why():
    facts = Facts("run-1", "failed", reason="CUDA out of memory", usd=1.0)
    assert "Why: `CUDA out of memory`" in markdown(facts)
    assert "It has left no metrics." in markdown(facts)
    assert headline(facts) == "failed, 1.00 USD"


HOSTILE = [
    "@everyone",
    "a|b",
    "a\\|b",
    "`@x`",
    "``` @x",
    "a\n\n# @x",
    "a\r@x",
    "<img src=x onerror=alert(1)>",
    "<!-- ",
    "![x](https://evil.example/x.png)",
    "#1",
    "\u2028@x",
    "\u202e@x",
    "",
    " ",
    "x" * 5000,
    '"]\nclick me',
    "-->",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_run_writes_is_more_than_text(text):
    facts = Facts(
        text,
        "failed",
        reason=text,
        metrics={text: 1.0, f"{text}2": 2.0},
        curves=curves(3, **{f"val/{text}": 0.5}),
        machine=text,
        commit=text,
        settings=[text, f"a={text}"],
        results=f"https://console.example/{text}",
        job=f"javascript:{text}",
    )
    report = markdown(facts)
    charts = re.findall(r"```mermaid\n(.*?)\n```", report, re.DOTALL)
    assert 1 <= len(charts) == report.count("```") / 2
    for chart in charts:
        lines = chart.splitlines()
        assert lines[0] == "xychart-beta"
        assert [line.split()[0] for line in lines[1:]] == ["title", "x-axis", "y-axis", "line"]
        assert re.fullmatch(r'    title "[A-Za-z0-9 _./-]+"', lines[1])
    rest = re.sub(r"```mermaid\n.*?\n```", "", report, flags=re.DOTALL)
    for line in rest.splitlines():
        plain = re.sub(r"`[^`]*`|\]\(<https?://[^<>\s]*>\)", "", line)
        assert not re.search(r"[@<>#`!\\]", plain.removeprefix("### ")), line
        if line.startswith("|"):
            assert line.count("|") == 3, line
    assert len(report) < LONGEST_BODY
    assert "@" not in headline(facts)
    assert len(headline(facts)) <= 140


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 1, "val/loss": 1.0}],
        [{"step": 1, "val/loss": 1.0}] * 2,
        [{"step": 1, "val/loss": float("nan")}, {"step": 2, "val/loss": float("inf")}],
        [{"step": "1", "val/loss": 1}, {"step": [2], "val/loss": "x"}, {"val/loss": True}],
        [{"step": 1, "val/loss": 10**400}, {"step": 2, "val/loss": 1}],
    ],
)
def test_without_two_points_there_is_no_chart(lines):
    assert "mermaid" not in markdown(Facts("a", "failed", curves=lines))


def test_a_long_run_has_a_chart_of_few_points():
    text = markdown(Facts("a", "failed", curves=curves(1000)))
    (line, *_) = re.findall(r"line \[(.*)\]", text)
    assert len(line.split(", ")) == 40
    assert '"step" 10 --> 10000' in text


def test_metrics_that_are_no_numbers_are_left_out():
    text = markdown(Facts("a", "succeeded", metrics=json.loads('{"a": NaN, "b": "x", "c": 1e-9}')))
    assert "| `c` | 1e-09 |" in text
    assert "`a` |" not in text
    assert "`b`" not in text
