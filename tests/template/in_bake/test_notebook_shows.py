"""What the notebook shows before anything was trained: runs inside a bake, whose package is PACKAGE."""

import hydra
from hydra.utils import instantiate
from PACKAGE.config import CONFIGS

from .test_notebook import execute


def test_before_there_is_a_run_it_shows_the_data_and_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        instantiate(hydra.compose("prepare", ["data=shapes", "data.scenes=24"]).data).prepare()
    text, pictures = execute(tmp_path, DATA="shapes")
    assert "20 samples to train on" in text
    assert "uv run train run.id=first" in text
    assert pictures == 1
