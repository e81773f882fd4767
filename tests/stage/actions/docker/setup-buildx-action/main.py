"""Checks that Docker can build; the builder is the engine's own, whatever driver was asked for."""

import json
import os
import subprocess
import sys

DRIVERS = ("docker", "docker-container", "kubernetes", "remote", "cloud")
inputs = json.loads(os.environ["INPUTS"])
if inputs.get("driver") not in DRIVERS:
    sys.exit(f"There is no driver {inputs.get('driver')}: there are {', '.join(DRIVERS)}.")
subprocess.run(["docker", "buildx", "version"], check=True)
with open(os.environ["GITHUB_OUTPUT"], "a") as outputs:
    outputs.write("name=default\ndriver=docker\n")
