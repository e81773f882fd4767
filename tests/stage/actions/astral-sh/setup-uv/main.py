"""Puts uv on PATH: the stage has mounted the one of this machine, as no release can be downloaded everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

inputs = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
program = Path(os.environ["STAGE_TOOLS"], "uv")
version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
if inputs.get("version", "latest") not in ("latest", "latest-known", version):
    sys.exit(f"The stage has uv {version}, and not the {inputs['version']} that the workflow wants.")
with open(os.environ["GITHUB_PATH"], "a") as paths:
    paths.write(f"{program.parent}\n")
with open(os.environ["GITHUB_OUTPUT"], "a") as outputs:
    outputs.write(f"uv-version={version}\nuv-path={program}\n")
