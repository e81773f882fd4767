"""The stand-ins of identities, secrets and quotas let in who may come in, and nobody else."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth import identity_pool, jwt
from google.auth.compute_engine import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request as AuthRequest

from stage.google.identity import Identity, identity
from stage.rest import ask


@pytest.fixture
def people() -> Iterator[Identity]:
    """A project whose launcher may be impersonated by the repository 1001, and whose trainer reads one secret."""
    with identity() as here:
        trainer = here.account("cloud-training-trainer")
        here.account("cloud-training-launch", "roles/secretmanager.viewer", repository=True)
        here.secret("cloud-training-wandb", "first", "second", readers=(trainer,))
        yield here


def email(people: Identity, name: str) -> str:
    return f"cloud-training-{name}@{people.project}.iam.gserviceaccount.com"


def exchange(people: Identity, **changes: Any) -> tuple[int, Any]:
    """A token exchange as Google's libraries ask for it, with some fields replaced (None: left out)."""
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": f"//iam.googleapis.com/{people.provider}",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": subject(people),
    } | changes
    body = urllib.parse.urlencode(
        {name: value for name, value in fields.items() if value is not None}
    ).encode()
    return ask(f"{people.url}/v1/token", None, body, **{"Content-Type": "application/x-www-form-urlencoded"})


def subject(people: Identity, lifetime: float = 300, **claims: Any) -> str:
    usual = {"repository_id": "1001", "repository_owner_id": "2002", "repository": "octo-org/octo-repo"}
    audience = f"https://iam.googleapis.com/{people.provider}"
    return people.sign(usual | {"aud": audience} | claims, lifetime)


def test_a_workflow_of_the_repository_logs_in_without_a_key(people: Identity, tmp_path: Path):
    path = people.credentials(tmp_path / "gha-creds.json", email(people, "launch"), environment="cloud")
    credentials = identity_pool.Credentials.from_file(
        str(path), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    credentials.refresh(AuthRequest())
    assert (
        ask(f"{people.url}/v1/projects/{people.project}/secrets/cloud-training-wandb", credentials.token)[0]
        == 200
    )


@pytest.mark.parametrize(
    ("account", "claims"),
    [
        ("launch", {"repository_id": "1002"}),
        ("launch", {"repository_owner_id": "1"}),
        ("launch", {"repository_id": 1001}),
        ("trainer", {}),
        ("nobody", {}),
    ],
)
def test_nobody_else_logs_in(people: Identity, tmp_path: Path, account: str, claims: dict):
    path = people.credentials(tmp_path / "gha-creds.json", email(people, account), **claims)
    credentials = identity_pool.Credentials.from_file(
        str(path), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )
    with pytest.raises(GoogleAuthError, match=r"attribute condition|getAccessToken"):
        credentials.refresh(AuthRequest())


def test_a_condition_of_the_test_decides(tmp_path: Path):
    with identity(condition=lambda claims: claims["ref"] == "refs/heads/main") as people:
        assert exchange(people, subject_token=subject(people, ref="refs/heads/main"))[0] == 200
        assert exchange(people, subject_token=subject(people, ref="refs/heads/fork"))[0] == 400


LONG = {"environment": None, "ref": "refs/heads/" + "a-very-long-branch-" * 6}


@pytest.mark.parametrize(
    ("mapping", "claims", "status"),
    [
        ("assertion.sub", {}, 200),
        ("assertion.sub", LONG, 400),
        ('assertion.repository_id + ":" + assertion.run_id', LONG, 200),
        ("assertion.repository_id + assertion.nothing", {}, 400),
        ("assertion.repository_id.size()", {}, 400),
    ],
)
def test_a_subject_has_127_bytes_and_is_made_of_claims(mapping: str, claims: dict, status: int):
    with identity(subject=mapping) as people:
        claims = {"ref": "refs/heads/main", "run_id": "1"} | claims
        token = subject(people, **claims)
        code, answer = exchange(people, subject_token=token)
        assert code == status
        assert status == 200 or claims != LONG or "exceeds the 127 bytes limit" in answer["error_description"]


def test_the_subject_has_numbers_besides_names(people: Identity):
    """As that of every repository made after 2026-07-15."""
    claims = jwt.decode(subject(people, ref="refs/heads/main"), verify=False)
    assert claims["sub"] == "repo:octo-org@2002/octo-repo@1001:ref:refs/heads/main"


def test_identity_tokens_are_for_jobs_with_the_permission(people: Identity):
    job = people.github()
    url = f"{job['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience=x"
    assert ask(url, job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])[1]["value"].count(".") == 2
    assert ask(url)[0] == ask(url, "other")[0] == 401


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("grant_type", "authorization_code", "unsupported_grant_type"),
        (
            "audience",
            "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/x/providers/github",
            "invalid_target",
        ),
        ("audience", None, "invalid_target"),
        ("scope", None, "invalid_scope"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:saml2", "invalid_request"),
        ("subject_token", None, "invalid_grant"),
        ("subject_token", "a.b.c", "invalid_grant"),
        ("lifetime", "1", "invalid_request"),
    ],
)
def test_a_bad_token_exchange_is_refused(people: Identity, field: str, value: str | None, error: str):
    assert exchange(people)[0] == 200
    status, answer = exchange(people, **{field: value})
    assert (status, answer["error"]) == (400, error)


def test_a_bad_identity_token_is_refused(people: Identity):
    with identity() as other:
        foreign = subject(other)  # right in all but who signed it
    for token in (
        subject(people, lifetime=-60),
        subject(people, aud="https://github.com/octo-org"),
        subject(people, iss="https://example.com"),
        foreign,
    ):
        status, answer = exchange(people, subject_token=token)
        assert (status, answer["error"]) == (400, "invalid_grant"), answer


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "600s"}, 200),
        ({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3601s"}, 400),
        ({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": 600}, 400),
        ({"scope": "https://www.googleapis.com/auth/cloud-platform"}, 400),
        ({"scope": ["cloud-platform"]}, 400),
        ({"scope": []}, 400),
        ({"scopes": ["https://www.googleapis.com/auth/cloud-platform"]}, 400),
    ],
)
def test_impersonation(people: Identity, body: dict, status: int):
    federated = exchange(people)[1]["access_token"]
    url = f"{people.url}/v1/projects/-/serviceAccounts/{email(people, 'launch')}:generateAccessToken"
    assert ask(url, federated, body)[0] == status
    assert ask(url, None, body)[0] == 401
    # The federated token itself opens nothing.
    assert ask(f"{people.url}/v1/projects/{people.project}/secrets/cloud-training-wandb", federated)[0] == 403


def test_a_job_has_its_own_identity(people: Identity, monkeypatch: pytest.MonkeyPatch):
    env = people.metadata(email(people, "trainer"))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    host = env["GCE_METADATA_HOST"]
    root = f"http://{host}/computeMetadata/v1"
    assert ask(f"{root}/project/project-id", **{"Metadata-Flavor": "Google"}) == (200, people.project)
    assert ask(f"{root}/project/project-id")[0] == 403
    assert ask(f"{root}/instance/none", **{"Metadata-Flavor": "Google"})[0] == 404
    status, token = ask(f"{root}/instance/service-accounts/default/token", **{"Metadata-Flavor": "Google"})
    url = f"{people.url}/v1/projects/{people.project}/secrets/cloud-training-wandb/versions/latest:access"
    assert status == 200
    assert ask(url, token["access_token"])[1]["payload"]["data"] == "c2Vjb25k"
    credentials = Credentials()
    assert credentials.service_account_email in ("default", email(people, "trainer"))


def test_secrets_are_for_their_reader(people: Identity):
    trainer, launcher = (people.token(email(people, name)) for name in ("trainer", "launch"))
    base = f"{people.url}/v1/projects/{people.project}/secrets"
    version = f"{base}/cloud-training-wandb/versions"
    assert ask(f"{version}/1:access", trainer)[1]["payload"] == {
        "data": "Zmlyc3Q=",
        "dataCrc32c": "2319360336",
    }
    assert ask(f"{version}/latest", launcher)[1]["state"] == "ENABLED"
    assert ask(f"{version}/latest:access", launcher)[0] == 403
    assert ask(f"{version}/latest", trainer)[0] == 403
    assert ask(f"{version}/latest:access")[0] == 401
    assert ask(f"{version}/latest:access", people.token(email(people, "trainer"), -1))[0] == 401
    assert ask(f"{version}/3", launcher)[0] == ask(f"{base}/other/versions/latest", launcher)[0] == 404
    # Who may only read one secret is not told whether another exists.
    assert ask(f"{base}/other/versions/latest:access", trainer)[0] == 403
    people.accounts[email(people, "trainer")].roles.add("roles/secretmanager.secretAccessor")
    assert ask(f"{base}/other/versions/latest:access", trainer)[0] == 404
    people.secrets["cloud-training-wandb"].disabled.add(2)
    status, answer = ask(f"{version}/latest:access", trainer)
    assert (status, answer["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_quotas_are_told_to_who_may_see_them(people: Identity):
    metric = "aiplatform.googleapis.com/custom_model_training_nvidia_l4_gpus"
    people.quotas = {metric: {"us-central1": 4}, f"{metric}_more": {}}
    launcher = people.token(email(people, "launch"))
    base = f"{people.url}/v1beta1/projects/{people.project}/services/aiplatform.googleapis.com/consumerQuotaMetrics"
    assert ask(base, launcher)[0] == 403
    people.accounts[email(people, "launch")].roles.add("roles/serviceusage.serviceUsageViewer")
    one = f"{base}/{urllib.parse.quote(metric, safe='')}"
    for view, shown in (("FULL", [{}, {"region": "us-central1"}]), ("BASIC", [{}])):
        buckets = ask(f"{one}?view={view}", launcher)[1]["consumerQuotaLimits"][0]["quotaBuckets"]
        assert [bucket.get("dimensions", {}) for bucket in buckets] == shown
        assert [bucket.get("effectiveLimit") for bucket in buckets] == [None, "4"][: len(shown)]
    page = ask(f"{base}?pageSize=1&view=FULL", launcher)[1]
    assert len(page["metrics"]) == 1
    assert (
        ask(f"{base}?pageToken={page['nextPageToken']}", launcher)[1]["metrics"][0]["metric"]
        == f"{metric}_more"
    )
    assert ask(f"{base}/none", launcher)[0] == 404
    assert ask(f"{base}?region=us-central1", launcher)[0] == 400
    people.disabled_services.add("aiplatform.googleapis.com")
    service = f"{people.url}/v1/projects/{people.project}/services/aiplatform.googleapis.com"
    assert ask(service, launcher)[1]["state"] == "DISABLED"
