"""Checks out one commit of the stage's repository, as the real action does: detached, and without history."""

import json
import os
import subprocess
import sys

inputs = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
usual = {"repository", "token", "persist-credentials", "clean", "fetch-depth", "show-progress", "ssh-strict"}
usual |= {
    "ssh-user",
    "sparse-checkout-cone-mode",
    "fetch-tags",
    "lfs",
    "submodules",
    "set-safe-directory",
    "ref",
}
if unknown := inputs.keys() - usual - {"allow-unsafe-pr-checkout"}:
    sys.exit(f"The stand-in for actions/checkout does nothing with {', '.join(sorted(unknown))}.")
if inputs["repository"] != os.environ["GITHUB_REPOSITORY"]:
    sys.exit(f"The stage has no repository {inputs['repository']}.")


def git(*arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-c", "protocol.version=2", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


os.chdir(os.environ["GITHUB_WORKSPACE"])
source = os.environ["STAGE_REPOSITORY"]
commit = git("-C", source, "rev-parse", inputs.get("ref", "HEAD") + "^{commit}")
subprocess.run(["git", "config", "--global", "--add", "safe.directory", "*"], check=True)
git("init", "--quiet", ".")
git("fetch", "--quiet", "--depth=1", source, commit)
git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
with open(os.environ["GITHUB_OUTPUT"], "a") as outputs:
    outputs.write(f"ref={inputs.get('ref', '')}\ncommit={commit}\n")
