"""Pairs measured in turn: only what ran at nearly the same moment on a machine can be compared."""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Args:
        group: rows of one group stand together.
        name: what is compared with what.
        value: the median over all rounds.
        least: of all rounds.
        most: of all rounds.
        unit: "x" for a ratio, "%" for a share.
        aim: what the value should be, such as ">= 0.98"; "" where there is no aim.
        rounds: how many there were.
    """

    group: str
    name: str
    value: float
    least: float
    most: float
    unit: str = "x"
    aim: str = ""
    rounds: int = 1

    @property
    def reached(self) -> bool | None:
        """Whether the value is what it should be; None where nothing is asked of it."""
        sign, _, bound = self.aim.partition(" ")
        compare = {">=": float.__ge__, ">": float.__gt__, "<": float.__lt__, "<=": float.__le__}.get(sign)
        return compare(float(self.value), float(bound)) if compare else None


def alternate(
    members: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Measures all members in turn, round after round.

    Every other round goes backwards, so that nobody always comes after the same neighbour.

    Args:
        members: each runs once and returns its own time, in seconds.
        rounds: that count.
        warmup: rounds before them that do not.

    Returns:
        the seconds of each member, one for each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in members}
    for number in range(-warmup, rounds):
        for name in list(members)[:: -1 if number % 2 else 1]:
            took = members[name]()
            if number >= 0:
                seconds[name].append(took)
    return seconds


def timed(command: Sequence[str | Path], status: int = 0, **options: Any) -> float:
    """Seconds that a program takes from its start to its end.

    Args:
        status: the exit status that it should have.
        options: for subprocess.run, such as cwd and env.

    Raises:
        RuntimeError: it had another one.
    """
    begin = time.perf_counter()
    result = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", **options)
    took = time.perf_counter() - begin
    if result.returncode != status:
        words = " ".join(map(str, command))
        raise RuntimeError(f"{words} exited {result.returncode}: {result.stdout}\n{result.stderr}")
    return took


def summary(group: str, name: str, values: list[float], unit: str = "x", aim: str = "") -> Result:
    """The median and the range of one value a round."""
    return Result(group, name, statistics.median(values), min(values), max(values), unit, aim, len(values))


def ratios(above: list[float], below: list[float]) -> list[float]:
    """One above the other, round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def save(path: Path, results: list[Result]) -> None:
    """Writes results for the process that asked for them."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> list[Result]:
    """Reads what `save` has written."""
    return [Result(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
