"""`uv run prepare data=digits`: make a data set's files from its source."""

import hydra
from launcher import UserError
from omegaconf import DictConfig

from .config import program


@program("prepare", sections=["data"])
def main(config: DictConfig) -> None:
    """Make the data set and say what was made."""
    data = hydra.utils.instantiate(config.data)
    if not hasattr(data, "prepare"):
        raise UserError(f"{type(data).__name__} reads no prepared files: there is nothing to make.")
    info = data.prepare()
    counts = ", ".join(f"{count} {name}" for name, count in info["samples"].items())
    arrays = ", ".join(f"{key} {kind}" for key, kind in info["arrays"].items())
    print(f"{data.folder}: {counts} samples ({arrays}) from {info['source']}")


if __name__ == "__main__":
    main()
