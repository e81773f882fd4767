"""Identity tokens for the services of Cloud Run, as their services read them."""

import base64
import json

from stage.google.grants import ROLES
from stage.google.identity import Identity
from stage.rest import Request, RequestError

MINT = "iam.serviceAccounts.getOpenIdToken"
ROLES.setdefault("roles/iam.serviceAccountTokenCreator", {MINT})


def id_token(identity: Identity, request: Request, email: str) -> dict[str, str]:
    """https://docs.cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken

    The repository's workflows may, by roles/iam.workloadIdentityUser on the account. The account itself has no right
    on itself unless somebody gives it one.
    """
    bearer, account = identity.bearer(request), identity.accounts.get(email)
    if bearer.email is None:
        bound = account and account.repository_id
        may = bool(bound) and bearer.claims.get("repository_id") == bound
    else:
        may = identity.caller(request).allows(MINT, email)
    if not may:
        raise RequestError(403, f"Permission '{MINT}' denied on resource (or it may not exist).")
    claims = {"email": email, "aud": request.json()["audience"]}
    return {"token": base64.urlsafe_b64encode(json.dumps(claims).encode()).decode()}
