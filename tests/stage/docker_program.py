#!/usr/bin/env python3
"""Docker's client, but for a cloud's registry: it asks its stand-in whether it may, and the bytes go to a registry here.

The engine itself could reach no host of that name. STAGE_IMAGES says which registry of this machine stands for which
host. It logs in as the registry demands: https://distribution.github.io/distribution/spec/auth/token/.
"""

import argparse
import base64
import json
import os
import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

REAL = "/usr/bin/docker"
HOST, _, REGISTRY = os.environ["STAGE_IMAGES"].partition("=")
LOGIN = Path.home() / ".docker/stage-login.json"
Said = tuple[int, str, str]  # status, challenge, words


def ask(url: str, login: str, method: str = "GET") -> Said:
    """Sends one request with this Authorization, "" for none."""
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    headers = {"Authorization": login} if login else {}
    request = urllib.request.Request(url, headers=headers, method=method)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, "", answer.read().decode()
    except urllib.error.HTTPError as error:
        said = error.read().decode()
        found = json.loads(said).get("errors") if said.startswith("{") else None
        return error.code, error.headers.get("Www-Authenticate", ""), found[0]["message"] if found else said


def authorized(path: str, login: str, method: str = "GET") -> Said:
    """Asks the registry as it wants to be asked: with the login itself, or with a token that is given for it.

    Args:
        login: USER:PASSWORD; "" for nobody.
    """
    status, challenge, said = ask(f"https://{HOST}{path}", "", method)
    if status != 401 or not login:
        return status, challenge, said
    basic = "Basic " + base64.b64encode(login.encode()).decode()
    if challenge.lower().startswith("basic"):
        return ask(f"https://{HOST}{path}", basic, method)
    wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = wanted.pop("realm")
    wanted |= {"account": login.partition(":")[0], "client_id": "docker"}
    status, challenge, said = ask(f"{realm}?{urllib.parse.urlencode(wanted)}", basic)
    if status != 200:
        return status, challenge, said
    token = json.loads(said)
    return ask(f"https://{HOST}{path}", f"Bearer {token.get('access_token') or token['token']}", method)


def log_in(words: list[str]) -> None:
    """docker login --username USER (--password PASSWORD | --password-stdin) HOST"""
    parser = argparse.ArgumentParser("docker login", allow_abbrev=False)
    parser.add_argument("-u", "--username", required=True)
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("-p", "--password")
    secret.add_argument("--password-stdin", action="store_true")
    parser.add_argument("host", choices=[HOST])
    given = parser.parse_args(words)
    password = sys.stdin.read().rstrip("\r\n") if given.password_stdin else given.password
    login = f"{given.username}:{password}"
    status, _, said = authorized("/v2/", login)
    if status != 200:
        words = [f"login attempt to https://{HOST}/v2/ failed with status: {status}", said]
        sys.exit(f"Error response from daemon: {' '.join(words).strip()}")
    LOGIN.parent.mkdir(exist_ok=True)
    LOGIN.write_text(json.dumps(login))
    print("Login Succeeded")


def may_push(words: list[str]) -> None:
    """Ends the program where the registry would not take an image of one of the names that are to be pushed."""
    names = {
        word.partition(f"{HOST}/")[2].partition(":")[0] for word in words if word.startswith(f"--tag={HOST}/")
    }
    names |= {word.partition("/")[2].partition(":")[0] for word in words if word.startswith(f"{HOST}/")}
    login = json.loads(LOGIN.read_text()) if LOGIN.exists() else ""
    for name in names:
        status, _, said = authorized(f"/v2/{name}/blobs/uploads/", login, "POST")
        if status == 401 and not login:
            sys.exit(f"ERROR: failed to push {HOST}/{name}: no basic auth credentials")
        if status >= 400:
            sys.exit(f"ERROR: failed to push {HOST}/{name}: denied: {said}")


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["login"]:
        log_in(words[1:])
        return
    if "--push" in words or words[:1] == ["push"]:
        may_push(words)
    command = [REAL, *(word.replace(f"{HOST}/", f"{REGISTRY}/") for word in words)]
    if words[:2] == ["image", "inspect"]:  # which tells by what name an image is known
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout.replace(f"{REGISTRY}/", f"{HOST}/"), end="")
        sys.exit(done.returncode)
    os.execv(REAL, command)


main()
