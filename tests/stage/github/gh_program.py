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
    """A repository, and whether somebody is logged in who may change it."""

    repository: str = "octo-org/leaves"
    repository_id: int = 4711
    owner_id: int = 815
    logged_in: bool = True
    admin: bool = True
    variables: dict[str, str] = field(default_factory=dict)
    environments: list[str] = field(default_factory=list)

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
    return parser.parse_args(arguments)


def rest(github: GitHub, method: str, endpoint: str) -> Any:
    """GitHub's REST API, as far as it is used; None is an empty answer."""
    path, _, query = endpoint.partition("?")
    place = f"repos/{github.repository}"
    if query not in ("", "per_page=30") or not (path + "/").startswith(place + "/"):
        refuse("gh: Not Found (HTTP 404)")
    below = path.removeprefix(place)
    if (method, below) == ("GET", ""):
        owner = {"id": github.owner_id, "login": github.repository.partition("/")[0]}
        return {
            "id": github.repository_id,
            "owner": owner,
            "permissions": {"admin": github.admin, "push": True},
        }
    if (method, below) == ("GET", "/actions/variables"):
        return {"variables": [{"name": name, "value": value} for name, value in github.variables.items()]}
    name = below.removeprefix("/environments/")
    if name == below or not name:
        refuse(f"gh: Not Found (HTTP 404) {method} {endpoint}")
    if method == "PUT":
        github.environments = sorted({*github.environments, name})
    elif name not in github.environments or method not in ("GET", "DELETE"):
        refuse("gh: Not Found (HTTP 404)")
    elif method == "DELETE":
        github.environments.remove(name)
        return None
    return {"name": name}


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
        answer = rest(github, options.method, options.endpoint)
        if answer is not None and options.jq:
            result = subprocess.run(
                ["jq", "-r", options.jq], input=json.dumps(answer), text=True, check=False
            )
            raise SystemExit(result.returncode)
        if answer is not None and not options.silent:
            print(json.dumps(answer))
    elif options.command == "variable":
        change_variable(github, options)
    github.save(path)


if __name__ == "__main__":
    main()
