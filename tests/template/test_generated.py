"""The baked project's own tests pass, and what its README shows works as it stands there."""

import re
from pathlib import Path

import pytest
from baking import BakedProject


def test_its_own_tests_pass(demo_project: BakedProject) -> None:
    result = demo_project.run("make", "test", timeout=1800)
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout


def test_help_lists_every_target(demo_project: BakedProject) -> None:
    shown = demo_project.run("make").stdout
    for target in ("help", "setup", "data", "train", "evaluate", "test", "check", "format", "notebook"):
        assert f"make {target} " in shown


@pytest.fixture
def with_examples(demo_project: BakedProject):
    """The project with the files that docs/your-own.md shows, each under the path in the line before it."""
    readme = demo_project.read("docs/your-own.md")
    blocks = re.findall(
        r"`((?:src|configs)/\S+\.(?:py|yaml))`[^`]*```(?:python|yaml)\n(.*?)```", readme, re.DOTALL
    )
    assert len(blocks) == 6
    for path, text in blocks:
        (demo_project.folder / path).write_text(text)
    yield demo_project
    for path, _ in blocks:
        (demo_project.folder / path).unlink()


def test_the_readmes_own_data_and_model_work(with_examples: BakedProject) -> None:
    project = with_examples
    photographs = """if True:
        import numpy as np
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (200, 3, 32, 32), np.uint8), rng.integers(0, 5, 200)
        np.savez("raw/leaves.npz", images=images, labels=labels)
    """
    (project.folder / "raw").mkdir()
    project.run(".venv/bin/python", "-c", photographs)
    quick = ("trainer.max_epochs=1", "tracking=none")
    project.run("uv", "run", "prepare", "data=leaves")
    project.run("uv", "run", "train", "data=leaves", "run.id=readme-data", *quick)
    project.run("uv", "run", "train", "experiment=leaves_linear", "run.id=readme-both", *quick)
    project.run("uv", "run", "prepare", "data=digits")
    project.run("uv", "run", "train", "model=linear", "run.id=readme-model", *quick)
    project.run("uv", "run", "train", "scheduler=step", "run.id=readme-schedule", *quick)
    for run in ("readme-data", "readme-both", "readme-model", "readme-schedule"):
        assert project.has_file(f"runs/{run}/report.md")


@pytest.mark.parametrize("cloud", ["gcp", "aws", "azure"])
def test_readme_and_docs_name_only_files_that_are_there(cloud: str, bake) -> None:
    project = bake(cloud=cloud)
    shown = {"src/cloud_training/data/leaves.py", "src/cloud_training/models/linear.py"}
    shown |= {"configs/data/leaves.yaml", "configs/model/linear.yaml"}
    shown |= {"configs/experiment/leaves_linear.yaml", "configs/task/top2.yaml"}
    text = project.read("README.md") + project.read("docs/your-own.md") + project.read("docs/cloud.md")
    for path in re.findall(r"`((?:src|configs|notebooks|tests)/[\w/.]+)`", text):
        assert path in shown or (project.folder / path).exists(), path


@pytest.mark.parametrize("cloud", ["gcp", "aws", "azure"])
def test_the_readme_is_read_in_five_minutes(cloud: str, bake) -> None:
    assert len(bake(cloud=cloud).read("README.md").splitlines()) <= 150


def test_the_makefile_says_what_is_missing(demo_project: BakedProject, tmp_path: Path) -> None:
    result = demo_project.run("make", "evaluate", check=False)
    assert result.returncode != 0
    assert "make evaluate RUN=<id>" in result.stderr
    (tmp_path / "make").symlink_to("/usr/bin/make")
    for program in ("sh", "bash", "sed", "expand"):
        (tmp_path / program).symlink_to(f"/bin/{program}" if program != "expand" else "/usr/bin/expand")
    result = demo_project.run("make", "setup", check=False, PATH=str(tmp_path))
    assert result.returncode != 0
    assert "pip install uv" in result.stdout
