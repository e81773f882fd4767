"""`cloud destroy`: ends what runs, removes what setup has made, and leaves what was there before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ....errors import UserError
from ....project import Project, project
from ... import repository as github
from ...errors import MissingError, ServiceError
from ...steps import Steps, data_option, option
from .. import auth as aws
from .. import sagemaker_endpoint, sagemaker_models
from ..sagemaker_endpoint_request import Where
from . import extras, ground
from .stack import Stack

VARIABLES = ("CLOUD_IMAGE", "AWS_ROLE", "AWS_REGION")
WAITING = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
# A sweep first, or it starts other trainings.
TRAININGS = {"HyperParameterTuningJob": "hyper_parameter_tuning_job", "TrainingJob": "training_job"}


def remove() -> None:
    """Do all of it. Raises UserError, in one sentence."""
    here, steps = project(), Steps(bool(option("DRY_RUN")))
    data = data_option("bucket")
    aws.check_region(here.region)
    if steps.dry:
        account, name = "ACCOUNT_ID", github.find_name() or "OWNER/NAME"
    else:
        github.check_program()
        account, name = aws.account(), github.find_name()
        name = name if github.exists(name) else ""
        if not option("YES"):
            _ask(here, account, name, data, steps)
    stack = Stack(here.slug, here.region, steps)
    if name:  # first, so that no push starts anything more
        github.forget(name, VARIABLES, steps)
    else:
        steps.say("GitHub", "no repository is found there")
    _end_batch(here, stack)
    _end_trainings(here, steps)
    _forget_definitions(here, steps)
    _end_endpoints(here, account, steps)
    _delete_stack(here, stack)
    _end_trainings(here, steps)  # a workflow that had logged in before may have started one
    _remove_provider(here, account, steps)
    _remove_logs(here, steps)
    extras.remove_budget(here.slug, account, steps)
    _remove_or_keep_data(here, account, data, steps)
    steps.say("services", "the roles of Batch and of spot machines stay: others may use them")


def _ask(here: Project, account: str, name: str, data: bool, steps: Steps) -> None:
    where = name or "GitHub (no repository is found there)"
    steps.ask(
        f"This removes from the account {account} in {here.region}: running jobs and endpoints of {here.slug}, its images, roles,\n"
        f"queues, secret and budget, and from {where} the variables, the label '{github.LABEL}' and the environments {' and '.join(github.ENVIRONMENTS)}.",
        here.slug,
    )
    if data:
        steps.ask(
            f"And s3://{here.bucket}, with all data, checkpoints and results in it.", here.bucket
        )


def _end_batch(here: Project, stack: Stack) -> None:
    """End all jobs of the project's queues; without its status ListJobs gives running ones only."""
    if stack.steps.dry:
        stack.steps.show("batch", "list_jobs", f"jobQueue={here.account}-MACHINE-TIER")
        stack.steps.show("batch", "terminate_job", "jobId=JOB", "reason='cloud destroy'")
        return
    found = stack.resources() if stack.find() else {}
    queues = [
        each["PhysicalResourceId"]
        for each in found.values()
        if each["ResourceType"] == "AWS::Batch::JobQueue" and each.get("PhysicalResourceId")
    ]
    asked = [(queue, status) for queue in queues for status in WAITING]

    def jobs(each: tuple[str, str]) -> list[dict[str, Any]]:
        named = {"jobQueue": each[0], "jobStatus": each[1]}
        return list(aws.pages("batch", "list_jobs", "jobSummaryList", here.region, **named))

    with ThreadPoolExecutor(8) as pool:
        for job in [job for some in pool.map(jobs, asked) for job in some]:
            reason = "cloud destroy"
            aws.call("batch", "terminate_job", here.region, jobId=job["jobId"], reason=reason)
            stack.steps.say("job", f"{job['jobName']}: ended")


def _end_trainings(here: Project, steps: Steps) -> None:
    """End SageMaker's sweeps and trainings with the project's tag. They are listed: Search hears of new ones late."""
    for kind, operation in TRAININGS.items():
        if steps.dry:
            steps.show("sagemaker", f"list_{operation}s", "StatusEquals=InProgress")
            steps.show("sagemaker", f"stop_{operation}", f"{kind}Name=JOB")
            continue
        for name in list(_in_progress(here, kind, operation)):
            try:
                aws.call("sagemaker", f"stop_{operation}", here.region, **{f"{kind}Name": name})
            except ServiceError as error:
                if error.code != "ValidationException":  # it has ended by itself
                    raise
                continue
            steps.say("job", f"{name}: ended")


def _in_progress(here: Project, kind: str, operation: str) -> Iterator[str]:
    only, key = {"StatusEquals": "InProgress"}, f"{kind}Summaries"
    for each in aws.pages("sagemaker", f"list_{operation}s", key, here.region, **only):
        of = {"ResourceArn": each[f"{kind}Arn"]}
        tags = list(aws.pages("sagemaker", "list_tags", "Tags", here.region, **of))
        if {"Key": "project", "Value": here.slug} in tags:
            yield each[f"{kind}Name"]


def _end_endpoints(here: Project, account: str, steps: Steps) -> None:
    """Delete what serves models, and what SageMaker's registry shows of them; before the stack, whose role they have."""
    if steps.dry:
        steps.show("sagemaker", "list_endpoints", f"NameContains={here.slug}-")
        steps.show("sagemaker", "delete_endpoint", "EndpointName=ENDPOINT")
        steps.show("sagemaker", "delete_model_package_group", "ModelPackageGroupName=GROUP")
        return
    for model in sagemaker_endpoint.remove_all(account, here.region):
        steps.say("endpoint", f"{model}: removed")
    registry = sagemaker_models.Registry(Where(account, here.region))
    for group in list(registry.groups()):
        registry.remove(group)
        steps.say("registry", f"{group}: removed from SageMaker's")


def _forget_definitions(here: Project, steps: Steps) -> None:
    """Deregister what launches have registered: it costs nothing, and names an image that goes."""
    if steps.dry:
        steps.show("batch", "deregister_job_definition", f"jobDefinition={here.account}:REVISION")
        return
    found = list(
        aws.pages(
            "batch", "describe_job_definitions", "jobDefinitions", here.region, status="ACTIVE"
        )
    )
    for each in found:
        if (each.get("tags") or {}).get("project") == here.slug:
            arn = each["jobDefinitionArn"]
            aws.call("batch", "deregister_job_definition", here.region, jobDefinition=arn)


def _delete_stack(here: Project, stack: Stack) -> None:
    if stack.steps.dry:
        stack.steps.show("cloudformation", "delete_stack", f"StackName={here.slug}")
        return
    gone = stack.delete()
    stack.steps.say("stack", f"{here.slug}: {'removed' if gone else 'was gone'}")


def _remove_provider(here: Project, account: str, steps: Steps) -> None:
    """Remove the identity provider if this project made it and no other role of the account lets anybody in by it."""
    arn = ground.provider_arn(account)
    if steps.dry:
        steps.show("iam", "delete_open_id_connect_provider", f"OpenIDConnectProviderArn={arn}")
        return
    found = ground.find_provider(account)
    if not found:
        return
    if {"Key": "project", "Value": here.slug} not in found.get("Tags", ()):
        steps.say("login", f"{ground.ISSUER}: stays, for this project did not make it")
        return
    roles = aws.pages("iam", "list_roles", "Roles")
    others = [
        role["RoleName"] for role in roles if arn in json.dumps(role["AssumeRolePolicyDocument"])
    ]
    if others:
        steps.say("login", f"{ground.ISSUER}: stays, for {', '.join(others)} uses it")
        return
    aws.call("iam", "delete_open_id_connect_provider", OpenIDConnectProviderArn=arn)
    steps.say("login", f"{ground.ISSUER}: removed")


def _remove_logs(here: Project, steps: Steps) -> None:
    """Remove the log groups that nothing is in; others may be the account's other projects', and forget within a month."""
    for name in ground.LOGS.values():
        if steps.dry:
            steps.show("logs", "delete_log_group", f"logGroupName={name}")
            continue
        try:
            streams = aws.call("logs", "describe_log_streams", here.region, logGroupName=name)
            arn = f"arn:aws:logs:{here.region}:{aws.account()}:log-group:{name}"
            tags = aws.call("logs", "list_tags_for_resource", here.region, resourceArn=arn)["tags"]
        except MissingError:
            continue
        if streams["logStreams"] or tags.get("project") != here.slug:
            steps.say("log", f"{name}: stays, the account's other projects may write there too")
            continue
        aws.call("logs", "delete_log_group", here.region, logGroupName=name)
        steps.say("log", f"{name}: removed")


def _remove_or_keep_data(here: Project, account: str, data: bool, steps: Steps) -> None:
    bucket = f"s3://{here.bucket}"
    if steps.dry:
        if data:
            steps.show("s3", "delete_objects", f"Bucket={here.bucket}")
            steps.show("s3", "delete_bucket", f"Bucket={here.bucket}")
        return
    if not ground.find_bucket(here, account):
        steps.say("bucket", f"{bucket}: was gone")
    elif not data:
        steps.say("bucket", f"{bucket}: kept, and paid for; DATA=delete removes it too")
    elif not ground.is_ours(here):
        steps.say("bucket", f"{bucket}: stays, it was there before; delete it by hand")
    else:
        _empty(here)
        aws.call("s3", "delete_bucket", here.region, Bucket=here.bucket)
        steps.say("bucket", f"{bucket}: removed")


def _empty(here: Project) -> None:
    """Delete all objects, of each all versions, and uploads that were not finished."""
    of = {"Bucket": here.bucket}
    for key in ("Versions", "DeleteMarkers"):
        some: list[dict[str, str]] = []
        for each in aws.pages("s3", "list_object_versions", key, here.region, **of):
            some.append({"Key": each["Key"], "VersionId": each["VersionId"]})
            if len(some) == 1000:  # the most that one call takes
                _delete(here, some)
                some = []
        _delete(here, some)
    for each in aws.pages("s3", "list_multipart_uploads", "Uploads", here.region, **of):
        upload = {"Key": each["Key"], "UploadId": each["UploadId"]}
        aws.call("s3", "abort_multipart_upload", here.region, **of, **upload)


def _delete(here: Project, some: list[dict[str, str]]) -> None:
    if not some:
        return
    wanted = {"Objects": some, "Quiet": True}
    answer = aws.call("s3", "delete_objects", here.region, Bucket=here.bucket, Delete=wanted)
    for error in answer.get("Errors", ()):
        raise UserError(
            f"s3://{here.bucket}/{error.get('Key')} cannot be deleted ({error.get('Message')}): put that right, and run this again."
        )
