"""Google Cloud: Vertex AI and Batch, Cloud Run, Artifact Registry, Cloud Storage, Secret Manager."""

from __future__ import annotations

# Places for models, and registries of them, each with its module.
TARGETS = {"cloudrun": "cloudrun", "vertex": "vertex_endpoint"}
MIRRORS = {"vertex": "vertex_models"}
CONSOLE = "https://console.cloud.google.com"


def browse(uri: str) -> str:
    """Give the page that shows what is at an address; empty where that is in no bucket of this cloud."""
    scheme, _, path = uri.partition("://")
    return f"{CONSOLE}/storage/browser/{path}" if scheme == "gs" else ""
