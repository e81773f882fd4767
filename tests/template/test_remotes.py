"""Data in a bucket: pushed, pulled and checked against emulators, with the configuration as it is baked."""

import gzip
import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from baking import BakedProject
from conftest import Bake
from servers import EMULATORS, Environment

BUCKETS = {"gcp": "gs://a-bucket", "aws": "s3://a-bucket", "azure": "az://training"}


@dataclass
class Remote:
    """A project whose digits are in its bucket, and the environment in which it finds the emulator."""

    project: BakedProject
    env: Environment
    uri: str

    def dvc(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the project's own dvc, in a clone of the project if `folder` says where that is."""
        place = BakedProject(folder or self.project.folder)
        return place.run(self.program("dvc"), *arguments, check=False, **self.env)

    def python(self, code: str, *arguments: str) -> str:
        """Runs code in the project's environment, where `storage` and `fsspec` are imported; gives its output."""
        code = f"import sys, fsspec\nfrom launcher import UserError, storage\n{code}"
        return self.project.run(self.program("python"), "-c", code, *arguments, **self.env).stdout

    def write(self, objects: dict[str, bytes]) -> None:
        """Writes objects into the bucket, by their names in it, without the code that is under test."""
        pairs = [text for name, content in objects.items() for text in (name, content.hex())]
        code = "fs, root = fsspec.url_to_fs(sys.argv[1])\n"
        code += "for name, content in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        code += "    fs.pipe_file(f'{root}/{name}', bytes.fromhex(content))"
        self.python(code, self.uri, *pairs)

    def program(self, name: str) -> str:
        """The path of a program in the project's environment."""
        return str(self.project.folder / ".venv/bin" / name)

    def clone(self, folder: Path) -> Path:
        """A fresh clone that has no data and no cache."""
        self.project.run("git", "clone", "-q", ".", str(folder))
        return folder


@pytest.fixture(scope="module", params=EMULATORS)
def remote(
    request: pytest.FixtureRequest, bake: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """One cloud's bake after `dvc repro`, a commit and `dvc push`."""
    cloud, folder = request.param, tmp_path_factory.mktemp(request.param)
    bucket = "anaccount" if cloud == "azure" else "a-bucket"
    project = bake(cloud=cloud, bucket=bucket).copy(folder / "project")
    project.sync()
    with EMULATORS[cloud](bucket, folder) as env:
        # DVC remembers for the whole machine what it has pushed where; this bucket is new each time.
        remote = Remote(project, {**env, "DVC_SITE_CACHE_DIR": str(folder / "dvc")}, BUCKETS[cloud])
        if cloud == "azure":
            remote.python("fsspec.url_to_fs(sys.argv[1])[0].mkdir('training')", remote.uri)
        for command in (("repro",), ("push",)):
            done = remote.dvc(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        project.run("git", "add", "dvc.lock")
        project.run("git", *("-c", "user.name=A", "-c", "user.email=a@b"), "commit", "-qm", "Data")
        yield remote


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_making_data_changes_nothing_that_git_keeps_but_the_lock(remote: Remote):
    changed = remote.project.run("git", "diff", "--stat", "--name-only", "HEAD~1").stdout.split()
    assert changed == ["dvc.lock"]
    assert remote.project.run("git", "status", "--porcelain").stdout == ""


def test_a_clean_clone_pulls_the_same_bytes(remote: Remote, tmp_path: Path):
    clone = remote.clone(tmp_path / "clone")
    done = remote.dvc("pull", folder=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(clone / "data/digits") == contents(remote.project.folder / "data/digits")
    assert len(contents(clone / "data/digits")) == 4


def test_an_object_that_was_changed_in_the_bucket_is_refused(remote: Remote, tmp_path: Path):
    info = (remote.project.folder / "data/digits/info.json").read_bytes()
    digest = hashlib.md5(info).hexdigest()
    name = f"dvc/files/md5/{digest[:2]}/{digest[2:]}"
    clone = remote.clone(tmp_path / "clone")
    remote.write({name: info.replace(b"225", b"226")})
    try:
        done = remote.dvc("pull", folder=clone)
    finally:
        remote.write({name: info})
    assert done.returncode != 0
    assert not (clone / "data/digits/info.json").exists()
    assert remote.dvc("pull", folder=clone).returncode == 0


def test_files_are_listed_and_fetched_from_the_bucket(remote: Remote, tmp_path: Path):
    names = ("runs/a/run.json", "runs/a/checkpoints/1.pt", "runs/a-second/run.json")
    remote.write(dict.fromkeys(names, b"content"))
    code = "print(storage.list_files(sys.argv[1])); storage.fetch(sys.argv[1] + '/checkpoints/1.pt', sys.argv[2])"
    listed = remote.python(code, f"{remote.uri}/runs/a", str(tmp_path / "down/1.pt"))
    assert listed.strip() == "['checkpoints/1.pt', 'run.json']"
    assert (tmp_path / "down/1.pt").read_bytes() == b"content"


@pytest.mark.parametrize(
    "call", ["storage.list_files(uri)", "storage.fetch(uri, 'never')"], ids=["list", "fetch"]
)
def test_what_is_not_in_the_bucket_is_one_sentence(remote: Remote, call: str):
    uri = f"{remote.uri}/runs/missing"
    code = f"uri = {uri!r}\ntry: {call}\nexcept UserError as error: print(error)"
    (line,) = remote.python(code).splitlines()
    assert uri in line
    assert not (remote.project.folder / "never").exists()


def test_mnist_comes_from_a_bucket(remote: Remote):
    objects, hashes = {}, []
    for key, name, count, sides in (
        ("train_images", "train-images-idx3-ubyte.gz", 4, 3),
        ("train_labels", "train-labels-idx1-ubyte.gz", 4, 1),
        ("test_images", "t10k-images-idx3-ubyte.gz", 2, 3),
        ("test_labels", "t10k-labels-idx1-ubyte.gz", 2, 1),
    ):
        shape = (count, 28, 28)[:sides]
        header = bytes([0, 0, 8, sides]) + b"".join(side.to_bytes(4, "big") for side in shape)
        content = gzip.compress(header + bytes(count * (784 if sides == 3 else 1)))
        objects[f"mnist/{name}"] = content
        hashes.append(f"data.sha256.{key}='{hashlib.sha256(content).hexdigest()}'")
    remote.write(objects)
    remote.project.run(
        *(remote.program("prepare"), "data=mnist", f"data.source={remote.uri}/mnist"),
        *("data.val_samples=1", *hashes),
        **remote.env,
    )
    info = json.loads(remote.project.read("data/mnist/info.json"))
    assert info["samples"] == {"train": 3, "val": 1, "test": 2}
