#!/usr/bin/env python3
"""A stand-in for the Azure CLI, as much of it as logins need: whose they are, their tokens, and Docker's login to ACR.

Commands and options: https://learn.microsoft.com/cli/azure/reference-index, /account, /acr; --query takes one plain name only.
test_stand_in_azure_login.py says what it does. It goes where Azure's own hosts are, by HTTPS_PROXY, as the real one does.

What it keeps lies in AZURE_CONFIG_DIR, by the shape of `Session`; as in the real one that is the federated token itself
beside each access token that it was changed for (azure/cli/core/auth/identity.py in https://github.com/Azure/azure-cli). That
token is good for minutes (https://github.com/Azure/azure-cli/issues/28708, https://github.com/Azure/login/issues/372), so a
service that is asked for a first time after those is asked in vain.
"""

import argparse
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NoReturn, TypedDict

VERSION = "2.87.0"
AUTHORITY = "https://login.microsoftonline.com"
MANAGEMENT = "https://management.core.windows.net/"  # its own name of Resource Manager
SUBSCRIPTIONS = "https://management.azure.com/subscriptions?api-version=2022-12-01"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
NOBODY = "Please run 'az login' to setup account."
EMPTY = "00000000-0000-0000-0000-000000000000"  # the user by which ACR knows a token
MARGIN = 300  # seconds before its end at which a token is asked for anew
USAGE = 2  # the status of a command that it does not know
STATE = Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure", "stage.json")


class Session(TypedDict):
    """Who is logged in.

    Keys:
        proof: what the identity is proven by, as fields of a token's request.
        subscriptions: id -> name, of those that it may see.
        tokens: scope -> [access token, when it ends in seconds since 1970].
    """

    tenant: str
    client: str
    proof: dict[str, str]
    subscription: str
    subscriptions: dict[str, str]
    tokens: dict[str, list[Any]]


def fail(text: str, status: int = 1) -> NoReturn:
    print(f"ERROR: {text}", file=sys.stderr)
    sys.exit(status)


def session() -> Session:
    """The one that a login has left."""
    if not STATE.exists():
        fail(NOBODY)
    return json.loads(STATE.read_text())


def keep(known: Session) -> None:
    STATE.parent.mkdir(parents=True, exist_ok=True)
    STATE.touch(mode=0o600)
    STATE.write_text(json.dumps(known))


def ask(url: str, form: dict[str, str] | None = None, token: str = "") -> tuple[int, Any, Any]:
    """Status, headers and decoded JSON of an answer, by the proxy and the certificates of the environment."""
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    context = ssl.create_default_context(cafile=trusted)
    data = None if form is None else urllib.parse.urlencode(form).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, answer.headers, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        said = error.read()
        return error.code, error.headers, json.loads(said) if said.startswith(b"{") else {}
    except OSError as error:
        fail(f"{url}: {error}")


def access(known: Session, scope: str) -> tuple[str, int]:
    """An access token and when it ends: one that is kept, or one that Entra gives for what proves the identity."""
    found = known["tokens"].get(scope)
    if not found or found[1] < time.time() + MARGIN:
        form = {"grant_type": "client_credentials", "client_id": known["client"], "scope": scope}
        url = f"{AUTHORITY}/{known['tenant']}/oauth2/v2.0/token"
        status, _, answer = ask(url, form | known["proof"])
        if status != 200:
            fail(answer.get("error_description") or f"{url}: status {status}")
        found = known["tokens"][scope] = [answer["access_token"], int(time.time() + answer["expires_in"])]
    return found[0], found[1]


def log_in(given: argparse.Namespace) -> Any:
    """Who is not let in, or sees no subscription, is not logged in afterwards."""
    if given.federated_token:
        proof = {"client_assertion_type": ASSERTION, "client_assertion": given.federated_token}
    else:
        proof = {"client_secret": given.password}
    known = Session(
        tenant=given.tenant, client=given.username, proof=proof, subscription="", subscriptions={}, tokens={}
    )
    token, _ = access(known, f"{MANAGEMENT}/.default")
    status, _, answer = ask(SUBSCRIPTIONS, token=token)
    if status != 200:
        fail(json.dumps(answer))
    known["subscriptions"] = {each["subscriptionId"]: each["displayName"] for each in answer["value"]}
    if not known["subscriptions"] and not given.allow_no_subscriptions:
        fail(f"No subscriptions found for {given.username}.")
    known["subscription"] = next(iter(known["subscriptions"]), "")
    keep(known)
    return [account(known, each) for each in known["subscriptions"]]


def log_out(_: argparse.Namespace) -> None:
    STATE.unlink(missing_ok=True)


def account(known: Session, subscription: str) -> dict[str, Any]:
    return {
        "environmentName": "AzureCloud",
        "homeTenantId": known["tenant"],
        "id": subscription,
        "isDefault": subscription == known["subscription"],
        "managedByTenants": [],
        "name": known["subscriptions"][subscription],
        "state": "Enabled",
        "tenantId": known["tenant"],
        "user": {"name": known["client"], "type": "servicePrincipal"},
    }


def show(given: argparse.Namespace) -> Any:
    known = session()
    return account(known, chosen(known, given.subscription))


def choose(given: argparse.Namespace) -> None:
    known = session()
    known["subscription"] = chosen(known, given.subscription)
    keep(known)


def chosen(known: Session, wanted: str | None) -> str:
    """The id of a subscription by id or name; None for the one that was chosen."""
    wanted = wanted or known["subscription"] or fail(NOBODY)
    for number, name in known["subscriptions"].items():
        if wanted.lower() in (number.lower(), name.lower()):
            return number
    fail(f"The subscription of '{wanted}' doesn't exist in cloud 'AzureCloud'.")


def get_access_token(given: argparse.Namespace) -> Any:
    """azure-identity's AzureCliCredential reads what this prints."""
    if given.tenant and given.subscription:
        fail("Please specify only one of subscription and tenant, not both")
    known = session()
    if given.tenant not in (None, known["tenant"]):
        fail(f"AADSTS90002: Tenant '{given.tenant}' not found.")
    token, ends = access(known, given.scope or f"{given.resource or MANAGEMENT}/.default")
    keep(known)
    local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(ends))
    place = {} if given.tenant else {"subscription": chosen(known, given.subscription)}
    times = {"expiresOn": local, "expires_on": ends}
    return {"accessToken": token, **times, **place, "tenant": known["tenant"], "tokenType": "Bearer"}


def acr_login(given: argparse.Namespace) -> Any:
    """https://azure.github.io/acr/AAD-OAuth.html; azure/cli/command_modules/acr/custom.py and _docker_utils.py in azure-cli.

    The registry is not looked up in Resource Manager: whoever may push need not be allowed to read it, and then the real
    one, too, takes the name for the host's.
    """
    docker = os.environ.get("DOCKER_COMMAND", "docker")
    if not given.expose_token and subprocess.run([docker, "ps"], capture_output=True, check=False).returncode:
        fail("Please verify if Docker client is installed and running. (DOCKER_COMMAND_ERROR)")
    known, host = session(), f"{given.name}.azurecr.io".lower()
    status, headers, _ = ask(f"https://{host}/v2/")
    words = urllib.request.parse_http_list((headers.get("Www-Authenticate") or "").partition(" ")[2])
    challenge = urllib.request.parse_keqv_list(words)
    if status != 401 or not {"realm", "service"} <= challenge.keys():
        fail(f"Could not connect to the registry login server '{host}': status {status}.")
    token, _ = access(known, f"{MANAGEMENT}/.default")
    keep(known)
    form = {"grant_type": "access_token", "service": challenge["service"], "tenant": known["tenant"]}
    exchange = challenge["realm"].replace("/oauth2/token", "/oauth2/exchange")
    status, _, answer = ask(exchange, form | {"access_token": token})
    if status != 200:
        fail(
            f"Could not connect to the registry login server '{host}': status {status}. {json.dumps(answer)}"
        )
    if given.expose_token:
        return {"accessToken": answer["refresh_token"], "loginServer": host}
    login = [docker, "login", "--username", EMPTY, "--password", answer["refresh_token"], host]
    if subprocess.run(login, check=False).returncode:
        fail("Login failed.")
    return None


def choose_cloud(given: argparse.Namespace) -> None:
    if given.name.lower() != "azurecloud":
        fail(f"The cloud '{given.name}' is not registered.")


def version(_: argparse.Namespace) -> Any:
    return {"azure-cli": VERSION, "azure-cli-core": VERSION, "extensions": {}}


class Parser(argparse.ArgumentParser):
    """Refuses what the stand-in does not know; abbreviations are no names."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        fail(f"The stand-in for the Azure CLI does not know: az {' '.join(sys.argv[1:])}: {message}", USAGE)


def parser() -> Parser:
    shared = Parser(add_help=False)
    shared.add_argument("--output", "-o", choices=("json", "tsv", "none"), default="json")
    shared.add_argument("--query")
    shared.add_argument("--only-show-errors", action="store_true")
    top = Parser(prog="az")
    commands = top.add_subparsers(required=True, parser_class=Parser)

    def command(where: Any, name: str, does: Any, *options: str) -> Parser:
        one: Parser = where.add_parser(name, parents=[shared])
        one.set_defaults(does=does)
        for option in options:
            one.add_argument(option)
        return one

    def group(name: str) -> Any:
        return commands.add_parser(name).add_subparsers(required=True, parser_class=Parser)

    command(commands, "version", version)
    command(commands, "logout", log_out)
    login = command(commands, "login", log_in)
    login.add_argument("--service-principal", action="store_true", required=True)
    login.add_argument("--username", "-u", required=True)
    login.add_argument("--tenant", "-t", required=True)
    secret = login.add_mutually_exclusive_group(required=True)
    secret.add_argument("--password", "-p")
    secret.add_argument("--federated-token")
    login.add_argument("--allow-no-subscriptions", action="store_true")
    command(group("cloud"), "set", choose_cloud).add_argument("--name", "-n", required=True)
    accounts = group("account")
    command(accounts, "clear", log_out)
    for name, does, needed in (("show", show, False), ("set", choose, True)):
        names = ("--subscription", "--name", "-s", "-n")
        command(accounts, name, does).add_argument(*names, required=needed, dest="subscription")
    token = command(accounts, "get-access-token", get_access_token, "--tenant", "--subscription")
    kind = token.add_mutually_exclusive_group()
    for name in ("--resource", "--scope"):
        kind.add_argument(name)
    registry = command(group("acr"), "login", acr_login)
    registry.add_argument("--name", "-n", required=True)
    registry.add_argument("--expose-token", "-t", action="store_true")
    return top


def main() -> None:
    given = parser().parse_args()
    answer = given.does(given)
    if given.query and answer is not None:
        answer = answer[given.query]
    if answer is not None and given.output != "none":
        print(answer if given.output == "tsv" else json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
