#!/usr/bin/env python3
"""Docker's client, but for ECR: it asks ECR's stand-in whether it may, and the bytes go to a registry of this machine.

The engine itself could reach no host of that name. STAGE_ECR says which registry stands for which host.
"""

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

REAL = "/usr/bin/docker"
ECR, _, REGISTRY = os.environ["STAGE_ECR"].partition("=")
LOGIN = Path.home() / ".docker/stage-login.json"


def ask(path: str, login: str, method: str = "GET") -> tuple[int, str]:
    """Asks ECR; gives the status, and its words where it refuses."""
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    request = urllib.request.Request(f"https://{ECR}{path}", headers={"Authorization": login}, method=method)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        said = error.read().decode()
        return error.code, json.loads(said)["errors"][0]["message"] if said.startswith("{") else said.strip()


def log_in(words: list[str]) -> None:
    """docker login --username AWS --password-stdin HOST"""
    if words[:-1] != ["login", "--username", "AWS", "--password-stdin"] or words[-1] != ECR:
        sys.exit(f"The stage does not know this way to log in: docker {' '.join(words)}")
    password = sys.stdin.read().rstrip("\r\n")
    login = "Basic " + base64.b64encode(f"AWS:{password}".encode()).decode()
    status, said = ask("/v2/", login)
    if status != 200:
        sys.exit(
            f"Error response from daemon: login attempt to https://{ECR}/v2/ failed with status: {status} {said}"
        )
    LOGIN.parent.mkdir(exist_ok=True)
    LOGIN.write_text(json.dumps(login))
    print("Login Succeeded")


def may_push(words: list[str]) -> None:
    """Ends the program where ECR would not take an image of one of the names that are to be pushed."""
    names = {
        word.partition(f"{ECR}/")[2].partition(":")[0] for word in words if word.startswith(f"--tag={ECR}/")
    }
    names |= {word.partition("/")[2].partition(":")[0] for word in words if word.startswith(f"{ECR}/")}
    login = json.loads(LOGIN.read_text()) if LOGIN.exists() else ""
    for name in names:
        status, said = ask(f"/v2/{name}/blobs/uploads/", login, "POST")
        if status == 401:
            sys.exit(f"ERROR: failed to push {ECR}/{name}: no basic auth credentials")
        if status >= 400:
            sys.exit(f"ERROR: failed to push {ECR}/{name}: denied: {said}")


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["login"]:
        log_in(words)
        return
    if "--push" in words or words[:1] == ["push"]:
        may_push(words)
    os.execv(REAL, [REAL, *(word.replace(f"{ECR}/", f"{REGISTRY}/") for word in words)])


main()
