"""What LitServe and BentoML serve: the ONNX that ours serves, by the same settings of its session, and no more than its answer.

Runs in their environments, which do not hold the template's own tools.
"""

# pyright: reportMissingImports=false

import os
from typing import Any

import numpy as np
import onnxruntime

WORKERS = 2  # requests that each server computes at a time


class Digits:
    """The model at MODEL."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def logits(self, instances: Any) -> Any:
        return self._session.run(None, {"inputs": np.asarray(instances, np.uint8)})[0]


def answer(logits: Any) -> dict[str, Any]:
    """The digits and the share of each, as ours tells them."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    pairs = zip(shares.argmax(axis=1).tolist(), shares.tolist(), strict=True)
    return {"predictions": [{"index": index, "probabilities": row} for index, row in pairs]}
