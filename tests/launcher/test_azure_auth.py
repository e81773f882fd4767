"""Logins to Azure by azure-identity itself: of the Azure CLI, of a job, of nobody, each failure in one sentence."""

import base64
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from launcher import storage
from launcher.providers.azure import auth as azure
from launcher.providers.azure import errors, login
from launcher.providers.errors import LoginError, UnreachableError

pytestmark = pytest.mark.cloud("azure")
Az = Callable[..., Path]


def jwt(**claims: str) -> str:
    """An access token as Entra makes it, without a signature: nobody here may trust it for more than its name."""
    parts = ({"alg": "RS256"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "signature"])


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No login: none of the environment's, and no programs."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "MSI_", "IDENTITY_")):
            monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "azure"))
    # As a workflow does; and so that no test looks for the identity of an Azure machine, on its fixed address.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    monkeypatch.setattr(login, "_tokens", {})
    for cached in (login._credential, login._chosen):
        cached.cache_clear()
    yield
    for cached in (login._credential, login._chosen):
        cached.cache_clear()


@pytest.fixture
def az(tmp_path: Path) -> Az:
    """Makes an Azure CLI that prints an answer, or complains; gives the file of what it was asked, one call a line."""

    def make(token: str = "", complaint: str = "", subscription: str = "", seconds: float = 3600) -> Path:
        asked = tmp_path / "asked"
        answer = {"accessToken": token, "expires_on": int(time.time() + seconds), "tokenType": "Bearer"}
        program = tmp_path / "bin/az"
        program.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(asked)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"if {complaint!r}: sys.exit({complaint!r})\n"
            f"print({subscription!r} if 'show' in sys.argv else {json.dumps(answer)!r})\n"
        )
        program.chmod(0o755)
        return asked

    return make


def test_the_azure_cli_is_asked_once_for_a_token_of_each_kind(az: Az) -> None:
    asked = az(token="valid")
    assert [azure.token(), azure.token(), azure.token(azure.VAULT_SCOPE)] == ["valid"] * 3
    resources = [line.rpartition(" ")[2] for line in asked.read_text().splitlines()]
    assert resources == ["https://management.azure.com", "https://vault.azure.net"]


def test_threads_wait_for_one_token(az: Az) -> None:
    asked = az(token="valid")
    threads = [threading.Thread(target=azure.token) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked.read_text().splitlines()) == 1


def test_a_token_is_not_used_up_to_its_end(az: Az) -> None:
    asked = az(token="valid", seconds=login.MARGIN - 10)
    azure.token()
    azure.token()
    assert len(asked.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"upn": "ada@example.com", "name": "Ada"}, "ada@example.com"),
        ({"unique_name": "live.com#ada@example.com"}, "live.com#ada@example.com"),
        ({"xms_mirid": "/subscriptions/s/x/userAssignedIdentities/demo-launcher"}, "identity demo-launcher"),
        ({"appid": "12-34"}, "the application 12-34"),
    ],
)
def test_the_login_is_named_by_what_its_token_says(az: Az, claims: dict[str, str], name: str) -> None:
    az(token=jwt(tid="the-tenant", **claims))
    assert azure.who().endswith(name)
    assert azure.tenant() == "the-tenant"


def test_a_token_that_says_nothing_is_a_login_all_the_same(az: Az) -> None:
    az(token="opaque")
    assert azure.who() == "the application of this login"
    assert azure.tenant() == ""


def test_nobody_is_told_how_to_log_in() -> None:
    with pytest.raises(LoginError, match=r"no login to Azure here; run `az login`"):
        azure.who()


def test_one_who_never_logged_in_is_told_the_same(az: Az) -> None:
    az(complaint="ERROR: Please run 'az login' to setup account.")
    with pytest.raises(LoginError, match=r"no login to Azure here; run `az login`"):
        azure.who()


# What the CLI prints: https://github.com/Azure/azure-cli/issues/21529, /20404 and 28708.
EXPIRED = (
    "ERROR: AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by conditional "
    "access. The token was issued on 2026-01-01T00:00:00Z and the maximum allowed lifetime is 36000. Trace ID: 1-2 "
    "Correlation ID: 3-4 Timestamp: 2026-01-02 00:00:00Z\nInteractive authentication is needed. Please run:\naz login"
)
RUN_OUT = (
    "ERROR: AADSTS700024: Client assertion is not within its valid time range. Current time: 2026-01-01T00:06:00Z, "
    "assertion valid from 2026-01-01T00:00:00Z, expiry time of assertion 2026-01-01T00:05:00Z. Trace ID: 1"
)
NO_NETWORK = (
    "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: /t/v2.0 "
    "(Caused by NameResolutionError('Failed to resolve'))"
)


@pytest.mark.parametrize(
    ("complaint", "kind", "said"),
    [
        (
            EXPIRED,
            LoginError,
            r"no longer valid \(AADSTS70043: The refresh token .* access\); run `az login`",
        ),
        (RUN_OUT, LoginError, r"workflow's login has run out .*; let the step that logs in"),
        (NO_NETWORK, UnreachableError, r"sign-in cannot be reached .*; check the network"),
    ],
    ids=["expired", "run out", "no network"],
)
def test_what_the_azure_cli_complains_of_is_one_sentence(
    az: Az, complaint: str, kind: type[Exception], said: str
) -> None:
    az(complaint=complaint)
    with pytest.raises(kind, match=said) as refused:
        azure.who()
    assert "Trace" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_cli_that_does_not_answer_is_no_missing_login(az: Az, monkeypatch: pytest.MonkeyPatch) -> None:
    az(complaint="never heard")
    monkeypatch.setattr(login, "AZ_TIMEOUT", 0)
    with pytest.raises(UnreachableError, match=r"CLI gives no token within 0 seconds; see whether"):
        azure.token()


def test_a_login_that_ends_while_it_is_used_is_one_sentence(az: Az) -> None:
    az(token="valid")
    azure.token()
    az(complaint=EXPIRED)
    with pytest.raises(LoginError, match="AADSTS70043"):
        azure.token(azure.VAULT_SCOPE)


# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
@pytest.mark.parametrize(
    ("said", "means"),
    [
        (
            "AADSTS700213: No matching federated identity record found for presented assertion subject 'x'.",
            "make cloud",
        ),
        ("AADSTS7000215: Invalid client secret provided. Ensure the secret is right.", "AZURE_CLIENT_SECRET"),
        (
            "AADSTS50020: User account 'a@b.c' does not exist in tenant 't' and cannot access it.",
            "az login --tenant",
        ),
        (
            "AADSTS50076: Due to a configuration change you must use multi-factor authentication.",
            "run `az login`",
        ),
    ],
)
def test_what_entra_refuses_says_what_to_do(said: str, means: str) -> None:
    number = said.partition(":")[0]
    error = errors.entra(f"Authentication failed: {said} Trace ID: 1 Correlation ID: 2")
    assert error.code == number
    assert number in error.what
    assert "Trace" not in str(error)
    assert means in str(error)


def test_an_unknown_choice_of_a_login_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "nonsense")
    with pytest.raises(LoginError, match=r"AZURE_TOKEN_CREDENTIALS.*; correct that"):
        azure.who()


def test_the_subscription_is_the_environments_or_the_chosen_one(
    az: Az, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoginError, match="set AZURE_SUBSCRIPTION_ID"):
        azure.subscription()
    login._chosen.cache_clear()
    asked = az(subscription="chosen")
    assert [azure.subscription(), azure.subscription()] == ["chosen"] * 2
    assert asked.read_text().splitlines() == ["account show --query id --output tsv"]
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "given")
    assert azure.subscription() == "given"


# In a job of Azure ML, as azure-identity's credential for it and Azure ML's own documentation have it.


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The identity server of a job: gives a token to whoever knows its secret; all that was asked is in the list."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            asked.append({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
            known = self.headers.get("secret") == "s" and asked[-1].get("clientid") == "trainer"
            expires = str(int(time.time()) + 3600)
            answer = {
                "access_token": "the job's",
                "expires_on": expires,
                "resource": "r",
                "token_type": "Bearer",
            }
            content = json.dumps(answer if known else {"error": "no such identity"}).encode()
            self.send_response(200 if known else 400)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.delenv("AZURE_TOKEN_CREDENTIALS")
    monkeypatch.setenv("RUN_ID", "r1")
    monkeypatch.setenv("MSI_ENDPOINT", f"http://127.0.0.1:{server.server_port}/MSI/auth")
    monkeypatch.setenv("MSI_SECRET", "s")
    yield asked
    server.shutdown()
    server.server_close()


def test_a_job_is_its_own_identity(identity: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "trainer")
    assert azure.token(azure.VAULT_SCOPE) == "the job's"
    assert identity[0]["resource"] == "https://vault.azure.net"
    assert identity[0]["clientid"] == "trainer"


def test_a_job_without_an_identity_says_so(identity: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "another")
    with pytest.raises(LoginError, match=r"This job's identity gives no token .*; run `make cloud-setup`"):
        azure.token()


def test_what_azures_libraries_say_to_themselves_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    assert storage.log.name
    with caplog.at_level(logging.INFO), pytest.raises(LoginError):
        azure.token()
    assert caplog.text == ""


def test_the_libraries_wait_until_they_are_needed() -> None:
    code = (
        "import sys; import launcher.providers.azure.backend;"
        "print([name for name in ('requests', 'azure.identity', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
