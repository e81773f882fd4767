"""The filters of AWS Batch's ListJobs."""

from typing import Any

from stage.aws.batch_jobs import BatchJob
from stage.aws.batch_rules import refusal


def matches(wanted: dict[str, Any], job: BatchJob) -> bool:
    """Case does not count, and `*` at the end stands for more: API_ListJobs.html."""
    name, values = wanted.get("name"), wanted.get("values", [])
    if name in ("JOB_NAME", "JOB_DEFINITION"):
        arn = job.definition["jobDefinitionArn"]
        texts = (
            [job.name]
            if name == "JOB_NAME"
            else [arn, arn.rpartition("/")[2], arn.rpartition("/")[2].split(":")[0]]
        )
        return any(
            text.lower().startswith(value[:-1].lower())
            if value.endswith("*")
            else text.lower() == value.lower()
            for text in texts
            for value in values
        )
    if name in ("BEFORE_CREATED_AT", "AFTER_CREATED_AT"):
        before = job.created * 1000 < float(values[0])
        return before if name == "BEFORE_CREATED_AT" else not before
    raise refusal(f"The filter {name} is not known")
