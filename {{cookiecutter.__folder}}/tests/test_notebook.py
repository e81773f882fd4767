"""notebooks/explore.ipynb, executed as Jupyter would, in folders with and without data and a run."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "explore.ipynb"


def execute(folder, **settings):
    """Run the notebook in folder/notebooks with other settings in its first code cell; give what it shows."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source += "".join(f"\n{name} = {value!r}" for name, value in settings.items())
    (folder / "notebooks").mkdir(exist_ok=True)
    resources = {"metadata": {"path": str(folder / "notebooks")}}
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources=resources).execute()
    outputs = [output for cell in code for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return text, pictures


def run(folder, module, *overrides):
    command = [sys.executable, "-m", f"{{ cookiecutter.package_name }}.{module}", *overrides]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_in_an_empty_folder_it_says_what_to_type(tmp_path):
    text, pictures = execute(tmp_path)
    assert "uv run prepare data=digits" in text
    assert "uv run train run.id=first" in text
    assert pictures == 0


def test_it_shows_scenes_before_there_is_a_run(tmp_path):
    run(tmp_path, "prepare", "data=shapes", "data.scenes=24")
    text, pictures = execute(tmp_path, DATA="shapes")
    assert "20 samples to train on" in text
    assert "uv run train run.id=first" in text
    assert pictures == 1


def test_it_shows_digits_and_a_finished_run(tmp_path, digits):
    shutil.copytree(digits, tmp_path / "data" / "digits")
    few = ("trainer.max_epochs=1", "data.fraction=0.1")
    run(tmp_path, "train", "run.id=a", *few, "tracking=none", "evaluate=false")
    text, pictures = execute(tmp_path)
    assert "1347 samples to train on" in text
    assert pictures == 4  # digits, learning curves, confusion matrix, mistakes
