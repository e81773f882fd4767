"""What a request to one of moto's services asks for, and whether its keys may have it.

Actions and resources: https://docs.aws.amazon.com/service-authorization/latest/reference/. Only what the project's
programs use is resolved to a resource; for the rest it is asked whether any statement allows the action at all.
"""

import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from moto.secretsmanager.models import secretsmanager_backends

from stage.aws.errors import AwsError
from stage.aws.people import ACCOUNT, People, Session
from stage.aws.wire import Raw


@dataclass(frozen=True)
class Asked:
    """One request.

    Args:
        operation: such as PutObject.
        action: as policies name it; "" for one that everybody may.
        resources: ARNs with {region}; empty where they are not resolved.
        code: the service's word for a refusal.
    """

    operation: str
    action: str
    resources: tuple[str, ...] = ()
    code: str = "AccessDeniedException"


def read(service: str, raw: Raw) -> Asked:
    """Finds out what is asked."""
    if service == "s3":
        return _s3(raw)
    target = raw.headers.get("x-amz-target", "")
    if target:
        operation = target.rpartition(".")[2]
        body = json.loads(raw.body or b"{}")
        resources = {"ecr": _ecr, "logs": _logs, "secretsmanager": _secrets}.get(service, lambda *_: ())
        return Asked(operation, f"{service}:{operation}", resources(operation, body))
    operation = raw.form.get("Action", "")
    return Asked(operation, f"{service}:{operation}" if operation else "", code="AccessDenied")


def require(people: People, session: Session, asked: Asked, region: str) -> None:
    """Refuses who may not have it."""
    if not session.role or not asked.action:
        return
    if asked.resources:
        resources = [one.replace("{region}", region) for one in asked.resources]
        context = {"aws:RequestedRegion": region}
        people.require(session, asked.action, resources, context, asked.code)
    elif not people.mentioned(session, asked.action):
        text = f"User: {session.arn} is not authorized to perform: {asked.action}"
        raise AwsError(asked.code, text, 403 if asked.code == "AccessDenied" else 400)


def _s3(raw: Raw) -> Asked:
    bucket, _, key = urllib.parse.unquote(raw.path).lstrip("/").partition("/")
    asked = dict(urllib.parse.parse_qsl(raw.query, keep_blank_values=True))
    where = f"arn:aws:s3:::{bucket}"

    def answer(operation: str, action: str, *resources: str) -> Asked:
        return Asked(operation, f"s3:{action}", resources, "AccessDenied")

    if not bucket:
        return answer("ListBuckets", "ListAllMyBuckets", "*")
    if key:
        inside = f"{where}/{key}"
        multipart = "uploads" in asked or "uploadId" in asked
        if raw.method in ("GET", "HEAD"):
            if multipart:
                return answer("ListParts", "ListMultipartUploadParts", inside)
            return answer("GetObject" if raw.method == "GET" else "HeadObject", "GetObject", inside)
        if raw.method == "DELETE":
            return answer(*("AbortMultipartUpload",) * 2 if multipart else ("DeleteObject",) * 2, inside)
        names = {"uploads": "CreateMultipartUpload", "partNumber": "UploadPart"}
        name = next((one for word, one in names.items() if word in asked), None)
        whole = "CompleteMultipartUpload" if raw.method == "POST" else "PutObject"
        return answer(name or whole, "PutObject", inside)
    if raw.method == "POST" and "delete" in asked:
        keys = re.findall(r"<Key>(.*?)</Key>", raw.body.decode(errors="replace"))
        return answer("DeleteObjects", "DeleteObject", *(f"{where}/{one}" for one in keys))
    settings = {"versioning", "lifecycle", "encryption", "publicAccessBlock", "policy", "tagging", "location"}
    for name in settings & set(asked):
        verb = "Get" if raw.method == "GET" else "Put"
        title = name[:1].upper() + name[1:]
        return answer(f"{verb}Bucket{title}", f"{verb}Bucket{title}")
    if raw.method == "HEAD":
        return answer("HeadBucket", "ListBucket", where)
    if raw.method == "GET":
        if "versions" in asked:
            return answer("ListObjectVersions", "ListBucketVersions", where)
        return answer("ListObjectsV2" if "list-type" in asked else "ListObjects", "ListBucket", where)
    return answer(*{"PUT": ("CreateBucket",) * 2, "DELETE": ("DeleteBucket",) * 2}[raw.method], where)


def _ecr(operation: str, body: dict[str, Any]) -> tuple[str, ...]:
    if operation == "GetAuthorizationToken":
        return ("*",)
    if "repositoryName" in body:
        return (f"arn:aws:ecr:{{region}}:{ACCOUNT}:repository/{body['repositoryName']}",)
    return ()


def _logs(operation: str, body: dict[str, Any]) -> tuple[str, ...]:
    if "logGroupName" not in body:
        return ()
    stream = body.get("logStreamName", "*")
    # A policy on "...:log-group:NAME" alone does not reach its streams; those end with ":*".
    return (f"arn:aws:logs:{{region}}:{ACCOUNT}:log-group:{body['logGroupName']}:log-stream:{stream}",)


def _secrets(operation: str, body: dict[str, Any]) -> tuple[str, ...]:
    name = body.get("SecretId", "")
    if not name or name.startswith("arn:"):
        return (name,) if name else ()
    for region in secretsmanager_backends[ACCOUNT].values():
        for secret in region.secrets.values():
            if secret.name == name:
                return (secret.arn,)
    return (f"arn:aws:secretsmanager:{{region}}:{ACCOUNT}:secret:{name}",)
