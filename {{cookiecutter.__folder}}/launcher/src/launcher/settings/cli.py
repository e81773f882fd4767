"""The command line of every program: Hydra, with errors that a person can act on.

Importing this must stay fast, so that a typo costs a second.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError, readers_may_leave
from ..project import enter, project
from ..sweeps import optuna
from . import parser
from .examples import check_config
from .explain import EXPECTED, explain, unreadable
from .schema import register_resolver

parser.mend()
optuna.register()
register_resolver()

# Hydra's own switch for whole tracebacks; it must be read before `main` sets it for Hydra's sake.
SWITCH = "HYDRA_FULL_ERROR"
FULL_ERROR = os.environ.get(SWITCH) == "1"

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C has ended
SIGNALLED = 128  # an exit status above it says that a signal ended the program
CHECK = "--check"
ONCE, MANY = "hydra.mode=RUN", "hydra.mode=MULTIRUN"
IDS = ("run.id", "restore.from", "run")  # the last is evaluate's
BASE = re.compile(r"^  - (\w+)$", re.MULTILINE)  # in a list of defaults: a file beside this one
NO_CHOICE = re.compile(r"|null|true|false|[-+.\d]+(e[-+]?\d+)?|\{.*\}", re.IGNORECASE)

Check = Callable[[DictConfig], None]
Program = Callable[[DictConfig], Any]


def hydra_program(
    config_name: str,
    root: Path | None = None,
    check: Check | None = None,
    sections: Sequence[str] = (),
) -> Callable[[Program], Callable[[], None]]:
    """Make `main()` out of a function of the configuration `configs/<config_name>.yaml`.

    The program ends with status 1 and one sentence on stderr when the configuration is wrong or the function
    raises `UserError`. With HYDRA_FULL_ERROR=1 the whole traceback is shown instead. `--check` among its words
    looks at the settings and does nothing else.

    Args:
        root: the project's folder; None for the one around the current folder.
        check: refuses what types cannot tell, by `UserError`.
        sections: all that the program reads of the configuration, if not the whole; the rest need not fit together.
    """

    def decorate(program: Program) -> Callable[[], None]:
        def main() -> None:
            try:
                folder = root or project().root
                enter(folder)
                with _somewhere_to_cache():
                    _run(config_name, folder / "configs", check, sections, program)
            except EXPECTED as error:
                if FULL_ERROR:
                    raise
                sys.exit(explain(error))
            except KeyboardInterrupt:
                sys.exit(INTERRUPTED)
            except SystemExit as end:
                if isinstance(end.code, int) and end.code > SIGNALLED:
                    _leave_at_once(end.code)
                raise

        return functools.wraps(program)(main)

    return decorate


@contextmanager
def _somewhere_to_cache() -> Iterator[None]:
    """Without a home that can be written, as in many containers, libraries fill stderr with where they could not write."""
    if os.access(os.environ.get("HOME", ""), os.W_OK):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cache-", ignore_cleanup_errors=True) as folder:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            os.environ.setdefault(name, folder)
        yield


def _run(
    config_name: str, configs: Path, check: Check | None, sections: Sequence[str], program: Program
) -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(config_name, configs))
        return
    only_check = CHECK in sys.argv
    words = [as_typed(word) for word in sys.argv[1:] if word != CHECK]
    refuse_choices(words, configs)
    if only_check and not {"-m", "--multirun", MANY} & set(words):
        # Else a sweep's file has each of its trials looked at, and its sampler misses what they have reached.
        words.append(ONCE)
    sys.argv[1:] = flags_last(words)

    @functools.wraps(program)
    def checked(config: DictConfig) -> Any:
        try:
            config = alone(config, sections)
            refuse(config, HydraConfig.get().runtime.choices, configs, check)
            if only_check:
                print("The settings are good.")
                return None
            with readers_may_leave(), _children_as_asked():
                return program(config)
        except EXPECTED as error:  # here, before Hydra adds a line of its own
            if FULL_ERROR:
                raise
            sys.exit(explain(error))

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.raiseExceptions = False  # whoever read our output may leave; we go on
    for chatty in ("hydra", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    os.environ[SWITCH] = "1"  # Hydra then raises, and `explain` shortens
    hydra.main(version_base="1.3", config_path=str(configs), config_name=config_name)(checked)()


@contextmanager
def _children_as_asked() -> Iterator[None]:
    """Hand what the program starts the switch for tracebacks as it was given; Hydra looks at it again afterwards."""
    os.environ[SWITCH] = str(int(FULL_ERROR))
    try:
        yield
    finally:
        os.environ[SWITCH] = "1"


def as_typed(word: str) -> str:
    """Quote a run's id that Hydra would take for a number or a truth, and write otherwise: 1e3, 2026_11, true."""
    name, _, value = word.partition("=")
    if name.lstrip("+") not in IDS:
        return word
    try:
        read = OverridesParser.create().parse_override(word).value()
    except HydraException:  # which Hydra will say itself
        return word
    return f"{name}='{value.strip()}'" if isinstance(read, bool | int | float) else word


def flags_last(words: Sequence[str]) -> list[str]:
    """Put the settings before Hydra's flags: it takes none between them, and says only how it is used.

    Raises:
        UserError: a word is neither, such as `--epochs`.
    """
    flags = get_args_parser()
    with_value = {
        name for each in flags._actions if each.nargs is None for name in each.option_strings
    }
    ordered: tuple[list[str], list[str]] = [], []
    before = ""
    for word in words:
        setting = word[:1] == "~" or ("=" in word and word[:1] != "-")
        ordered[not setting or before in with_value].append(word)
        before = word
    for word in flags.parse_known_args([*ordered[0], *ordered[1]])[1]:
        if not word.startswith("-"):
            raise UserError(unreadable(word))
        name, equals, _ = word.lstrip("-").partition("=")
        meant = word.lstrip("-") if equals else f"{name}=..."
        raise UserError(f"There is no {word}: a setting is given without dashes, as in {meant}")
    return [*ordered[0], *ordered[1]]


def refuse_choices(words: Sequence[str], configs: Path) -> None:
    """Refuse `model=null` and `model=3`, for which Hydra has a traceback and no name.

    Raises:
        UserError: naming the word, and what there is to choose from.
    """
    for word in words:
        group, equals, value = word.lstrip("+").partition("=")
        if (
            equals
            and NO_CHOICE.fullmatch(value)
            and group != "hydra"
            and (configs / group).is_dir()
        ):
            known = " | ".join(sorted(path.stem for path in (configs / group).glob("*.yaml")))
            raise UserError(
                f"{word} names no file; give {group}={known} (or ~{group}, where it may be missing)."
            )


def alone(config: DictConfig, sections: Sequence[str]) -> DictConfig:
    """Give these sections, with what they name in others; all where none is given."""
    values = {name: config[name] for name in sections}
    plain = {
        name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for name, value in values.items()
    }
    return OmegaConf.create(plain) if sections else config


def refuse(
    config: DictConfig, choices: Mapping[str, Any], configs: Path, check: Check | None = None
) -> None:
    """Refuse a composed configuration that cannot work; arguments as above and in `check_config`.

    Raises:
        UserError: naming the key, its value and what would be right.
    """
    check_config(config, choices, configs)
    if check:
        check(config)


def help_text(config_name: str, configs: Path) -> str:
    """Give the configuration file with its comments, and what each of its groups has to choose from.

    Hydra's own help takes seconds and shows the values without the comments that explain them.
    """
    groups = {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in sorted(configs.iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }
    text = (configs / f"{config_name}.yaml").read_text(encoding="utf-8")
    # What it is built on: the settings and groups of that can be given too.
    bases = [path for name in BASE.findall(text) if (path := configs / f"{name}.yaml").is_file()]
    known = text + "".join(path.read_text(encoding="utf-8") for path in bases)
    named = [f"  {group}={' | '.join(names)}" for group, names in groups.items() if group in known]
    choices = "\n".join(named)
    if choices:
        choices = f"\nChoices (their settings are in configs/<group>/<choice>.yaml):\n{choices}\n"
    more = "".join(f"\nMore settings are in configs/{path.name}.\n" for path in bases)
    return (
        f"{text}{choices}{more}\n"
        f"Other flags: {CHECK} looks at the settings only, --cfg job prints them, --hydra-help the rest."
    )


def _leave_at_once(code: int) -> None:
    """End without taking torch apart, which lasts seconds: who sent the signal may not wait for that."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
