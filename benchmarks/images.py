"""From a change of the code to a submitted job: our image against a single stage that copies all and then installs.

Needs a Docker engine and its registry (`make engine`). Everything that it made is removed again.
"""

import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from baking import BakedProject
from measure import Result, alternate, ratios, summary
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename
from servers import Environment
from stage import containers, images
from stage.bucket import bucket
from stage.google.identity import identity
from stage.google.vertex import vertex
from stage.registry import blobs, layers, registry

OURS, SINGLE = "bench-image:ours", "bench-image:single-stage"
MARK = "single-stage-of-the-benchmark"  # finds its gigabytes in the build cache
# Of the same lock, base, uv and .dockerignore as ours.
SINGLE_STAGE = f"""
FROM python:3.13-slim
WORKDIR /app
COPY . .
RUN : {MARK} && pip install --no-cache-dir uv==UV \\
    && UV_SYSTEM_CERTS=1 uv sync --quiet --locked --no-cache --no-default-groups --no-install-project
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app/src:/app/launcher/src
ENTRYPOINT ["python", "-m", "launcher.worker"]
"""
LAYERS = (
    "user",
    "torch and CUDA",
    "other packages",
    "launcher",
    "code",
)  # those on the base, of which there are some
EMPTY = 100  # bytes that a layer of nothing has at most
CUDA = re.compile(r"torch$|triton$|nvidia-|cuda-")


class Images:
    """One project whose image is built, pushed and launched, time after time.

    Args:
        project: with its environment; its code is changed, and one dependency added.
        folder: for the registry's blobs.
        host: of the registry.
        env: what leads `launch` to the stage.
        say: takes a line of detail.
    """

    def __init__(
        self, project: BakedProject, folder: Path, host: str, env: Environment, say: Callable[[str], None]
    ) -> None:
        self.project, self.folder, self.host, self.env, self.say = project, folder, host, env, say
        self.seconds: dict[str, dict[str, list[float]]] = {OURS: {}, SINGLE: {}}
        self.moved: dict[tuple[str, str], int] = {}
        self._changes = 0
        uv = re.search(r"uv==([\d.]+)", project.read("Dockerfile"))
        assert uv, "which uv the Dockerfile installs"
        self._single = folder / "Dockerfile"
        self._single.write_text(SINGLE_STAGE.replace("UV", uv[1], 1))

    def publish(self, kind: str, number: str) -> str:
        """Builds and pushes; notes seconds and bytes; gives the image by its digest."""
        images.remove(kind)  # one that loses its name would stay; the cache keeps its layers
        begin = time.perf_counter()
        commit = self.project.run("git", "rev-parse", "HEAD").stdout.strip()
        options = ["--build-arg", f"REVISION={commit}"] if kind == OURS else ["--file", str(self._single)]
        images.build(self.project.folder, kind, *options)
        built = time.perf_counter()
        before = blobs(self.folder)
        name = f"{self.host}/{kind.partition(':')[2]}"
        digest = images.push(kind, f"{name}:{number}")
        pushed = time.perf_counter()
        new = [size for one, size in blobs(self.folder).items() if one not in before]
        self.moved[kind, number] = sum(new)
        self.note(kind, build=built - begin, push=pushed - built)
        return f"{name}@{digest}"

    def note(self, kind: str, **seconds: float) -> None:
        for name, took in seconds.items():
            self.seconds[kind].setdefault(name, []).append(took)
        self.say(
            f"{kind.partition(':')[2]}: "
            + ", ".join(f"{name} {took:.1f} s" for name, took in seconds.items())
        )

    def commit(self, text: str) -> None:
        self.project.run("git", "add", "-A")
        self.project.run("git", "commit", "-q", "-m", text)

    def change_code(self) -> str:
        self._changes += 1
        path = self.project.folder / f"src/{self.project.package}/train.py"
        path.write_text(path.read_text() + f"\n# change {self._changes}\n")
        self.commit("A change of the code")
        return f"code-{self._changes}"

    def to_a_job(self, kind: str) -> float:
        """Changes the code and goes all the way; gives the seconds."""
        number = self.change_code()
        begin = time.perf_counter()
        image = self.publish(kind, number)
        middle = time.perf_counter()
        # The single stage's image does not say of which commit it is, which is noted and forbids nothing.
        self.project.run(
            *(
                "uv",
                "run",
                "--no-sync",
                "launch",
                "cloud=vertex",
                "cloud.machine=cpu",
                f"cloud.image={image}",
            ),
            **self.env,
        )
        end = time.perf_counter()
        self.note(kind, submit=end - middle)
        return end - begin

    def sizes(self, kind: str, number: str) -> list[int]:
        """Compressed bytes of each layer, lowest first, without those that are empty."""
        found = layers(self.host, kind.partition(":")[2], number)
        return [size for size in found.values() if size > EMPTY]


@contextmanager
def stage(project: BakedProject, folder: Path) -> Iterator[tuple[str, Environment]]:
    """Registry, bucket, logins and a Vertex AI without a free machine: jobs are taken and stay queued."""
    with ExitStack() as opened:
        host = opened.enter_context(registry(folder))
        known = opened.enter_context(identity())
        slug = project.folder.name
        launcher = known.account(
            f"{slug}-launch",
            *("roles/aiplatform.user", "roles/logging.viewer", "roles/serviceusage.serviceUsageViewer"),
            repository=True,
        )
        trainer = known.account(f"{slug}-trainer")
        launcher.granted[trainer.email] = {"roles/iam.serviceAccountUser"}
        store = opened.enter_context(bucket(f"{slug}-bucket", folder))
        jobs = opened.enter_context(vertex(known, registries=(host,)))
        jobs.capacity.clear()
        login = known.credentials(folder / "login.json", launcher)
        env = {
            **(store.env | known.env | jobs.env),
            "GOOGLE_APPLICATION_CREDENTIALS": str(login),
            "GOOGLE_CLOUD_PROJECT": known.project,
        }
        project.run("uv", "run", "--no-sync", "dvc", "repro", **env)
        project.run("uv", "run", "--no-sync", "dvc", "push", **env)
        yield host, env


def measure(project: BakedProject, rounds: int, say: Callable[[str], None]) -> list[Result]:
    """Publishes both images once as a start, then code changes in turn, and a new small dependency.

    Raises:
        pytest's Skipped: Docker or its registry is not there.
    """
    with TemporaryDirectory(dir=project.folder.parent, prefix=".bench-") as name:
        folder = Path(name)
        with stage(project, folder) as (host, env):
            here = Images(project, folder, host, env, say)
            here.commit("Which data")
            try:
                return compare(here, rounds)
            finally:
                images.remove(OURS, SINGLE)
                forget_single_stage()


def compare(here: Images, rounds: int) -> list[Result]:
    """All rows of the group."""
    here.publish(OURS, "first")
    first = here.sizes(OURS, "first")
    # The single stage has none but the base in common with what was there before, so it needs no start.
    members = {OURS: lambda: here.to_a_job(OURS), SINGLE: lambda: here.to_a_job(SINGLE)}
    for kind in members:
        here.seconds[kind].clear()
    total = alternate(members, rounds, warmup=0)
    say = "a change of the code to a submitted job: ours / single stage"
    rows = [summary("image", say, ratios(total[OURS], total[SINGLE]))]
    for phase in ("build", "push", "submit"):
        ours, single = (here.seconds[kind][phase] for kind in members)
        rows.append(summary("image", f"{say}; {phase} alone", ratios(ours, single)))
    here.project.run("uv", "add", "--quiet", "--no-sync", "iniconfig")
    here.commit("A small dependency")
    here.publish(OURS, "dependency")
    tell_layers(here, first, here.sizes(OURS, "dependency"))
    return rows + bytes_rows(here, sum(first))


def bytes_rows(here: Images, size: int) -> list[Result]:
    """What was pushed, and the images over their wheels; `size` is that of ours."""
    number = next(number for kind, number in here.moved if kind == SINGLE)
    wheels, single = cuda_wheels(here.project), sum(here.sizes(SINGLE, number))

    def row(name: str, values: list[float], unit: str = "x", aim: str = "") -> Result:
        return summary("image", name, values, unit, aim)

    def pushed(kind: str, change: str, divisor: float) -> list[float]:
        """What the registry got for each change of a kind."""
        found = here.moved.items()
        return [moved / divisor for (of, number), moved in found if of == kind and number.startswith(change)]

    code, wheel = "bytes pushed for a change of the code", "whole image / its CUDA wheels, both compressed"
    return [
        row(f"{code}: ours", pushed(OURS, "code", 1e3), "kB", "< 100"),
        row(f"{code}: single stage", pushed(SINGLE, "code", 1e6), "MB"),
        row("bytes pushed for a small new dependency: ours", pushed(OURS, "dependency", 1e6), "MB"),
        row(f"{wheel}: ours", [size / wheels]),
        row(f"{wheel}: single stage", [single / wheels]),
    ]


def tell_layers(here: Images, first: list[int], later: list[int]) -> None:
    """Says how large each layer is, and what moves it."""
    base = len(first) - len(LAYERS)
    here.say(f"layer base: {sum(first[:base]) / 1e6:.3f} MB compressed, moved once")
    for name, before, after in zip(LAYERS, first[base:], later[base:], strict=True):
        moves = "with a new dependency" if before != after else "once"
        if name == "code":
            moves = "with each change of the code"
        here.say(f"layer {name}: {before / 1e6:.3f} MB compressed, moved {moves}")


def cuda_wheels(project: BakedProject) -> int:
    """Bytes of the wheels of torch, triton and NVIDIA's libraries that the image installs, as the lock has them."""
    lock = tomllib.loads(project.read("uv.lock"))
    packages = {(one["name"], one["version"]): one for one in lock["package"] if "version" in one}
    listed = project.run(
        *("uv", "export", "--quiet", "--frozen", "--no-header", "--no-annotate", "--no-hashes"),
        *("--only-group", "torch"),
    ).stdout
    here = {"python_full_version": "3.13.0", "python_version": "3.13"}
    tags = image_tags()
    total = 0
    for line in listed.splitlines():
        requirement, _, marker = line.partition(" ; ")
        name, _, version = requirement.strip().partition("==")
        if CUDA.match(name) and (not marker or Marker(marker).evaluate(here)):
            sizes = [
                wheel["size"]
                for wheel in packages[name, version]["wheels"]
                if parse_wheel_filename(wheel["url"].rpartition("/")[2])[3] & tags
            ]
            total += sizes[0]
    return total


def image_tags() -> frozenset[Tag]:
    """What fits Python 3.13 on the x86-64 Linux of the base image."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 42)]
    platforms += [f"manylinux{name}_x86_64" for name in ("1", "2010", "2014")]
    tags = [*cpython_tags((3, 13), platforms=platforms), *compatible_tags((3, 13), "cp313", platforms)]
    return frozenset(tags)


def forget_single_stage() -> None:
    """Takes its layer of gigabytes out of the build cache, and nothing of anybody else."""
    listed = containers.docker("system", "df", "--verbose", "--format", "{{json .BuildCache}}").stdout
    for record in json.loads(listed):
        if MARK in record["Description"]:
            containers.docker("builder", "prune", "--force", "--filter", f"id={record['ID']}", check=False)
