"""A stand-in for GitHub's own `gh`, run as a program: a repository kept in a file, and only arguments that gh documents.

gh_program.py STATE ARGUMENT...
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn


@dataclass
class GitHub:
    """A repository, and whether somebody is logged in who may change it.

    Args:
        plan: its owner's; what a private repository can have depends on it.
        environments: the reviewers of each.
        people: other accounts, with their ids.
    """

    repository: str = "octo-org/leaves"
    repository_id: int = 4711
    owner_id: int = 815
    logged_in: bool = True
    admin: bool = True
    private: bool = False
    plan: str = "free"
    variables: dict[str, str] = field(default_factory=dict)
    environments: dict[str, list[str]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=lambda: ["bug"])
    people: dict[str, int] = field(default_factory=lambda: {"octo-cat": 77})

    @classmethod
    def load(cls, path: Path) -> "GitHub":
        return cls(**json.loads(path.read_text()))

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def refuse(message: str, code: int = 1) -> NoReturn:
    """Ends as gh does when something is wrong."""
    print(message, file=sys.stderr)
    raise SystemExit(code)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line, by the names that gh 2.27 and newer document; abbreviations are no names."""
    parser = argparse.ArgumentParser("gh", allow_abbrev=False)
    top = parser.add_subparsers(dest="command", required=True)
    auth = top.add_parser("auth").add_subparsers(dest="verb", required=True)
    status = auth.add_parser("status", allow_abbrev=False)
    status.add_argument("--hostname")
    api = top.add_parser("api", allow_abbrev=False)
    api.add_argument("endpoint")
    api.add_argument("-X", "--method", default="GET")
    api.add_argument("-q", "--jq")
    api.add_argument("--silent", action="store_true")
    api.add_argument("-f", "--raw-field", action="append", default=[])
    api.add_argument("-F", "--field", action="append", default=[])
    api.add_argument("--paginate", action="store_true")
    verbs = top.add_parser("variable").add_subparsers(dest="verb", required=True)
    for verb in ("set", "delete"):
        variable = verbs.add_parser(verb, allow_abbrev=False)
        variable.add_argument("name")
        variable.add_argument("-R", "--repo", required=True)
        if verb == "set":
            variable.add_argument("-b", "--body", required=True)
    labels = top.add_parser("label").add_subparsers(dest="verb", required=True)
    for verb in ("create", "delete"):
        label = labels.add_parser(verb, allow_abbrev=False)
        label.add_argument("name")
        label.add_argument("-R", "--repo", required=True)
        if verb == "create":
            label.add_argument("-c", "--color")
            label.add_argument("-d", "--description", default="")
            label.add_argument("-f", "--force", action="store_true")
        else:
            label.add_argument("--yes", action="store_true")
    return parser.parse_args(arguments)


def rest(github: GitHub, method: str, endpoint: str, fields: list[str]) -> Any:
    """GitHub's REST API, as far as it is used; None is an empty answer."""
    path, _, query = endpoint.partition("?")
    if method == "GET" and path.removeprefix("users/") in github.people:
        login = path.removeprefix("users/")
        return {"login": login, "id": github.people[login]}
    place = f"repos/{github.repository}"
    if query not in ("", "per_page=30") or not (path + "/").startswith(place + "/"):
        refuse("gh: Not Found (HTTP 404)")
    below = path.removeprefix(place)
    if (method, below) == ("GET", ""):
        owner = {"id": github.owner_id, "login": github.repository.partition("/")[0]}
        return {
            "id": github.repository_id,
            "full_name": github.repository,
            "owner": owner,
            "permissions": {"admin": github.admin, "push": True},
        }
    if (method, below) == ("GET", "/actions/variables"):
        return {"variables": [{"name": name, "value": value} for name, value in github.variables.items()]}
    if method == "GET" and below.removeprefix("/labels/") in github.labels:
        return {"name": below.removeprefix("/labels/")}
    name = below.removeprefix("/environments/")
    if name == below or not name:
        refuse(f"gh: Not Found (HTTP 404) {method} {endpoint}")
    return environment(github, method, name, fields)


def environment(github: GitHub, method: str, name: str, fields: list[str]) -> Any:
    """Environments: none in private repositories of the free plan, and reviewers there with Enterprise only.

    404: https://github.com/google/go-github/pull/2611, 422: https://github.com/backstage/backstage/issues/28977
    """
    if github.private and github.plan == "free":
        refuse("gh: Not Found (HTTP 404)")
    if method == "PUT":
        if fields and github.private and github.plan != "enterprise":
            refuse(
                "gh: Failed to create the environment protection rule. Please ensure the billing plan supports the "
                "required reviewers protection rule. (HTTP 422)"
            )
        logins = {f"reviewers[][id]={number}": login for login, number in github.people.items()}
        if (
            fields[::2] != ["reviewers[][type]=User"] * len(fields[::2])
            or not {*fields[1::2]} <= logins.keys()
        ):
            refuse(f"gh: Invalid request. {fields} (HTTP 422)")
        # What is not named is reset, for aught that is documented.
        github.environments[name] = [logins[each] for each in fields[1::2]]
    elif name not in github.environments or method not in ("GET", "DELETE"):
        refuse("gh: Not Found (HTTP 404)")
    elif method == "DELETE":
        del github.environments[name]
        return None
    reviewers = [{"type": "User", "reviewer": {"login": login}} for login in github.environments[name]]
    rules = [{"type": "required_reviewers", "reviewers": reviewers}] if reviewers else []
    return {"name": name, "protection_rules": rules}


def change_label(github: GitHub, options: argparse.Namespace) -> None:
    """gh label create|delete: https://cli.github.com/manual/gh_label."""
    if options.repo != github.repository:
        refuse("HTTP 404: Not Found")
    there = options.name in github.labels
    if options.verb == "create":
        if there and not options.force:
            refuse(
                f"label with name {options.name!r} already exists; use `--force` to update its color and description"
            )
        if not re.fullmatch(r"[0-9a-fA-F]{6}", options.color or "000000") or len(options.description) > 100:
            refuse("HTTP 422: Validation Failed")
        github.labels = sorted({*github.labels, options.name})
    elif not options.yes:
        refuse("--yes required when not running interactively")
    elif not there:
        refuse(f"HTTP 404: Not Found (https://api.github.com/repos/{options.repo}/labels/{options.name})")
    else:
        github.labels.remove(options.name)


def change_variable(github: GitHub, options: argparse.Namespace) -> None:
    """gh variable set|delete."""
    if options.repo != github.repository:
        refuse("failed to fetch: HTTP 404: Not Found")
    if options.verb == "set":
        if not re.fullmatch(r"(?!GITHUB_)[A-Za-z_][A-Za-z0-9_]*", options.name) or not options.body:
            refuse("failed to set variable: HTTP 422: Unprocessable Entity")
        github.variables[options.name] = options.body
    elif github.variables.pop(options.name, None) is None:
        refuse(f"failed to delete variable {options.name}: HTTP 404: Not Found")


def main() -> None:
    """Does what the command line asks."""
    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    github = GitHub.load(path)
    if arguments == ["variable", "--help"]:
        return
    options = parse(arguments)
    if not github.logged_in:
        refuse(
            "You are not logged into any GitHub hosts. To log in, run: gh auth login",
            4 if options.command != "auth" else 1,
        )
    if options.command == "api":
        answer = rest(github, options.method, options.endpoint, options.raw_field + options.field)
        if answer is not None and options.jq:
            result = subprocess.run(
                ["jq", "-r", options.jq], input=json.dumps(answer), text=True, check=False
            )
            raise SystemExit(result.returncode)
        if answer is not None and not options.silent:
            print(json.dumps(answer))
    elif options.command == "variable":
        change_variable(github, options)
    elif options.command == "label":
        change_label(github, options)
    github.save(path)


if __name__ == "__main__":
    main()
