"""Buckets and image repositories: what Google refuses, and what becomes of the rest."""

import re

from stage.google.project import NUMBER, PROJECT, Match, Project, Resource, done, need
from stage.rest import Request, RequestError


def make_bucket(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    need(request.query["project"] == [PROJECT], "Unknown project id.")
    need(re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", body["name"]), "Invalid bucket name.")
    _check_lifecycle(body)
    body |= {
        "location": body.get("location", "US").upper(),
        "locationType": "region",
        "projectNumber": NUMBER,
    }
    _check_soft_delete(body)
    # Seven days, unless told otherwise: https://docs.cloud.google.com/storage/docs/soft-delete.
    body = {"softDeletePolicy": {"retentionDurationSeconds": "604800"}} | body
    body |= {
        "metageneration": "1",
        "storageClass": "STANDARD",
    }
    project.policies["bucket", body["name"]] = {"version": 1, "etag": "CAE=", "bindings": []}
    return project.add("bucket", body["name"], body)


def change_bucket(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    _check_lifecycle(body)
    _check_soft_delete(body)
    return merge(project.get("bucket", match["name"]), body)


def _check_lifecycle(bucket: Resource) -> None:
    for rule in bucket.get("lifecycle", {}).get("rule", []):
        condition = rule["condition"]
        need(condition, "A lifecycle rule needs a condition.")
        if rule["action"]["type"] == "AbortIncompleteMultipartUpload":
            need(
                set(condition) <= {"age", "matchesPrefix", "matchesSuffix"},
                "Unsupported condition for this action.",
            )
        else:
            need(rule["action"]["type"] == "Delete", "Unknown action.")


def _check_soft_delete(bucket: Resource) -> None:
    """Nothing, or 7 to 90 days: https://docs.cloud.google.com/storage/docs/soft-delete."""
    days = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0)) / 86400
    need(days == 0 or 7 <= days <= 90, "The soft delete retention duration must be 0, or 7 to 90 days.")


def _has_soft_delete(project: Project, name: str) -> bool:
    policy = project.get("bucket", name).get("softDeletePolicy", {})
    return int(policy.get("retentionDurationSeconds", 0)) > 0


def delete_bucket(project: Project, match: Match, request: Request) -> Resource:
    """Refused while there are objects; with soft delete it is kept, as are objects that were deleted before.

    https://docs.cloud.google.com/storage/docs/json_api/v1/buckets/delete
    """
    name = match["name"]
    if any(each.startswith(f"{name}/") for each in project.names("object")):
        raise RequestError(409, "The bucket you tried to delete is not empty.")
    if _has_soft_delete(project, name):
        project.kept.append(("bucket", name))
    project.remove("bucket", name)
    return {}


def delete_object(project: Project, match: Match, request: Request) -> Resource:
    name = f"{match['name']}/{match['object']}"
    project.remove("object", name)
    if _has_soft_delete(project, match["name"]):
        project.kept.append(("object", name))
    return {}


def merge(old: Resource, new: Resource) -> Resource:
    for name, value in new.items():
        old[name] = (
            merge(old.get(name) or {}, value) if isinstance(value, dict) and name != "lifecycle" else value
        )
    return old


def list_objects(project: Project, match: Match, request: Request) -> Resource:
    project.get("bucket", match["name"])
    prefix = f"{match['name']}/"
    names = sorted(each.removeprefix(prefix) for each in project.names("object") if each.startswith(prefix))
    items = [
        {"kind": "storage#object", "name": each, "bucket": match["name"], "generation": "1"} for each in names
    ]
    return {"kind": "storage#objects", "items": items}


def list_folders(project: Project, match: Match, request: Request) -> Resource:
    project.get("bucket", match["name"])
    return {"kind": "storage#managedFolders", "items": []}


def show_layout(project: Project, match: Match, request: Request) -> Resource:
    bucket = project.get("bucket", match["name"])
    return {"kind": "storage#storageLayout", "bucket": match["name"], "location": bucket["location"]}


def make_repository(project: Project, match: Match, request: Request) -> Resource:
    name, body = request.query["repositoryId"][0], request.json()
    need(re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", name), "Invalid repository id.")
    need(body.get("format") == "DOCKER", "A format is needed.")
    body["name"] = f"projects/{PROJECT}/locations/{match['region']}/repositories/{name}"
    return done(project.add("repository", name, body))


def change_repository(project: Project, match: Match, request: Request) -> Resource:
    body = request.json()
    for name, policy in body.get("cleanupPolicies", {}).items():
        need(policy["id"] == name and policy["action"] in ("DELETE", "KEEP"), "Malformed clean-up policy.")
        need(
            ("condition" in policy) != ("mostRecentVersions" in policy),
            "One of condition and mostRecentVersions.",
        )
        need(policy["action"] == "KEEP" or "condition" in policy, "Most recent versions can only be kept.")
        condition = policy.get("condition", {})
        need(condition.get("tagState", "ANY") in ("ANY", "TAGGED", "UNTAGGED"), "Unknown tag state.")
        if "olderThan" in condition:  # gcloud sends 60.0s, Google gives 60s back
            condition["olderThan"] = condition["olderThan"].replace(".0s", "s")
        need(
            "tagPrefixes" not in condition or condition["tagState"] == "TAGGED",
            "Tag prefixes need tagState TAGGED.",
        )
    project.get("repository", match["name"]).update(body)
    return project.get("repository", match["name"])
