"""The worker in a container of Azure ML: what it reads of its environment, and where a trial leaves its result."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
from launcher import storage
from launcher.errors import UserError
from launcher.storage import StorageUnavailable
from launcher.worker import __main__ as program
from launcher.worker import aml
from launcher.worker.cluster import Node, this_node
from launcher.worker.more import read_more
from launcher.worker.trial import read_trial

pytestmark = pytest.mark.cloud("azure")
NODES = {
    "AZUREML_RUN_ID": "run-1-abcdef-1",
    "RUN_NODES": "3",
    "MASTER_ADDR": "10.0.0.4",
    "MASTER_PORT": "6105",
    "NODE_RANK": "2",
    "WORLD_SIZE": "3",
    "RANK": "2",
    "LOCAL_RANK": "0",
}


def test_nodes_find_each_other_by_what_the_service_says():
    node = this_node(NODES, ["trainer.device=cpu"])
    assert node == Node(2, 3, ("10.0.0.4", 6105), 1)
    command = node.command(["a=1"])
    assert command[command.index("--node-rank") + 1] == "2"
    assert command[command.index("--master-addr") + 1] == "10.0.0.4"


def test_alone_a_machine_has_no_rank_whatever_is_said():
    assert this_node({**NODES, "RUN_NODES": "1"}, ["trainer.device=cpu"]) == Node()
    assert this_node({"AZUREML_RUN_ID": "x"}, ["trainer.device=cpu"]) == Node()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"NODE_RANK": ""}, "cannot be understood"),
        ({"WORLD_SIZE": "6"}, "node 2 of 6, and there are to be 3"),
        ({"NODE_RANK": "3"}, "node 3 of 3"),
        ({"MASTER_PORT": "x"}, "cannot be understood"),
    ],
)
def test_nodes_that_cannot_be_understood_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        this_node({**NODES, **change}, [])
    with pytest.raises(UserError, match="cannot be understood"):
        this_node({name: NODES[name] for name in ("AZUREML_RUN_ID", "RUN_NODES")}, [])


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A worker changes its own for good."""
    with mock.patch.dict(os.environ):
        yield


def start(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *args: str) -> None:
    for name in [name for name in os.environ if name.startswith(("RUN_", "AZURE"))]:
        monkeypatch.delenv(name)
    for name in aml.RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AZUREML_RUN_ID": "run-1-abcdef-1", **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["worker", *args])


def test_the_identity_of_the_job_is_known_to_what_reads_the_bucket(tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "a", "DEFAULT_IDENTITY_CLIENT_ID": "client"})
    program.make([], tmp_path)
    assert os.environ["AZURE_CLIENT_ID"] == "client"
    assert aml.identity({"AZURE_CLIENT_ID": "own", "DEFAULT_IDENTITY_CLIENT_ID": "client"}) == {}
    assert aml.identity({}) == {}


def test_the_training_does_not_inherit_the_ranks_of_the_worker(tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "a", **NODES})
    worker = program.make(["trainer.device=cpu"], tmp_path)
    assert (worker.node.rank, worker.node.count) == (2, 3)
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} & set(
        os.environ
    )


def test_arguments_from_the_bucket_come_before_those_of_the_command(tmp_path):
    uri = str(tmp_path / "arguments.json")
    storage.write_text(uri, json.dumps({"args": ["a=1"], "env": {}}))
    assert read_more({"RUN_MORE": uri}, ["--lr=2"])[1] == ["a=1", "--lr=2"]


# Trials

SWEEP = {
    "AZUREML_RUN_ID": "lr-abcdef-1_6",
    "RUN_ID": "lr",
    "RUN_KIND": "sweep",
    "RUN_OBJECTIVE": "val/accuracy",
    "RUN_OUTPUT": "/bucket/runs/lr",
}


def test_a_trial_has_its_number_by_the_name_of_its_job_and_its_settings_by_its_arguments():
    words = [
        "data=digits",
        "--model=cnn",
        "--depth=3.0",
        "--exp:optimizer.lr=-4.605170185988091",
        "--expint:width=3.47",
    ]
    found, overrides = read_trial(SWEEP, words)
    assert found is not None
    assert (found.run_id, found.number) == ("lr-7", 7)
    assert found.settings == {"model": "cnn", "depth": "3", "optimizer.lr": "0.01", "width": "32"}
    assert overrides == ["data=digits", "model=cnn", "depth=3", "optimizer.lr=0.01", "width=32"]


@pytest.mark.parametrize("name", ["lr-abcdef-1", "lr_", ""])
def test_a_trial_without_a_number_is_refused(name):
    with pytest.raises(UserError, match="needs AZUREML_RUN_ID and RUN_OBJECTIVE"):
        read_trial({**SWEEP, "AZUREML_RUN_ID": name}, [])


@pytest.mark.parametrize("word", ["--exp:lr=", "--exp:lr=x", "--exp:lr=1e9", "--lr="])
def test_a_value_that_is_none_is_refused(word):
    with pytest.raises(UserError, match="The service gave --"):
        read_trial(SWEEP, [word])


class MLflow:
    """A server of MLflow and of the container's identity; `answers` are given one after the other, then 200."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str]] = []  # path, body, token
        self.answers: list[int] = []
        self.identities: list[dict[str, list[str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body, self.headers["Authorization"]))
                self.answer(server.answers.pop(0) if server.answers else 200, b"{}")

            def do_GET(self) -> None:
                server.identities.append(
                    {**parse_qs(urlsplit(self.path).query), "secret": [self.headers["secret"]]}
                )
                self.answer(200, b'{"access_token": "of-identity", "expires_on": "1"}')

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def mlflow(monkeypatch) -> Iterator[MLflow]:
    made = MLflow()
    monkeypatch.setattr(aml, "DELAYS", (0.0, 0.0))
    monkeypatch.setattr(aml, "address", lambda env: f"http://{made.address}/mlflow/v1.0/w")
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.server.shutdown()
    made.server.server_close()


def trial(tmp_path: Path, **env: str) -> Callable[..., Any]:
    """Writes what a training has measured, and gives what reports it."""
    found, _ = read_trial({**SWEEP, "MLFLOW_TRACKING_TOKEN": "of-run", **env}, [])
    assert found is not None

    def measured(*values: float, kept: float | None = None) -> Any:
        lines = [json.dumps({"step": 10 * (i + 1), "val/accuracy": value}) for i, value in enumerate(values)]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        if kept is not None:
            (tmp_path / "run.json").write_text(json.dumps({"kept": {"val/accuracy": kept}}))
        return found

    return measured


def told(mlflow: MLflow) -> list[tuple[str, float, int]]:
    return [(body["key"], body["value"], body["step"]) for _, body, _ in mlflow.asked]


def test_the_objective_is_told_once_at_the_end_and_what_was_measured_by_another_name(tmp_path, mlflow):
    measured = trial(tmp_path)
    measured(0.25).report(tmp_path)
    measured(0.25, 0.75).report(tmp_path)
    assert told(mlflow) == [("val/accuracy/each", 0.25, 10), ("val/accuracy/each", 0.75, 20)]
    assert measured(0.25, 0.75, kept=0.5).result(tmp_path) == 0.5
    assert told(mlflow)[2:] == [("val/accuracy/each", 0.5, 21), ("val/accuracy", 0.5, 21)]
    path, body, token = mlflow.asked[-1]
    assert path == "/mlflow/v1.0/w/api/2.0/mlflow/runs/log-metric"
    assert (body["run_id"], token) == ("lr-abcdef-1_6", "Bearer of-run")


@pytest.mark.parametrize("answers", [[503], [429, 503], [500]])
def test_a_service_in_trouble_is_asked_again(tmp_path, mlflow, answers):
    mlflow.answers = answers
    trial(tmp_path)(0.5).result(tmp_path)
    assert told(mlflow)[-1] == ("val/accuracy", 0.5, 10)


def test_a_service_that_does_not_answer_lets_another_start_try(tmp_path, mlflow):
    mlflow.answers = [503] * 10
    with pytest.raises(StorageUnavailable, match="does not answer"):
        trial(tmp_path)(0.5).result(tmp_path)
    assert len(mlflow.asked) == 3


def test_a_refusal_is_final_and_says_what_it_was(tmp_path, mlflow):
    mlflow.answers = [400]
    with pytest.raises(UserError, match=r"cannot be told what the trial has reached \(status 400\)"):
        trial(tmp_path)(0.5).result(tmp_path)


def test_where_the_run_s_token_no_longer_counts_the_identity_s_does(tmp_path, mlflow):
    mlflow.answers = [401]
    env = {
        "MSI_ENDPOINT": f"http://{mlflow.address}/MSI",
        "MSI_SECRET": "s",
        "DEFAULT_IDENTITY_CLIENT_ID": "client",
    }
    trial(tmp_path, **env)(0.5).result(tmp_path)
    assert [token for *_, token in mlflow.asked][:2] == ["Bearer of-run", "Bearer of-identity"]
    [asked] = {json.dumps(one) for one in mlflow.identities[:1]}
    assert json.loads(asked) == {
        "api-version": ["2017-09-01"],
        "resource": ["https://ml.azure.com"],
        "clientid": ["client"],
        "secret": ["s"],
    }


def test_without_token_and_identity_it_is_said(tmp_path, mlflow):
    with pytest.raises(UserError, match="neither MLFLOW_TRACKING_TOKEN nor an identity"):
        trial(tmp_path, MLFLOW_TRACKING_TOKEN="")(0.5).result(tmp_path)


def test_mlflow_is_where_the_service_says():
    where = "westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/s/resourceGroups/g/providers/p/workspaces/w"
    for end in ("", "?", "/", "?api=1"):
        assert aml.address({"MLFLOW_TRACKING_URI": f"azureml://{where}{end}"}) == f"https://{where}"
    for uri in ("", "file:///mlruns", "http://elsewhere"):
        with pytest.raises(UserError, match="is no address of MLflow"):
            aml.address({"MLFLOW_TRACKING_URI": uri})
