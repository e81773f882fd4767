"""A strict stand-in for Azure Machine Learning's resources: jobs, environments, computes, quotas of a subscription."""

from stage.azure import ml_shapes
from stage.azure.arm import Arm
from stage.azure.arm_paths import parse
from stage.azure.errors import AzureError
from stage.azure.ml_hands import Jobs
from stage.azure.ml_jobs import Job
from stage.azure.ml_listing import described, listed
from stage.azure.ml_rules import Surroundings, absent, check_change, check_job, check_name, invalid, machine
from stage.azure.ml_tuning import Sweep
from stage.azure.ml_tuning_rules import check_sweep
from stage.azure.server import Call, Reply
from stage.azure.workspace_kind import ml_versions

NAMESPACE = "Microsoft.MachineLearningServices"
STOPPABLE = ("NotStarted", "Starting", "Provisioning", "Preparing", "Queued", "Running", "NotResponding")


class AzureML(Jobs):
    """The service, and a test's hands on its jobs: see `Jobs`."""

    def __init__(self, arm: Arm) -> None:
        super().__init__(arm)
        arm.own[NAMESPACE] = self

    def __call__(self, call: Call) -> Reply:
        address = parse(call.path)
        known = ml_versions()
        if call.query["api-version"] not in known:
            text = f"No registered resource provider found for API version '{call.query['api-version']}'. The supported"
            raise AzureError(
                400, "NoRegisteredProviderFound", f"{text} api-versions are '{', '.join(known)}'."
            )
        kinds = tuple(kind.lower() for kind in address.kinds)
        if kinds[0] == "locations":
            return self._location(call, address.names[0], kinds[1:], address.names[1:])
        workspace = self.arm.get(self._workspace_path(address.path)).id
        if kinds[1:2] == ("environments",):
            return self.environments(call, workspace, kinds, address.names)
        if kinds[1:2] == ("onlineendpoints",):
            return self.endpoints(call, workspace, kinds, address.names)
        if kinds[1:2] == ("models",):
            return self.models(call, workspace, kinds, address.names)
        handle = {"jobs": self._jobs, "computes": self.places}.get("".join(kinds[1:2]))
        if handle is None:
            raise absent(address.type)
        return handle(call, workspace, kinds[2:], address.names[1:])

    def _workspace_path(self, path: str) -> str:
        return "/".join(path.split("/")[:9])

    def _location(self, call: Call, region: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        subscription = self.arm.subscription
        if kinds == ("usages",):
            return Reply(200, {"value": self.usages.listed(subscription, region)})
        if kinds == ("vmsizes",):
            return Reply(200, {"value": self.usages.sizes_listed(region)})
        if kinds == ("quotas",):
            return Reply(200, {"value": self.usages.quotas(subscription, region)})
        if kinds == ("mfeoperationsstatus",) and names:
            if (status := self.endpoints.operation(names[0])) is None:
                raise AzureError(404, "NotFound", f"The operation {names[0]} was not found.")
            return Reply(200, status)
        if kinds == ("mfeoperationresults",) and names:
            if status := self.endpoints.operation(names[0]):
                return Reply(200 if status["status"] == "Succeeded" else 202)
            found = next((job for job in self.jobs.values() if job.name == names[0].partition(":")[2]), None)
            if found is None:
                raise AzureError(404, "NotFound", f"The operation {names[0]} was not found.")
            return Reply(
                200 if found.over else 202, None, {} if found.over else self._location_of(call, found)
            )
        if kinds == ("computeoperationsstatus",) and names:
            return self.places.operation(names[0])
        raise absent("/".join(kinds))

    def _location_of(self, call: Call, job: Job | Sweep) -> dict[str, str]:
        where = f"/subscriptions/{self.arm.subscription}/providers/{NAMESPACE}/locations/{job.region}"
        url = f"https://management.azure.com{where}/mfeOperationResults/jc:{job.name}"
        version = call.query["api-version"]
        return {"Location": f"{url}?api-version={version}", "Retry-After": str(self.arm.retry_after)}

    # Jobs

    def _jobs(self, call: Call, workspace: str, kinds: tuple[str, ...], names: tuple[str, ...]) -> Reply:
        if not names:
            mine = [job for (where, _), job in self.jobs.items() if where == workspace.lower()]
            address = f"https://management.azure.com{workspace}/jobs"
            return Reply(200, listed(mine, call.query, address, self.arm.people.tenant))
        if call.method == "PUT" and not kinds:
            return self._put_job(call, workspace, names[0])
        job = self.jobs.get((workspace.lower(), names[0]))
        if job is None:
            raise invalid(f"Run {names[0]} was not found", 404)
        if kinds == ("cancel",) and call.method == "POST":
            return self._cancel(call, job)
        if kinds or call.method not in ("GET", "DELETE"):
            raise AzureError(405, "MethodNotAllowed", f"{call.method} is not allowed here: {call.path}")
        if call.method == "DELETE":
            if not job.over:
                raise invalid(f"Job {job.name} is {job.status}: only a job that has ended can be deleted.")
            del self.jobs[workspace.lower(), job.name]
            return Reply(200)
        self.tune()
        return Reply(200, described(job, self.arm.people.tenant))

    def _cancel(self, call: Call, job: Job | Sweep) -> Reply:
        if job.status not in (*STOPPABLE, "CancelRequested"):
            # That cancelling one that is about to end is an error: https://github.com/Azure/azureml-assets/pull/2496.
            raise invalid(f"Run {job.name} is in state {job.status} and cannot be cancelled.")
        if job.status != "CancelRequested":
            job.cancel()
        return Reply(202, None, self._location_of(call, job))

    def _put_job(self, call: Call, workspace: str, name: str) -> Reply:
        check_name(name)
        body = call.json()
        ml_shapes.check("JobBase", body)
        given = {key: value for key, value in body["properties"].items() if value is not None}
        known = self.jobs.get((workspace.lower(), name))
        if known:
            check_change(name, known.given, given)
            # Tags are added to those that are there: https://github.com/Azure/azure-sdk-for-python/issues/30671.
            known.given |= {**given, "tags": known.tags | (given.get("tags") or {})}
            return Reply(200, described(known, self.arm.people.tenant))
        around = self.surroundings(workspace)
        checks = {"Command": (check_job, Job), "Sweep": (check_sweep, Sweep)}
        if given["jobType"] not in checks:
            raise absent(given["jobType"])
        check, kind = checks[given["jobType"]]
        check(given, around)
        # Of a sweep its own count: that is what azure-ai-ml sends beside the trial's, which for all we know is not looked at.
        resources = given.get("resources") or {}
        size, low = machine(given, resources, around.computes)
        region, by = self.region(workspace), call.principal.object_id if call.principal else ""
        job = kind(name, workspace, given, region, self._clock, size=size, low_priority=low, by=by)
        job.measure = self.measure
        # The refusal comes after the job was taken: https://github.com/MicrosoftLearning/mslearn-dp100/issues/35.
        text = self.usages.refusal(size, resources.get("instanceCount", 1), low, region)
        words = "Job submission to AzureML Compute encountered an Exception with status code JobNodeCountExceedsCoreQuota"
        job.doom = f"{words}, {text}" if text else ""
        self.jobs[workspace.lower(), name] = job
        return Reply(201, described(job, self.arm.people.tenant))

    def region(self, workspace: str) -> str:
        """The region of a workspace."""
        return self.arm.get(workspace).content["location"].replace(" ", "").lower()

    def surroundings(self, workspace: str) -> Surroundings:
        """What jobs of a workspace may name."""
        mine = {
            key: one.described()
            for key, one in self.computes.items()
            if key.startswith(workspace.lower() + "/")
        }
        return Surroundings(workspace, self.environments.known, mine, self.identities(workspace))
