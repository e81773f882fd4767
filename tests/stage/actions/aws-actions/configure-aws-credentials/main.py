"""Logs in to AWS as the real action does, by GitHub's identity token, at the address in AWS_ENDPOINT_URL.

The stage has left a job's right to an identity token in a file for each job that has it: act gives all jobs the
same environment, GitHub only those with `id-token: write`.
"""

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

HONOURED = {"aws-region", "role-to-assume", "audience", "role-duration-seconds", "role-session-name"}
FAILED = "aws-actions/configure-aws-credentials failed with:"


def ask(url: str, headers: dict[str, str], form: dict[str, str] | None = None) -> bytes:
    """What a server answers; ends the program with the server's own words if it refuses."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        said = error.read().decode()
        words = re.search(r"<Message>(.*?)</Message>", said, re.DOTALL)
        sys.exit(f"{FAILED} Could not assume role with OIDC: {words[1] if words else said}")
    except OSError as error:
        sys.exit(f"{FAILED} {url}: {error}")


def fields(answer: bytes) -> dict[str, str]:
    """The texts of an answer in XML, by their names."""
    return {each.tag.rpartition("}")[2]: each.text or "" for each in ET.fromstring(answer).iter()}


def write(variable: str, **values: str) -> None:
    with open(os.environ[variable], "a") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def identity_token(audience: str) -> str:
    """GitHub's word for who this job is; only a job with `id-token: write` can ask for it."""
    path = Path(os.environ["STAGE_RIGHTS"], f"{os.environ['GITHUB_JOB']}.json")
    if not path.is_file():
        print(
            "It looks like you might be trying to authenticate with OIDC. Did you mean to set the `id-token` permission?"
        )
        sys.exit(f"{FAILED} Credentials could not be loaded, please check your action inputs")
    rights = json.loads(path.read_text())
    separator = "&" if "?" in rights["ACTIONS_ID_TOKEN_REQUEST_URL"] else "?"
    wanted = urllib.parse.quote(audience, safe="")
    url = f"{rights['ACTIONS_ID_TOKEN_REQUEST_URL']}{separator}audience={wanted}"
    return json.loads(ask(url, {"Authorization": f"Bearer {rights['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}))[
        "value"
    ]


def main() -> None:
    inputs = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
    if unknown := inputs.keys() - HONOURED:
        sys.exit(
            f"The stand-in for configure-aws-credentials does nothing with {', '.join(sorted(unknown))}."
        )
    region = inputs.get("aws-region", "")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        sys.exit(f"{FAILED} Region is not valid: {region}")
    if not inputs.get("role-to-assume"):
        sys.exit(f"{FAILED} Could not load credentials from any providers")
    write("GITHUB_ENV", AWS_DEFAULT_REGION=region, AWS_REGION=region)
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": inputs["role-to-assume"],
        "RoleSessionName": inputs.get("role-session-name", "GitHubActions"),
        "DurationSeconds": inputs.get("role-duration-seconds", "3600"),
        "WebIdentityToken": identity_token(inputs["audience"]),
    }
    found = fields(ask(os.environ["AWS_ENDPOINT_URL"], {}, form))
    keys = {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
    }
    for value in keys.values():
        print(f"::add-mask::{value}")
    write("GITHUB_ENV", **keys)
    print(f"Authenticated as assumedRoleId {found['AssumedRoleId']}")
    write("GITHUB_OUTPUT", **{"aws-account-id": found["Arn"].split(":")[4]})


main()
