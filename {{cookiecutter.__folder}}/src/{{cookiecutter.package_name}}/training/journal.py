"""What is said of a training while it goes on: lines of the log, and of the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from ..config import TrainerConfig
from .distributed import Processes
from .metrics_log import MetricsLog
from .numbers import StepNumbers, Stopwatch
from .progress import ProgressBar
from .state import Position


@dataclass
class _Line:
    """A line that waits for its numbers."""

    step: int
    epoch: int
    rates: dict[str, float]
    speed: Callable[[], float]


class Journal:
    """Notes each step, and writes a line of the log every `log_every` of them.

    Where a GPU computes, a line is written when the next one begins, and by then the GPU has long had its numbers.

    Args:
        log: where lines go; None in all processes but the first.
        bar: what a person sees.
        position: of the training, of which the numbers since the last line are a part.
    """

    def __init__(
        self,
        log: MetricsLog | None,
        bar: ProgressBar,
        position: Position,
        settings: TrainerConfig,
        optimizer: Optimizer,
        processes: Processes,
    ) -> None:
        self.log, self.bar = log, bar
        self.position, self.settings, self.optimizer = position, settings, optimizer
        self.watch = Stopwatch(processes.device)
        self._numbers = StepNumbers(processes, settings.bad_step == "skip", position.step)
        self._late = processes.device.type == "cuda"
        self._line: _Line | None = None

    def step(self, loss: Tensor, norm: Tensor) -> None:
        """Note a step that `position` counts already: its loss and the gradient's norm, on the device.

        Raises:
            UserError: an earlier step's is no number.
        """
        self._numbers.add(loss, norm)
        self.watch.samples += self.settings.batch_size
        self.bar.step()
        if self.position.step % self.settings.log_every == 0:
            self._end_line()
            speed = self.watch.lap()  # before the numbers: when they have arrived, so has its end
            self._numbers.send()
            groups = [group["lr"] for group in self.optimizer.param_groups if group["params"]]
            names = ["lr", *(f"lr/{number}" for number in range(1, len(groups)))]
            rates = dict(zip(names, groups, strict=True))
            epoch = self.position.epoch + 1
            self._line = _Line(self.position.step, epoch, rates, speed)
            if not self._late:
                self._end_line()

    def settle(self) -> None:
        """Read all that is still on its way.

        Raises:
            UserError: a step's loss or gradient is no number.
        """
        self._end_line()
        self._numbers.send()
        self._read()

    def validation(self, values: dict[str, float]) -> dict[str, float]:
        """Write the line of a validation, and give it."""
        written = self._write(self.position.step, self.position.epoch + 1, values)
        self.position.history.append(written)
        listed = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.bar.line(f"epoch {written['epoch']}/{self.settings.max_epochs}  {listed}")
        return written

    def _end_line(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        self._read()
        position, values = self.position, {}
        for name, read in {"train/loss": position.losses, "gradient_norm": position.norms}.items():
            if read:  # none where every step was left out
                values[name] = sum(read) / len(read)
        position.losses, position.norms = [], []
        speed = line.speed()
        values |= {**line.rates, "samples_per_second": round(speed, 1)}
        self._write(line.step, line.epoch, values)
        self.bar.line(
            f"epoch {line.epoch}/{self.settings.max_epochs}  step {line.step}  "
            f"loss {values.get('train/loss', float('nan')):.4f}  {speed:,.0f} samples/s"
        )

    def _read(self) -> None:
        for loss, norm in self._numbers.receive():
            self.position.losses.append(loss)
            self.position.norms.append(norm)

    def _write(self, step: int, epoch: int, values: dict[str, float]) -> dict[str, float]:
        self.position.lines += 1
        if self.log:
            self.log.add(step, epoch, **values)
        return {"step": step, "epoch": epoch, **values}
