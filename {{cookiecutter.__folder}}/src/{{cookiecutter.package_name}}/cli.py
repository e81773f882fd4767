"""The command line of every program here: Hydra, with errors that a person can act on.

Importing this must stay fast, so that a typo costs a second: no torch here.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from . import sweeper
from .config import CONFIGS, check
from .errors import UserError, readers_may_leave

sweeper.register()

# Hydra's own switch for whole tracebacks; it must be read before `main` sets it for Hydra's sake.
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"

SIGNALLED = 128  # an exit status above it says that a signal ended the program
EXPECTED = (UserError, HydraException, OmegaConfBaseException)


def hydra_program(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make `main()` out of a function of the configuration `configs/<config_name>.yaml`.

    The program ends with status 1 and one sentence on stderr when the configuration is wrong or the function
    raises `UserError`. With HYDRA_FULL_ERROR=1 the whole traceback is shown instead.
    """

    def decorate(program: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(program)
        def checked(config: DictConfig) -> Any:
            try:
                check(config, HydraConfig.get().runtime.choices)
                with readers_may_leave():
                    return program(config)
            except EXPECTED as error:  # here, before Hydra adds a line of its own
                if FULL_ERROR:
                    raise
                sys.exit(explain(error))

        run = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(
            checked
        )

        def main() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(help_text(config_name))
                return
            logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
            logging.raiseExceptions = False  # whoever read our output may leave; we go on
            logging.getLogger("hydra").setLevel(logging.WARNING)
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and `explain` shortens
            try:
                run()
            except EXPECTED as error:
                if FULL_ERROR:
                    raise
                sys.exit(explain(error))
            except SystemExit as end:
                if isinstance(end.code, int) and end.code > SIGNALLED:
                    _leave_at_once(end.code)
                raise

        return main

    return decorate


def help_text(config_name: str) -> str:
    """Give the configuration file with its comments, and what each of its groups has to choose from.

    Hydra's own help takes seconds and shows the values without the comments that explain them.
    """
    groups = {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(CONFIGS.iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }
    text = (CONFIGS / f"{config_name}.yaml").read_text(encoding="utf-8")
    named = [f"  {group}={' | '.join(names)}" for group, names in groups.items() if group in text]
    choices = "\n".join(named)
    if choices:
        choices = f"\nChoices (their settings are in configs/<group>/<choice>.yaml):\n{choices}\n"
    return f"{text}{choices}\nOther flags: --cfg job prints the settings, --hydra-help the rest."


def _leave_at_once(code: int) -> None:
    """End without taking torch apart, which lasts seconds: who sent the signal may not wait for that."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def explain(error: Exception) -> str:
    """One sentence for an error of ours, Hydra's or OmegaConf's, with the nearest right name if there is one."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, InstantiationException):
        return _explain_instantiation(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"There is no {group}={option}{_nearest(option, error.options)}"
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        parent = cause.parent_node
        known = [str(key) for key in parent if key != "hydra"] if OmegaConf.is_dict(parent) else []
        section = cause.full_key.rpartition(".")[0]
        names = [f"{section}.{key}" if section else key for key in known]
        return f"There is no {cause.full_key}{_nearest(cause.full_key, names)}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause).splitlines()[0]}."
    return " ".join(str(error).split())


def _explain_instantiation(error: InstantiationException) -> str:
    """Say which section's class refused its settings, in the class's own words."""
    reason: BaseException = error
    while reason.__cause__:
        reason = reason.__cause__
    if isinstance(reason, UserError):
        return str(reason)
    section = str(error).rpartition("full_key: ")[2]
    return (
        f"{section} cannot be made from its settings: {reason}. (HYDRA_FULL_ERROR=1 shows where.)"
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(sorted(known))}." if known else "."
