"""Apptainer, and Singularity, which is called alike: an image in one file, run without any right.

https://apptainer.org/docs/user/latest/
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

PROGRAMS, ENDING = ("apptainer", "singularity"), ".sif"

# Whoever runs an image may write to nothing in it, and `--writable-tmpfs` would not change that: its folders belong to
# others, and it holds 64 MB. So the project gets a folder of this machine's disk, for new code, data, DVC's cache and
# results, and so does the home, in which the person's own may hold other versions of what is in the image; only the logins
# of clouds come along.
PREPARE = """\
program="$(command -v apptainer || command -v singularity)" || {{ echo "There is no apptainer on this machine."; exit 1; }}
rm -rf "$work" && mkdir -m 700 "$work" && mkdir -p "$work/home/.config" || exit 1
for login in .aws .azure .config/gcloud; do
    if [ -d "$HOME/$login" ]; then cp -R "$HOME/$login" "$work/home/$login"; fi
done
"$program" exec --no-home --pwd / --bind "$work" {image} cp -R /app "$work/app" || exit 1
mkdir -p "$work/app/data" "$work/app/runs"
nv="$(command -v nvidia-smi >/dev/null && echo --nv)"
"""


def prepare(image: str) -> str:
    """Give the shell lines that come before `command`; the variable `work` names a folder that may be emptied."""
    return PREPARE.format(image=shlex.quote(image))


def command(image: str, args: Iterable[str], options: Iterable[str] = ()) -> str:
    """Give the words that run the worker in an image.

    Args:
        image: a path.
        args: of the worker.
        options: more for `exec`.
    """
    given = shlex.join([*options, image, "python", "-m", "launcher.worker", *args])
    return f'"$program" exec $nv --home "$work/home:/home/app" --bind "$work/app:/app" --pwd /app {given}'


def binds(output: str | None) -> list[str]:
    """Give the options by which a folder in place of a bucket is seen in the image, by the same path.

    Args:
        output: of a job, <bucket>/runs/<id>.
    """
    if not output or "://" in output:
        return []
    return ["--bind", output.rpartition("/runs/")[0]]
