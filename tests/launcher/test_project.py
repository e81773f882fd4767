"""What the launcher knows of a project, where it looks for it, and what it says where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
from launcher import project as here
from launcher import providers
from launcher.errors import UserError
from launcher.planning.training import check_training

TABLE = '[tool.launcher]\npackage = "p"\nslug = "s"\ncloud = "gcp"\nregion = "r"\nbucket = "gs://b"\n'
FIND = here.find_root  # before each test puts another in its place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(TABLE)
    return tmp_path


def test_it_is_found_from_any_folder_inside(root: Path):
    deep = root / "a/b"
    deep.mkdir(parents=True)
    assert FIND(deep) == FIND(root) == root


@pytest.mark.parametrize("other", ["[tool.other]\n", "no = [toml", "tool = 3\n", "[tool]\nlauncher = 3\n"])
def test_files_of_others_on_the_way_up_are_passed(root: Path, other: str):
    inner = root / "a"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(other)
    assert FIND(inner) == root


def test_without_one_the_sentence_says_where_to_start(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"belongs to no project: start this in a folder whose pyproject.toml"
    ):
        FIND(tmp_path)


def test_a_broken_file_of_its_own_is_named_and_not_passed(root: Path):
    (root / "pyproject.toml").write_text(TABLE + "= 3\n")
    with pytest.raises(UserError, match=r"pyproject.toml is no valid TOML: "):
        FIND(root)


@pytest.mark.parametrize("line", ['slug = "s"\n', 'region = "r"\n'])
def test_what_its_table_lacks_is_named(root: Path, line: str, monkeypatch: pytest.MonkeyPatch):
    (root / "pyproject.toml").write_text(TABLE.replace(line, ""))
    monkeypatch.setattr(here, "find_root", lambda folder: root)
    with pytest.raises(UserError, match=f"needs a text for {line.split()[0]}"):
        here.project()


def test_names_of_accounts_fit_what_google_takes(root: Path):
    long = here.Project(root, "p", "a" * 21 + "-" + "b" * 10, "gcp", "r", "b")
    assert len(f"{long.account}-trainer") <= 30
    assert not long.account.endswith("-")


def test_a_command_inside_goes_to_the_projects_folder_and_says_so(root: Path, monkeypatch, capsys):
    (root / "notebooks").mkdir()
    monkeypatch.chdir(root / "notebooks")
    here.enter(root)
    assert Path.cwd() == root
    assert f"Working in {root}" in capsys.readouterr().err
    here.enter(root)
    assert capsys.readouterr().err == ""


# Backends


@pytest.mark.parametrize("name", ["local", "vertex", "batch"])
def test_a_backend_is_found_by_its_name(name: str):
    assert callable(providers.find(name).connect)


@pytest.mark.parametrize("name", ["", "gce", "auth", "google.vertex", "../local", "Vertex", "__init__"])
def test_what_is_no_backend_is_refused_by_its_name(name: str):
    with pytest.raises(UserError, match=f"There is no backend {name}"):
        providers.find(name)


def test_what_only_some_can_do_is_told_by_themselves():
    assert providers.abilities("vertex") >= {"SWEEPS", "NODES"}
    assert not providers.abilities("batch") & {"SWEEPS", "NODES"}


def test_a_cloud_without_a_provider_has_no_folder_and_no_secrets(monkeypatch: pytest.MonkeyPatch):
    folders = {cloud: providers.folder(cloud) for cloud in ("gcp", "aws", "azure")}
    assert folders == {cloud: f"launcher.providers.{providers.FOLDERS[cloud]}" for cloud in folders}
    assert providers.folder("other") == providers.folder("") == ""
    other = here.Project(Path(), "p", "s", "other", "r", "b")
    monkeypatch.setattr(providers, "project", lambda: other)
    with pytest.raises(UserError, match=r"leave cloud\.secrets empty"):
        providers.secret_reader()
    with pytest.raises(UserError, match="There is no backend vertex"):
        providers.find("vertex")


# The training's own word


@pytest.fixture
def training(project: Path) -> Path:
    """The training of a project, to be replaced by a test."""
    return project / "src/demo/train.py"


def test_what_the_training_refuses_is_told_in_its_words(training: Path, monkeypatch):
    monkeypatch.setattr(here, "find_root", lambda folder: training.parents[2])
    with pytest.raises(
        UserError, match=r"^There is no trainer.max_epoch; did you mean trainer.max_epochs\?$"
    ):
        check_training(["trainer.max_epoch=3"])
    check_training(["trainer.max_epochs=3"])


def test_of_several_the_first_refusal_is_told_whichever_is_found_first(training: Path, monkeypatch):
    monkeypatch.setattr(here, "find_root", lambda folder: training.parents[2])
    training.write_text(
        "import sys, time\n"
        "time.sleep(0.5 * ('a' in sys.argv))\n"
        "sys.exit(sys.argv[-1] if sys.argv[-1] != 'good' else 0)\n"
    )
    with pytest.raises(UserError, match=r"^a$"):
        check_training(["good"], ["a"], ["b"])


def test_how_this_machine_tracks_is_not_asked(training: Path, monkeypatch):
    monkeypatch.setattr(here, "find_root", lambda folder: training.parents[2])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("OTHER", "stays")
    training.write_text(
        "import os, sys\nsys.exit(','.join(sorted({'WANDB_MODE', 'OTHER'} & set(os.environ))))\n"
    )
    with pytest.raises(UserError, match=r"^OTHER$"):
        check_training([])


def test_a_training_that_says_nothing_is_named_with_its_status(training: Path, monkeypatch):
    monkeypatch.setattr(here, "find_root", lambda folder: training.parents[2])
    training.write_text("import os\nos._exit(7)\n")
    with pytest.raises(UserError, match=r"^demo.train --check ended with 7\.$"):
        check_training([])


# The package itself


def test_the_package_alone_loads_nothing_heavy():
    """A project imports it at the top of its programs, for one name: that must cost nothing."""
    heavy = "{'hydra', 'omegaconf', 'torch', 'numpy', 'requests', 'google.auth', 'fsspec', 'wandb'}"
    script = f"import sys, launcher; launcher.UserError; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_its_public_names_are_there():
    import launcher

    for name in launcher.__all__:
        assert getattr(launcher, name)
    with pytest.raises(AttributeError, match="has no nothing"):
        _ = launcher.nothing
