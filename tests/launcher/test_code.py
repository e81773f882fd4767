"""The archive in which a working tree travels."""

import subprocess
import tarfile
from io import BytesIO

import pytest
from launcher.errors import UserError
from launcher.planning import code


def test_an_archive_holds_what_git_tracks_or_would_add_and_is_the_same_each_time(tmp_path):
    for name, text in {
        "src/a.py": "a",
        "src/new.py": "new",
        "src/.env": "secret",
        "configs/c.yaml": "c",
        "data/d": "data",
        "dvc.lock": "lock",
        ".gitignore": ".env\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "src/link.py").symlink_to("/etc/hostname")
    for command in (["init", "-q"], ["add", "src/a.py", "configs"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    first = code.pack(tmp_path)
    (tmp_path / "src/a.py").touch()
    assert code.pack(tmp_path) == first
    with tarfile.open(fileobj=BytesIO(first)) as archive:
        assert archive.getnames() == ["configs/c.yaml", "dvc.lock", "src/a.py", "src/new.py"]
        assert {member.mtime for member in archive} == {0}
    (tmp_path / "src/a.py").write_text("b")
    assert code.uri(code.pack(tmp_path), "gs://b") != code.uri(first, "gs://b")


def test_an_archive_without_git_or_code_is_refused(tmp_path):
    with pytest.raises(UserError, match="git init"):
        code.pack(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with pytest.raises(UserError, match="There is no code in"):
        code.pack(tmp_path)
