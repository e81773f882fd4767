"""A strict stand-in for Service Quotas, and what a new account has."""

import functools
import hashlib
import math
from typing import Any

from stage.aws.errors import AwsError
from stage.aws.machines import types
from stage.aws.people import ACCOUNT
from stage.aws.server import Call

# Codes and names as several public projects use them; see the notes on sources in this package's __init__.
EC2 = {
    ("G", False): ("L-DB2E81BA", "Running On-Demand G and VT instances"),
    ("G", True): ("L-3819A6DF", "All G and VT Spot Instance Requests"),
    ("P", False): ("L-417A185B", "Running On-Demand P instances"),
    ("P", True): ("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
    ("P5", True): ("L-C4BD4855", "All P5 Spot Instance Requests"),
    ("standard", False): ("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    ("standard", True): ("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
}
# AWS's own defaults (endpoints and quotas of EC2): 5 vCPUs of standard ones, nothing of those with GPUs.
EC2_DEFAULT = {"L-1216C47A": 5.0, "L-34B43A08": 5.0}
# New accounts had 4 instances of the usual types and none with a GPU:
# https://github.com/awsdocs/amazon-sagemaker-developer-guide/issues/70, https://github.com/zenml-io/zenml/issues/847.
# Nobody tells what they have of CPUs on spot: the same is assumed.
CPUS = 4.0


def training_quota(machine: str, spot: bool) -> str:
    """The name of the quota that a training job with ml.* machines counts against."""
    return f"{machine} for {'spot ' if spot else ''}training job usage"


@functools.cache
def _all(service: str) -> tuple[dict[str, Any], ...]:
    """All quotas of a service with their defaults."""
    if service == "ec2":
        pairs = [(code, name, EC2_DEFAULT.get(code, 0.0)) for code, name in EC2.values()]
    elif service == "sagemaker":
        pairs = []
        for machine in types().values():
            for spot in (False, True):
                name = training_quota(f"ml.{machine.name}", spot)
                code = "L-" + hashlib.sha256(name.encode()).hexdigest()[:8].upper()
                pairs.append((code, name, 0.0 if machine.gpus else CPUS))
    else:
        raise AwsError("NoSuchResourceException", f"The service {service} does not exist.")
    names = ("ServiceCode", "QuotaCode", "QuotaName", "Value")
    return tuple(dict(zip(names, (service, *pair), strict=True)) for pair in pairs)


@functools.cache
def _named() -> dict[str, dict[str, Any]]:
    """All quotas by code and by name."""
    quotas = (*_all("sagemaker"), *_all("ec2"))
    return {one[key]: one for one in quotas for key in ("QuotaCode", "QuotaName")}


class Quotas:
    """The service, for all regions.

    Attributes:
        values: what a test has set: (region, code or name) -> value.
        wanted: what was asked to be raised: (region, code, value).
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self.values: dict[tuple[str, str], float] = {}
        self.wanted: list[tuple[str, str, float]] = []

    def set(self, what: str, value: float, region: str = "") -> None:
        """Sets a quota by its code or name, such as "ml.g5.xlarge for training job usage"."""
        if what not in _named():
            raise KeyError(f"There is no quota {what}.")
        self.values[region or self.region, what] = value

    def value(self, what: str, region: str) -> float:
        """What a region has of a quota, by its code or name."""
        return self._value(_named()[what], region) if what in _named() else 0.0

    def _value(self, quota: dict[str, Any], region: str) -> float:
        for key in (quota["QuotaCode"], quota["QuotaName"]):
            if (region, key) in self.values:
                return self.values[region, key]
        return quota["Value"]

    def __call__(self, call: Call) -> dict[str, Any]:
        given = call.given
        handle = {
            "ListServiceQuotas": self._list,
            "ListAWSDefaultServiceQuotas": self._list,
            "GetServiceQuota": self._get,
            "GetAWSDefaultServiceQuota": self._get,
            "RequestServiceQuotaIncrease": self._increase,
        }.get(call.operation)
        if handle is None:
            raise AwsError("NotImplemented", f"{call.operation} is not part of the stand-in.", 501)
        code = given.get("QuotaCode", "")
        arn = f"arn:aws:servicequotas:{call.region}:{ACCOUNT}:{given['ServiceCode']}/{code}"
        call.require(f"servicequotas:{call.operation}", arn if code else "*")
        return handle(call)

    def _shown(self, call: Call, quota: dict[str, Any]) -> dict[str, Any]:
        arn = f"arn:aws:servicequotas:{call.region}:{ACCOUNT}:{quota['ServiceCode']}/{quota['QuotaCode']}"
        value = quota["Value"] if "Default" in call.operation else self._value(quota, call.region)
        return {
            **quota,
            "Value": value,
            "QuotaArn": arn,
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }

    def _list(self, call: Call) -> dict[str, Any]:
        quotas = _all(call.given["ServiceCode"])
        start = int(call.given.get("NextToken", "0"))
        size = call.given.get("MaxResults", 100)  # at most 100, by the model
        shown = {"Quotas": [self._shown(call, one) for one in quotas[start : start + size]]}
        return shown | ({"NextToken": str(start + size)} if start + size < len(quotas) else {})

    def _get(self, call: Call) -> dict[str, Any]:
        code = call.given["QuotaCode"]
        found = [one for one in _all(call.given["ServiceCode"]) if one["QuotaCode"] == code]
        if not found:
            raise AwsError(
                "NoSuchResourceException", "The request failed because the specified quota does not exist."
            )
        return {"Quota": self._shown(call, found[0])}

    def _increase(self, call: Call) -> dict[str, Any]:
        shown = self._get(call)["Quota"]
        wanted = call.given["DesiredValue"]
        if not math.isfinite(wanted) or wanted <= shown["Value"]:
            raise AwsError(
                "IllegalArgumentException", "The requested value must be greater than the present one."
            )
        self.wanted.append((call.region, shown["QuotaCode"], wanted))
        names = ("ServiceCode", "QuotaCode", "QuotaName")
        asked = {name: shown[name] for name in names} | {"DesiredValue": wanted, "Status": "PENDING"}
        return {"RequestedQuota": asked | {"Id": f"stage-{len(self.wanted)}"}}
