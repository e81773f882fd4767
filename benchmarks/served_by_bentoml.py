"""The model of served.py behind BentoML."""

# pyright: reportMissingImports=false

from typing import Any

import bentoml
from served import WORKERS, Digits, answer


@bentoml.service(workers=1, threads=WORKERS, logging={"access": {"enabled": False}})
class Service:
    """What BentoML asks for."""

    def __init__(self) -> None:
        self.digits = Digits()

    @bentoml.api
    def predict(self, instances: list[Any]) -> dict[str, Any]:
        return answer(self.digits.logits(instances))
