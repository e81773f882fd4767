"""How a job's arguments and variables reach its container: in the request, or by the bucket where a service does not take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UserError
from ..job import RUN_MORE, Job

MORE = "arguments.json"  # in the run's folder


@dataclass(frozen=True)
class Handed:
    """What goes which way.

    Args:
        args: in the request; None where they do not fit there.
        environment: in the request.
        more: what is written to the bucket, as JSON; empty where nothing is.
    """

    args: tuple[str, ...] | None
    environment: dict[str, str]
    more: str = ""


def hand(
    job: Job,
    service: str,
    kept: Mapping[str, str],
    rest: Mapping[str, str],
    args: tuple[str, ...] | None,
) -> Handed:
    """Let the bucket carry what a request does not.

    Args:
        service: for people.
        kept, rest: variables that the request takes, and those that it does not.
        args: None where the request does not take them.

    Raises:
        UserError: there is no bucket to carry it.
    """
    if not rest and args is not None:
        return Handed(args, dict(kept))
    if not job.output:
        what = ", ".join(rest) or "the arguments of the training"
        raise UserError(
            f"{service} does not take {what}, too long or too many; give cloud.bucket, by which they can travel."
        )
    given = None if args is not None else list(job.args)
    more = json.dumps({"args": given, "env": dict(rest)}, indent=2) + "\n"
    return Handed(args, {**kept, RUN_MORE: f"{job.output}/{MORE}"}, more)
