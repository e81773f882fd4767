"""The settings of the Optuna sweeper where its package is not installed.

A sweep's file names them. Where the sweep itself is somewhere else, in the image that trains one of its trials or on a
machine that only launches it, they are all that is needed to read that file.
"""

from __future__ import annotations

from importlib.util import find_spec

from hydra.core.config_store import ConfigStore

SAMPLERS = {"tpe": "TPE", "random": "Random", "grid": "Grid", "cmaes": "CmaEs", "nsgaii": "NSGAII"}


def register() -> None:
    """Give Hydra the groups hydra/sweeper and hydra/sweeper/sampler, unless the package does."""
    if find_spec("hydra_plugins") and find_spec("hydra_plugins.hydra_optuna_sweeper"):
        return
    store = ConfigStore.instance().store
    sweeper = {
        "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
        "defaults": [{"sampler": "tpe"}],
        "direction": "minimize",
        "storage": None,
        "study_name": None,
        "n_trials": 20,
        "n_jobs": 2,
        "max_failure_rate": 0.0,
        "search_space": None,
        "params": None,
        "custom_search_space": None,
    }
    store(group="hydra/sweeper", name="optuna", node=sweeper)
    for name, kind in SAMPLERS.items():
        sampler = {"_target_": f"optuna.samplers.{kind}Sampler", "seed": None}
        store(group="hydra/sweeper/sampler", name=name, node=sampler)
