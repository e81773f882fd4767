"""What the worker is made of: code laid over the image, data, nodes and GPUs, the reason of a failure."""

import hashlib
import io
import json
import sys
import tarfile

import pytest
from launcher.errors import UserError
from launcher.storage import StorageUnavailable
from launcher.worker import cluster, observed
from launcher.worker.overlay import lay
from launcher.worker.pull import explain, pull


@pytest.fixture
def archive(tmp_path):
    """Makes an archive of these members, named by its digest, and gives its URI."""

    def make(*members):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as file:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if content is None:
                    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                else:
                    info.size = len(content)
                file.addfile(info, io.BytesIO(content or b""))
        digest = hashlib.sha256(packed.getvalue()).hexdigest()
        path = tmp_path / "bucket" / f"{digest}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(packed.getvalue())
        return str(path)

    return make


@pytest.fixture
def image(tmp_path):
    """A working directory as an image has it."""
    root = tmp_path / "app"
    for name in ("src/package/old.py", "configs/train.yaml", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("of the image")
    return root


def test_code_replaces_the_images_and_leaves_the_rest(archive, image):
    lay(archive(("src/package/new.py", b"new"), ("dvc.lock", b"lock")), image)
    found = {path.relative_to(image).as_posix() for path in image.rglob("*") if path.is_file()}
    assert found == {"src/package/new.py", "dvc.lock", "configs/train.yaml", "pyproject.toml"}


@pytest.mark.parametrize(
    "member",
    [
        ("../outside", b"x"),
        ("/outside", b"x"),
        ("pyproject.toml", b"x"),
        ("src/../../a", b"x"),
        ("src/link", None),
    ],
    ids=lambda member: member[0],
)
def test_what_is_no_code_is_refused_and_nothing_is_changed(archive, image, member):
    with pytest.raises(UserError):
        lay(archive(("src/package/new.py", b"new"), member), image)
    assert (image / "src/package/old.py").exists()
    assert (image / "pyproject.toml").read_text() == "of the image"
    assert not (image.parent / "outside").exists()


def test_damaged_code_is_refused(archive, image):
    uri = archive(("src/package/new.py", b"new"))
    with open(uri, "ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match="damaged"):
        lay(uri, image)
    assert (image / "src/package/old.py").exists()


def test_a_working_tree_is_never_overlaid(archive, image):
    (image / ".git").mkdir()
    with pytest.raises(UserError, match="git working tree"):
        lay(archive(("src/package/new.py", b"new")), image)


MD5 = "0fa67f0ce2c2f5f5e52e6de8b8bf4d26"


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        (
            f"ERROR: failed to transfer '{MD5}' - b/bucket/o/dvc%2Ffiles%2Fmd5",
            UserError,
            "dvc push",
        ),
        (
            "WARNING: Missing cache files:\nERROR: Checkout failed for",
            UserError,
            "not in the bucket",
        ),
        ("5 files fetched\nERROR: Checkout failed for following targets:", UserError, "damaged"),
        (
            "ERROR: 'data/x' does not exist as an output or a stage name",
            UserError,
            "not in the bucket",
        ),
        ("ERROR: failed to pull - Forbidden: https://example.com", UserError, "may not read"),
        (
            "ERROR: failed to connect to gs - Cannot connect to host",
            StorageUnavailable,
            "Cannot connect",
        ),
        (
            f"ERROR: failed to transfer '{MD5}' - Service Unavailable, 503",
            StorageUnavailable,
            "503",
        ),
        ("", StorageUnavailable, "no reason given"),
    ],
)
def test_what_dvc_prints_is_told_apart(said, kind, sentence):
    error = explain("data/digits", said)
    assert type(error) is kind
    assert sentence in str(error)


def test_data_is_pulled_without_git_and_tried_again(tmp_path):
    answers = [(1, "ERROR: failed to connect to gs - Cannot connect to host"), (0, "")]
    commands = []

    def run(command):
        commands.append(command)
        return answers.pop(0)

    pull("data/digits", tmp_path, run)
    assert [command[1:] for command in commands] == [["-m", "dvc", "pull", "data/digits"]] * 2
    assert "no_scm = true" in (tmp_path / ".dvc/config.local").read_text()


def test_data_that_is_missing_is_not_tried_again(tmp_path):
    (tmp_path / ".git").mkdir()
    answers = [(1, "ERROR: 'data/x' does not exist as an output")]
    with pytest.raises(UserError, match="not in the bucket"):
        pull("data/x", tmp_path, lambda _: answers.pop())
    assert not (tmp_path / ".dvc/config.local").exists()


def spec(kind, index):
    nodes = {"workerpool0": ["first:2222"], "workerpool1": ["second:2222", "third:2222"]}
    return json.dumps({"cluster": nodes, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("kind", "index", "rank"), [("workerpool0", 0, 0), ("workerpool1", 0, 1), ("workerpool1", 1, 2)]
)
def test_nodes_of_vertex_ai_find_each_other(kind, index, rank):
    env = {"CLUSTER_SPEC": spec(kind, index), "CUDA_VISIBLE_DEVICES": "0,1"}
    node = cluster.this_node(env, [])
    assert (node.rank, node.count, node.master, node.processes) == (rank, 3, ("first", 2222), 2)
    command = " ".join(node.command(["trainer.max_epochs=3"]))
    assert f"torch.distributed.run --nnodes 3 --node-rank {rank} --master-addr first" in command
    assert command.endswith(f"{observed.__name__} demo.train trainer.max_epochs=3")


def test_one_node_with_one_gpu_or_none_needs_no_torchrun():
    alone = json.dumps(
        {"cluster": {"workerpool0": ["host:2222"]}, "task": {"type": "workerpool0", "index": 0}}
    )
    for visible in ("", "0"):
        env = {"CLUSTER_SPEC": alone, "CUDA_VISIBLE_DEVICES": visible}
        assert "torch.distributed.run" not in cluster.this_node(env, []).command([])


def test_gpus_are_counted_and_the_cpu_is_one(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: L4'; echo 'GPU 1: L4'; echo '  MIG 1g'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cluster.count_gpus({}) == 2
    assert cluster.count_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == 1
    assert cluster.count_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == 0
    assert cluster.this_node({}, ["trainer.device=cpu"]).processes == 1


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs lines of Python as a training of so many processes; gives what it noted."""

    def run(script, processes):
        (tmp_path / "program.py").write_text(script)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "argv", ["observed", "program", "a=1"])
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        monkeypatch.setenv(observed.NOTE, str(tmp_path / "note.json"))
        with pytest.raises((SystemExit, Exception)):
            observed.main()
        return observed.read_note(str(tmp_path / "note.json"))

    return run


UNANSWERED = """
import sys
from launcher.storage import StorageUnavailable
try:
    raise StorageUnavailable("x")
except StorageUnavailable:
    sys.exit("no answer")
"""


@pytest.mark.parametrize(
    ("script", "processes", "expected"),
    [
        ("import sys; sys.exit(f'no setting {sys.argv[1]}')", 2, ("no setting a=1", True)),
        ("raise KeyError('x')", 2, ("KeyError: 'x'", True)),
        ("raise RuntimeError('connection closed by peer')", 2, None),
        ("raise RuntimeError('out of memory')", 1, ("RuntimeError: out of memory", True)),
        ("raise SystemExit(1)", 1, None),
        (
            UNANSWERED,
            1,
            ("no answer", False),
        ),
    ],
)
def test_why_a_training_failed_is_noted(run, script, processes, expected):
    found = run(script, processes)
    assert (found and (found["reason"], found["final"])) == expected
