"""What an exporter writes into a file of ONNX, and what it says when it cannot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto


def stripped(model: ModelProto) -> bytes:
    """Give a model without what the exporter knows of this machine: paths of the source, which change from folder to folder."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graphs: list[Any] = [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        parts = [graph, *graph.node]
        for field in ("input", "output", "value_info", "initializer"):
            parts += [one for one in getattr(graph, field, ()) if not isinstance(one, str)]
        for part in parts:
            for field in ("metadata_props", "doc_string"):
                if field in part.DESCRIPTOR.fields_by_name:
                    part.ClearField(field)
        for node in graph.node:
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs
    return model.SerializeToString(deterministic=True)


def why_not(error: Exception) -> str:
    """Give what the exporter lacks for a model, as a sentence."""
    said = " ".join(str(error).split())
    named = re.findall(r"\b(?:aten|prims|torchvision|torch\.ops)[:.]+[A-Za-z_][\w.]*", said)
    if named:
        what = f"ONNX has nothing for {', '.join(dict.fromkeys(named[:3]))}"
    else:
        what = f"it cannot be traced ({type(error).__name__}: {said[:300].rstrip('. ')})"
    return f"The model cannot be exported to ONNX: {what}; it can be registered, but not served without torch."
