"""A month of pushes that go wrong in every way, in simulated time: what is spent against the cap, and what runs too long.

Runs inside a bake, with its own launch, ledger and janitor; only the cloud and the clock are simulated. Launches come at
random, some at the same moment; machines are preempted and replaced, calls fail before or after their effect, workflows die
half-way, some trainings never end, and for some machines the provider's own time limit does nothing.
"""

# hydra and the baked package are not in the environment of the template's own tools
# pyright: reportMissingImports=false

import contextlib
import importlib
import io
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from measure import Result, save, summary


def launcher(name: str) -> Any:
    """A module of the launcher that is measured."""
    return importlib.import_module(f"launcher.{name}")


words, records, ledger = launcher("job"), launcher("records"), launcher("money.ledger")
State, UserError = words.State, launcher("errors").UserError

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = 30
CAP = 125.0  # USD a month
LABELS = {"project": "simulated"}
PUSHES = 10  # a day; some of them two at the same moment
MACHINES = ("cpu", "t4", "l4", "a100")
JANITOR_EVERY = 6  # hours
PREEMPTED_EVERY = 6.0  # hours, of a machine on spot
CALL_FAILS, ANSWER_LOST, WORKFLOW_DIES, NEVER_ENDS, JANITOR_DIES = 0.03, 0.05, 0.05, 0.05, 0.05
LIMIT_IS_DEAD = 0.1  # of machines, in the months that show what the janitor is for


class DiedError(BaseException):
    """The runner of a workflow is gone, in the middle of what it did."""


@dataclass
class Machine:
    """One machine: paid from its start to its end."""

    started: datetime
    until: datetime  # when it ends by itself, whatever the reason
    why: Any  # the state of its job then
    allowed: datetime  # until when it may run
    ended: datetime | None = None

    def seconds(self, now: datetime) -> float:
        return ((self.ended or now) - self.started).total_seconds()


@dataclass
class Simulated:
    """One job, over all machines that it has had."""

    job: Any
    name: str
    created: datetime
    hourly: float
    needs: float  # hours of training
    state: Any = None
    machines: list[Machine] = field(default_factory=list)

    @property
    def job_attempts(self) -> int:
        return int(self.job.env.get(words.RUN_MAX_ATTEMPTS, 1))


class Cloud:
    """A provider in simulated time, as the project's backends are."""

    def __init__(self, seed: int, hourly: dict[tuple[str, bool], float], dead: float) -> None:
        self.random, self.hourly, self.time = random.Random(seed), hourly, BEGIN
        self.dead = dead  # share of machines for which the provider's own time limit does nothing
        self.jobs: dict[str, Simulated] = {}
        self.numbers = itertools.count(1)
        self.calm = True

    # What happens by itself

    def advance(self, to: datetime) -> None:
        """Lets time pass: machines end when they have to."""
        for job in self.jobs.values():
            while (machine := job.machines[-1] if job.machines else None) and self._ends(machine, to):
                self._end(job, machine.until, machine.why)
                # The service starts a preempted job again, each time with the whole limit.
                if machine.why is State.preempted and len(job.machines) < job.job_attempts:
                    self.time = machine.until
                    self._start(job)
                elif machine.why is State.preempted:
                    job.state = State.failed
        self.time = to

    def _ends(self, machine: Machine, to: datetime) -> bool:
        return machine.ended is None and machine.until <= to

    def _end(self, job: Simulated, when: datetime, state: Any) -> None:
        machine = job.machines[-1]
        machine.ended = when
        job.needs -= machine.seconds(when) / 3600
        job.state = state

    def _start(self, job: Simulated) -> None:
        hours = job.job.max_hours
        chance = self.random
        allowed = self.time + timedelta(hours=hours)
        ends = [(self.time + timedelta(hours=max(0.01, job.needs)), State.succeeded)]
        if chance.random() >= self.dead:
            ends.append((allowed, State.stopped))
        if job.job.spot:
            lost = timedelta(hours=chance.expovariate(1 / PREEMPTED_EVERY))
            ends.append((self.time + lost, State.preempted))
        until, why = min(ends, key=lambda end: end[0])
        job.machines.append(Machine(self.time, until, why, allowed))
        job.state = State.running

    @contextlib.contextmanager
    def storm(self) -> Iterator[None]:
        """Within it calls fail and workflows die."""
        self.calm = False
        try:
            yield
        finally:
            self.calm = True

    def _happens(self, share: float) -> bool:
        return not self.calm and self.random.random() < share

    def _call(self) -> None:
        if self._happens(CALL_FAILS):
            raise UserError("The service answers 503; try again in a minute.")

    # A backend

    def submit(self, job: Any) -> Any:
        self._call()
        if self._happens(WORKFLOW_DIES):
            raise DiedError
        found = self.jobs.get(job.run_id)
        if found is None:
            endless = self.random.random() < NEVER_ENDS
            needs = 10_000.0 if endless else self.random.lognormvariate(0, 0.8)
            name = f"jobs/{next(self.numbers)}"
            found = Simulated(job, name, self.time, self.hourly[job.machine.name, job.spot], needs)
            self.jobs[job.run_id] = found
        found.job = job
        self._start(found)
        if self._happens(WORKFLOW_DIES):
            raise DiedError
        if self._happens(ANSWER_LOST):
            raise UserError("The connection broke; try again in a minute.")
        return words.Handle(found.name, "https://example.com")

    def status(self, run_id: str) -> Any:
        self._call()
        found = self.jobs.get(run_id)
        return self._status(found) if found else None

    def stop(self, run_id: str) -> None:
        self._call()
        job = self.jobs[run_id]
        if job.machines[-1].ended is None:
            self._end(job, self.time, State.stopped)
        job.state = State.stopped

    def leftovers(self) -> list[Any]:
        self._call()
        return []

    def now(self) -> datetime:
        return self.time

    def list(self) -> list[Any]:
        self._call()
        return [self._status(job) for job in self.jobs.values()]

    def _status(self, job: Simulated) -> Any:
        seconds = sum(machine.seconds(self.time) for machine in job.machines)
        return words.Status(
            job.job.run_id, job.state, job.created, seconds, name=job.name, labels=dict(job.job.labels)
        )

    # What came of it

    def spent(self) -> float:
        """USD for all machines."""
        return sum(job.hourly * machine.seconds(self.time) / 3600 for job, machine in self._machines())

    def too_long(self) -> float:
        """Machine-hours past a deadline."""
        late = (
            ((machine.ended or self.time) - machine.allowed).total_seconds()
            for _, machine in self._machines()
        )
        return sum(max(0.0, seconds) for seconds in late) / 3600

    def _machines(self) -> Iterator[tuple[Simulated, Machine]]:
        return ((job, machine) for job in self.jobs.values() for machine in job.machines)


class Month:
    """One month of a project, with the guards or without."""

    def __init__(self, seed: int, guarded: bool, dead: float, folder: Path) -> None:
        launch, plan, prices = (
            launcher("commands.launch"),
            launcher("planning.plan"),
            launcher("money.prices"),
        )
        self.launch, self.make_plan = launch, plan.make_plan
        costs = {name: prices.price("batch", name, "us-central1") for name in MACHINES}
        hourly = {(name, spot): cost.hourly(spot) for name, cost in costs.items() for spot in (True, False)}
        self.random, self.cloud, self.guarded = random.Random(-seed), Cloud(seed, hourly, dead), guarded
        self.config, self.home = compose(folder), f"{folder}/runs"
        self.refused = self.launched = 0
        self.highest = 0.0  # of what was spent, at any hour

    def run(self) -> None:
        """Goes through the month hour by hour, and a day more for what still runs then."""
        tidy, reports = launcher("janitor.chores").tidy, launcher("janitor.reports")
        reports.publish = lambda *given: ""  # what is reported is not looked at again
        place = launcher("records.places").Place(
            "simulated", str(self.config.cloud.backend), self.cloud, self.home, LABELS, CAP
        )
        for hour in range((DAYS + 1) * 24):
            self.cloud.advance(BEGIN + hour * HOUR)
            if self.guarded and hour % JANITOR_EVERY == 0 and self.random.random() >= JANITOR_DIES:
                with self.cloud.storm(), contextlib.suppress(UserError, DiedError):
                    tidy([place], object(), False, lambda line: None)
            if hour < DAYS * 24:
                self._pushes(hour)
            self.highest = max(self.highest, self.cloud.spent())

    def _pushes(self, hour: int) -> None:
        for _ in range(sum(self.random.random() < PUSHES / 24 / 4 for _ in range(4))):
            minute = timedelta(minutes=self.random.randrange(60))
            self.cloud.advance(max(self.cloud.time, BEGIN + hour * HOUR + minute))
            for _ in range(1 + (self.random.random() < 0.1)):
                self._push()

    def _push(self) -> None:
        config = self.config.copy()
        config.cloud.machine = self.random.choice(MACHINES)
        config.cloud.max_hours = self.random.choice((0.5, 1.0, 2.0, 4.0, 8.0))
        config.cloud.spot = self.random.random() < 0.8
        config.cloud.max_month_usd = CAP if self.guarded else 1e9
        made = self.make_plan(config, ())
        job = replace(made.job, image="example.com/train@sha256:" + "0" * 64)
        self.launched += 1
        try:
            with self.cloud.storm():
                self.launch.submit(self.cloud, made, job)
        except UserError as error:
            self.refused += "max_month_usd" in str(error)
        except DiedError:
            pass


def compose(folder: Path) -> Any:
    """The settings of a launch on Google Cloud Batch, with a folder as bucket."""
    import hydra
    from omegaconf import OmegaConf

    given = ["cloud=batch", f"cloud.bucket={folder}", "cloud.project=simulated", "cloud.max_cost_usd=1000"]
    launcher("settings.cli")
    launcher("settings.schema").register()
    with hydra.initialize_config_dir(str(Path("configs").resolve()), version_base="1.3"):
        config = hydra.compose("launch", given)
    config.cloud.labels = LABELS
    OmegaConf.resolve(config)
    return config


def simulate(seed: int, guarded: bool, dead: float) -> Month:
    """Goes through one month, silently, with a folder as bucket."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        month = Month(seed, guarded, dead, Path(folder))
        month.run()
        return month


def main() -> None:
    """Goes through several months with the guards and without; writes the rows to the given file."""
    seeds = range(1, int(sys.argv[2]) + 1)
    rows: list[Result] = []

    def row(name: str, values: list[float], unit: str = "x", aim: str = "") -> None:
        rows.append(summary("month", name, values, unit, aim))

    for dead, what in ((0.0, ""), (LIMIT_IS_DEAD, f"; {LIMIT_IS_DEAD:.0%} of time limits fail")):
        ours, bare = ([simulate(seed, guarded, dead) for seed in seeds] for guarded in (True, False))
        row(f"a month's spend / its cap{what}", [month.highest / CAP for month in ours], aim="<= 1")
        row(f"without ledger and janitor{what}", [month.highest / CAP for month in bare])
        late = [month.cloud.too_long() for month in ours]
        row(f"machine-hours past a deadline{what}", late, "h", "" if dead else "<= 0")
        row(f"without ledger and janitor{what}", [month.cloud.too_long() for month in bare], "h")
        if not dead:
            row("launches refused for the cap", [100 * month.refused / month.launched for month in ours], "%")
    save(Path(sys.argv[1]), rows)


if __name__ == "__main__":
    main()
