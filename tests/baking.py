"""Bakes the template in this process, as cookiecutter's prompt would, and holds what came out."""

import atexit
import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from servers import free_port

ROOT = Path(__file__).resolve().parent.parent
# Set by the caller's own environment, and not the project's business.
FOREIGN = (
    "VIRTUAL_ENV",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTEST_ADDOPTS",
    "UV_PROJECT_ENVIRONMENT",
    "MAKEFLAGS",
    "MAKEOVERRIDES",
    "ARGS",  # of `make test ARGS=...`, and of the project's own Makefile
)


@dataclass(frozen=True)
class BakedProject:
    """A baked project on disk."""

    folder: Path
    answers: Mapping[str, str] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The name of its Python package."""
        return next(path.parent.name for path in self.folder.glob("src/*/__init__.py"))

    def has_file(self, path: str) -> bool:
        """Whether it holds the file, given relative to its folder."""
        return (self.folder / path).is_file()

    def read(self, path: str) -> str:
        """The text of one of its files."""
        return (self.folder / path).read_text(encoding="utf-8")

    def files(self) -> set[str]:
        """All files that git tracks or would track, relative to the folder, with forward slashes."""
        listed = self.run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        return {path for path in listed.split("\0") if path}

    def run(
        self, *command: str, check: bool = True, timeout: float = 600, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the folder with `env` added to the environment; output is captured as text.

        Raises AssertionError with the output when `check` is true and the command fails.
        """
        result = subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=clean_env(**env),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} exited {result.returncode}\n{result.stdout}\n{result.stderr}"
            )
        return result

    def sync(self) -> None:
        """Installs its environment; one at a time of all tests, of which uv would unpack torch once for each into its cache."""
        with Path(tempfile.gettempdir(), "template-sync.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.run("uv", "sync", "--locked", "-q")

    def copy(self, folder: Path) -> "BakedProject":
        """A copy of it in a folder that does not exist yet, for a test that changes things."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return BakedProject(folder, self.answers)


def clean_env(**env: str) -> dict[str, str]:
    """This process's environment without what belongs to the template's own tools, and with `env` added.

    One thread computes, unless `env` says otherwise: with other tests on the machine several wait for each other up
    to fifteen times as long as they compute, and a fork waits for threads that it does not have. A torchrun that is
    told no port takes one of its own.
    """
    kept = {k: v for k, v in os.environ.items() if k not in FOREIGN}
    return kept | {"OMP_NUM_THREADS": "1", "PET_MASTER_PORT": str(free_port())} | env


@functools.cache
def template() -> Path:
    """A copy of the template as a clone would have it: without caches that a tool has left in the tree."""
    folder = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, folder)
    for path in BakedProject(ROOT).files():
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, folder / path)
    return folder


class RefusedError(Exception):
    """A hook refused the answers; the text is what it printed."""


def bake_into(folder: Path, **answers: str) -> BakedProject:
    """Bakes the template into `folder`/<slug> with these answers typed at the prompt.

    What is typed is taken literally; values given as cookiecutter's extra_context would be rendered once more.
    Raises RefusedError when a hook fails.
    """
    with typed(answers), tempfile.TemporaryFile() as stderr, redirected(2, stderr.fileno()):
        try:
            baked = cookiecutter(str(template()), output_dir=str(folder), default_config=True)
        except FailedHookException as error:
            stderr.seek(0)
            raise RefusedError(stderr.read().decode()) from error
    return BakedProject(Path(baked), answers)


@contextmanager
def typed(answers: Mapping[str, str]) -> Iterator[None]:
    """Answers cookiecutter's prompts; a question that has no answer here gets its default."""

    def variable(name, default, *_):
        return answers.get(name, default)

    def choice(name, options, *_):
        assert answers.get(name, options[0]) in options
        return answers.get(name, options[0])

    # cookiecutter also remembers each bake in the user's home; a test leaves nothing there.
    with (
        mock.patch("cookiecutter.prompt.read_user_variable", variable),
        mock.patch("cookiecutter.prompt.read_user_choice", choice),
        mock.patch("cookiecutter.main.dump"),
    ):
        yield


@contextmanager
def redirected(descriptor: int, target: int) -> Iterator[None]:
    """Sends what this process and its children write to one file descriptor to another."""
    kept = os.dup(descriptor)
    os.dup2(target, descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


@contextmanager
def only_programs(*names: str) -> Iterator[None]:
    """Makes the named programs the only ones that can be found: a machine without uv, or without git."""
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            os.symlink(shutil.which(name) or f"/no/{name}", Path(folder, name))
        with mock.patch.dict(os.environ, PATH=folder):
            yield
