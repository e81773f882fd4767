"""One attempt of a run, in the container: makes a training out of a bare machine.

It gets code, secrets, data and what an earlier attempt has left, trains, and keeps the results in the bucket while
it does. Its exit status says whether another attempt may help: see `job.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType

from ..errors import UserError
from ..job import EXIT_FINAL, EXIT_RETRY, EXIT_STOPPED, State
from ..records import CURVES, LOCAL_HOME, LOG, RUN
from ..storage import StorageUnavailable, fetch, read_text
from .attempts import Attempts
from .cluster import Node, NodesApartError, gpus_and_driver
from .log import WorkerLog
from .observed import NOTE, read_note
from .overlay import lay
from .pull import pull
from .scheduled_events import Watch
from .secrets import read_secrets
from .settings import Settings
from .sync import Mirror, final_patience
from .trial import Trial

# How the container ends for good; services tell a run that has failed from one that was ended by its limit.
ENDS = {
    State.succeeded.value: 0,
    State.stopped.value: EXIT_STOPPED,
    State.failed.value: EXIT_FINAL,
}

MARGIN = (
    10.0,
    120.0,
)  # seconds before the time limit at which the training is told to save and end
KILL_AFTER = 60.0  # seconds that a training may then still take
HANG = 5.0  # seconds that the end waits for an upload which was under way


class Interrupted(BaseException):
    """SIGTERM or SIGINT came before or after the training."""


class Worker:
    """One attempt of one run on one node.

    Args:
        settings: what to do.
        node: which of the machines this is.
        args: the training's overrides.
        root: the project's folder.
        trial: of a sweep, that the run is.
    """

    WORK, KEPT = "training", "what was trained is saved"  # as people are told of it

    def __init__(
        self,
        settings: Settings,
        node: Node,
        args: list[str],
        root: Path,
        trial: Trial | None = None,
    ) -> None:
        self.trial = trial if node.first else None  # which speaks for the others
        self.settings, self.node, self.args, self.root = settings, node, args, root
        self.folder = root / LOCAL_HOME / settings.run_id
        self.log = WorkerLog()
        self.attempts = Attempts(
            settings.output or str(self.folder),
            node.first,
            settings.max_seconds,
            settings.max_attempts,
        )
        self.mirror = (
            Mirror(self.folder, settings.output, self.log.say, self._each_time)
            if settings.output
            else None
        )
        self.number, self.reason = 0, ""  # of this attempt, and why it ended
        self._watch_machine = Watch(settings.events, self.log.say) if settings.events else None
        self._child: subprocess.Popen[str] | None = None
        self._signal: int | None = None
        self._starting = self._saving = self._expired = self._gave_up = False

    def run(self) -> int:
        """Do it all and give the exit status."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._note_signal)
        if self._watch_machine:
            self._watch_machine.start()
        try:
            if outcome := self.attempts.outcome():
                self.log.say(f"nothing to do: the run has {outcome['state']}: {outcome['reason']}")
                self._tell_again(outcome["state"])
                return ENDS.get(outcome["state"], EXIT_FINAL)
            self._begin()
            env = self._prepare()
            return self._train(env)
        except Interrupted:
            return self._end(128 + (self._signal or signal.SIGTERM), "the machine is taken away")
        except (StorageUnavailable, NodesApartError) as error:
            return self._retry(str(error))
        except UserError as error:
            return self._final(State.failed, str(error))
        except Exception as error:  # noqa: BLE001 - a crash that says nothing would be tried again and again
            self.log.write(traceback.format_exc())
            return self._final(State.failed, f"{type(error).__name__}: {error}")

    def outlast(self) -> None:
        """Wait for the end of a machine that is being taken away without a signal: then the service starts the job again."""
        if self._watch_machine:
            self._watch_machine.outlast()

    def _begin(self) -> None:
        settings = self.settings
        self.number = self.attempts.begin()
        if settings.output and self.node.first:
            earlier = read_text(f"{settings.output}/{LOG}")
            if earlier is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / LOG).write_text(earlier, encoding="utf-8")
        self.log.open(self.folder / LOG)
        of = f" of {settings.max_attempts}" if settings.max_attempts else ""
        if gpus := gpus_and_driver():
            self.log.say(gpus)
        node = f", node {self.node.rank} of {self.node.count}" if self.node.count > 1 else ""
        self.log.say(f"run {settings.run_id}, attempt {self.number}{of}{node}")
        if settings.max_attempts and self.number > settings.max_attempts:
            raise UserError(
                f"The run was started {settings.max_attempts} times and has not ended; see its log, "
                "and launch it again with the same run.id to go on."
            )

        if self.trial:
            self.log.say(f"trial {self.trial.number} of sweep {self.trial.sweep}")
            self.trial.note()

    def _each_time(self) -> None:
        """Is done with each upload: the run's time is noted, and a sweep told of the newest validation."""
        self.attempts.note(patience=0)
        if self.trial:
            with suppress(OSError, UserError):  # said at the end, if it is still so
                self.trial.report(self.folder)

    def _tell_again(self, state: str) -> None:
        """Tell the sweep the result of a trial that ended in an earlier container: its file is gone with that."""
        if self.trial and self.settings.output and state == State.succeeded.value:
            fetch(f"{self.settings.output}/{CURVES}", self.folder / CURVES)
            with suppress(UserError):  # a training need not have one
                fetch(f"{self.settings.output}/{RUN}", self.folder / RUN)
            self.trial.result(self.folder)

    def _prepare(self) -> dict[str, str]:
        """Get all that the training needs; give its environment."""
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        secrets = read_secrets(self.settings.secrets, self.log.hide)
        if self.settings.code:
            lay(self.settings.code, self.root)
            self.log.say(f"code of {self.settings.code}")
        if self.settings.data:
            pull(self.settings.data, self.root, lambda words: self.log.run(words, self.root))
        if self.mirror:
            step = self.mirror.restore()
            what = "nothing to restore" if step is None else f"restored step {step}"
            self.log.say(f"{what} from {self.settings.output}")
        self.node.find_first()
        return env | secrets | dict(self.node.environment)

    def _train(self, env: dict[str, str]) -> int:
        left = self.attempts.seconds_left()
        if left is not None:
            least, most = MARGIN
            longest = self.settings.max_seconds or 0.0
            left -= min(most, max(least, longest / 10), longest / 2)
            if left <= 0:
                return self._final(State.stopped, "the time limit was reached")
        with tempfile.TemporaryDirectory() as temporary:
            note = str(Path(temporary, "note.json"))
            if self.mirror and self.node.first:
                self.mirror.start()
            code, last = self._train_until(left, {**env, NOTE: note})
            failure = read_note(note)
        self._saving = True
        if self.mirror:
            self.mirror.stop(HANG)
        if code == 0:
            return self._succeeded()
        if self._expired:  # whoever says so besides, as a service with the same limit does
            return self._final(State.stopped, f"the time limit was reached; {self.KEPT}")
        if self._signal:
            return self._end(128 + self._signal, "the machine is taken away")
        if failure and failure["final"]:
            return self._final(State.failed, failure["reason"])
        if failure:
            return self._retry(failure["reason"])
        if code < 0 or code > 128:
            signum = -code if code < 0 else code - 128
            return self._retry(f"the {self.WORK} was ended by signal {signum}")
        if self.node.alone:
            return self._final(State.failed, last or f"the {self.WORK} ended with status {code}")
        return self._retry(f"a process of the {self.WORK} was lost")

    def _command(self) -> list[str]:
        return self.node.command([*self.args, f"run.id={self.settings.run_id}"])

    def _train_until(self, seconds: float | None, env: dict[str, str]) -> tuple[int, str]:
        """Train until it ends or `seconds` are over; give its exit status and the last line it printed."""
        self._starting = True
        self._child = subprocess.Popen(
            self._command(),
            cwd=self.root,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if self._signal:  # came while the process was made
            self._child.terminate()
        timers = []
        if seconds is not None:
            timers = [
                threading.Timer(seconds, self._expire),
                threading.Timer(seconds + KILL_AFTER, self._child.kill),
            ]
        for timer in timers:
            timer.daemon = True
            timer.start()
        last = ""
        for line in self._child.stdout or ():
            self.log.write(line)
            last = line.strip() or last
        code = self._child.wait()
        for timer in timers:
            timer.cancel()
        return code, last

    def _expire(self) -> None:
        self._expired = True
        self.log.say(f"the time limit is near; the {self.WORK} saves and ends")
        if self._child:
            self._child.terminate()

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum
        if self._saving:
            return  # what is being done is all that is left to do
        if self._child:
            self._child.terminate()
        elif not self._starting:
            raise Interrupted

    # How it ends

    def _succeeded(self) -> int:
        reached = {"objective": self.trial.result(self.folder)} if self.trial else {}
        self._publish()
        if self.node.first:
            self.attempts.close(State.succeeded, 0, "", **reached)
        return self._end(0, "done")

    def _final(self, state: State, reason: str) -> int:
        """Another attempt would not help: say so to it, whichever node sees it first."""
        self._saving, self.reason = True, reason
        self.log.say(f"{state.value}: {reason}")
        trouble = self._publish_what_can_be()
        try:
            self.attempts.close(state, ENDS[state.value], reason)
        except UserError as error:
            trouble = trouble or error
        if isinstance(trouble, StorageUnavailable):
            return self._end(EXIT_RETRY, f"the outcome cannot be noted: {trouble}")
        return self._end(ENDS[state.value], "another attempt would not help")

    def _retry(self, reason: str) -> int:
        """Another attempt may help, unless this was the last."""
        self._saving, self.reason = True, reason
        outcome = None
        if self.number:
            self._publish_what_can_be()
            if self.settings.max_attempts and self.number >= self.settings.max_attempts:
                return self._final(State.failed, f"{reason} (attempt {self.number}, the last)")
            outcome = self._outcome_of_others()
        self.log.say(reason)
        if outcome:
            status = ENDS.get(outcome["state"], EXIT_FINAL)
            return self._end(status, f"another node has noted: {outcome['reason']}")
        return self._end(EXIT_RETRY, "another attempt may help")

    def _outcome_of_others(self) -> dict[str, str] | None:
        try:
            return self.attempts.outcome() if self.node.count > 1 else None
        except UserError:
            return None

    def _publish(self) -> None:
        if not (self.mirror and self.node.first and self.folder.is_dir()):
            return
        try:
            self.mirror.finish(0.0 if self._gave_up else final_patience())
        except UserError:
            self._gave_up = True
            raise

    def _publish_what_can_be(self) -> UserError | None:
        try:
            self._publish()
        except UserError as error:
            self.log.say(f"not all results are in the bucket: {error}")
            return error
        return None

    def _end(self, code: int, why: str) -> int:
        self._saving, self.reason = True, self.reason or why
        self.log.say(f"{why} (status {code})")
        trouble = self._publish_what_can_be() if self.number else None
        try:
            self.attempts.note(code, patience=0)
        except UserError as error:
            self.log.say(f"this attempt's end is not noted: {error}")
        return EXIT_RETRY if code == 0 and trouble else code
