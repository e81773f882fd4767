"""Starts trainings of a PyTorch + Hydra project somewhere else, and sees to it that they end.

A project uses the names of `__all__` and no others. They are loaded when they are asked for: a program that only needs
to name an error does not wait for Hydra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import identity, storage
    from .errors import UserError
    from .settings.arguments import check_arguments
    from .settings.cli import hydra_program
    from .settings.examples import check_types

__version__ = "0.1.0"
__all__ = ["UserError", "check_arguments", "check_types", "hydra_program", "identity", "storage"]

_WHERE = {
    "UserError": ".errors",
    "check_arguments": ".settings.arguments",
    "check_types": ".settings.examples",
    "hydra_program": ".settings.cli",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no {name}", name=name)
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name], __name__), name)
    return importlib.import_module(f".{name}", __name__)
