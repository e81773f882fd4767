"""A strict stand-in for SageMaker's endpoints: models, configurations, and what answers.

Time does nothing here: a change is done after it was looked at for a number of times, as clients do not know how long it takes.
"""

from collections.abc import Callable
from typing import Any

from stage.aws import journal
from stage.aws.endpoint_kinds import Endpoint, Host, Kept, arn_of, missing_config, missing_endpoint, quota
from stage.aws.endpoint_rules import (
    GROUP,
    check_model,
    check_update,
    check_variants,
    fetch_problem,
    may_log,
    require,
)
from stage.aws.errors import AwsError
from stage.aws.listing import listed
from stage.aws.people import role_of
from stage.aws.server import Call
from stage.aws.training_rules import invalid
from stage.clock import Clock

# As seen: https://github.com/aws/amazon-sagemaker-examples/issues/210.
PING = (
    "The primary container for production variant {} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


class Endpoints:
    """The service in all regions, and a test's hands on it.

    Attributes:
        waits: looks until something is done.
        failed_update: what becomes of an endpoint whose update fails: "silent" (back, without a reason; as in
            https://github.com/hashicorp/terraform-provider-aws/issues/48997), "told" (.../39099) or "Failed".
        late_configs: calls in which a configuration is not known yet that was just made (CreateEndpoint's documentation).
        machines: type -> how many endpoints may have; a new account has two ml.t2.medium and no other (several reports).
        concurrency: requests at a time that all serverless endpoints may allow together.
        harm: what a client has destroyed that was in use; the service lets it.
    """

    def __init__(self, clock: Clock, host: Host | None = None) -> None:
        self.clock, self.host = clock, host
        self.waits, self.failed_update, self.late_configs = 2, "silent", 0
        self.machines, self.concurrency = {"ml.t2.medium": 2}, 10
        self.harm: list[str] = []
        self.models: dict[tuple[str, str], Kept] = {}
        self.configs: dict[tuple[str, str], Kept] = {}
        self.endpoints: dict[tuple[str, str], Endpoint] = {}

    def everything(self) -> list[Kept]:
        """All that has tags."""
        return [*self.models.values(), *self.configs.values(), *self.endpoints.values()]

    def names(self) -> tuple[list[str], list[str], list[str]]:
        """Names of the endpoints, the configurations and the models."""
        kinds = (self.endpoints, self.configs, self.models)
        return tuple([name for _, name in each] for each in kinds)  # type: ignore[return-value]

    def handler(self, operation: str) -> Callable[[Call], dict[str, Any]] | None:
        """What answers an operation; None for one that is not about endpoints."""
        return {
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_config,
            "CreateEndpoint": self._create,
            "UpdateEndpoint": self._update,
            "DescribeEndpoint": self._describe,
            "DescribeEndpointConfig": self._describe_config,
            "DeleteEndpoint": self._delete,
            "DeleteEndpointConfig": self._delete_config,
            "DeleteModel": self._delete_model,
            "ListEndpoints": lambda call: self._list(call, self.endpoints, "Endpoint"),
            "ListEndpointConfigs": lambda call: self._list(call, self.configs, "EndpointConfig"),
            "ListModels": lambda call: self._list(call, self.models, "Model"),
        }.get(operation)

    # Models and configurations

    def _create_model(self, call: Call) -> dict[str, Any]:
        name, arn = call.given["ModelName"], arn_of(call, "model", call.given["ModelName"])
        require(call, "CreateModel", [arn])
        check_model(call, call.given)
        if (call.region, name) in self.models:
            # As of endpoints (https://github.com/aws/sagemaker-python-sdk/issues/101).
            raise invalid(f'Cannot create already existing model "{arn}".')
        self.models[call.region, name] = Kept(arn, call.given, self.clock.now())
        return {"ModelArn": arn}

    def _create_config(self, call: Call) -> dict[str, Any]:
        given = call.given
        name, arn = (
            given["EndpointConfigName"],
            arn_of(call, "endpoint-config", given["EndpointConfigName"]),
        )
        require(call, "CreateEndpointConfig", [arn])
        if more := set(given) - {"EndpointConfigName", "ProductionVariants", "Tags"}:
            raise AwsError("NotImplemented", f"{', '.join(more)} is not part of the stand-in.", 501)
        isolated = {
            known: bool(one.given.get("EnableNetworkIsolation"))
            for (region, known), one in self.models.items()
            if region == call.region
        }
        check_variants(call, given["ProductionVariants"], isolated)
        if (call.region, name) in self.configs:
            # As seen: https://github.com/awslabs/spot-tagging-bot-for-digital-assets/issues/2.
            raise invalid(f'Cannot create already existing endpoint configuration "{arn}".')
        self.configs[call.region, name] = Kept(arn, given, self.clock.now())
        return {"EndpointConfigArn": arn}

    def _describe_config(self, call: Call) -> dict[str, Any]:
        name = call.given["EndpointConfigName"]
        found = self.configs.get((call.region, name))
        require(
            call,
            "DescribeEndpointConfig",
            [arn_of(call, "endpoint-config", name)],
            found.tags if found else None,
        )
        if not found:
            raise missing_config(call, name)
        return {
            "EndpointConfigName": name,
            "EndpointConfigArn": found.arn,
            "ProductionVariants": found.given["ProductionVariants"],
            "CreationTime": found.created,
        }

    def _delete_config(self, call: Call) -> dict[str, Any]:
        name = call.given["EndpointConfigName"]
        found = self.configs.get((call.region, name))
        arn = arn_of(call, "endpoint-config", name)
        require(call, "DeleteEndpointConfig", [arn], found.tags if found else None)
        if not found:
            raise missing_config(call, name)
        # "You must not", says DeleteEndpointConfig's documentation, and does not keep anybody from it.
        users = [one for one in self.endpoints.values() if name in (one.config, one.pending)]
        self.harm += [f"{name} was deleted, which {one.name} has" for one in users]
        del self.configs[call.region, name]
        return {}

    def _delete_model(self, call: Call) -> dict[str, Any]:
        name = call.given["ModelName"]
        found, arn = self.models.get((call.region, name)), arn_of(call, "model", name)
        require(call, "DeleteModel", [arn], found.tags if found else None)
        if not found:
            raise invalid(f'Could not find model "{arn}".')
        for (_, config), one in self.configs.items():
            if name in [each["ModelName"] for each in one.given["ProductionVariants"]]:
                self.harm.append(f"{name} was deleted, which {config} has")
        del self.models[call.region, name]
        return {}

    # Endpoints

    def _create(self, call: Call) -> dict[str, Any]:
        given = call.given
        name, config = given["EndpointName"], given["EndpointConfigName"]
        arn = arn_of(call, "endpoint", name)
        require(call, "CreateEndpoint", [arn, arn_of(call, "endpoint-config", config)])
        self._check_config(call, config)
        if any(known.lower() == name.lower() for region, known in self.endpoints if region == call.region):
            # As seen: https://github.com/aws/sagemaker-python-sdk/issues/101.
            raise invalid(f'Cannot create already existing endpoint "{arn}".')
        self._check_quota(call, config)
        self.endpoints[call.region, name] = Endpoint(arn, given, self.clock.now(), self.waits)
        return {"EndpointArn": arn}

    def _update(self, call: Call) -> dict[str, Any]:
        name, config = call.given["EndpointName"], call.given["EndpointConfigName"]
        found = self._known(call, "UpdateEndpoint", [arn_of(call, "endpoint-config", config)])
        if set(call.given) - {"EndpointName", "EndpointConfigName"}:
            raise AwsError("NotImplemented", "Kinds of deployments are not part of the stand-in.", 501)
        if found.status != "InService":
            # DescribeEndpoint: of one that has failed nothing but its deletion is possible.
            what = "failed" if found.status == "Failed" else "in-progress"
            raise invalid(f'Cannot update {what} endpoint "{found.arn}".')
        self._check_config(call, config)
        if (call.region, found.config) not in self.configs:
            # As seen, of the old one: https://github.com/hashicorp/terraform-provider-aws/issues/40048.
            raise missing_config(call, found.config)
        if config == found.config:
            raise invalid(f"{name} has that configuration already.")  # nobody says whether it is refused
        old, new = (self.configs[call.region, each].given for each in (found.config, config))
        check_update(call, old, new)
        self._check_quota(call, config)
        found.status, found.pending, found.left = "Updating", config, self.waits
        found.reason = ""
        return {"EndpointArn": found.arn}

    def _delete(self, call: Call) -> dict[str, Any]:
        found = self._known(call, "DeleteEndpoint", [])
        if found.status not in ("InService", "Failed"):
            # While it is made there is no way: https://github.com/aws/amazon-sagemaker-examples/issues/3432.
            raise invalid(f'Cannot delete endpoint "{found.arn}" in status {found.status}.')
        found.status, found.left = "Deleting", self.waits
        return {}

    def _describe(self, call: Call) -> dict[str, Any]:
        found = self._known(call, "DescribeEndpoint", [])
        self._go_on(call, found)
        if (call.region, found.name) not in self.endpoints:
            raise missing_endpoint(found.arn)
        said: dict[str, Any] = {
            "EndpointName": found.name,
            "EndpointArn": found.arn,
            "EndpointConfigName": found.config,
            "EndpointStatus": found.status,
            "CreationTime": found.created,
            "LastModifiedTime": self.clock.now(),
        }
        if found.reason:
            said["FailureReason"] = found.reason
        if found.status in ("Creating", "Updating"):
            said["PendingDeploymentSummary"] = {"EndpointConfigName": found.pending}
        return said

    def _go_on(self, call: Call, found: Endpoint) -> None:
        """Counts a look; with the last one what is under way is done."""
        if found.status not in ("Creating", "Updating", "Deleting"):
            return
        found.left -= 1
        if found.left > 0:
            return
        if found.status == "Deleting":
            self._release(call.region, found, found.config)
            del self.endpoints[call.region, found.name]
            return
        problem = self._bring_up(call.region, found, found.pending)
        if problem:
            self._release(call.region, found, found.pending)
            self._failed(found, problem)
            return
        if found.pending != found.config:
            self._release(call.region, found, found.config)
        found.config, found.status, found.reason = found.pending, "InService", ""

    def _failed(self, found: Endpoint, problem: str) -> None:
        first = found.status == "Creating"
        if first or self.failed_update == "Failed":
            found.status, found.reason = "Failed", problem
        else:
            found.status, found.reason = "InService", problem if self.failed_update == "told" else ""
        found.pending = found.config

    def _bring_up(self, region: str, endpoint: Endpoint, config: str) -> str:
        """Starts what a configuration says; gives why it does not come up, or ""."""
        for variant in self.configs[region, config].given["ProductionVariants"]:
            model = self.models[region, variant["ModelName"]].given
            image, role = model["PrimaryContainer"]["Image"], model["ExecutionRoleArn"]
            name = variant["VariantName"]
            if problem := fetch_problem(role, image, region, name):
                return problem
            if may_log(role, region, endpoint.name):
                stream = f"{name}/{config}"
                journal.write(region, f"{GROUP}/{endpoint.name}", stream, ["starts"], self.clock.now())
            assert self.host, "Nothing runs the containers of endpoints here."
            environment = model["PrimaryContainer"].get("Environment", {})
            if not self.host.start((endpoint.name, config, name), image, environment):
                return PING.format(name)
        return ""

    def _release(self, region: str, endpoint: Endpoint, config: str) -> None:
        found = self.configs.get((region, config))
        for variant in found.given["ProductionVariants"] if found else []:
            role = self.models[region, variant["ModelName"]].given["ExecutionRoleArn"]
            if role_of(role) is None:  # DeleteEndpoint: "Do not delete or revoke the permissions"
                self.harm.append(f"{role} was deleted before {endpoint.name}")
            if self.host:
                self.host.stop((endpoint.name, config, variant["VariantName"]))

    def _known(self, call: Call, action: str, more: list[str]) -> Endpoint:
        name = call.given["EndpointName"]
        found, arn = self.endpoints.get((call.region, name)), arn_of(call, "endpoint", name)
        require(call, action, [arn], found.tags if found else None)
        if more:  # of the configuration, whose tags are others
            require(call, action, more)
        if found is None:
            raise missing_endpoint(arn)
        return found

    def _check_config(self, call: Call, config: str) -> None:
        if self.late_configs:
            self.late_configs -= 1
            raise missing_config(call, config)
        if (call.region, config) not in self.configs:
            raise missing_config(call, config)

    def _check_quota(self, call: Call, config: str) -> None:
        """An update needs its machines beside those that answer until then."""
        used = [
            variant
            for endpoint in self.endpoints.values()
            if endpoint.status != "Failed" and (call.region, endpoint.config) in self.configs
            for variant in self.configs[call.region, endpoint.config].given["ProductionVariants"]
        ]
        wanted = self.configs[call.region, config].given["ProductionVariants"]
        for variant in wanted:
            if machine := variant.get("InstanceType"):
                now = sum(one["InitialInstanceCount"] for one in used if one.get("InstanceType") == machine)
                more = sum(one["InitialInstanceCount"] for one in wanted if one["InstanceType"] == machine)
                if now + more > self.machines.get(machine, 0):
                    raise quota(f"{machine} for endpoint usage", self.machines.get(machine, 0), now, more)
            else:
                others = [one["ServerlessConfig"] for one in used if "ServerlessConfig" in one]
                now = sum(one["MaxConcurrency"] for one in others)
                more = variant["ServerlessConfig"]["MaxConcurrency"]
                if now + more > self.concurrency:
                    name = "Maximum total concurrency that can be allocated across serverless endpoints"
                    raise quota(name, self.concurrency, now, more)

    def _list(self, call: Call, kept: dict[tuple[str, str], Any], kind: str) -> dict[str, Any]:
        call.require(f"sagemaker:{call.operation}", "*")
        found = []
        for (region, name), one in kept.items():
            if region == call.region:
                said = {f"{kind}Name": name, f"{kind}Arn": one.arn, "CreationTime": one.created}
                if isinstance(one, Endpoint):
                    said |= {"EndpointStatus": one.status, "LastModifiedTime": one.created}
                found.append(said)
        shown, more = listed(found, call.given, f"{kind}Name", "EndpointStatus")
        return {f"{kind}s": shown} | more
