"""The card of a model: what it is for, what it was made of, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TEMPLATE = """---
license: {license}
tags: [{task}]
---
# {name}

{about}

- **For:** *write here what it is meant for, and what it must not be used for.*
- **Limits:** *write here what it was not tried on.*

| on the test split | value |
|---|---:|
{metrics}

## Takes and gives

{inputs}
{outputs}

## Where it comes from

{facts}
"""


def text(name: str, facts: Mapping[str, Any], signature: Mapping[str, Any]) -> str:
    """Give the card as Markdown.

    Args:
        facts: what is known of the run: `about`, `license`, `metrics`, `lineage`.
        signature: what the model takes and gives.
    """
    return TEMPLATE.format(
        name=name,
        license=json.dumps(facts["license"]),
        task=json.dumps(signature.get("kind", "values")),
        about=facts["about"],
        metrics="\n".join(f"| {key} | {value:.4f} |" for key, value in facts["metrics"].items()),
        inputs="\n".join(f"- takes {_array(one)}" for one in signature.get("inputs", ())),
        outputs="\n".join(f"- gives {_array(one)}" for one in signature.get("outputs", ()))
        + _classes(signature),
        facts="\n".join(
            f"- {key}: {value}" for key, value in facts["lineage"].items() if value is not None
        ),
    )


def _array(one: Mapping[str, Any]) -> str:
    shape = " x ".join(str(side) for side in one["shape"])
    return f"`{one['name']}`: {one['dtype']}, {shape}"


def _classes(signature: Mapping[str, Any]) -> str:
    names = signature.get("classes") or ()
    return f"\n- classes: {', '.join(map(str, names))}" if names else ""
