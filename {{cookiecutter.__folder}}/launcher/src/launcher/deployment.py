"""What it is to let a version of a model answer somewhere: the words, and what each place has to know how to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Protocol

from .errors import UserError

# Asks a service: takes a path and the JSON to send, None for none; gives the status and the JSON of the answer.
Ask = Callable[[str, Any], tuple[int, Any]]
# Proves that a service answers as the version should. Raises UserError where it does not.
Check = Callable[[Ask], None]
MONTH = 730  # hours


class SilentError(UserError):
    """A service does not answer, or not yet."""


@dataclass(frozen=True)
class Order:
    """What is to be deployed.

    Args:
        model: its name.
        version: its number.
        image: that serves it: here by its id, elsewhere by its digest.
        settings: of the place, as they were typed; those of its `SETTINGS` only.
        uri: of the folder of the version.
    """

    model: str
    version: int
    image: str
    settings: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""

    def __str__(self) -> str:
        return f"{self.model}@v{self.version}"


@dataclass(frozen=True)
class Deployment:
    """A version that answers somewhere.

    Args:
        place: where, as in to=PLACE.
        url: at which.
        percent: of the requests that it gets.
        state: what is to be said of it besides; empty where it answers as it should.
        until: its last day, as the place itself tells it, empty for none; None where the place keeps no such thing.
    """

    model: str
    version: int
    place: str
    url: str
    percent: int = 100
    state: str = ""
    until: str | None = None

    def __str__(self) -> str:
        return f"{self.model}@v{self.version}"


def hours_left(settings: Mapping[str, str]) -> float:
    """Give the hours to the end of the last day, a month at most.

    Raises:
        UserError: it is no date, or over.
    """
    text = settings.get("until")
    if text is None:
        return MONTH
    try:
        end = datetime.combine(date.fromisoformat(text), datetime.max.time(), UTC)
    except ValueError:
        end = datetime.min.replace(tzinfo=UTC)
    left = (end - datetime.now(UTC)).total_seconds() / 3600
    if left < 0 or f"{end:%Y-%m-%d}" != text:  # weeks and the like are dates too
        raise UserError(f"until={text} is no day to come; give one such as until=2026-12-31.")
    return min(MONTH, left)


def whole(settings: Mapping[str, str], name: str, most: int, usual: str = "1") -> int:
    """Give a setting that is a whole number from 1 to `most`.

    Raises:
        UserError: it is none.
    """
    text = settings.get(name) or usual
    # isdigit() takes characters of other scripts, which int() or the service does not; and int() refuses thousands of digits.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise UserError(f"{name}={text} is no number from 1 to {most}; correct it.")
    return int(text)


def refuse_above(order: Order, usd: float, cap: float, said: str) -> None:
    """Refuse what could cost more than its `max_usd`, or else than the cap.

    Args:
        usd: to its end, a month at most.
        cap: USD a month.
        said: what it costs, as the end of a sentence about it: "could cost about 3.20 USD a month".

    Raises:
        UserError: it could; or `max_usd` is no number.
    """
    text = order.settings.get("max_usd", str(cap))
    try:
        most = float(text)
    except ValueError:
        raise UserError(f"max_usd={text} is no number of USD; correct it.") from None
    if not usd <= most:  # so that "nan" is refused too
        raise UserError(
            f"{order} {said}, and {most:g} are the most; if that is meant, give max_usd={usd + 1:.0f}, or an earlier end "
            "by until=DATE."
        )


class Target(Protocol):
    """A place where versions answer.

    Attributes:
        SETTINGS: that it has.
        REMOTE: whether it takes its images from a registry.
    """

    SETTINGS: tuple[str, ...]
    REMOTE: bool

    @property
    def where(self) -> str:
        """The project and the region that it is in; empty where there is only one."""
        ...

    def at(self, where: str) -> Target:
        """Give the same place in another project and region, as `where` has told them; empty for this one."""
        ...

    def prepare(self, order: Order) -> float:
        """Say what it will cost and refuse what cannot work, before an image is made. Changes nothing.

        Returns:
            USD that it could cost to its end, a month at most, with what is kept beside it.

        Raises:
            UserError: a setting is wrong, or something is missing.
        """
        ...

    def deploy(self, order: Order, check: Check) -> Deployment:
        """Start a version beside the one that answers, and let it answer in its place once the check has passed.

        Raises:
            UserError: it does not start or does not pass; then all is as before.
        """
        ...

    def rollback(self, model: str) -> Deployment:
        """Let the version answer that did so before.

        Raises:
            UserError: there is none.
        """
        ...

    def remove(self, model: str) -> bool:
        """Remove all that was made for a model; tell whether there was anything.

        Raises:
            UserError: it cannot be removed.
        """
        ...

    def deployments(self) -> list[Deployment]:
        """Give what answers there, of this project.

        Raises:
            UserError: it cannot be asked.
        """
        ...
