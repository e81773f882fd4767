"""Jobs of Vertex AI and of Batch, services of Cloud Run, endpoints and models of Vertex AI, as `make cloud-destroy` meets them: listed and ended."""

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


def list_run_services(project: Project, match: Match, request: Request) -> Resource:
    """Services of all regions, as version 1 of the API tells them."""
    found = [project.get("runServices", name) for name in sorted(project.names("runServices"))]
    return {"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": found}


def get_run_service(project: Project, match: Match, request: Request) -> Resource:
    return project.get("runServices", match["name"])


def delete_run_service(project: Project, match: Match, request: Request) -> Resource:
    project.remove("runServices", match["name"])
    return {"status": "Success"}


def list_resources(project: Project, match: Match, request: Request) -> Resource:
    """Endpoints, or models."""
    kind = match["kind"]
    return {kind: [project.get(kind, name) for name in sorted(project.names(kind))]}


def change_endpoint(project: Project, match: Match, request: Request) -> Resource:
    """Only its traffic, which is of what is deployed and adds up to 100, or is empty: Endpoint.traffic_split."""
    endpoint, split = project.get("endpoints", match["name"]), request.json().get("trafficSplit", {})
    need(
        request.query.get("updateMask") in (["trafficSplit"], ["traffic_split"]),
        "Only the traffic is known here.",
    )
    ids = {one["id"] for one in endpoint.get("deployedModels", ())}
    need(sum(map(int, split.values())) in (0, 100) and set(split) <= ids, "Invalid traffic split.")
    endpoint["trafficSplit"] = split
    return endpoint


def undeploy_model(project: Project, match: Match, request: Request) -> Resource:
    """What has requests is not undeployed: UndeployModelRequest.traffic_split. Of the last one it is taken: worse, not."""
    endpoint, number = project.get("endpoints", match["name"]), request.json()["deployedModelId"]
    split = request.json().get("trafficSplit") or endpoint.get("trafficSplit", {})
    need(not split.get(number), "The DeployedModel still has traffic.")
    left = [one for one in endpoint["deployedModels"] if one["id"] != number]
    need(len(left) < len(endpoint["deployedModels"]), f"DeployedModel {number} is not found.")
    endpoint["deployedModels"] = left
    return done({})


def delete_endpoint(project: Project, match: Match, request: Request) -> Resource:
    endpoint = project.get("endpoints", match["name"])
    need(not endpoint.get("deployedModels"), "The Endpoint has deployed or being-deployed DeployedModels.")
    project.remove("endpoints", match["name"])
    return done({})


def delete_model(project: Project, match: Match, request: Request) -> Resource:
    """One that is deployed is not deleted, nor for a while afterwards: github.com/googleapis/python-aiplatform/issues/2807"""
    model = project.get("models", match["name"])
    late = model.pop("lateRelease", 0)
    if late:
        model["lateRelease"] = late - 1
    at = f"/models/{match['name']}"
    endpoints = [project.get("endpoints", name) for name in project.names("endpoints")]
    used = [one for each in endpoints for one in each.get("deployedModels", ()) if one["model"].endswith(at)]
    need(not used and not late, f"Model {match['name']} is deployed to an endpoint.")
    project.remove("models", match["name"])
    return done({})
