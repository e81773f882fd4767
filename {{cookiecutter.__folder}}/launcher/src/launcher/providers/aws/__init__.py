"""AWS: SageMaker and Batch, ECR, S3, Secrets Manager."""

from __future__ import annotations

TARGETS = {"sagemaker": "sagemaker_endpoint"}  # where models can answer, each with its module
MIRRORS = {"sagemaker": "sagemaker_models"}  # registries of models


def browse(uri: str) -> str:
    """Give the page that shows what is at an address; empty where that is in no bucket of this cloud."""
    scheme, _, path = uri.partition("://")
    bucket, _, prefix = path.partition("/")
    if scheme != "s3":
        return ""
    return f"https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix.rstrip('/')}/"
