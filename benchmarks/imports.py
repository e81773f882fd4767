"""How long the programs of a bake take to answer, over what `import hydra` takes in the same environment."""

from baking import BakedProject, clean_env
from measure import Result, alternate, ratios, summary, timed

PROGRAMS = {
    "hydra": ["python", "-c", "import hydra"],
    "train --help": ["train", "--help"],
    "prepare --help": ["prepare", "--help"],
    "evaluate --help": ["evaluate", "--help"],
    "train model.wdith=3, refused": ["train", "model.wdith=3"],
    "python -c 'import torch', for comparison": ["python", "-c", "import torch"],
}


def measure(project: BakedProject, rounds: int) -> list[Result]:
    """Starts each program of a bake whose environment is installed."""

    def start(program: str, *words: str) -> float:
        command = [project.folder / ".venv/bin" / program, *words]
        refused = "wdith" in " ".join(words)
        return timed(command, status=int(refused), cwd=project.folder, env=clean_env())

    members = {name: lambda words=words: start(*words) for name, words in PROGRAMS.items()}
    seconds = alternate(members, rounds)  # the warm-up round compiles to .pyc files
    hydra = seconds.pop("hydra")
    return [
        summary("start", f"{name} / python -c 'import hydra'", ratios(each, hydra))
        for name, each in seconds.items()
    ]
