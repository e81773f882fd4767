"""notebooks/explore.ipynb, executed as Jupyter would, in folders with and without data and a run."""

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from {{ cookiecutter.package_name }}.train import train

from .conftest import ALONE

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "explore.ipynb"


def execute(folder, **settings):
    """Run the notebook in folder/notebooks with other settings in its first code cell; give what it shows."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source += "".join(f"\n{name} = {value!r}" for name, value in settings.items())
    (folder / "notebooks").mkdir(exist_ok=True)
    resources = {"metadata": {"path": str(folder / "notebooks")}}
    NotebookClient(notebook, kernel_name="python3", timeout=600, resources=resources).execute()
    outputs = [output for cell in code for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return text, pictures


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_it_shows_digits_and_a_finished_run(tmp_path, digits, small_config, run_folder):
    shutil.copytree(digits, tmp_path / "data" / "digits")
    train(small_config("trainer.max_epochs=1"), run_folder(), ALONE)
    text, pictures = execute(tmp_path)
    assert "1347 samples to train on" in text
    assert pictures == 4  # digits, learning curves, confusion matrix, mistakes
