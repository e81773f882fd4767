"""`models mirror to=wandb` in a bake, against wandb's own classes: a call that they would not take fails here."""

import json
import os
from typing import Any

import pytest
from baking import BakedProject

SCRIPT = """
import json, sys
from unittest import mock
import wandb
from wandb.sdk.artifacts.artifact import Artifact
from launcher.errors import UserError
from launcher.mirror import Entry
from launcher.providers.local.wandb_models import connect

uri, aliases, there, key, missing, size = json.loads(sys.argv[1])
linked = mock.create_autospec(Artifact, instance=True)
named = type(linked).aliases = mock.PropertyMock(return_value=there)
artifact = mock.create_autospec(Artifact, instance=True, url="https://wandb.ai/a/p/r")
artifact.link.return_value = linked
artifact.manifest.entries = {"model.safetensors": mock.Mock(size=size)}
api = mock.create_autospec(wandb.Api, instance=True)
api.artifact.return_value = artifact
if missing:
    api.artifact.side_effect = wandb.errors.CommError("Could not find it.\\nMore")
entry = Entry("digits", 3, uri, {"model.safetensors": {"bytes": 7}}, "", "classification", "r1", {}, {}, tuple(aliases))
with (
    mock.patch.object(wandb, "Api", autospec=True, return_value=api),
    mock.patch.object(wandb, "login", autospec=True, return_value=key),
):
    try:
        connect().prepare()
        said = connect().put(entry)
    except UserError as error:
        sys.exit(str(error))
calls = [*api.artifact.call_args_list, *artifact.link.call_args_list]
put = [one.args[0] for one in named.mock_calls if one.args]
print(json.dumps({"said": said, "calls": [[list(one.args), one.kwargs] for one in calls],
                  "aliases": put, "saved": linked.save.call_count}))
"""


def mirror(
    project: BakedProject, tracking: str, *, there=("latest",), aliases=(), key=True, missing=False, size=7
) -> Any:
    """What a registry that is told of version 3 is asked, or the sentence."""
    folder = project.folder / "version"
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(tracking)
    given = json.dumps([str(folder), list(aliases), list(there), key, missing, size])
    path = os.fspath(project.folder / "launcher/src")
    done = project.run("uv", "run", "--no-sync", "python", "-c", SCRIPT, given, check=False, PYTHONPATH=path)
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


ONLINE = "tracking: {project: leaves, entity: team}"


def test_the_artifact_of_the_run_is_linked_by_name_and_number_and_its_aliases(demo_project: BakedProject):
    found = mirror(
        demo_project, ONLINE, aliases=["champion"], there=["latest", "v0", "digits-v3", "champion"]
    )
    assert found["calls"] == [
        [["team/leaves/model-r1:latest"], {"type": "model"}],
        [["wandb-registry-model/digits", ["digits-v3", "champion"]], {}],
    ]
    assert "https://wandb.ai/a/p/r" in found["said"]
    assert (found["aliases"], found["saved"]) == ([], 0)


def test_an_alias_that_leads_elsewhere_by_now_is_taken_away(demo_project: BakedProject):
    found = mirror(
        demo_project,
        "tracking: {project: leaves, entity: null}",
        there=["latest", "v1", "champion", "validated"],
    )
    assert found["calls"][0][0] == ["leaves/model-r1:latest"]
    assert (found["aliases"], found["saved"]) == ([["latest", "v1"]], 1)


@pytest.mark.parametrize(
    ("tracking", "how", "said"),
    [
        (ONLINE, {"key": False}, "There is no wandb key; run `uv run wandb login`."),
        (
            ONLINE,
            {"missing": True},
            "wandb does not link team/leaves/model-r1:latest (Could not find it); the run",
        ),
        ("tracking: {_target_: demo.NoTracking}", {}, "was not tracked by wandb (tracking=wandb)"),
    ],
)
def test_what_cannot_be_linked_is_one_sentence(demo_project: BakedProject, tracking: str, how, said: str):
    assert said in mirror(demo_project, tracking, **how)
