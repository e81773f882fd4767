"""Images in OCI's form, which SageMaker refuses, are deployed and mirrored in Docker's."""

import pytest
import sagemaker_endpoints
from launcher.deployment import Order
from launcher.errors import UserError
from launcher.providers.aws.sagemaker_endpoint_image import DOCKER, LISTS
from launcher.providers.aws.sagemaker_endpoint_request import Where
from sagemaker_endpoints import ACCOUNT, REGION, image, left, manifests, oci, there
from stage.aws import World
from stage.aws.bench import client, refused
from test_sagemaker_models import entry, put

pytestmark = pytest.mark.cloud("aws")
account, stage = sagemaker_endpoints.account, sagemaker_endpoints.stage  # fixtures


def deployed(stage: World, made: str) -> str:
    """The image of the only model, once that of a version is deployed."""
    there().deploy(Order("digits", 1, made), lambda ask: None)
    [model] = stage.sagemaker.endpoints.models.values()
    return model.given["PrimaryContainer"]["Image"]


def test_an_image_in_docker_s_form_is_taken_as_it_is(stage: World):
    assert deployed(stage, image(1)) == image(1)
    assert "PutImage" not in stage.operations("ecr")


def test_one_in_oci_s_form_is_deployed_in_docker_s_and_put_once(stage: World):
    made = oci(1)
    with refused("ValidationException", "Unsupported manifest media type"):
        client(stage, "sagemaker").create_model(
            ModelName="m", PrimaryContainer={"Image": made}, ExecutionRoleArn=Where(ACCOUNT, REGION).role
        )
    found = deployed(stage, made)
    assert found != made
    manifest = manifests()[found.partition("@")[2]]
    assert manifest["mediaType"] == DOCKER
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    [layer] = manifest["layers"]
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert layer == {"mediaType": kind, "size": 7, "digest": "sha256:" + "1" * 64}
    there().remove("digits")
    assert deployed(stage, made) == found
    assert stage.operations("ecr").count("PutImage") == 1


def test_a_package_has_it_in_docker_s_form_too(stage: World):
    made = oci(2)
    found = stage.sagemaker.packages.packages[put(entry(image=made))]
    [container] = found.given["InferenceSpecification"]["Containers"]
    assert manifests()[container["Image"].partition("@")[2]]["mediaType"] == DOCKER


def test_what_docker_s_form_has_not_is_refused_in_one_sentence(stage: World):
    for layer in ("zstd", "tar"):
        with pytest.raises(UserError, match="compressed by gzip"):
            there().deploy(
                Order("digits", 1, oci(3, f"application/vnd.oci.image.layer.v1.tar+{layer}")),
                lambda ask: None,
            )
    for number, kind in enumerate(LISTS):
        with pytest.raises(UserError, match=r"one image and not a list.*push=true"):
            there().deploy(Order("digits", 1, oci(4 + number, kind=kind)), lambda ask: None)
    assert left(stage) == []
