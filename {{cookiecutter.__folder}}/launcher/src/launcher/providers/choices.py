"""What a service of hyperparameter tuning hands to a trial as text, such that Hydra reads the value that was meant."""

from __future__ import annotations

from typing import Any

from ..errors import UserError


def word(value: Any) -> str:
    """Give a choice as Hydra reads it, when the trial types it as name=value.

    Raises:
        UserError: there is no such text.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        if OverridesParser.create().parse_override(f"name={value}").value() == value:
            return value
    except HydraException:
        pass
    if "'" in value or "\\" in value:
        raise UserError(
            f"The choice {value!r} cannot be handed to a trial; leave quotes and backslashes out."
        )
    return f"'{value}'"
