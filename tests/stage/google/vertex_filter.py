"""The filters that the lists of Vertex AI, of Batch and of Cloud Logging take, as far as they are documented for jobs."""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

from stage.rest import RequestError

Match = Callable[[Mapping[str, Any]], bool]

TOKEN = re.compile(
    r'\s*(?:(\()|(\))|(AND|OR|NOT)\b|([A-Za-z_][\w./-]*)\s*(!=|<=|>=|<|>|=|:)\s*("(?:[^"\\]|\\.)*"|[^\s()"]+))'
)
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")


def _tokens(text: str) -> list[tuple[str, ...]]:
    """Splits into ("(",), ("AND",) ... and (field, operator, value)."""
    found, position = [], 0
    while text[position:].strip():
        token = TOKEN.match(text, position)
        if token is None:
            raise _bad(f"Could not parse filter {text!r} at {text[position:].strip()[:20]!r}.")
        opened, closed, word, field, operator, value = token.groups()
        if field:
            plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            found.append((field, operator, plain))
        else:
            found.append((opened or closed or word,))
        position = token.end()
    return found


def _bad(text: str) -> RequestError:
    return RequestError(400, text, [("filter", text)])


class _Parser:
    """OR binds tighter than AND, and terms side by side are joined by AND, as in Google's filter language."""

    def __init__(self, text: str, compare: Callable[[str, str, str], Match]) -> None:
        self.tokens, self.compare = _tokens(text), compare

    def parse(self) -> Match:
        if not self.tokens:
            return lambda _: True
        match = self._all()
        if self.tokens:
            raise _bad(f"Could not parse filter: {self.tokens[0][0]!r} is not expected.")
        return match

    def _next(self, word: str) -> bool:
        if self.tokens and self.tokens[0] == (word,):
            self.tokens.pop(0)
            return True
        return False

    def _all(self) -> Match:
        terms = [self._any()]
        while self.tokens and self.tokens[0] != (")",):
            self._next("AND")
            terms.append(self._any())
        return lambda item: all(term(item) for term in terms)

    def _any(self) -> Match:
        terms = [self._one()]
        while self._next("OR"):
            terms.append(self._one())
        return lambda item: any(term(item) for term in terms)

    def _one(self) -> Match:
        if self._next("NOT"):
            inner = self._one()
            return lambda item: not inner(item)
        if self._next("("):
            inner = self._all()
            if not self._next(")"):
                raise _bad("Could not parse filter: a parenthesis is open.")
            return inner
        if not self.tokens or len(self.tokens[0]) != 3:
            raise _bad("Could not parse filter: a term is missing.")
        return self.compare(*self.tokens.pop(0))


def job_filter(text: str) -> Match:
    """The filter of customJobs.list: displayName, state, createTime and labels.

    What each takes is listed there, and nothing else is taken; of labels only whole values and existence:
    https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.customJobs/list.
    """
    return _Parser(text, _compare_job).parse()


def _compare_job(field: str, operator: str, value: str) -> Match:
    name = (
        re.sub(r"_(\w)", lambda found: found[1].upper(), field) if not field.startswith("labels.") else field
    )
    if name.startswith("labels."):
        key = name.removeprefix("labels.")
        if operator == ":" and value == "*":
            return lambda job: key in job.get("labels", {})
        if operator == "=":
            return lambda job: job.get("labels", {}).get(key) == value
    elif name == "state" and operator in ("=", "!="):
        if not value.startswith("JOB_STATE_"):
            raise _bad(f"Invalid filter: {value!r} is no job state.")
        return lambda job: (job["state"] == value) == (operator == "=")
    elif name == "displayName" and operator in ("=", "!="):
        return lambda job: (job["displayName"] == value) == (operator == "=")
    elif name == "displayName" and operator == ":":
        return lambda job: fnmatch.fnmatchcase(job["displayName"], value)
    elif name == "createTime" and operator != ":":
        return _ordered(lambda job: job["createTime"], operator, _time(value))
    raise _bad(f"Invalid filter: {field}{operator}{value} is not supported.")


def _time(value: str) -> str:
    """An RFC 3339 time in UTC, so that times can be compared as text."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", value):
        raise _bad(f"Invalid filter: {value!r} is no RFC 3339 time in UTC.")
    whole, _, part = value[:-1].partition(".")
    return f"{whole}.{part:0<6.6}Z"


def _ordered(key: Callable[[Mapping[str, Any]], Any], operator: str, value: Any) -> Match:
    if operator == "=":
        return lambda item: key(item) == value
    if operator == "!=":
        return lambda item: key(item) != value
    if operator in ("<", "<="):
        return lambda item: key(item) < value or (operator == "<=" and key(item) == value)
    return lambda item: key(item) > value or (operator == ">=" and key(item) == value)


class LogFilter:
    """A filter of entries:list; it must say resource.type="ml_job", as only those entries are here."""

    def __init__(self, text: str) -> None:
        if not re.search(r'resource\.type\s*=\s*"?ml_job\b', text):
            raise _bad(
                'The stand-in knows entries of resource.type="ml_job" only; the filter must ask for them.'
            )
        self._match = _Parser(text, self._compare).parse()

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        return self._match(entry)

    def _compare(self, field: str, operator: str, value: str) -> Match:
        if field == "severity" and operator != ":":
            if value.upper() not in SEVERITIES:
                raise _bad(f"Invalid filter: {value!r} is no severity.")
            rank = SEVERITIES.index(value.upper())
            return _ordered(lambda entry: SEVERITIES.index(entry["severity"]), operator, rank)
        if field == "timestamp" and operator != ":":
            return _ordered(lambda entry: entry["timestamp"], operator, _time(value))
        known = ("resource.type", "logName", "insertId", "jsonPayload.message", "textPayload")
        if field not in known and not re.fullmatch(r"resource\.labels\.(job_id|task_name|project_id)", field):
            raise _bad(f"Invalid filter: the field {field} is not known.")
        if operator == ":":
            return lambda entry: value.lower() in str(_dig(entry, field)).lower()
        return _ordered(lambda entry: str(_dig(entry, field)), operator, value)


def batch_filter(text: str) -> Match:
    """The filter of Batch's list of jobs, of which only examples are documented: labels, and states.

    https://docs.cloud.google.com/batch/docs/view-jobs-and-tasks: whether `labels.a="b"` takes a value for part of another
    is not told, so it does.
    """
    return _Parser(text, _compare_batch).parse()


def _compare_batch(field: str, operator: str, value: str) -> Match:
    if field.startswith("labels.") and operator == "=":
        return lambda job: value in job.get("labels", {}).get(field.removeprefix("labels."), "")
    if field in ("status.state", "state") and operator == "=":
        return lambda job: job["status"]["state"] == value
    raise _bad(f"Invalid filter: {field}{operator}{value} is not supported.")


class BatchLogFilter:
    """A filter of entries:list for what tasks of Batch printed."""

    def __init__(self, text: str) -> None:
        plain = re.sub(r'\blog_id\("(\w+)"\)', r'log_id="\1"', text)
        self._match = _Parser(plain, self._compare).parse()

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        return self._match(entry)

    def _compare(self, field: str, operator: str, value: str) -> Match:
        if field == "log_id" and operator == "=":
            return lambda entry: entry["logName"].rpartition("/")[2] == value
        if field == "timestamp" and operator != ":":
            return _ordered(lambda entry: entry["timestamp"], operator, _time(value))
        if field.startswith("labels.") and operator == "=":
            return lambda entry: entry["labels"].get(field.removeprefix("labels.")) == value
        raise _bad(f"Invalid filter: the field {field} is not known.")


def _dig(entry: Any, path: str) -> Any:
    for name in path.split("."):
        entry = entry.get(name, {}) if isinstance(entry, Mapping) else {}
    return entry if entry != {} else ""
