"""Builds an image with the engine's own builder and pushes it; that builder exports no cache to a registry.

Caches are therefore checked and left out: the engine keeps the layers of one build for the next by itself.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# What a cache may say; a bare word is the name of an image.
CACHES = {
    "registry": {"ref", "mode", "compression", "oci-mediatypes", "image-manifest", "ignore-error"},
    "local": {"src", "dest", "mode"},
    "inline": set[str](),
    "gha": {"scope", "mode", "timeout", "ignore-error"},
}
REFERENCE = re.compile(r"[a-z0-9.:-]+(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
HONOURED = {
    *("context", "file", "tags", "labels", "build-args", "target", "push", "load", "pull", "no-cache"),
    *("cache-from", "cache-to", "provenance", "sbom", "github-token"),
}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_cache(text: str) -> None:
    """Refuses what BuildKit would refuse."""
    for cache in lines(text):
        if "=" not in cache:
            continue
        fields = {name: value for name, _, value in (field.partition("=") for field in cache.split(","))}
        kind = fields.pop("type", "")
        if kind not in CACHES or not fields.keys() <= CACHES[kind]:
            sys.exit(f"This is no cache that BuildKit knows: {cache}")
        if kind == "registry" and not REFERENCE.fullmatch(fields.get("ref", "")):
            sys.exit(f"A registry cache needs ref=<image>:<tag>: {cache}")
        if fields.get("mode", "max") not in ("min", "max"):
            sys.exit(f"The mode of a cache is min or max: {cache}")


def main() -> None:
    inputs = {name: value for name, value in json.loads(os.environ["INPUTS"]).items() if value}
    unknown = inputs.keys() - HONOURED
    if unknown:
        sys.exit(f"The stand-in for docker/build-push-action does nothing with {', '.join(sorted(unknown))}.")
    for name in ("cache-from", "cache-to"):
        check_cache(inputs.get(name, ""))
    for tag in lines(inputs.get("tags", "")):
        if not REFERENCE.fullmatch(tag):
            sys.exit(f"This is no name of an image: {tag}")
    # Only path contexts here: the real action fetches the commit from GitHub when there is none.
    if "context" not in inputs:
        sys.exit("Without context the real action builds from GitHub and not from the checkout.")
    metadata = Path(tempfile.mkdtemp(), "metadata.json")
    command = ["docker", "buildx", "build", "--network", "host", "--metadata-file", str(metadata)]
    for option, name in (("tag", "tags"), ("label", "labels"), ("build-arg", "build-args")):
        command += [f"--{option}={line}" for line in lines(inputs.get(name, ""))]
    command += [f"--{name}={inputs[name]}" for name in ("file", "target") if name in inputs]
    command += [f"--{name}" for name in ("push", "load", "pull", "no-cache") if inputs.get(name) == "true"]
    subprocess.run([*command, inputs["context"]], check=True)
    result = json.loads(metadata.read_text())
    digest, image = result.get("containerimage.digest", ""), result.get("containerimage.config.digest", "")
    with open(os.environ["GITHUB_OUTPUT"], "a") as outputs:
        outputs.write(f"digest={digest}\nimageid={image}\nmetadata={json.dumps(result)}\n")


main()
