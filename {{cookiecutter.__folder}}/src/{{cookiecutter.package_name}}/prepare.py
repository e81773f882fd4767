"""`uv run prepare data=digits`: make a data set's files from its source."""

import traceback
from pathlib import Path
from typing import Any

import hydra
from launcher import UserError
from omegaconf import DictConfig

from .config import ROOT, program


@program("prepare", sections=["data"])
def main(config: DictConfig) -> None:
    """Make the data set and say what was made."""
    data = hydra.utils.instantiate(config.data)
    if not hasattr(data, "prepare"):
        raise UserError(f"{type(data).__name__} reads no prepared files: there is nothing to make.")
    info = made(data)
    counts = ", ".join(f"{count} {name}" for name, count in info["samples"].items())
    arrays = ", ".join(f"{key} {kind}" for key, kind in info["arrays"].items())
    print(f"{data.folder}: {counts} samples ({arrays}) from {info['source']}")


def made(data: Any) -> dict[str, Any]:
    """Make the data; what goes wrong in a class of yours becomes a sentence with its file and line."""
    try:
        return data.prepare()
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        code = ROOT / "src"
        yours = [one for one in frames if Path(one.filename).resolve().is_relative_to(code)]
        at = (yours or frames)[-1]
        said = " ".join(str(error).split())
        raise UserError(
            f"data failed (making it, {at.filename}:{at.lineno}): {type(error).__name__}: {said}. "
            "(HYDRA_FULL_ERROR=1 shows the whole way there.)"
        ) from error


if __name__ == "__main__":
    main()
