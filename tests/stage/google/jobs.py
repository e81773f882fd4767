"""Jobs of Vertex AI and of Batch as `make cloud-destroy` meets them: listed and ended."""

from stage.google.project import Match, Project, Resource, done, need
from stage.rest import Request


def list_jobs(project: Project, match: Match, request: Request) -> Resource:
    """Jobs of one kind: customJobs, or hyperparameterTuningJobs."""
    kind = match["kind"]
    return {kind: [project.get(kind, name) for name in sorted(project.names(kind))]}


def cancel_job(project: Project, match: Match, request: Request) -> Resource:
    job = project.get(match["kind"], match["name"])
    need(job["state"] in ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING"), "The job is over.")
    job["state"] = "JOB_STATE_CANCELLED"
    project.cancelled.append(match["name"])
    return {}


def list_batch_jobs(project: Project, match: Match, request: Request) -> Resource:
    """Jobs of one region, or of all in the place of a region's name."""
    found = [project.get("batchJobs", name) for name in sorted(project.names("batchJobs"))]
    return {"jobs": [job for job in found if match["region"] in ("-", job["name"].split("/")[3])]}


def cancel_batch_job(project: Project, match: Match, request: Request) -> Resource:
    """Ends one that is not over; what becomes of others is not documented, so they are refused.

    https://docs.cloud.google.com/batch/docs/reference/rest/v1/projects.locations.jobs/cancel
    """
    job = project.get("batchJobs", match["name"])
    need(job["name"].split("/")[3] == match["region"], "The job is not in this region.")
    need(job["status"]["state"] in ("QUEUED", "SCHEDULED", "RUNNING"), "The job is over.")
    job["status"]["state"] = "CANCELLATION_IN_PROGRESS"
    project.cancelled.append(match["name"])
    return done({})
