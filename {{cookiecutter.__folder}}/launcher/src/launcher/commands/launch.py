"""`uv run launch cloud=...`: train somewhere else, with the settings of `uv run train`.

Everything that can be wrong is looked at before anything is started: first the settings, then the price, then what
the provider can tell. Nothing here imports torch or talks to a network before it has to.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .. import job as words
from ..errors import UserError
from ..job import Job, Kind, Search
from ..planning import predicting
from ..planning.plan import Plan, make_plan
from ..planning.training import check_training
from ..settings import schema
from ..settings.cli import hydra_program

if TYPE_CHECKING:
    from ..planning.machines import Choice
    from ..providers import Service
    from ..records import Record

MULTIRUN = "One launch is one run; a sweep is launched by sweep=NAME, a file of configs/sweep/."
NODES = "cloud={} trains on one machine{}; leave cloud.nodes={} out there."
NOTEBOOKS = "cloud={} opens no notebook{}; `make notebook` opens one here."
SWEEPS = "cloud={} runs no sweeps{}; `uv run train {}` runs it here."

schema.register()


def main() -> None:
    """Launch one run, or one sweep."""
    words = sys.argv[1:]
    sweep = next((word for word in words if re.match(r"\+?sweep=(?!null$).", word)), None)
    spaces: tuple[str, ...] = ()
    try:
        sys.argv[1:] = words = predicting.for_launch(words)
    except UserError as error:
        sys.exit(str(error))
    if {"-m", "--multirun"} & set(words) or "hydra.mode=multirun" in (w.lower() for w in words):
        sys.exit(MULTIRUN)
    if sweep:
        from ..sweeps.search import for_launch

        sys.argv[1:], spaces = for_launch(words)
    program = hydra_program("launch", check=schema.check_launch)(
        lambda config: launch(config, sweep, spaces)
    )
    program()


def launch(config: DictConfig, sweep: str | None, spaces: tuple[str, ...]) -> None:
    """Say what the run costs at most, check, and start it.

    Args:
        sweep: the word that names one, as typed.
        spaces: what was typed to be looked for, beside what the sweep's file says.
    """
    from ..providers import connect

    refuse_impossible(config, sweep)
    search, constants = None, ()
    if sweep:
        from ..sweeps.search import search_of

        search, constants = search_of(HydraConfig.get(), config, spaces)
    predicts = config.job == Kind.predict.value
    if predicts:
        predicting.choose_machine(config, HydraConfig.get().overrides.task)
    choice = pick(config, search)
    plan = make_plan(config, HydraConfig.get().overrides.task, search, constants)
    if not predicts:
        check_training(*trainings(plan.job.args, search))
    # A dry run's output is JSON and nothing else.
    tell = sys.stderr if config.dry_run else sys.stdout
    print(choice.text() + plan.text(), file=tell, flush=True)
    plan.guard()
    service = connect(config.cloud)
    if config.dry_run and not config.doctor_only:
        job = replace(plan.job, image=service.reference())
        print(_unresolved(service, plan, job), end="", file=tell, flush=True)
        print(json.dumps(service.request(job), indent=2))
        return
    job = examine(service, plan)
    if predicts:
        job, new, said = predicting.settle(job, config)
        print(f"predicts  {said}", file=tell, flush=True)
        if not new and not config.doctor_only:
            return
    if config.doctor_only:
        show_machines(config.cloud, service)
        print("Nothing was started (doctor_only=true).", file=tell)
        return
    submit(service, plan, job)


def pick(config: DictConfig, search: Search | None) -> Choice:
    """Put the machine that is taken in place of those that would do."""
    from ..planning.machines import Choice, choose
    from ..providers import connect, starts

    cloud = config.cloud
    if len(schema.machines(cloud)) == 1:
        choice = Choice(schema.machines(cloud)[0])
    else:
        times = starts(cloud, str(config.job)) * (search.trials if search else 1)
        ask = None if config.dry_run else getattr(connect(cloud), "allowance", None)
        nodes = cloud.nodes * (search.parallel if search else 1)
        try:
            choice = choose(config, nodes, times, ask)
        except UserError:
            if config.doctor_only:  # which is there to show what can be had
                show_machines(cloud, connect(cloud))
            raise
    cloud.machine = choice.name
    return choice


def show_machines(cloud: DictConfig, service: Service) -> None:
    """Print what the account may have, where that costs anything."""
    from ..planning.machines import table

    if allowance := getattr(service, "allowance", None):
        print(f"\nIn {cloud.region}, by the quota of cloud={cloud.backend}:")
        for line in table(cloud, allowance):
            print(line)
        if where := getattr(service, "quota_page", None):
            print(f"More quota: {where()}\n")


def refuse_impossible(config: DictConfig, sweep: str | None) -> None:
    """Refuse what the backend never does, and names that its provider knows nothing by. Asks nobody."""
    from ..providers import connect

    cloud = config.cloud
    if sweep:
        refuse_without(cloud, "SWEEPS", SWEEPS, sweep)
    if cloud.nodes > 1:
        refuse_without(cloud, "NODES", NODES, cloud.nodes)
    if config.job == Kind.predict.value:
        predicting.check(config)
    if config.job == Kind.notebook.value:
        refuse_without(cloud, "NOTEBOOKS", NOTEBOOKS, config.job)
        if cloud.nodes > 1:
            raise UserError(f"A notebook is one machine, not {cloud.nodes}; leave out cloud.nodes.")
    if check := getattr(connect(cloud), "check_names", None):
        check()


def refuse_without(cloud: DictConfig, ability: str, sentence: str, what: object) -> None:
    """Refuse what a backend cannot do, and name those of this project that can.

    Args:
        ability: SWEEPS, NODES or NOTEBOOKS, which a backend's module says that it has.
        sentence: with room for the backend, the others and `what`.
    """
    from ..providers import abilities

    if ability in abilities(str(cloud.backend)):
        return
    able = [name for name in schema.backends() if ability in abilities(name)]
    others = f", but cloud={' and cloud='.join(able)} can" if able else ""
    raise UserError(sentence.format(cloud.backend, others, what))


def trainings(args: Sequence[str], search: Search | None) -> list[list[str]]:
    """Give the settings that are checked: the training's, and of a sweep those at both ends of what it looks for."""
    if not search:
        return [list(args)]
    ends = [
        (each.choices[0], each.choices[-1]) if each.choices else (each.low, each.high)
        for each in search.parameters
    ]
    names = [each.name for each in search.parameters]
    return [
        [*args, *(f"{name}={pair[end]}" for name, pair in zip(names, ends, strict=True))]
        for end in (0, 1)
    ]


def _unresolved(service: Service, plan: Plan, job: Job) -> str:
    """Say what only a provider can tell, and a dry run therefore leaves open."""
    lines = []
    word, what = getattr(service, "UNKNOWN", ("", ""))
    if word and plan.config.cloud.project is None and word in job.image:
        lines.append(f"{word} stands for the {what} of your login; give cloud.project=...")
    if plan.price.region and "@sha256:" not in job.image:
        lines.append(f"The digest of {job.image} is looked up when the job is started.")
    if job.kind is Kind.predict and (line := predicting.open_name(plan.config)):
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def examine(service: Service, plan: Plan) -> Job:
    """Print each thing that would make the job fail, with its remedy, and end if one forbids the launch.

    Returns:
        the job with its image named for good, and the commit that it runs.
    """
    problems: list[words.Problem] = []
    try:
        job = replace(plan.job, image=service.image())
    except UserError as error:
        job = replace(plan.job, image=service.reference())
        problems = service.check(job) or [words.Problem(str(error).rstrip("."), "see above")]
    else:
        problems = service.check(job)
    for problem in problems:
        print(f"{'stop' if problem.fatal else 'note'}     {problem}", file=sys.stderr, flush=True)
    if any(problem.fatal for problem in problems):
        sys.exit(1)
    env = dict(job.env)
    if "@sha256:" in job.image:
        env[words.RUN_IMAGE] = job.image
    commit = plan.commit or service.revision(job.image)
    if commit:
        env[words.RUN_COMMIT] = commit
    return replace(job, env=env)


def submit(service: Service, plan: Plan, job: Job) -> None:
    """Set its worst case aside, start the job, keep a record of it, and say how to get at it."""
    from ..money import ledger

    refuse_active(service, plan, job.run_id)
    now = service.now()
    settle_earlier(service, plan, job.run_id)
    record = plan.record(job, now)
    if plan.worst_case:
        cap = plan.config.cloud.max_month_usd
        ledger.reserve(plan.home, record.key, job.run_id, plan.worst_case, cap, now)
    try:
        record = start(service, plan, job, record)
    except UserError:
        # Where it cannot be told whether a job runs, the reservation stays; the janitor finds out.
        with suppress(UserError):
            status = service.status(job.run_id)
            if plan.worst_case and (not status or status.state.over):
                ledger.release(plan.home, record.key)
        raise
    print(summary(record, "{0:<9} {1}"), flush=True)
    write_github_summary(record)
    hint = getattr(service, "hint", None)
    if hint and job.kind is Kind.notebook:
        print(hint(job.run_id))
    follow = getattr(service, "follow", None)  # what runs on this machine is watched to its end
    if follow and (status := follow(job.run_id)):
        sys.exit(status)


def start(service: Service, plan: Plan, job: Job, record: Record) -> Record:
    """Start the job. A record of it is there before, for then nothing can be at work that nobody knows of."""
    from .. import records
    from ..planning import code

    if plan.packed and (uri := job.env.get(words.RUN_CODE)):
        where = "uploaded" if code.upload(plan.packed, uri) else "in the bucket already"
        print(f"code      {len(plan.packed) / 1000:.0f} kB, {where}")
    if plan.again:
        records.reopen(plan.home, job.run_id)
    records.write(plan.home, record)
    handle = service.submit(job)
    record = replace(record, job=handle.name, url=handle.url)
    records.write(plan.home, record)
    return record


def where(service: Service, earlier: Record | None) -> Service:
    """Give the service that an earlier launch of a run went to, with whatever backend and region; else this one."""
    from ..records.places import places

    for place in places(earlier.backend) if earlier else ():
        return place.at(earlier).service if earlier else service
    return service


def settle_earlier(service: Service, plan: Plan, run_id: str) -> None:
    """Put what an earlier launch of the run did cost in place of what was set aside for it."""
    from .. import records
    from ..money import ledger

    if not plan.again or not (earlier := records.read(plan.home, run_id)):
        return
    status = where(service, earlier).status(run_id)
    seconds = status.seconds if status else max(0.0, plan.earlier[0] - earlier.earlier_seconds)
    ledger.settle(plan.home, earlier.key, earlier.cost(seconds))


def refuse_active(service: Service, plan: Plan, run_id: str) -> None:
    """Refuse a second job in one run's folder and, where asked to, a second one of a branch.

    Raises:
        UserError: naming the job that is at work.
    """
    from .. import records

    earlier = records.read(plan.home, run_id) if plan.again else None
    status = where(service, earlier).status(run_id) if plan.again else None
    if status and not status.state.over:
        raise UserError(
            f"Run {run_id} is {status.state.name}; wait for it, end it by `uv run runs stop {run_id}`, "
            "or choose another run.id."
        )
    if not plan.config.cloud.one_per_branch or not plan.branch:
        return
    for other in service.list():
        known = None if other.state.over else records.read(plan.home, other.run_id)
        if known and known.branch == plan.branch and _alike(known, plan):
            raise UserError(
                f"Run {other.run_id} of branch {plan.branch} is {other.state.name}, and one at a time was asked "
                f"for: wait for it, or end it by `uv run runs stop {other.run_id}`."
            )


def _alike(other: Record, plan: Plan) -> bool:
    """Tell whether one of the two has to wait for the other: trainings and predictions do not."""
    return (other.kind == Kind.predict.value) == (plan.job.kind is Kind.predict)


def summary(record: Record, line: str) -> str:
    """Give what a person needs to know of a launched run, each fact as one `line` of name and value."""
    run_id, price = record.run_id, f"{record.hourly_usd:.2f} USD an hour"
    facts: dict[str, Any] = {
        "run": run_id,
        "job": record.url or record.job,
        "machine": f"{record.nodes} x {record.machine} ({record.type})"
        + (f" in {record.region}" if record.region else "")
        + (", spot" if record.spot else ""),
        "cost": f"{price} and node, {record.worst_case_usd:.2f} USD at most ({record.max_hours:g} h)",
        "log": f"uv run runs logs {run_id}",
        "stop": f"uv run runs stop {run_id}",
        "results": _results(record),
    }
    return "\n".join(line.format(name, value) for name, value in facts.items())


def _results(record: Record) -> str:
    if record.kind == Kind.predict.value:
        return next(word.partition("=")[2] for word in record.args if word.startswith("output="))
    return f"uv run runs fetch {record.run_id}"


def write_github_summary(record: Record) -> None:
    """Add a table to the summary page of the workflow that runs this, if one does."""
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        facts = summary(record, "| {0} | {1} |")
        launched = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        what = "Predictions" if record.kind == Kind.predict.value else "Training"
        text = f"### {what} launched, {launched}\n\n| | |\n|---|---|\n{facts}\n"
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
