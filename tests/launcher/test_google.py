"""Google's registry, its errors and logins, each failure in one sentence."""

import base64
import subprocess
import sys

import pytest
from google_server import CUT, LAUNCHER
from launcher.errors import UserError
from launcher.providers.errors import (
    LoginError,
    RefusedError,
    UnreachableError,
)
from launcher.providers.google import auth as google
from launcher.providers.google import vertex
from vertex_jobs import DIGEST, JOBS, cloud, found, no_sweeps  # noqa: F401


def test_a_tag_is_resolved_to_its_digest_without_showing_the_login_to_other_hosts(server):
    server.say("GET", "/v2/slug/train/manifests/main", {}, Docker_Content_Digest=DIGEST)
    image = vertex.connect(cloud(repository=f"{server.host}/slug/train")).image()
    assert image == f"{server.host}/slug/train@{DIGEST}"
    assert [sent["login"] for sent in server.asked] == [None]


def test_an_image_that_has_a_digest_is_taken_as_it_is(server):
    image = f"us-docker.pkg.dev/p/slug/train@{DIGEST}"
    assert vertex.connect(cloud(image=image)).image() == image
    assert not server.asked


def test_an_image_that_was_never_built_says_what_builds_it(server):
    with pytest.raises(UserError, match=r"no image .*slug/train:main; push to main"):
        vertex.connect(cloud(repository=f"{server.host}/slug/train")).image()


@pytest.mark.parametrize("indexed", [False, True])
def test_the_commit_of_an_image_is_read_from_its_label(server, indexed):
    manifest = {"config": {"digest": "sha256:config"}}
    if indexed:  # as BuildKit pushes one, with an attestation beside the image
        entries = [
            {"digest": "sha256:proof", "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": "sha256:image", "platform": {"os": "linux", "architecture": "amd64"}},
        ]
        server.say("GET", "/v2/slug/train/manifests/main", {"manifests": entries})
        server.say("GET", "/v2/slug/train/manifests/sha256:image", manifest)
    else:
        server.say("GET", "/v2/slug/train/manifests/main", manifest)
    labels = {"Labels": {"org.opencontainers.image.revision": "abc"}}
    server.say("GET", "/v2/slug/train/blobs/sha256:config", {"config": labels})
    assert vertex.connect(cloud()).revision(f"{server.host}/slug/train:main") == "abc"


def test_an_api_that_is_off_says_the_command_that_turns_it_on(server):
    metadata = {"service": "aiplatform.googleapis.com", "consumer": "projects/12"}
    server.refuse("GET", JOBS, 403, "off", reason="SERVICE_DISABLED", metadata=metadata)
    command = "gcloud services enable aiplatform.googleapis.com --project=12"
    with pytest.raises(RefusedError, match=command):
        vertex.connect(cloud()).list()


def test_a_denied_permission_is_named_with_the_role_that_holds_it(server):
    message = "Permission 'aiplatform.customJobs.list' denied on resource"
    server.refuse("GET", JOBS, 403, message)
    with pytest.raises(RefusedError, match=r"roles/aiplatform\.user .*customJobs\.list"):
        vertex.connect(cloud()).list()


def test_a_question_is_asked_again_while_the_service_is_busy(server):
    server.refuse("GET", JOBS, 503)
    server.say("GET", JOBS, status=CUT)
    server.say("GET", JOBS, {"customJobs": [found()]})
    assert len(vertex.connect(cloud()).list()) == 1


def test_no_network_is_one_sentence(server, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", "http://127.0.0.1:9/")
    with pytest.raises(UnreachableError, match=r"cannot be reached .*; check the network"):
        vertex.connect(cloud()).list()


def test_a_login_that_google_no_longer_takes_is_one_sentence(server):
    path = f"/v1/projects/-/serviceAccounts/{LAUNCHER}:generateAccessToken"
    server.forget("POST", path)
    server.refuse("POST", path, 403, "Permission iam.serviceAccounts.getAccessToken denied")
    with pytest.raises(LoginError, match=r"does not accept .*identity pool"):
        vertex.connect(cloud()).who()


def test_a_broken_credentials_file_is_one_sentence(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(LoginError, match=r"absent\.json .*gcloud auth application-default login"):
        vertex.connect(cloud()).who()


def test_a_missing_login_is_looked_for_once_but_by_the_worker_again(server, monkeypatch, tmp_path):
    login = tmp_path / "login.json"
    kept = login.read_text()
    login.unlink()
    with pytest.raises(LoginError):
        google.who()
    login.write_text(kept)
    with pytest.raises(LoginError):
        google.who()
    monkeypatch.setenv("RUN_ID", "run-1")
    with pytest.raises(LoginError):
        google.who()
    assert google.who() == LAUNCHER


def test_the_login_is_named(server):
    assert vertex.connect(cloud()).who() == LAUNCHER


def test_a_secret_is_read_without_the_newline_that_echo_adds(server):
    data = base64.b64encode("schlüssel\n".encode()).decode()
    server.say("GET", "/v1/projects/p/secrets/s/versions/latest:access", {"payload": {"data": data}})
    assert google.access_secret("projects/p/secrets/s/versions/latest") == "schlüssel"


def test_the_libraries_wait_until_they_are_needed():
    code = (
        "import sys; import launcher.providers.google.vertex;"
        "print([name for name in ('requests', 'google.auth', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
