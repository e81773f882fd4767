"""What a managed training job of AWS finds in /opt/ml, and the one thing that it leaves there.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
The folder is root's and the image's user is another one, for whom parts of it may be closed
(github.com/aws/sagemaker-python-sdk/issues/4764): it is read, and what cannot be written is left out.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError

JOB = "TRAINING_JOB_NAME"  # set by the service, in every one of its containers
FOLDER = Path("/opt/ml")
MOST_BYTES = 900  # of a failure's text: 1024 are shown, with some of the service's own words
DEFAULT_ARGUMENTS = ["train"]  # of a container that was given none


def config(name: str) -> dict[str, Any] | None:
    """Read a file of the service's own settings; None where there is none.

    Raises:
        UserError: it is not what the service writes.
    """
    path = FOLDER / "input" / "config" / name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no object of JSON.")
    return found


def tell_failure(reason: str, status: int) -> None:
    """Leave why the job failed, and with which status, for the service to show."""
    end = f" (status {status})"
    text = " ".join(reason.split()).encode()[: MOST_BYTES - len(end)].decode(errors="ignore")
    with suppress(OSError):
        (FOLDER / "output" / "failure").write_text(f"{text}{end}", encoding="utf-8")
