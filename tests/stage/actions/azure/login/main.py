"""Logs the Azure CLI in as the real action does, by GitHub's identity token: `az login` by `az` that is on the PATH.

https://github.com/Azure/login: src/main.ts, src/common/LoginConfig.ts, src/Cli/AzureCliLogin.ts. What it does after the job,
`az account clear`, is left out: the job's machine goes, too.

The stage has left a job's right to an identity token in a file for each job that has it: act gives all jobs the
same environment, GitHub only those with `id-token: write`.
"""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NoReturn

HONOURED = {"client-id", "tenant-id", "subscription-id", "audience"}
DEFAULTS = {
    "enable-azpssession": "false",
    "environment": "azurecloud",
    "allow-no-subscriptions": "false",
    "auth-type": "SERVICE_PRINCIPAL",
    "mask-client-id": "true",
}
HELP = "Double check if the 'auth-type' is correct. Refer to https://github.com/Azure/login#readme for more information."


def failed(error: str) -> NoReturn:
    print(f"::error::Login failed with Error: {error}. {HELP}")
    sys.exit(1)


def identity_token(audience: str) -> str:
    """GitHub's word for who this job is; only a job with `id-token: write` can ask for it."""
    path = Path(os.environ["STAGE_RIGHTS"], f"{os.environ['GITHUB_JOB']}.json")
    if not path.is_file():
        print(
            "::error::Failed to fetch federated token from GitHub. Please make sure to give write permissions to "
            "id-token in the workflow."
        )
        failed("Unable to get ACTIONS_ID_TOKEN_REQUEST_URL env variable")
    rights = json.loads(path.read_text())
    separator = "&" if "?" in rights["ACTIONS_ID_TOKEN_REQUEST_URL"] else "?"
    wanted = urllib.parse.quote(audience, safe="")
    url = f"{rights['ACTIONS_ID_TOKEN_REQUEST_URL']}{separator}audience={wanted}"
    headers = {"Authorization": f"Bearer {rights['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return json.load(answer)["value"]
    except OSError as error:
        failed(f"{url}: {error}")


def az(*words: str) -> None:
    """Runs the Azure CLI; what it says of an error is the job's."""
    done = subprocess.run(["az", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        print(f"::error::{done.stderr.strip().removeprefix('ERROR: ')}")
        failed(f"The process 'az' failed with exit code {done.returncode}")


def main() -> None:
    # Inputs have no case: act writes their names in lower case, GitHub as the action does.
    inputs = {name.lower(): value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
    if unknown := {name for name in inputs.keys() - HONOURED if inputs[name] != DEFAULTS.get(name)}:
        sys.exit(f"The stand-in for azure/login does nothing with {', '.join(sorted(unknown))}.")
    if not inputs.get("client-id") or not inputs.get("tenant-id"):
        failed(
            "Using auth-type: SERVICE_PRINCIPAL. Not all values are present. Ensure 'client-id' and 'tenant-id' are supplied."
        )
    if not inputs.get("subscription-id"):
        failed("Ensure 'subscription-id' is supplied or 'allow-no-subscriptions' is 'true'.")
    print(f"::add-mask::{inputs['client-id']}")
    print("Running Azure CLI Login.")
    az("version")
    az("cloud", "set", "-n", "azurecloud")
    token = identity_token(inputs["audience"])
    print(f"::add-mask::{token}")
    body = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    print(f"Federated token details:\n issuer - {claims['iss']}\n subject claim - {claims['sub']}")
    print("Attempting Azure CLI login by using OIDC...")
    who = ("--username", inputs["client-id"], "--tenant", inputs["tenant-id"])
    az("login", "--service-principal", *who, "--federated-token", token)
    az("account", "set", "--subscription", inputs["subscription-id"])
    print("Azure CLI login succeeds by using OIDC.")


main()
