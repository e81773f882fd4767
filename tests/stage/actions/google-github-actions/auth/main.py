"""Logs in to Google Cloud as the real action does, at whatever servers GHA_ENDPOINT_OVERRIDE_* name.

The stage has left a job's right to an identity token in a file for each job that has it: act gives all jobs the
same environment, GitHub only those with `id-token: write`.
"""

import json
import os
import secrets
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

JWT = "urn:ietf:params:oauth:token-type:jwt"
# The names are the real action's own.
STS = os.environ.get("GHA_ENDPOINT_OVERRIDE_sts", "https://sts.googleapis.com/v1")  # noqa: SIM112
IAM = os.environ.get(
    "GHA_ENDPOINT_OVERRIDE_iamcredentials",  # noqa: SIM112
    "https://iamcredentials.googleapis.com/v1",
)


def call(url: str, headers: dict[str, str], body: Any = None) -> Any:
    """The JSON that a server answers; ends the program with the server's own words if it refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers | {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        sys.exit(f"google-github-actions/auth failed with: {url}: {error.code} {error.read().decode()}")
    except OSError as error:
        sys.exit(f"google-github-actions/auth failed with: {url}: {error}")


def write(variable: str, **values: str) -> None:
    with open(os.environ[variable], "a") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())


def job_rights() -> dict[str, str]:
    """What GitHub gives a job with `id-token: write`: where it may ask for identity tokens, and with what."""
    path = Path(os.environ["STAGE_RIGHTS"], f"{os.environ['GITHUB_JOB']}.json")
    if not path.is_file():
        sys.exit(
            "google-github-actions/auth failed with: GitHub Actions did not inject ACTIONS_ID_TOKEN_REQUEST_TOKEN "
            "into this job: the permission id-token is missing, or it runs for a fork."
        )
    return json.loads(path.read_text())


def main() -> None:
    inputs = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
    provider, account = inputs.get("workload_identity_provider"), inputs.get("service_account")
    if not provider or "credentials_json" in inputs:
        sys.exit("google-github-actions/auth failed with: exactly workload_identity_provider must be given.")
    token_format = inputs.get("token_format", "")
    if token_format not in ("", "access_token") or (token_format and not account):
        sys.exit(f"google-github-actions/auth failed with: token_format {token_format} cannot be had.")
    rights = job_rights()
    separator = "&" if "?" in rights["ACTIONS_ID_TOKEN_REQUEST_URL"] else "?"
    audience = urllib.parse.quote(f"https://iam.googleapis.com/{provider}", safe="")
    url = f"{rights['ACTIONS_ID_TOKEN_REQUEST_URL']}{separator}audience={audience}"
    headers = {"Authorization": f"Bearer {rights['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    impersonation = f"{IAM}/projects/-/serviceAccounts/{account}:generateAccessToken"
    if inputs["create_credentials_file"] == "true":
        credentials = {
            "type": "external_account",
            "audience": f"//iam.googleapis.com/{provider}",
            "subject_token_type": JWT,
            "token_url": f"{STS}/token",
            "credential_source": {
                "url": url,
                "headers": headers,
                "format": {"type": "json", "subject_token_field_name": "value"},
            },
        }
        if account:
            credentials["service_account_impersonation_url"] = impersonation
        path = Path(os.environ["GITHUB_WORKSPACE"], f"gha-creds-{secrets.token_hex(8)}.json")
        path.write_text(json.dumps(credentials))
        path.chmod(0o640)
        write("GITHUB_OUTPUT", credentials_file_path=str(path))
        if inputs["export_environment_variables"] == "true":
            names = ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "GOOGLE_APPLICATION_CREDENTIALS")
            write("GITHUB_ENV", **dict.fromkeys((*names, "GOOGLE_GHA_CREDS_PATH"), str(path)))
    project = inputs.get("project_id") or (account or "").partition("@")[2].partition(".")[0]
    if project:
        write("GITHUB_OUTPUT", project_id=project)
        if inputs["export_environment_variables"] == "true":
            names = ("CLOUDSDK_CORE_PROJECT", "CLOUDSDK_PROJECT", "GCLOUD_PROJECT", "GCP_PROJECT")
            write("GITHUB_ENV", **dict.fromkeys((*names, "GOOGLE_CLOUD_PROJECT"), project))
    subject = call(url, headers)["value"]
    exchange = {
        "audience": f"//iam.googleapis.com/{provider}",
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "subjectTokenType": JWT,
        "subjectToken": subject,
    }
    federated = call(f"{STS}/token", {}, exchange)["access_token"]
    print(f"::add-mask::{federated}")
    write("GITHUB_OUTPUT", auth_token=federated)
    if token_format:
        body = {
            "delegates": [],
            "scope": inputs["access_token_scopes"].split(","),
            "lifetime": inputs["access_token_lifetime"],
        }
        token = call(impersonation, {"Authorization": f"Bearer {federated}"}, body)["accessToken"]
        print(f"::add-mask::{token}")
        write("GITHUB_OUTPUT", access_token=token)


main()
