"""The page for people at /: one file, with nothing from another host."""

from __future__ import annotations

import html
import json
import re
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from .outputs import PALETTE

if TYPE_CHECKING:
    from .model import Model

# Nothing is loaded from anywhere; data: and blob: are pictures that people drop or that answers hold.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data: blob:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def response(model: Model) -> HTMLResponse:
    """Give the page of a model."""
    nonce = secrets.token_urlsafe(16)
    facts = json.dumps(facts_of(model)).replace("<", "\\u003c")
    words = {"NONCE": nonce, "FACTS": facts, "NAME": html.escape(model.version)}
    # In one go: what is put in may hold such a word itself.
    text = re.sub("@(NONCE|FACTS|NAME)@", lambda found: words[found[1]], _template())
    headers = {
        "Content-Security-Policy": POLICY.format(nonce=nonce),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, headers=headers)


def facts_of(model: Model) -> dict[str, Any]:
    """Give what the page has to know."""
    shape = model.inputs.takes[model.inputs.image]["shape"] if model.inputs.image else None
    columns = [{"name": one["name"], "usual": one.get("usual", 0)} for one in model.inputs.columns]
    return {
        "kind": model.outputs.kind,
        "image": shape and {"channels": shape[1], "height": shape[2], "width": shape[3]},
        "text": bool(model.inputs.text),
        "columns": columns,
        "classes": model.outputs.classes,
        "colours": model.outputs.colours(len(PALETTE)),
        "example": model.inputs.example(),
    }


@cache
def _template() -> str:
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")
