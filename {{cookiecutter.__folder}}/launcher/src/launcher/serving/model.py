"""A version of a model in a folder, ready to predict."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from ..errors import UserError
from .drift import Drift
from .images import InputError
from .inputs import Arrays, Inputs
from .outputs import Outputs

# Where a model is that is not in the image: what is told, and what one of the services does without a word.
FOLDER = "MODEL_DIR"
USUAL = Path("/opt/ml/model")
DEPTH = 2  # folders that a service may put around it
# What the runtime says of inputs that the model cannot compute with: a number of no word, sides that do not go together.
UNFIT = ("InvalidArgument", "Fail", "RuntimeException")


class Model:
    """Weights and what goes in and out.

    Args:
        folder: with model.onnx and signature.json.
        version: what it is called in answers.
        threads: that one batch is computed with; 0 for as many as there are processors.

    Raises:
        UserError: there is no such model in the folder, or another one than its manifest says.
    """

    def __init__(self, folder: Path, version: str = "", threads: int = 1) -> None:
        path = folder / "model.onnx"
        try:
            self.signature: dict[str, Any] = json.loads(
                (folder / "signature.json").read_text(encoding="utf-8")
            )
            manifest = _manifest(folder)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder} holds no model ({error}); get one with `uv run models fetch NAME`."
            ) from error
        if not path.is_file():
            raise UserError(
                self.signature.get("no_onnx")
                or f"{folder} has no model.onnx; export the run again."
            )
        self.digest = _compared(folder, manifest)
        named = f"{manifest['name']}@v{manifest['number']}" if manifest else "not registered"
        self.version = version or named
        try:
            self.inputs, self.outputs = Inputs(self.signature), Outputs(self.signature)
            self.drift = self._drift()
            self._session = _session(path, threads)
        except (
            Exception
        ) as error:  # the runtime's errors share no base, and a strange signature has any
            raise UserError(
                f"{folder} holds no model that can be served ({type(error).__name__}: {str(error)[:200]}); export its run again."
            ) from error

    def predict(self, instances: Sequence[Any], plain: bool = False) -> list[dict[str, Any]]:
        """Give a prediction for each instance.

        Raises:
            InputError: one cannot be taken.
        """
        return self.predict_arrays(self.inputs.batch(instances), plain)

    def predict_arrays(self, arrays: Arrays, plain: bool = False) -> list[dict[str, Any]]:
        """Give a prediction for each row of a batch, and count what was seen.

        Raises:
            InputError: the model cannot compute with it.
        """
        try:
            given = self._session.run(self.outputs.names, arrays)
        except Exception as error:
            if type(error).__name__ not in UNFIT:
                raise
            # Without the runtime's own text, which holds numbers of the input.
            raise InputError(
                "the model cannot compute with this; numbers are none that it knows, or sides do not go together"
            ) from None
        found = self.outputs.predictions(given, plain)  # type: ignore[arg-type]
        self.drift.add(arrays, map(self.outputs.decided, found))
        return found

    def warm_up(self) -> None:
        """Go the whole way once: the first time takes longest. What was seen counts from then on.

        Raises:
            UserError: the model cannot even do that.
        """
        try:
            self.predict([self.inputs.example()])
        except InputError as error:
            raise UserError(
                f"{self.version} cannot compute with an example of its own signature ({error}); export its run again."
            ) from error
        self.drift = self._drift()

    def _drift(self) -> Drift:
        return Drift(self.signature.get("statistics") or {}, self.outputs.classes)


def find_folder(start: Path | None = None) -> Path:
    """Give the folder that holds a model: the one that is named, or where the services lay one.

    Raises:
        UserError: there is none.
    """
    named = [Path(os.environ[FOLDER])] if os.environ.get(FOLDER) else []
    starts = [start] if start else [*named, USUAL]
    for folder in starts:
        for depth in range(DEPTH + 1):
            for path in sorted(folder.glob("/".join(["*"] * depth + ["signature.json"]))):
                return path.parent
    listed = " or ".join(map(str, starts))
    raise UserError(
        f"There is no model in {listed}; name one by model=NAME or run=ID, or set MODEL_DIR to a folder with "
        "model.onnx and signature.json."
    )


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Several requests run at once, each on one thread; waiting ones must not spin.
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _manifest(folder: Path) -> dict[str, Any]:
    """Give what is said of the version in a folder; nothing where it comes from no registry.

    Raises:
        ValueError: it is no manifest.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"name", "number", "files"} <= set(found):
        raise ValueError("its manifest.json is none")
    return found


def _compared(folder: Path, manifest: Mapping[str, Any]) -> str:
    """Give the sha256 of model.onnx; what a folder is served from is what its manifest says.

    Raises:
        UserError: it is not.
    """
    found = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("signature.json", "model.onnx")
    }
    for name, digest in found.items():
        if manifest and manifest["files"].get(name, {}).get("sha256") != digest:
            raise UserError(
                f"{folder / name} is not what its manifest says; get it again with `uv run models fetch NAME`."
            )
    return found["model.onnx"]
