"""Inputs from public bug reports of other projects, on a bake: each works, or is refused in one sentence."""

import shutil
from pathlib import Path

import pytest
from baking import BakedProject

SHORT = (
    *("trainer.max_epochs=1", "data.fraction=0.2", "evaluate=false"),
    *("model.width=8", "trainer.device=cpu"),
)


@pytest.fixture(scope="module")
def project(demo_project: BakedProject) -> BakedProject:
    """The demo with its digits made."""
    demo_project.run("uv", "run", "prepare", "data=digits")
    return demo_project


def status(project: BakedProject) -> str:
    """What git has to say of the files; nothing when all is committed or ignored."""
    return project.run("git", "status", "--porcelain").stdout


def refused(project: BakedProject, *command: str, **env: str) -> str:
    """Runs what must fail with one sentence, and gives it."""
    done = project.run(*command, check=False, timeout=600, **env)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_the_range_of_pythons_ends_where_nothing_is_tested_any_more(project: BakedProject) -> None:
    assert 'requires-python = ">=3.11,<3.15"' in project.read("pyproject.toml")


def test_a_sweep_leaves_nothing_outside_runs(project: BakedProject) -> None:
    before = status(project)
    project.run("uv", "run", "train", "-m", "optimizer.lr=1e-3,1e-2", "tracking=none", *SHORT)
    assert status(project) == before
    assert not project.has_file("multirun.yaml")


def test_it_starts_in_a_subfolder_too(project: BakedProject) -> None:
    inside = BakedProject(project.folder / "src" / project.package)
    inside.run("uv", "run", "train", "run.id=inside", "tracking=none", *SHORT)
    assert (project.folder / "runs/inside/model.safetensors").is_file()
    assert not (inside.folder / "runs").exists()


def test_links_to_a_larger_disk_are_ignored_as_folders_are(bake, tmp_path: Path) -> None:
    project = bake().copy(tmp_path / "linked")
    for name in ("data", "runs", ".venv", "wandb", "outputs"):
        (tmp_path / "large" / name).mkdir(parents=True)
        (project.folder / name).symlink_to(tmp_path / "large" / name)
    assert status(project) == ""
    (project.folder / "data").unlink()
    (project.folder / "data").mkdir()
    (project.folder / "data/photos").mkdir()
    (project.folder / "data/photos.dvc").write_text("outs: []")
    assert status(project) == "?? data/\n"
    assert "data/photos.dvc" in project.files()


def test_data_may_lie_on_a_larger_disk_as_the_documentation_says(
    project: BakedProject, tmp_path: Path
) -> None:
    settings = {"cache.dir": str(tmp_path / "large"), "cache.type": "symlink"}
    data, lock = project.folder / "data/digits", project.folder / "dvc.lock"
    before = lock.read_bytes() if lock.exists() else None
    try:
        for name, value in settings.items():
            assert f"dvc config --local {name} " in project.read("docs/your-own.md")
            project.run("uv", "run", "dvc", "config", "--local", name, value)
        shutil.rmtree(data)
        project.run("uv", "run", "dvc", "repro", "--force", "prepare@digits")
        assert (data / "train.safetensors").resolve().is_relative_to(tmp_path / "large")
        project.run("uv", "run", "train", "tracking=none", *SHORT)
    finally:
        for name in settings:
            project.run("uv", "run", "dvc", "config", "--local", "--unset", name, check=False)
        lock.unlink() if before is None else lock.write_bytes(before)
        project.run("uv", "run", "prepare", "data=digits")


def test_a_checkout_with_the_line_endings_of_windows_still_runs(bake, tmp_path: Path) -> None:
    clone = ("git", "clone", "-q", "-c", "core.autocrlf=true", ".", str(tmp_path / "clone"))
    bake().run(*clone)
    bare = [
        path for path in BakedProject(tmp_path / "clone").files() if (tmp_path / "clone" / path).is_file()
    ]
    assert [path for path in bare if b"\r\n" in (tmp_path / "clone" / path).read_bytes()] == []


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("restore.from=runs/epoch=3.pt", """'restore.from="runs/epoch=3.pt"'"""),
        ("run.root=/large/a=b", """'run.root="/large/a=b"'"""),
        ("run.root=~/x", "a shell expands ~ only at the beginning"),
    ],
)
def test_a_word_that_hydra_cannot_read_is_shown_as_it_can(
    project: BakedProject, word: str, says: str
) -> None:
    assert says in refused(project, "uv", "run", "train", word)


def test_the_word_that_is_shown_is_read(project: BakedProject, tmp_path: Path) -> None:
    done = project.run(
        "uv", "run", "train", f'run.root="{tmp_path}/a b"', "run.id=quoted", "tracking=none", *SHORT
    )
    assert (tmp_path / "a b/quoted/model.safetensors").is_file(), done.stdout


@pytest.mark.parametrize(
    ("mode", "says"), [("online", "there is no wandb key"), ("Offline", "is no mode of wandb")]
)
def test_a_tracking_mode_that_cannot_work_is_refused(
    project: BakedProject, tmp_path: Path, mode: str, says: str
) -> None:
    env = {"WANDB_MODE": mode, "WANDB_API_KEY": "", "NETRC": str(tmp_path / "none")}
    assert says in refused(project, "uv", "run", "train", *SHORT, **env)


@pytest.mark.parametrize("home", ["/proc/nowhere", ""])
def test_without_a_home_a_run_is_quiet(project: BakedProject, tmp_path: Path, home: str) -> None:
    env = {"HOME": home, "WANDB_MODE": "offline", "UV_CACHE_DIR": str(tmp_path / "uv")}
    program = str(project.folder / ".venv/bin/train")
    done = project.run(
        program, f"run.root={tmp_path}", "run.id=homeless", *SHORT, check=True, timeout=600, **env
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2, done.stdout  # which run, and its one epoch


def test_launching_does_not_ask_how_this_machine_tracks(project: BakedProject) -> None:
    settings = ("cloud=vertex", "dry_run=true", "cloud.machine=cpu", "cloud.image=r/i@sha256:" + "0" * 64)
    done = project.run("uv", "run", "launch", *settings, check=False, WANDB_MODE="Offline")
    assert "WANDB_MODE" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
