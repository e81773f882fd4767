"""This machine: jobs and models in containers of Docker, or jobs as processes."""

from __future__ import annotations

TARGETS = {"local": "service"}  # places for models, each with its module
MIRRORS = {"wandb": "wandb_models"}  # registries of models beside the bucket's
