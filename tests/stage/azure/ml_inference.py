"""*.REGION.inference.ml.azure.com: requests to what is deployed, from whoever has the right to ask.

https://learn.microsoft.com/azure/machine-learning/how-to-authenticate-online-endpoint, and of the answers
.../how-to-troubleshoot-online-endpoints (HTTP status codes).
"""

from stage.azure.errors import AzureError
from stage.azure.ml_endpoints import Endpoints
from stage.azure.ml_served import HOST, Deployment, Endpoint
from stage.azure.people import People
from stage.azure.roles import Roles
from stage.azure.server import Call, Place, Reply

AUDIENCE = "https://ml.azure.com"
SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
HEADER = "azureml-model-deployment"
OK, NO_CONTENT = 200, 299


class Inference:
    """All endpoints' addresses."""

    def __init__(self, endpoints: Endpoints, people: People, roles: Roles) -> None:
        self._endpoints, self._people, self._roles = endpoints, people, roles

    @property
    def place(self) -> Place:
        """For the server."""
        return Place(f"*.{HOST}", "inference", self, lambda host: self._at(host) is not None)

    def _at(self, host: str) -> Endpoint | None:
        found = (one for one in self._endpoints.known.values() if one.host == host.lower())
        return next((one for one in found if one.state != "Creating"), None)

    def __call__(self, call: Call) -> Reply:
        endpoint = self._at(call.host)
        assert endpoint
        try:
            principal = self._people.require(call.headers, AUDIENCE)
        except AzureError as refusal:
            raise AzureError(401, "Unauthorized", refusal.message) from refusal
        if not self._roles.allows(principal, SCORE, endpoint.id):
            # "401 Unauthorized: You don't have permission to do the requested action, such as score"
            raise AzureError(401, "Unauthorized", f"There is no permission to score at {endpoint.name}.")
        one = self._chosen(endpoint, call.headers.get(HEADER, ""))
        if one is None or one.container is None or not call.path.startswith(one.route):
            # "The endpoint doesn't have any valid deployment with positive weight."
            raise AzureError(404, "NotFound", f"No valid deployment of {endpoint.name} for {call.path}.")
        kind = call.headers.get("content-type", "")
        status, content = one.container.ask(call.method, call.path, call.content, kind)
        if not OK <= status <= NO_CONTENT:
            # "If your model container returns a non-200 response, Azure returns a 424."
            return Reply(424, content, {"ms-azureml-model-error-statuscode": str(status)})
        headers = {HEADER: one.name, "Content-Type": "application/json"}
        return Reply(status, content, headers)

    def _chosen(self, endpoint: Endpoint, asked: str) -> Deployment | None:
        """The one that is asked for; else the one with most of the traffic, so that a test can tell which."""
        if not asked:
            found = {name: part for name, part in endpoint.traffic.items() if part}
            asked = max(found, key=lambda name: found[name]) if found else ""
        one = endpoint.deployments.get(asked.lower())
        return one if one and one.state == "Succeeded" else None
