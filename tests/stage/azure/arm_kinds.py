"""What one type of resource of Azure Resource Manager is: its versions, names and fields, and what happens to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stage.azure.errors import AzureError
from stage.azure.people import Principal
from stage.azure.shapes import Each, check

if TYPE_CHECKING:
    from stage.azure.arm import Arm
    from stage.azure.arm_paths import Address

Json = dict[str, Any]


@dataclass
class Resource:
    """One that exists.

    Args:
        id: with names as they were first written.
        content: as GET gives it, without id, name and type.
        pending: how many more looks find it not ready; writes below it are refused until then.
    """

    id: str
    kind: Kind
    content: Json
    made: float
    pending: int = 0
    private: Json = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def properties(self) -> Json:
        return self.content.setdefault("properties", {})

    @property
    def state(self) -> str:
        return "Creating" if self.pending else "Succeeded"

    def json(self) -> Json:
        shown = {"id": self.id, "name": self.name, "type": self.kind.type, **self.content}
        if self.kind.stateful:
            shown["properties"] = {**shown.get("properties", {}), "provisioningState": self.state}
        return shown


@dataclass(frozen=True)
class Writing:
    """One PUT: by whom, of what, and over what.

    Args:
        body: that passed the kind's shape.
        old: None where there was none.
        arm_version: of the API that was asked for.
        during: calls that were under way when this one came in.
    """

    arm: Arm
    principal: Principal
    address: Address
    body: Json
    old: Resource | None
    arm_version: str
    during: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.address.path

    @property
    def name(self) -> str:
        return self.address.names[-1]


def _nothing(writing: Writing) -> None:
    """Nothing more to look at."""


def _as_given(writing: Writing) -> Json:
    return dict(writing.body.get("properties") or {})


@dataclass(frozen=True)
class Kind:
    """A type of resource.

    Args:
        name: a regular expression that the whole name meets.
        naming: code and text of the refusal of another; {0} is the name.
        properties: the shape of `properties`; None where there are none.
        more: shapes of fields beside those that all resources have.
        located: whether it has a place and tags.
        waits: whether writing takes longer than the request.
        stateful: whether it shows a provisioningState.
        check: refuses what the shape cannot say.
        properties_of: what `properties` are after a PUT.
        put, removed: called when one has been written, and before one goes (with the query of the DELETE).
        leaves: whether deleting takes longer than the request.
        purge: called where a DELETE finds nothing; whether there was something that is gone for good now.
        refuse_gone: code and status of a GET of what is not there; ARM's own where None.
        gone: status of a DELETE of what is not there.
    """

    type: str
    versions: tuple[str, ...]
    name: str
    naming: tuple[str, str]
    properties: Any = None
    more: Mapping[str, Any] = field(default_factory=dict)
    located: bool = True
    waits: bool = False
    stateful: bool = True
    check: Callable[[Writing], None] = _nothing
    properties_of: Callable[[Writing], Json] = _as_given
    put: Callable[[Writing, Resource], None] = lambda *_: None
    removed: Callable[[Arm, Resource, Mapping[str, str]], None] = lambda *_: None
    leaves: bool = False
    purge: Callable[[Arm, str, Mapping[str, str]], bool] = lambda *_: False
    refuse_gone: tuple[int, str, str] | None = None
    gone: int = 204
    actions: Mapping[str, Callable[[Arm, Resource, Json], Any]] = field(default_factory=dict)

    @property
    def shape(self) -> Json:
        known: Json = {"id": str, "name": str, "type": str, "systemData": dict}
        if self.located:
            known |= {"location!": str, "tags": Each(str)}
        if self.properties is not None:
            known["properties"] = self.properties
        return known | dict(self.more)

    def accept(self, writing: Writing) -> None:
        """Refuses a PUT whose name or body is wrong."""
        if not re.fullmatch(self.name, writing.name):
            raise AzureError(400, self.naming[0], self.naming[1].format(writing.name))
        check(self.shape, writing.body)
        if self.located:
            self._place(writing)
            check_tags(writing.body.get("tags") or {})
        self.check(writing)

    def _place(self, writing: Writing) -> None:
        """https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-invalid-resource-location"""
        wanted = _plain(writing.body["location"])
        if wanted not in writing.arm.locations:
            text = (
                f"The provided location '{writing.body['location']}' is not available for resource type '{self.type}'. "
                f"List of available regions for the resource type is '{','.join(writing.arm.locations)}'."
            )
            raise AzureError(400, "LocationNotAvailableForResourceType", text)
        if writing.old and _plain(writing.old.content["location"]) != wanted:
            text = (
                f"The resource '{writing.name}' already exists in location '{writing.old.content['location']}' in "
                f"resource group '{writing.address.group}'. A resource with the same name cannot be created in location "
                f"'{writing.body['location']}'. Please select a new resource name."
            )
            raise AzureError(409, "InvalidResourceLocation", text)


def check_tags(tags: Mapping[str, str]) -> None:
    """https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations"""
    if len(tags) > 50:
        text = f"The number of tags ({len(tags)}) on the resource exceeds the limit of 50."
        raise AzureError(400, "TooManyTags", text)
    for name, value in tags.items():
        if not name or len(name) > 512 or re.search(r"[<>%&\\?/]", name):
            text = f"The tag names '{name}' have reserved characters '<,>,%,&,\\,?,/', or are too long."
            raise AzureError(400, "InvalidTagNameCharacters", text)
        if len(value) > 256:
            text = f"Tag value too large. The value of '{name}' is {len(value)} characters long, and 256 is the most."
            raise AzureError(400, "InvalidTagValueLength", text)


def _plain(location: str) -> str:
    return location.replace(" ", "").lower()
