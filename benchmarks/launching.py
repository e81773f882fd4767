"""How long `launch` takes to answer, over what gcloud takes to create a job, and over its help.

gcloud is the real one; it is led to a stand-in that checks each job with Google's own types. What it is given is the
job that `launch dry_run=true` has printed.
"""

import itertools
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from baking import BakedProject, clean_env
from google.protobuf import json_format
from measure import Result, alternate, ratios, summary, timed
from stage.google import vertex_rules
from stage.rest import Answer, Request, RequestError, serve

REGION = "us-central1"
DRY = ("launch", "cloud=vertex", "dry_run=true", "cloud.project=bench-project")


class Jobs:
    """The service as far as creating a job needs it."""

    def __init__(self) -> None:
        vertex_rules.prepare()
        self._numbers = itertools.count(1)

    def handle(self, request: Request) -> Answer:
        if request.method != "POST" or not request.path.endswith(f"/locations/{REGION}/customJobs"):
            raise RequestError(404, f"{request.method} {request.path} is not part of this stand-in.")
        job = vertex_rules.parse(request.body)
        vertex_rules.check(job)
        name = f"projects/1/locations/{REGION}/customJobs/{next(self._numbers)}"
        return Answer(json_format.MessageToDict(job) | {"name": name, "state": "JOB_STATE_QUEUED"})


def measure(project: BakedProject, gcloud: str, rounds: int) -> list[Result]:
    """Starts each program in turn.

    Args:
        project: a bake for Google Cloud, with its environment.
        gcloud: the program.
    """
    with TemporaryDirectory() as name, serve(Jobs().handle) as url:
        folder = Path(name)
        (folder / "token").write_text("a-token")
        env = clean_env(
            CLOUDSDK_CONFIG=str(folder / "config"),
            CLOUDSDK_AUTH_ACCESS_TOKEN_FILE=str(folder / "token"),
            CLOUDSDK_CORE_PROJECT="bench-project",
            CLOUDSDK_CORE_DISABLE_USAGE_REPORTING="1",
            CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK="1",
            CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM=f"{url}/",
        )
        spec = folder / "job.json"  # JSON is YAML too
        spec.write_text(json.dumps(job_spec(project)))
        create = (gcloud, "ai", "custom-jobs", "create")
        submit = (*create, f"--region={REGION}", "--display-name=bench", f"--config={spec}")
        programs = project.folder / ".venv/bin"

        def launch(*words: str, status: int = 0) -> float:
            return timed((programs / words[0], *words[1:]), status, cwd=project.folder, env=clean_env())

        seconds = alternate(
            {
                "create": lambda: timed(submit, env=env),
                "help": lambda: timed((*create, "--help"), env=env),
                "launch help": lambda: launch("launch", "--help"),
                "launch refuses": lambda: launch("launch", "cloud=vertex", "model.wdith=3", status=1),
                "launch dry": lambda: launch(*DRY),
            },
            rounds,
        )
    pairs = {
        ("launch --help", "gcloud ai custom-jobs create --help"): ("launch help", "help"),
        ("launch --help", "gcloud ai custom-jobs create"): ("launch help", "create"),
        ("launch cloud=vertex model.wdith=3, refused", "gcloud ai custom-jobs create"): (
            "launch refuses",
            "create",
        ),
        ("launch cloud=vertex dry_run=true", "gcloud ai custom-jobs create"): ("launch dry", "create"),
    }
    return [
        summary("launch", f"{above} / {below}", ratios(seconds[ours], seconds[theirs]))
        for (above, below), (ours, theirs) in pairs.items()
    ]


def job_spec(project: BakedProject) -> dict:
    """The job of a dry run, as `gcloud --config` takes it."""
    command = [project.folder / ".venv/bin" / DRY[0], *DRY[1:]]
    dry = subprocess.run(
        command, check=True, cwd=project.folder, env=clean_env(), capture_output=True, text=True
    )
    return json.loads(dry.stdout)["jobSpec"]
