"""Models to serve, made with the `onnx` package alone: what they compute can be told by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

FACTS: dict[str, dict[str, Any]] = {
    # Class 1 where the image is bright, class 0 where it is dark.
    "digits": {"kind": "classification", "image": "inputs", "highest": 16, "classes": ["dark", "bright"]},
    "table": {"kind": "regression", "columns": [{"name": "a", "usual": 1.0}, {"name": "b"}], "unit": "m"},
    "text": {
        "kind": "classification",
        "classes": ["even", "odd"],
        "text": {
            "tokens": "inputs",
            "mask": None,
            "pattern": "[a-z]+",
            "lower": True,
            "words": {"one": 2, "two": 3},
            "unknown": 1,
            "padding": 0,
        },
    },
    "mask": {"kind": "segmentation", "image": "inputs", "highest": 255, "classes": ["dark", "bright"]},
    "depth": {"kind": "depth", "image": "inputs", "highest": 255},
    "plain": {"kind": "values"},
    "words": {"kind": "values"},  # looks each up in a list of four
}
INPUTS = {
    "digits": ("uint8", [1, 8, 8]),
    "table": ("float32", [2]),
    "text": ("int64", ["any"]),
    "mask": ("uint8", [1, 8, 8]),
    "depth": ("uint8", [1, 8, 8]),
    "plain": ("float32", [2]),
    "words": ("int64", ["any"]),
}


def nodes(kind: str) -> tuple[list[Any], list[Any], list[Any]]:
    """The nodes of a model, its constants, and the sides of what it gives."""
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [8.0 if kind == "digits" else 127.5])
    cast = helper.make_node("Cast", ["inputs"], ["x"], to=TensorProto.FLOAT)
    less = [cast, helper.make_node("Sub", ["x", "half"], ["d"]), helper.make_node("Neg", ["d"], ["n"])]
    if kind in ("digits", "text"):
        sides = [1, 2, 3] if kind == "digits" else [1]
        axes = helper.make_tensor("axes", TensorProto.INT64, [len(sides)], sides)
        one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
        mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0)
        away = helper.make_node("Sub", ["m", "half"], ["d"])
        two = [helper.make_node("Neg", ["d"], ["n"]), helper.make_node("Unsqueeze", ["d", "one"], ["d2"])]
        both = [*two, helper.make_node("Unsqueeze", ["n", "one"], ["n2"])]
        both.append(helper.make_node("Concat", ["n2", "d2"], ["predictions"], axis=1))
        return [cast, mean, away, *both], [half, axes, one], [2]
    if kind == "mask":
        return [*less, helper.make_node("Concat", ["n", "d"], ["predictions"], axis=1)], [half], [2, 8, 8]
    if kind == "words":
        table = helper.make_tensor("table", TensorProto.FLOAT, [4, 2], [0.0, 1, 2, 3, 4, 5, 6, 7])
        axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
        found = helper.make_node("Gather", ["table", "inputs"], ["x"])
        return (
            [found, helper.make_node("ReduceMean", ["x", "axes"], ["predictions"], keepdims=0)],
            [table, axes],
            [2],
        )
    if kind == "depth":
        return [cast, helper.make_node("Div", ["x", "half"], ["predictions"])], [half], [1, 8, 8]
    return [helper.make_node("Neg", ["inputs"], ["predictions"])], [], [2]


def make(folder: Path, kind: str) -> Path:
    """Writes such a model as an export does."""
    dtype, shape = INPUTS[kind]
    made, constants, gives = nodes(kind)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    sides = ["batch", *(f"side{place}" if side == "any" else side for place, side in enumerate(shape))]
    takes = helper.make_tensor_value_info("inputs", number, sides)
    given = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["batch", *gives])
    graph = helper.make_graph(made, kind, [takes], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    signature = {
        "inputs": [{"name": "inputs", "dtype": dtype, "shape": ["batch", *shape]}],
        "outputs": [{"name": "predictions", "dtype": "float32", "shape": ["batch", *gives]}],
        **FACTS[kind],
    }
    (folder / "signature.json").write_text(json.dumps(signature))
    return folder
