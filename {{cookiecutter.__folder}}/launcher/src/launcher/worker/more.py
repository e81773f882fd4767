"""Arguments and variables that a service does not take in a job itself: by its bounds, or by how they look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ..errors import UserError
from ..job import RUN_MORE
from ..storage import read_text


def read_more(env: Mapping[str, str], args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Give the whole environment and all arguments, with what `launch` has left in the bucket.

    Raises:
        UserError: it is not there, or not to be understood.
        StorageUnavailable: the bucket does not answer.
    """
    uri = env.get(RUN_MORE)
    if not uri:
        return dict(env), list(args)
    text = read_text(uri)
    if text is None:
        raise UserError(f"{RUN_MORE}={uri} does not exist; launch the job again.")
    try:
        found = json.loads(text)
        more = {str(name): str(value) for name, value in found["env"].items()}
        given = [*(str(each) for each in found["args"] or ()), *args]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{RUN_MORE}={uri} cannot be understood ({error!r}).") from error
    return {**env, **more}, given
