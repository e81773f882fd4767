"""`uv run models export run=<id>`: the best weights as ONNX, with what is done to its inputs inside, and a signature.

What ONNX gives is compared with what PyTorch gives on the whole test split; a model that differs is not written.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from launcher import UserError
from omegaconf import DictConfig, OmegaConf

from .config import program

if TYPE_CHECKING:
    from .training.run_folder import RunFolder

log = logging.getLogger(__name__)


@program("export")
def main(config: DictConfig) -> None:
    """Export the model of a run."""
    from .training.run_folder import RunFolder

    write_export(RunFolder(config.root, config.run))


def write_export(folder: RunFolder) -> None:
    """Write runs/<id>/export/ anew: model.onnx, signature.json, parity.json, and what else a registry keeps.

    A model that cannot be exported gets a signature that says why, and no model.onnx.

    Raises:
        UserError: the run has no whole checkpoint, its data cannot be opened, or ONNX gives something else than PyTorch.
    """
    from safetensors.torch import save_file

    from .training.checkpoint import CheckpointStore
    from .training.exporting import Exported, ExportError
    from .training.weights import chosen_weights, untied

    state = CheckpointStore(folder.checkpoints).load_newest()
    if state is None:
        raise UserError(
            f"There is no run with checkpoints in {folder.path}; see `ls {folder.path.parent}`."
        )
    config = DictConfig(state["config"])
    model, task = instantiate(config.model), instantiate(config.task)
    model.load_state_dict(chosen_weights(state))
    exported = Exported(model.eval(), task, instantiate(config.data))
    signature = exported.signature()
    with folder.writing(), tempfile.TemporaryDirectory(dir=folder.path) as temporary:
        new = Path(temporary, "export")
        new.mkdir()
        save_file(untied(chosen_weights(state)), new / "model.safetensors")
        (new / "config.yaml").write_text(OmegaConf.to_yaml(config), encoding="utf-8")
        try:
            exported.write(new / "model.onnx")
        except ExportError as error:
            signature["no_onnx"] = str(error)
            log.warning("%s", error)
        parity, statistics = exported.compare(new / "model.onnx")
        signature["statistics"] = statistics
        _write_json(new / "signature.json", signature)
        _write_json(new / "parity.json", parity)
        shutil.rmtree(folder.path / "export", ignore_errors=True)
        new.replace(folder.path / "export")
    if "largest_difference" in parity:
        apart = parity["largest_difference"]
        log.info("onnx    as PyTorch on %d samples: %.1e apart at most", parity["samples"], apart)
    log.info("export  %s", folder.path / "export")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
