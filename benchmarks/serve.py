"""Our `serve` against LitServe and BentoML: the ONNX of the digits example, one server at a time in turn, four connections.

Each round starts all servers, loads them from another process in short slices by turns, reads what they hold, sends what
they should refuse, and ends them. Who is not loaded is stopped, so that nobody polls in another's time. Needs Linux, which
tells memory and processor time of processes.
"""

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from baking import BakedProject, clean_env
from measure import Result, ratios, summary
from projects import WORK
from rich.table import Table
from served import WORKERS, answer

HERE = Path(__file__).parent
PINNED = {"LitServe": "litserve==0.2.19", "BentoML": "bentoml==1.4.40"}
STARTS = 60  # seconds that a server has
CLOSE = 1e-3  # of a share to that of the model itself; ours tells six digits
BODIES = 64
SLICES = 6  # of a round's load on each server
WARM = 0.2  # seconds before each, which do not count
UNITS = {
    "requests a second": "/s",
    "p50": "ms",
    "p99": "ms",
    "processor time of a request": "ms",
    "memory": "MB",
    "most memory, hostile bodies": "MB",
    "first answer": "s",
}
AIMS = {"p99": "< 1", "memory": "< 1"}
LARGE = 1_400_000  # bytes; ours reads 1.5 million
HOSTILE = [
    "[" * LARGE,
    '{"instances": [' + "[" * 20_000 + "]" * 20_000 + "]}",
    json.dumps({"instances": [[0] * (LARGE // 3)]}),
    json.dumps({"instances": [[[["16"] * 8] * 8]]}),
    '{"instances": [[[[NaN, 1e999]]]]}',
    '{"instances": [[[[1, 2',
    "0" * 3 * LARGE,
]


@dataclass
class Member:
    """One server: its command, and what it needs in its environment."""

    command: list[str]
    env: Mapping[str, str]


@dataclass
class Running:
    """A server with all that it has started."""

    process: subprocess.Popen
    port: int

    def processes(self) -> dict[int, list[str]]:
        """By number, with what /proc/PID/stat says from the state on."""
        everything = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                everything[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        found, looked_at = {self.process.pid}, set()
        while found != looked_at:
            looked_at = set(found)
            found |= {pid for pid, fields in everything.items() if int(fields[1]) in looked_at}
        return {pid: everything[pid] for pid in found & set(everything)}

    def send(self, sign: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, sign)

    @contextmanager
    def awake(self) -> Iterator["Running"]:
        """Goes on for as long as this lasts."""
        self.send(signal.SIGCONT)
        try:
            yield self
        finally:
            self.send(signal.SIGSTOP)

    def processor_seconds(self) -> float:
        ticks = sum(int(fields[11]) + int(fields[12]) for fields in self.processes().values())
        return ticks / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """What all processes hold, each page that several share counted once."""
        kilobytes = 0
        for pid in self.processes():
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kilobytes * 1024 / 1e6


class Servers:
    """All that are measured, with what was found of each, round by round.

    Args:
        members: by name.
        model: the ONNX that all serve.
        seconds: of the load on each in a round.
    """

    def __init__(self, members: Mapping[str, Member], model: Path, seconds: float) -> None:
        self.members, self.seconds = members, seconds
        self.rounds: dict[str, list[dict[str, float]]] = {name: [] for name in members}
        images = np.random.default_rng(0).integers(0, 17, (BODIES, 1, 1, 8, 8), np.uint8)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._bodies = [json.dumps({"instances": image.tolist()}) for image in images]
        self._right = [answer(session.run(None, {"inputs": image})[0])["predictions"] for image in images]

    def round(self, names: Sequence[str]) -> None:
        """Starts all, loads them in slices, and sees what they hold."""
        values: dict[str, dict[str, float]] = {name: {} for name in names}
        with ExitStack() as stack:
            running = {name: stack.enter_context(self._started(name, values[name])) for name in names}
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for number in range(SLICES):
                for name in names[:: -1 if number % 2 else 1]:
                    with running[name].awake() as server:
                        before = server.processor_seconds()
                        one = self._load(server.port, self._bodies, self.seconds / SLICES, WARM)
                        used = server.processor_seconds() - before
                    self._check(one["answers"])
                    found[name].append(one | {"used": used})
            for name, slices in found.items():
                times = sorted(each for one in slices for each in one["times"])
                values[name] |= {
                    "requests a second": len(times) / sum(one["seconds"] for one in slices),
                    "p50": times[len(times) // 2] * 1e3,
                    "p99": times[len(times) * 99 // 100] * 1e3,
                    "processor time of a request": sum(one["used"] for one in slices)
                    / sum(len(one["answers"]) for one in slices)
                    * 1e3,
                    "memory": running[name].megabytes(),
                }
                with running[name].awake() as server:
                    values[name]["most memory, hostile bodies"] = self._hostile(server)
        for name in names:
            self.rounds[name].append(values[name])

    @contextmanager
    def _started(self, name: str, values: dict[str, float]) -> Iterator[Running]:
        """One server that has answered, and does nothing until it is awake."""
        member, port = self.members[name], _free_port()
        with (WORK / f"{name}.log").open("w") as log:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [word.replace("PORT", str(port)) for word in member.command],
                env=clean_env(**member.env, PORT=str(port)),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=HERE,
            )
        running = Running(process, port)
        try:
            self._check([[0, 200, _first_answer(running, self._bodies[0])]])
            values["first answer"] = time.perf_counter() - begin
            running.send(signal.SIGSTOP)
            yield running
        except Exception as error:
            raise RuntimeError(f"{name}: {error}; see {WORK / f'{name}.log'}") from error
        finally:
            running.send(signal.SIGKILL)
            process.wait()

    def _load(self, port: int, bodies: list[str], seconds: float, warm: float = 0) -> dict[str, Any]:
        asked = json.dumps({"port": port, "bodies": bodies, "seconds": seconds, "warm": warm})
        command = [sys.executable, str(HERE / "serve_load.py")]
        return json.loads(
            subprocess.run(command, check=True, input=asked, stdout=subprocess.PIPE, text=True).stdout
        )

    def _check(self, answers: list[list[Any]]) -> None:
        for number, status, text in answers:
            assert status == 200, f"{status} {text}"
            (found,), (right,) = json.loads(text)["predictions"], self._right[number]
            assert found["index"] == right["index"], text
            assert np.allclose(found["probabilities"], right["probabilities"], atol=CLOSE), text

    def _hostile(self, server: Running) -> float:
        """The most memory that was seen while large and broken bodies came, in megabytes."""
        seen, done = [server.megabytes()], threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                seen.append(server.megabytes())

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            self._load(server.port, HOSTILE, self.seconds / 2)
        finally:
            done.set()
            watching.join()
        return max(seen)


def measure(project: BakedProject, rounds: int, seconds: float, say: Callable[..., None]) -> list[Result]:
    """Loads the servers in turn.

    Args:
        project: a bake with its environment and the digits.
        rounds: that count.
        seconds: of the load on each in a round.
        say: takes lines and tables.
    """
    model = exported(project)
    members = {"ours": ours(project, model.parent)}
    for name, pinned in PINNED.items():
        try:
            members[name] = theirs(project, name, pinned, model)
        except AssertionError as error:
            say(f"{name} is not measured: its environment cannot be made.\n{error}")
    servers = Servers(members, model, seconds)
    for number in range(-1, rounds):  # the first does not count
        servers.round(list(members)[:: -1 if number % 2 else 1])
    found = {name: values[1:] for name, values in servers.rounds.items()}
    say(table(found))
    return [
        summary(
            "serve",
            f"{what}: ours / {name}",
            ratios([one[what] for one in found["ours"]], [one[what] for one in found[name]]),
            aim=AIMS.get(what, ""),
        )
        for what in UNITS
        for name in members
        if name != "ours"
    ]


def table(found: Mapping[str, list[dict[str, float]]]) -> Table:
    """The medians of all servers, which say something about this machine only."""
    shown = Table("", *(f"{what}, {unit}" for what, unit in UNITS.items()), title="digits, 4 connections")
    for name, rounds in found.items():
        shown.add_row(name, *(f"{statistics.median(one[what] for one in rounds):.4g}" for what in UNITS))
    return shown


def exported(project: BakedProject) -> Path:
    """The ONNX of a short training of the digits."""
    run = "bench-serve"
    words = ("experiment=digits_cnn", "trainer.max_epochs=2", "trainer.device=cpu", f"run.id={run}")
    project.run("uv", "run", "--frozen", "train", *words)
    project.run("uv", "run", "--frozen", "models", "export", f"run={run}")
    return project.folder / f"runs/{run}/export/model.onnx"


def ours(project: BakedProject, folder: Path) -> Member:
    """`serve` in the environment that its image has."""
    environment = WORK / "serve"
    sync = ("uv", "sync", "--quiet", "--frozen", "--only-group", "serve")
    project.run(*sync, UV_PROJECT_ENVIRONMENT=str(environment))
    command = [str(environment / "bin/serve"), f"folder={folder}", "port=PORT"]
    return Member(command, {"SERVE_WORKERS": str(WORKERS)})


def theirs(project: BakedProject, name: str, pinned: str, model: Path) -> Member:
    """One of the others, beside what of ours it needs, in the versions of the bake's lock.

    Raises:
        AssertionError: it cannot be installed; with what uv said.
    """
    folder, requirements = WORK / name.lower(), WORK / "serve.txt"
    export = (
        "uv",
        "export",
        "--quiet",
        "--frozen",
        "--only-group",
        "serve",
        "--no-emit-local",
        "--no-hashes",
    )
    project.run(*export, "--output-file", str(requirements))
    project.run("uv", "venv", "--quiet", "--clear", "--python", ".venv/bin/python", str(folder))
    install = ("uv", "pip", "install", "--quiet", "--exclude-newer", "7 days")
    project.run(
        *install, "--constraint", str(requirements), pinned, "onnxruntime", "numpy", VIRTUAL_ENV=str(folder)
    )
    programs = {
        "LitServe": [str(folder / "bin/python"), "served_by_litserve.py"],
        "BentoML": [
            *(str(folder / "bin/bentoml"), "serve", "served_by_bentoml:Service"),
            *("--host=127.0.0.1", "--port=PORT"),
        ],
    }
    home = {"BENTOML_HOME": str(WORK / "bentoml-home"), "BENTOML_DO_NOT_TRACK": "True"}
    return Member(programs[name], {"MODEL": str(model), **home})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _first_answer(server: Running, body: str) -> str:
    """The first answer that is one; a server that starts refuses connections, or says that it is not ready."""
    until, said = time.perf_counter() + STARTS, "nothing"
    while time.perf_counter() < until and server.process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=STARTS)
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            got = connection.getresponse()
            said = got.read().decode()
            if got.status == 200:
                return said
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        finally:
            connection.close()
        time.sleep(0.005)
    raise RuntimeError(f"it does not start: {said}")
