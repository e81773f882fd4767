"""Data that take their time: a training that waits for somebody to end it costs the other tests no processor meanwhile."""

from baking import BakedProject

CODE = '''\
"""Data that take their time."""

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from {package}.{module} import {name}


class Slow({name}):
    """The same samples, later.

    Args:
        pause: seconds for each batch.
        gate: path; until there is such a file the batches after the 60th wait. Empty: they do not.
    """

    def __init__(self, pause: float, gate: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.pause, self.gate, self.batches = pause, gate, 0

    def on_device(self, inputs: Any, targets: Tensor) -> tuple[Any, Tensor]:
        time.sleep(self.pause)
        self.batches += 1
        while self.gate and self.batches > 60 and not Path(self.gate).exists():
            time.sleep(0.1)
        return super().on_device(inputs, targets)
'''


def digits(project: BakedProject) -> None:
    """Writes `data=slow`: the digits, a hundred batches a second at most."""
    package = project.package
    code = CODE.format(package=package, module="data.digits", name="Digits")
    (project.folder / f"src/{package}/data/slow.py").write_text(code)
    configs = project.folder / "configs/data"
    text = (configs / "digits.yaml").read_text()
    text = text.replace(f"{package}.data.digits.Digits", f"{package}.data.slow.Slow")
    (configs / "slow.yaml").write_text(f"{text}pause: 0.01\n")


def table(project: BakedProject) -> None:
    """Writes `experiment=slow`: the table of diabetes, twenty batches a second at most."""
    package = project.package
    code = CODE.format(package=package, module="examples.diabetes", name="Diabetes")
    (project.folder / f"src/{package}/examples/slow.py").write_text(code)
    configs = project.folder / "configs/experiment"
    text = (configs / "diabetes.yaml").read_text()
    old = f"{{_target_: {package}.examples.diabetes.Diabetes, seed: 0}}"
    assert old in text
    new = f'{{_target_: {package}.examples.slow.Slow, seed: 0, pause: 0.05, gate: ""}}'
    (configs / "slow.yaml").write_text(text.replace(old, new))
