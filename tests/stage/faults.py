"""Requests that go wrong on their way, or at a service that is not itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from stage.rest import Answer, LostAnswerError, Request, RequestError


@dataclass
class Fault:
    """What goes wrong with requests.

    Args:
        method, path: regular expressions of those that are meant.
        times: how many of them; None for all.
        status: what is answered instead.
        lost: whether the request is carried out all the same, and its answer is lost.
    """

    method: str
    path: str
    times: int | None
    status: int
    lost: bool
    hits: int = 0

    def meets(self, request: Request) -> bool:
        met = re.fullmatch(self.method, request.method) and re.search(self.path, request.path)
        if not met or self.times == self.hits:
            return False
        self.hits += 1
        return True


class Faults:
    """The faults of one service."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self, method: str = ".*", path: str = "", times: int | None = 1, status: int = 503, lost: bool = False
    ) -> Fault:
        """Has the next requests fail; see `Fault`."""
        self._faults.append(Fault(method, path, times, status, lost))
        return self._faults[-1]

    def heal(self) -> None:
        self._faults.clear()

    def around(self, request: Request, answer: Callable[[Request], Answer]) -> Answer:
        """Answers a request, unless it meets a fault."""
        fault = next((one for one in self._faults if one.meets(request)), None)
        if fault and not fault.lost:
            raise RequestError(fault.status, "The service is currently unavailable.")
        given = answer(request)
        if fault:
            raise LostAnswerError
        return given
