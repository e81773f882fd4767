"""The worker in a container of SageMaker: what it reads in /opt/ml, where it puts what is large, and what it says."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from launcher import storage
from launcher.errors import UserError
from launcher.job import EXIT_FINAL, EXIT_RETRY
from launcher.storage import StorageUnavailable
from launcher.worker import __main__ as program
from launcher.worker import cluster, disk, opt_ml
from launcher.worker.cluster import Node, NodesApartError, this_node
from launcher.worker.more import read_more
from launcher.worker.trial import read_trial

SWEEP = {
    "RUN_ID": "lr",
    "RUN_KIND": "sweep",
    "RUN_OBJECTIVE": "val/accuracy",
    "RUN_OUTPUT": "/bucket/runs/lr",
}


@pytest.fixture
def ml(tmp_path, monkeypatch):
    """The folder /opt/ml; writes its files."""
    folder = tmp_path / "opt/ml"
    for name in ("input/config", "output"):
        (folder / name).mkdir(parents=True)
    monkeypatch.setattr(opt_ml, "FOLDER", folder)

    def write(name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "input/config" / name).write_text(text)

    return write


def failure(tmp_path: Path) -> str:
    return (tmp_path / "opt/ml/output/failure").read_text()


def hosts(current: str, *names: str) -> dict[str, Any]:
    network = {"network_interface_name": "eth7"}
    return {
        "current_host": current,
        "hosts": list(names),
        **network,
        "current_group_name": "homogeneousCluster",
    }


@pytest.mark.parametrize(("current", "rank"), [("algo-1", 0), ("algo-2", 1), ("algo-3", 2)])
def test_nodes_find_each_other_by_their_names(ml, current, rank):
    ml("resourceconfig.json", hosts(current, "algo-3", "algo-1", "algo-2"))
    node = this_node({"TRAINING_JOB_NAME": "run-1", "CUDA_VISIBLE_DEVICES": "0"}, [])
    assert (node.rank, node.count, node.master) == (rank, 3, ("algo-1", 29500))
    assert node.environment == {"NCCL_SOCKET_IFNAME": "eth7", "GLOO_SOCKET_IFNAME": "eth7"}


def test_one_host_is_one_node_and_needs_no_network(ml):
    assert this_node({"TRAINING_JOB_NAME": "run-1", "CUDA_VISIBLE_DEVICES": "0"}, []) == Node()
    ml("resourceconfig.json", hosts("algo-1", "algo-1"))
    node = this_node({"TRAINING_JOB_NAME": "run-1", "CUDA_VISIBLE_DEVICES": "0"}, [])
    assert (node.count, node.environment) == (1, {})


@pytest.mark.parametrize("content", ["{", "[]", {}, {"hosts": ["algo-1"], "current_host": "algo-9"}])
def test_hosts_that_cannot_be_understood_are_one_sentence(ml, content):
    ml("resourceconfig.json", content)
    with pytest.raises(UserError, match=r"resourceconfig.json"):
        this_node({"TRAINING_JOB_NAME": "run-1", "RUN_NODES": "2"}, [])


def test_one_machine_trains_although_the_file_of_hosts_is_closed_to_it(ml):
    ml("resourceconfig.json", "{")
    assert this_node({"TRAINING_JOB_NAME": "run-1", "CUDA_VISIBLE_DEVICES": "0"}, []) == Node()


def test_a_name_that_resolves_late_is_waited_for_and_not_for_ever(monkeypatch):
    answers = [OSError("not known"), OSError("not known"), []]

    def look(host: str, port: int) -> list[Any]:
        assert (host, port) == ("algo-1", 29500)
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    node = Node(1, 2, ("algo-1", 29500))
    node.find_first()
    assert not answers
    Node().find_first()  # alone, it looks for nobody
    monkeypatch.setattr(cluster, "PATIENCE", -1.0)
    answers = [OSError("not known")]
    with pytest.raises(NodesApartError, match="algo-1, cannot be found"):
        node.find_first()


def test_data_results_and_cache_are_on_the_large_disk(tmp_path):
    root, large = tmp_path / "app", tmp_path / "large"
    (root / "data/digits").mkdir(parents=True)
    (root / "data/digits/a").write_text("of the image")
    (root / ".dvc").mkdir()
    for _ in range(2):  # a second time there is nothing to do
        disk.move(str(large), root)
    (root / "runs/a").mkdir()
    (root / "runs/a/log").write_text("x")
    assert (large / "data/digits/a").read_text() == "of the image"
    assert (large / "runs/a/log").read_text() == "x"
    assert [(root / name).readlink() for name in disk.LARGE] == [large / name for name in disk.LARGE]
    assert not (large / ".dvc/cache").is_symlink()


def test_a_project_without_dvc_gets_no_cache(tmp_path):
    disk.move(str(tmp_path / "large"), tmp_path)
    assert not (tmp_path / ".dvc").exists()
    assert (tmp_path / "runs").is_symlink()


def test_where_the_large_disk_cannot_be_written_all_stays_where_it_is(tmp_path, capsys):
    (tmp_path / "large").write_text("a file")
    (tmp_path / "runs").mkdir()
    disk.move(str(tmp_path / "large"), tmp_path)
    assert "Data and results stay in" in capsys.readouterr().out
    assert not (tmp_path / "runs").is_symlink()


def more(tmp_path: Path, **content: Any) -> dict[str, str]:
    uri = str(tmp_path / "arguments.json")
    storage.write_text(uri, json.dumps(content))
    return {"RUN_ID": "a", "RUN_MORE": uri}


def test_arguments_and_variables_come_from_the_bucket(tmp_path):
    env = more(tmp_path, args=["a=1", "b=2"], env={"RUN_COMMIT": "c"})
    assert read_more(env, []) == ({**env, "RUN_COMMIT": "c"}, ["a=1", "b=2"])
    env = more(tmp_path, args=None, env={})
    assert read_more(env, ["a=1"]) == (env, ["a=1"])
    assert read_more({"A": "1"}, ["a=1"]) == ({"A": "1"}, ["a=1"])


def test_what_is_not_in_the_bucket_or_not_to_be_understood_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_more({"RUN_MORE": str(tmp_path / "nowhere")}, [])
    with pytest.raises(UserError, match="cannot be understood"):
        read_more(more(tmp_path, args=[]), [])


def trial(ml: Any, name: str = "lr-a1b2c3-007-4bd2fb28", **settings: str) -> Any:
    given = {"launcher.arguments": json.dumps(["data=digits", "run.id=lr"]), **settings}
    ml("hyperparameters.json", {**given, "_tuning_objective_metric": "val/accuracy"})
    return read_trial({**SWEEP, "TRAINING_JOB_NAME": name}, [])


def test_a_trial_has_its_number_by_its_name_and_its_settings_by_a_file(ml):
    found, overrides = trial(ml, **{"optimizer.lr": "0.01", "model": "cnn", "depth": "3"})
    assert (found.run_id, found.number) == ("lr-7", 7)
    assert found.settings == {"optimizer.lr": "0.01", "model": "cnn", "depth": "3"}
    assert overrides == ["data=digits", "run.id=lr", "optimizer.lr=0.01", "model=cnn", "depth=3"]


def test_arguments_of_a_trial_may_have_come_by_the_bucket(ml):
    ml("hyperparameters.json", {"optimizer.lr": "0.01"})
    _, overrides = read_trial({**SWEEP, "TRAINING_JOB_NAME": "lr-a1b2c3-1000-4bd2fb28"}, ["data=digits"])
    assert overrides == ["data=digits", "optimizer.lr=0.01"]


@pytest.mark.parametrize("name", ["lr-a1b2c3", "lr-01-abcdef", ""])
def test_a_trial_without_a_number_is_refused(ml, name):
    with pytest.raises(UserError, match="needs TRAINING_JOB_NAME and RUN_OBJECTIVE"):
        trial(ml, name)


def test_settings_that_are_no_list_are_refused(ml):
    with pytest.raises(UserError, match=r"launcher.arguments in hyperparameters.json is no list"):
        trial(ml, **{"launcher.arguments": "data=digits"})


def test_each_measurement_is_told_once_and_the_kept_one_last(ml, tmp_path, capsys):
    found, _ = trial(ml, lr="1")
    lines = [{"step": 10, "val/accuracy": 0.25}, {"step": 20, "val/accuracy": 0.75}]
    for count in (1, 1, 2):
        text = "".join(json.dumps(line) + "\n" for line in lines[:count])
        (tmp_path / "metrics.jsonl").write_text(text)
        found.report(tmp_path)
    (tmp_path / "run.json").write_text('{"kept": {"val/accuracy": 0.5}}')
    assert found.result(tmp_path) == 0.5
    assert capsys.readouterr().out.splitlines() == [
        "sweep objective=0.25 of val/accuracy at step 10",
        "sweep objective=0.75 of val/accuracy at step 20",
        "sweep objective=0.5 of val/accuracy at step 21",
    ]


def start(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *args: str) -> None:
    for name in [name for name in os.environ if name.startswith("RUN_")]:
        monkeypatch.delenv(name)
    for name, value in {"TRAINING_JOB_NAME": "run-1-a1b2c3", **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["worker", *args])


def test_the_default_argument_of_the_service_is_no_setting(ml, tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "a", "RUN_DISK": str(tmp_path / "large")})
    worker = program.make(["train"], tmp_path)
    assert worker.args == []
    assert (tmp_path / "runs").is_symlink()
    assert program.make(["a=1", "run.id=a"], tmp_path).args == ["a=1"]


def test_why_it_failed_is_left_for_the_service(ml, tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "../a"})
    with pytest.raises(SystemExit):
        program.main()
    assert failure(tmp_path).endswith(f"(status {EXIT_FINAL})")
    assert "cannot name a run" in failure(tmp_path)


def test_a_bucket_in_trouble_before_all_else_may_be_tried_again(ml, tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "a", "RUN_MORE": "s3://bucket/more"})

    def fail(uri: str) -> None:
        raise StorageUnavailable(f"{uri} does not answer.")

    monkeypatch.setattr("launcher.worker.more.read_text", fail)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == EXIT_RETRY
    assert failure(tmp_path) == "s3://bucket/more does not answer. (status 75)"


def test_the_reason_of_an_ended_attempt_is_left_without_secrets(ml, tmp_path, monkeypatch):
    start(monkeypatch, {"RUN_ID": "a", "RUN_OUTPUT": str(tmp_path / "bucket/runs/a"), "RUN_DATA": "data/x"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "_exit", lambda code: sys.exit(code))

    def pull(target: str, root: Path, run: Any) -> None:
        raise UserError("no data for abcdef123456")

    monkeypatch.setattr("launcher.worker.worker.pull", pull)
    monkeypatch.setattr("launcher.worker.worker.read_secrets", lambda _, hide: hide("abcdef123456") or {})
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == EXIT_FINAL
    assert failure(tmp_path) == "no data for *** (status 1)"


def test_a_folder_that_cannot_be_written_changes_nothing(ml, tmp_path):
    (tmp_path / "opt/ml/output").rmdir()
    opt_ml.tell_failure("why", 1)
    assert not (tmp_path / "opt/ml/output").exists()


def test_a_long_reason_is_cut_before_its_status(ml, tmp_path):
    opt_ml.tell_failure("é" * 2000, 75)
    assert len(failure(tmp_path).encode()) <= 900
    assert failure(tmp_path).endswith("é (status 75)")
