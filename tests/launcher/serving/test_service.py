"""What stands around the predictions: health, metrics, log, limits, the description, the page, and the end."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launcher.errors import UserError
from launcher.serving import settings as reading
from launcher.serving.model import find_folder
from model_files import make
from servers import free_port
from starlette.testclient import TestClient

Client = Callable[..., TestClient]
ROW = {"instances": [[1, 2]]}
JSON, PNG = ({"Content-Type": kind} for kind in ("application/json", "image/png"))


@pytest.mark.parametrize("route", ["/health", "/ping"])
def test_health_is_told_once_it_is_warm_and_not_while_it_ends(client: Client, route: str):
    service = client("table")
    assert service.get(route).status_code == 200
    service.service.ready = False  # type: ignore[attr-defined]
    assert service.get(route).status_code == 503
    service.service.ready = service.service.draining = True  # type: ignore[attr-defined]
    assert service.get(route).json() == {"status": "draining"}
    assert service.post("/predict", json=ROW).headers["connection"] == "close"


def test_the_routes_and_the_port_that_a_service_chooses_are_taken():
    env = {
        "AIP_HTTP_PORT": "7001",
        "PORT": "1",
        "AIP_HEALTH_ROUTE": "/h",
        "AIP_PREDICT_ROUTE": "/p",
        "HOST": "0.0.0.0",
    }
    found = reading.read(env)
    assert (found.host, found.port) == ("0.0.0.0", 7001)
    assert "/h" in found.health
    assert {"/p", "/predict", "/invocations", "/score"} == set(found.predict)


def test_where_only_predictions_are_let_through_the_description_comes_by_their_route(client: Client):
    service = client("table")
    asked = service.post("/invocations", content=b' {"describe": true}\n', headers=JSON)
    assert (asked.status_code, asked.json()) == (200, service.get("/openapi.json").json())
    assert asked.json()["info"]["version"] == service.post("/predict", json=ROW).json()["registry_version"]
    assert service.post("/invocations", json={"describe": False}).status_code == 400
    assert service.post("/invocations", content=b'{"describe": true}', headers=PNG).status_code == 400


@pytest.mark.parametrize("text", ["x", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_refused(text: str):
    with pytest.raises(UserError, match="SERVE_BODY"):
        reading.read({"SERVE_BODY": text})


def test_requests_and_predictions_are_counted(client: Client):
    service = client("digits")
    service.post("/predict", json={"instances": [[[[16] * 8] * 8], [[[0] * 8] * 8]]})
    service.post("/predict", json={})
    service.get("/etc/passwd")
    text = service.get("/metrics").text
    assert 'requests_total{route="/predict",status="200"} 1.0' in text
    assert 'requests_total{route="/predict",status="400"} 1.0' in text
    assert 'requests_total{route="other",status="404"} 1.0' in text
    assert 'predictions_total{decided="bright"} 1.0' in text
    assert 'model_info{version="digits@v1"} 1.0' in text


def test_the_log_has_a_line_for_each_request_and_nothing_of_what_it_held(
    client: Client, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "serving")
    client("table").post("/predict", json={"instances": [[12345.678, 2]]}, headers={"X-Request-Id": "mine-7"})
    (record,) = [one for one in caplog.records if one.name == "serving"]
    said = json.loads(record.message)
    assert (said["request"], said["status"], said["instances"]) == ("mine-7", 200, 1)
    assert "12345" not in record.message


def test_every_answer_has_an_id_and_a_strange_one_is_replaced(client: Client):
    service = client("table")
    assert (
        service.post("/predict", json=ROW, headers={"X-Request-Id": "abc"}).headers["x-request-id"] == "abc"
    )
    assert (
        len(service.post("/predict", json=ROW, headers={"X-Request-Id": "a b\tc"}).headers["x-request-id"])
        == 16
    )


def test_where_too_many_wait_the_next_is_sent_away(client: Client):
    service = client("table", workers=1, queue=1)
    inside, go_on = threading.Event(), threading.Event()
    model = service.service.model  # type: ignore[attr-defined]
    predict = model.predict

    def slowly(*given: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return predict(*given)

    model.predict = slowly
    answers: list[int] = []
    ask = [
        threading.Thread(target=lambda: answers.append(service.post("/predict", json=ROW).status_code))
        for _ in "12"
    ]
    for thread in ask:
        thread.start()
    assert inside.wait(60)
    while service.service._waiting < 2:  # type: ignore[attr-defined]
        pass
    refused = service.post("/predict", json=ROW)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert service.get("/health").status_code == 200  # which does not wait behind them
    go_on.set()
    for thread in ask:
        thread.join(60)
    assert answers == [200, 200]


def test_a_fault_of_its_own_is_told_without_its_inside(client: Client, monkeypatch: pytest.MonkeyPatch):
    service = client("table")

    def fail(*given: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.service.model, "predict", fail)  # type: ignore[attr-defined]
    answer = service.post("/predict", json=ROW)
    assert (answer.status_code, "secret" in answer.text) == (500, False)


@pytest.mark.parametrize("kind", ["digits", "table", "text", "plain", "mask"])
def test_the_description_has_the_forms_of_an_instance_and_its_example_is_taken(client: Client, kind: str):
    service = client(kind)
    described = service.get("/openapi.json").json()
    content = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    assert service.post("/predict", json=example).status_code == 200
    forms = content["application/json"]["schema"]["properties"]["instances"]["items"]["anyOf"]
    assert len(forms) == (1 if kind == "plain" else 2)
    assert ("image/png" in content) == (kind in ("digits", "mask"))


def test_the_page_loads_nothing_from_elsewhere_and_can_be_left_out(client: Client):
    page = client("digits").get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    assert client("digits", page=False).get("/").status_code == 404


def test_a_name_of_a_class_cannot_end_the_script(tmp_path: Path):
    from launcher.serving import page
    from launcher.serving.model import Model

    folder = make(tmp_path / "digits", "digits")
    signature = json.loads((folder / "signature.json").read_text())
    signature["classes"] = ["</script><script>alert(1)</script>", "b"]
    (folder / "signature.json").write_text(json.dumps(signature))
    text = bytes(page.response(Model(folder, "a<b@v1")).body).decode()
    assert "</script><script>" not in text
    assert "a&lt;b@v1" in text


def test_a_model_is_found_where_services_lay_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = make(tmp_path / "around/1", "table")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    assert find_folder() == folder
    with pytest.raises(UserError, match="no model in"):
        find_folder(tmp_path / "nothing")


def started(folder: Path, **env: str) -> tuple[subprocess.Popen[str], int]:
    """Starts the program, as a container would, and waits until it says where it is."""
    port = free_port()
    command = [sys.executable, "-m", "launcher.commands.serve", "serve"]
    environment = {**os.environ, "MODEL_DIR": str(folder), "PORT": str(port), **env}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert f":{port}" in process.stdout.readline()
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60).close()
            return process, port
        except OSError:
            assert process.poll() is None


def test_no_request_is_lost_when_it_is_told_to_end_under_load(tmp_path: Path):
    process, port = started(make(tmp_path, "table"), SERVE_DRAIN_SECONDS="10")
    assert process.stdout
    threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would hold it up
    lost: list[str] = []
    answered = [0]
    told = threading.Event()

    def ask() -> None:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            try:
                connection.request("POST", "/predict", json.dumps(ROW), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                lost.append(repr(error))
                return
            answered[0] += 1
            assert answer.status == 200
            if answer.headers.get("Connection") == "close":
                return
            if answered[0] > 100:
                told.set()

    clients = [threading.Thread(target=ask) for _ in range(16)]
    for thread in clients:
        thread.start()
    assert told.wait(60)
    for _ in range(2):  # as of a service that tells a process and its group
        process.send_signal(signal.SIGTERM)
    for thread in clients:
        thread.join(60)
    assert lost == []
    assert process.wait(60) == 0
