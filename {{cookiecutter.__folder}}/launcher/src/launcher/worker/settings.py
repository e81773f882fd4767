"""What the worker is told by its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import job
from ..errors import UserError
from ..identity import check_run_id


@dataclass(frozen=True)
class Settings:
    """What the environment says; each is explained in `job.py`."""

    run_id: str
    output: str | None
    data: str | None
    code: str | None
    secrets: dict[str, str]
    max_seconds: float | None
    max_attempts: int | None
    events: str | None = None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            UserError: naming the variable that is missing or wrong.
        """

        def number(name: str) -> float | None:
            text = env.get(name)
            try:
                return float(text) if text else None
            except ValueError:
                raise UserError(f"{name}={text} is not a number.") from None

        run_id = env.get(job.RUN_ID, "")
        if not run_id:
            raise UserError(f"{job.RUN_ID} is not set; start the worker with `uv run launch`.")
        check_run_id(run_id)
        pairs = [pair.partition("=") for pair in env.get(job.RUN_SECRETS, "").split(",") if pair]
        if wrong := [name for name, _, resource in pairs if not name or not resource]:
            raise UserError(f"{job.RUN_SECRETS} names no resource for {', '.join(wrong)}.")
        attempts = number(job.RUN_MAX_ATTEMPTS)
        return cls(
            run_id=run_id,
            output=(env.get(job.RUN_OUTPUT) or "").rstrip("/") or None,
            data=env.get(job.RUN_DATA) or None,
            code=env.get(job.RUN_CODE) or None,
            secrets={name: resource for name, _, resource in pairs},
            max_seconds=number(job.RUN_MAX_SECONDS),
            max_attempts=None if attempts is None else int(attempts),
            events=env.get(job.RUN_EVENTS) or None,
        )
