"""A registry on this machine that holds the bytes of ECR: what is pushed to it, ECR knows."""

import hashlib
import json
import urllib.error
import urllib.request
from contextlib import suppress

from moto.ecr.models import ecr_backends

from stage import containers
from stage.aws import images
from stage.aws.people import ACCOUNT
from stage.aws.server import Call
from stage.aws.world import World
from stage.registry import manifest

PULLING = (
    "CreateTrainingJob",
    "CreateHyperParameterTuningJob",
    "SubmitJob",
    "CreateModel",
    "CreateModelPackage",
)


class Mirror:
    """ECR's repositories of one region, and the registry.

    Args:
        host: such as 127.0.0.1:5000; its repositories have ECR's names.
    """

    def __init__(self, world: World, host: str) -> None:
        self.world, self.host = world, host

    @property
    def ecr(self) -> str:
        """The host of ECR whose images are really here."""
        return f"{ACCOUNT}.dkr.ecr.{self.world.region}.amazonaws.com"

    def before(self, call: Call) -> None:
        """Takes over what was pushed, before ECR or a service that pulls from it is asked."""
        asks = call.service == "ecr" and call.operation.startswith(("Describe", "List", "BatchGet"))
        if asks or call.operation in PULLING:
            self.sync()

    def sync(self) -> None:
        """Has ECR know every tag that the registry has, in the repositories that ECR has."""
        for name in ecr_backends[ACCOUNT][self.world.region].repositories:
            for tag in self._tags(name):
                with suppress(urllib.error.HTTPError):
                    digest, content = manifest(self.host, name, tag)
                    images.put(name, self.world.region, content, digest, tag)

    def _tags(self, name: str) -> list[str]:
        try:
            with urllib.request.urlopen(f"http://{self.host}/v2/{name}/tags/list", timeout=30) as answer:
                return json.load(answer).get("tags") or []
        except urllib.error.HTTPError:
            return []

    def pull(self, image: str) -> str:
        """Fetches an image of ECR; gives the name that the engine knows it by."""
        name = image.replace(self.ecr, self.host)
        self._take(image)
        if problem := containers.pull(name):
            raise AssertionError(f"{name} cannot be pulled: {problem}")
        return name

    def _take(self, image: str) -> None:
        """Has the registry know a manifest that was put into ECR only; its layers are here already."""
        repository, _, digest = image.removeprefix(f"{self.ecr}/").partition("@")
        known = ecr_backends[ACCOUNT][self.world.region].repositories.get(repository)
        for one in known.images if known and digest else []:
            text = one.image_manifest.encode()
            if digest == one.get_image_digest() == f"sha256:{hashlib.sha256(text).hexdigest()}":
                url = f"http://{self.host}/v2/{repository}/manifests/{digest}"
                kind = {"Content-Type": one.image_manifest_media_type or ""}
                request = urllib.request.Request(url, text, kind, method="PUT")
                urllib.request.urlopen(request, timeout=30).close()
