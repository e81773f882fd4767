"""Exactly the expected files, whatever the answers, with nothing of the template's own language left in them."""

import re

import pytest
from baking import ROOT, BakedProject

LICENSES = {
    "MIT": "MIT License\n",
    "Apache-2.0": "Apache License\n",
    "BSD-3-Clause": "BSD 3-Clause License\n",
    "Proprietary": "All rights reserved.\n",
}
BAKES = {
    "the defaults": {},
    "aws": {"cloud": "aws", "license": "Apache-2.0"},
    "azure": {"cloud": "azure", "license": "BSD-3-Clause"},
    "proprietary": {"license": "Proprietary"},
    "other names": {
        "project_slug": "leaf-reader",
        "package_name": "leaves",
        "bucket": "leaf_store",
        "region": "europe-west4",
    },
}
FILES = """
.dockerignore .dvcignore .editorconfig .gitattributes .gitignore .pre-commit-config.yaml Dockerfile LICENSE Makefile
README.md docs/your-own.md dvc.yaml pyproject.toml uv.lock .dvc/.gitignore .dvc/config .github/dependabot.yml
.github/workflows/ci.yml .github/workflows/janitor.yml .github/workflows/predict.yml
.github/workflows/serve.yml .github/workflows/train.yml
.github/actions/cloud-login/action.yml docs/cloud.md docs/first-day.md docs/models.md configs/evaluate.yaml configs/export.yaml configs/launch.yaml configs/prepare.yaml configs/train.yaml
configs/cloud/local.yaml configs/data/digits.yaml configs/data/mnist.yaml configs/data/shapes.yaml
configs/experiment/digits_cnn.yaml configs/experiment/mnist_cnn.yaml configs/experiment/shapes_depth.yaml
configs/experiment/shapes_unet.yaml configs/hydra/default.yaml configs/model/cnn.yaml
configs/model/unet.yaml configs/optimizer/adamw.yaml configs/optimizer/sgd.yaml
configs/scheduler/constant.yaml configs/scheduler/cosine.yaml configs/scheduler/step.yaml configs/sweep/lr.yaml
configs/task/classification.yaml configs/task/depth.yaml configs/task/regression.yaml
configs/task/segmentation.yaml configs/augment/flip_crop.yaml
configs/experiment/diabetes.yaml configs/experiment/text.yaml configs/experiment/folder_images.yaml
configs/experiment/finetune.yaml
configs/tracking/none.yaml configs/tracking/wandb.yaml configs/trainer/default.yaml notebooks/explore.ipynb
src/PACKAGE/__init__.py src/PACKAGE/config.py src/PACKAGE/evaluate.py src/PACKAGE/export.py src/PACKAGE/prepare.py src/PACKAGE/train.py
src/PACKAGE/data/__init__.py src/PACKAGE/data/base.py src/PACKAGE/data/digits.py src/PACKAGE/data/mnist.py
src/PACKAGE/data/shapes.py src/PACKAGE/data/split.py src/PACKAGE/data/augment.py src/PACKAGE/data/files.py
src/PACKAGE/examples/__init__.py src/PACKAGE/examples/diabetes.py src/PACKAGE/examples/text.py
src/PACKAGE/examples/folder_images.py src/PACKAGE/examples/finetune.py
src/PACKAGE/models/__init__.py src/PACKAGE/models/cnn.py src/PACKAGE/models/unet.py
src/PACKAGE/training/__init__.py src/PACKAGE/training/batches.py src/PACKAGE/training/checkpoint.py
src/PACKAGE/training/distributed.py src/PACKAGE/training/loop.py src/PACKAGE/training/metrics_log.py
src/PACKAGE/training/plots.py src/PACKAGE/training/progress.py src/PACKAGE/training/random_state.py
src/PACKAGE/training/restore.py src/PACKAGE/training/run_folder.py src/PACKAGE/training/schedules.py
src/PACKAGE/training/scoring.py src/PACKAGE/training/state.py src/PACKAGE/training/tasks.py
src/PACKAGE/training/tracking.py src/PACKAGE/training/weights.py src/PACKAGE/training/journal.py
src/PACKAGE/training/numbers.py src/PACKAGE/training/parameters.py src/PACKAGE/training/pictures.py
src/PACKAGE/training/explain.py src/PACKAGE/training/exporting.py src/PACKAGE/training/onnx_files.py
src/PACKAGE/training/statistics.py src/PACKAGE/training/rehearsal.py
src/PACKAGE/training/sharding.py src/PACKAGE/training/signals.py src/PACKAGE/training/step.py src/PACKAGE/training/trees.py
tests/__init__.py tests/conftest.py tests/test_checkpoint.py tests/test_config.py
tests/test_data.py tests/test_experiments.py tests/test_export.py tests/test_mnist.py
tests/test_notebook.py tests/test_prepare.py tests/test_rehearsal.py tests/test_resume.py tests/test_examples.py
tests/test_parameters.py tests/test_augment.py tests/test_monitor.py
configs/cloud/sky.yaml docs/clusters.md
tests/test_tracking.py tests/test_training.py tests/wandb_file.py
"""
ONLY = {
    "gcp": "configs/cloud/vertex.yaml configs/cloud/batch.yaml",
    "aws": "configs/cloud/sagemaker.yaml configs/cloud/batch.yaml",
    "azure": "configs/cloud/azureml.yaml",
}
# of the launcher, which is copied as it is
PROVIDERS = "launcher/src/launcher/providers/"
FOLDERS = {"gcp": "google", "aws": "aws", "azure": "azure"}


def launcher_files() -> set[str]:
    """What the template has of it."""
    inside = BakedProject(ROOT).files()
    prefix = "{{cookiecutter.__folder}}/"
    return {path.removeprefix(prefix) for path in inside if path.startswith(f"{prefix}launcher/")}


@pytest.fixture(params=BAKES.values(), ids=list(BAKES))
def project(request: pytest.FixtureRequest, bake):
    return bake(**request.param)


def test_holds_exactly_the_expected_files(project) -> None:
    cloud = project.answers.get("cloud", "gcp")
    package = project.answers.get("package_name", "cloud_training")
    expected = set(f"{FILES} {ONLY[cloud]}".replace("PACKAGE", package).split())
    others = tuple(f"{PROVIDERS}{folder}/" for other, folder in FOLDERS.items() if other != cloud)
    launcher = {path for path in launcher_files() if not path.startswith(others)}
    assert project.files() == expected | launcher


def test_the_launcher_is_copied_as_it_is(project) -> None:
    assert not [path for path in launcher_files() & project.files() if "cookiecutter." in project.read(path)]
    for path in launcher_files() & project.files():
        assert (project.folder / path).read_bytes() == (
            ROOT / "{{cookiecutter.__folder}}" / path
        ).read_bytes(), path


def test_holds_no_jinja(project) -> None:
    for path in project.files() - {"uv.lock"} - launcher_files():
        text = project.read(path)
        if path.startswith((".github/workflows/", ".github/actions/")):
            text = re.sub(r"\$\{\{.*?\}\}", "", text)
        assert not re.search(r"\{\{|\{%|\{#|cookiecutter\.[a-z_]", text), path


def test_ends_every_file_with_one_line_break(project) -> None:
    for path in project.files():
        text = project.read(path)
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path


def test_uses_the_answers_it_was_given(bake) -> None:
    project = bake(**BAKES["other names"])
    assert project.folder.name == "leaf-reader"
    assert 'name = "leaf-reader"' in project.read("pyproject.toml")
    assert "gs://leaf_store/dvc" in project.read(".dvc/config")
    assert 'region = "europe-west4"' in project.read("pyproject.toml")
    for path in project.files() - {"uv.lock"}:
        assert not re.search("cloud[-_]training", project.read(path)), path


@pytest.mark.parametrize(
    ("cloud", "remote", "extra"),
    [
        ("gcp", "gs://cloud-training-bucket/dvc", "dvc[gs]"),
        ("aws", "s3://cloud-training-bucket/dvc", "dvc[s3]"),
        ("azure", "azure://training/dvc", "dvc[azure]"),
    ],
)
def test_keeps_its_data_in_the_chosen_cloud(cloud: str, remote: str, extra: str, bake) -> None:
    project = bake(**BAKES.get(cloud, {}))
    assert f"url = {remote}\n" in project.read(".dvc/config")
    assert extra in project.read("pyproject.toml")
    others = {"gs://", "s3://", "azure://"} - {remote.partition("//")[0] + "//"}
    assert not any(other in project.read(".dvc/config") for other in others)


def test_promises_nothing_for_later(project) -> None:
    for path in project.files() - {"uv.lock"}:
        assert not re.search(r"not in yet|comes later|for now\b", project.read(path), re.IGNORECASE), path


@pytest.mark.parametrize("name", ["train", "predict"])
def test_a_workflow_launches_on_a_backend_that_the_project_has(name: str, bake) -> None:
    backends = {"gcp": "vertex", "aws": "sagemaker", "azure": "azureml"}
    for cloud, backend in backends.items():
        project = bake(**BAKES.get(cloud, {}))
        workflow = project.read(f".github/workflows/{name}.yml")
        assert f"cloud={backend}" in workflow
        assert not {other for other in backends.values() if other in workflow} - {backend}
        assert project.has_file(f"configs/cloud/{backend}.yaml")


@pytest.mark.parametrize(
    "answers", [BAKES["the defaults"], BAKES["aws"], BAKES["azure"], BAKES["proprietary"]]
)
def test_carries_the_chosen_licence(answers: dict[str, str], bake) -> None:
    project, name = bake(**answers), answers.get("license", "MIT")
    assert (
        LICENSES[name] in project.read("LICENSE").splitlines(keepends=True)[0] + project.read("LICENSE")[:90]
    )
    spdx = "LicenseRef-Proprietary" if name == "Proprietary" else name
    assert f'license = "{spdx}"' in project.read("pyproject.toml")
