"""What GitHub reads in a repository's workflow files: what starts them, what they use, what their jobs may do."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ACTIONS = Path(__file__).parent.parent / "actions"

SKIP = ("[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]")
# What a workflow that names no types of pull_request is started by.
USUAL_TYPES = ("opened", "synchronize", "reopened")
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idenvironment
OF_ENVIRONMENTS = {"name", "url", "deployment"}
# What stands for what in a filter's pattern; everything else is meant literally.
WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "?", "+": "+"}


class RefusedWorkflowError(Exception):
    """GitHub would not run this: the text says why."""


@cache
def pattern(text: str) -> re.Pattern[str]:
    """The regular expression of one pattern, without a leading `!`."""
    words = re.findall(r"\*\*/|\*\*|\*|\?|\+|\[[^]]*\]|\\.|.", text)
    parts = [
        WILDCARDS.get(word)
        or (
            word
            if word.startswith("[") and len(word) > 1
            else re.escape(word[-1] if word[0] == "\\" else word)
        )
        for word in words
    ]
    return re.compile("".join(parts), re.DOTALL)


def selects(patterns: Iterable[str], name: str) -> bool:
    """Whether a branch or a path passes the filter: the last pattern that matches it decides."""
    selected = False
    for text in patterns:
        negative = text.startswith("!")
        if pattern(text[1:] if negative else text).fullmatch(name):
            selected = not negative
    return selected


def triggers(workflow: Mapping[Any, Any]) -> dict[str, Mapping[str, Any]]:
    """Event -> its filters, of the three ways to write `on`."""
    on = workflow.get("on", workflow.get(True))  # YAML 1.1 reads a bare `on` as true
    if isinstance(on, str):
        return {on: {}}
    if isinstance(on, list):
        return {event: {} for event in on}
    assert isinstance(on, Mapping), "a workflow needs `on`"
    return {str(event): filters or {} for event, filters in on.items()}


def starts(
    workflow: Mapping[Any, Any],
    event: str,
    branch: str,
    paths: Iterable[str],
    message: str = "",
    action: str = "opened",
) -> bool:
    """Whether an event starts a workflow.

    Args:
        workflow: the parsed file.
        event: push or pull_request.
        branch: pushed to, or the base of the pull request.
        paths: what changed.
        message: of the newest commit; GitHub starts nothing when it says [skip ci].
        action: what has happened to a pull request.
    """
    events = triggers(workflow)
    if event not in events or any(word in message for word in SKIP):
        return False
    filters, paths = events[event], list(paths)
    if event == "pull_request":
        types = filters.get("types", USUAL_TYPES)
        if action not in ([types] if isinstance(types, str) else types):
            return False
    if filters.keys() & {"tags", "tags-ignore"} and not filters.keys() & {"branches", "branches-ignore"}:
        return False
    if "branches" in filters and not selects(filters["branches"], branch):
        return False
    if "branches-ignore" in filters and selects(filters["branches-ignore"], branch):
        return False
    if "paths" in filters and not any(selects(filters["paths"], path) for path in paths):
        return False
    ignored = filters.get("paths-ignore", ())
    return not ignored or not all(selects(ignored, path) for path in paths)


def used_actions(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every action from outside that the workflows and the local actions use, and what each is given."""
    for path in sorted((folder / ".github").rglob("*.y*ml")):
        parsed = yaml.safe_load(path.read_text())
        jobs = [*parsed.get("jobs", {}).values(), parsed.get("runs", {})]
        for step in (step for job in jobs for step in job.get("steps", ())):
            if "uses" in step and not step["uses"].startswith("./"):
                yield step["uses"], step.get("with", {})


def check_uses(folder: Path) -> None:
    """Refuses inputs that an action does not have, and the lack of those that it needs.

    Raises:
        RefusedWorkflowError: with the action's and the input's name. GitHub only warns of unknown ones.
    """
    for uses, given in used_actions(folder):
        path = ACTIONS / uses.partition("@")[0] / "action.yml"
        if not path.is_file():
            raise RefusedWorkflowError(f"The stage has no stand-in for {uses}")
        known = yaml.safe_load(path.read_text())["inputs"]
        if given.keys() - known.keys():
            raise RefusedWorkflowError(
                f"{uses} has no input {', '.join(sorted(given.keys() - known.keys()))}"
            )
        missing = {name for name, spec in known.items() if spec.get("required") and "default" not in spec}
        if missing - given.keys():
            raise RefusedWorkflowError(f"{uses} needs the input {', '.join(sorted(missing - given.keys()))}")


def without_deployment(text: str) -> str:
    """A workflow as act and actionlint read it: neither knows yet that an environment may be one where nothing is deployed.

    https://github.com/nektos/act/issues/6086
    """
    return re.sub(r"(\benvironment: \{name: [\w-]+), deployment: (true|false)\}", r"\1}", text)


def identity_jobs(
    workflows: Mapping[str, Mapping[Any, Any]], name: str, granted: bool = True
) -> dict[str, str]:
    """Job id -> environment ("" for none) of the jobs that may ask for an identity token, called ones included."""
    workflow, found = workflows[name], {}
    for job, spec in workflow["jobs"].items():
        permissions = spec.get("permissions", workflow.get("permissions", {}))
        allowed = granted and (
            permissions == "write-all"
            or (isinstance(permissions, Mapping) and permissions.get("id-token") == "write")
        )
        if str(spec.get("uses", "")).startswith("./.github/workflows/"):
            found |= identity_jobs(workflows, Path(spec["uses"]).name, allowed)
        elif allowed:
            found[job] = _environment(spec.get("environment", ""))
    return found


def _environment(given: str | Mapping[str, Any]) -> str:
    """The name of a job's environment, of both ways to write it."""
    if not isinstance(given, Mapping):
        return given
    if unknown := given.keys() - OF_ENVIRONMENTS:
        raise RefusedWorkflowError(f"an environment has no {', '.join(sorted(unknown))}")
    return given["name"]


def token_permissions(workflows: Mapping[str, Mapping[Any, Any]], name: str) -> dict[str, str]:
    """What the token may do in every one of the jobs that use it, called ones included; nothing where none does."""
    found = list(_token_jobs(workflows, name, None))
    shared = set.intersection(*(set(one.items()) for one in found)) if found else set()
    return dict(shared)


def _token_jobs(
    workflows: Mapping[str, Mapping[Any, Any]], name: str, granted: Mapping[str, str] | None
) -> Iterator[dict[str, str]]:
    """The permissions of each job that names the token: what it asks for, and its caller has."""
    workflow = workflows[name]
    for spec in workflow["jobs"].values():
        asked = spec.get("permissions", workflow.get("permissions", {}))
        assert isinstance(asked, Mapping), "each job says what it may do"
        allowed = {str(scope): str(level) for scope, level in asked.items()}
        if granted is not None:  # what the caller has not, it cannot pass on
            allowed = {
                scope: level for scope, level in allowed.items() if granted.get(scope) in (level, "write")
            }
        if str(spec.get("uses", "")).startswith("./.github/workflows/"):
            yield from _token_jobs(workflows, Path(spec["uses"]).name, allowed)
        elif re.search(r"github\.token|secrets\.GITHUB_TOKEN", str(spec.get("steps"))):
            yield allowed


def check_inputs(known: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    """The inputs of a workflow started by hand, with the defaults; refuses what GitHub's form and API refuse."""
    if given.keys() - known.keys():
        raise RefusedWorkflowError(f"there is no input {', '.join(sorted(given.keys() - known.keys()))}")
    values = {}
    for name, spec in known.items():
        options = [str(option) for option in spec.get("options", ())]
        values[name] = given.get(name, str(spec.get("default", options[0] if options else "")))
        if spec.get("required") and not values[name]:
            raise RefusedWorkflowError(f"the input {name} is required")
        if options and values[name] not in options:
            raise RefusedWorkflowError(f"{name} is one of {', '.join(options)}")
    return values
