"""prices.azure.com: the public list of retail prices.

https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices: no token; values in filters are compared
with their case since 2023-01-01-preview; a page has 1000 items at most.
"""

import re
from typing import Any

from stage.azure.errors import AzureError
from stage.azure.server import Call, Reply

HOST = "prices.azure.com"
PAGE = 1000
FIELDS = ("armRegionName", "location", "meterId", "meterName", "productid", "skuId", "productName", "skuName")
FIELDS += ("serviceName", "serviceId", "serviceFamily", "priceType", "armSkuName")
CALLED = {"priceType": "type", "productid": "productId"}  # what a filter and an item do not call the same


class Retail:
    """The list.

    Attributes:
        items: what is listed, each with the service's names of fields; tests fill it.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def __call__(self, call: Call) -> Reply:
        if call.method != "GET" or call.path != "/api/retail/prices":
            raise AzureError(404, "NotFound", f"Resource not found: {call.path}")
        known = {"$filter", "$skip", "$top", "currencyCode", "api-version", "meterRegion"}
        if unknown := set(call.query) - known:
            raise AzureError(
                400, "BadRequest", f"Invalid OData parameters supplied: {', '.join(sorted(unknown))}"
            )
        found = [one for one in self.items if _meets(one, call.query.get("$filter", ""))]
        skip = int(call.query.get("$skip", 0))
        page = found[skip : skip + PAGE]
        following = None
        if skip + PAGE < len(found):
            rest = re.sub(r"&\$skip=\d+", "", call.target)
            following = f"https://{HOST}:443{rest}&$skip={skip + PAGE}"
        return Reply(
            200,
            {
                "BillingCurrency": call.query.get("currencyCode", "USD").strip("'"),
                "CustomerEntityId": "Default",
                "CustomerEntityType": "Retail",
                "Items": page,
                "NextPageLink": following,
                "Count": len(page),
            },
        )


def _meets(item: dict[str, Any], asked: str) -> bool:
    """`and` of `or`s of comparisons, and contains(); as much of OData as is documented for it."""
    for term in re.split(r" and (?![^(]*\))", asked) if asked else []:
        parts = [
            _one(item, part.strip(" ()") + (")" if "contains" in part else "")) for part in term.split(" or ")
        ]
        if not any(parts):
            return False
    return True


def _one(item: dict[str, Any], text: str) -> bool:
    equal = re.fullmatch(r"(\w+) (eq|ne) '([^']*)'", text)
    inside = re.fullmatch(r"contains\((\w+), ?'([^']*)'\)", text)
    name = equal[1] if equal else inside[1] if inside else ""
    if name not in FIELDS:
        raise AzureError(400, "BadRequest", f"Invalid OData parameters supplied: {text}")
    value = item.get(CALLED.get(name, name), "")
    if equal:
        return (value == equal[3]) == (equal[2] == "eq")
    assert inside is not None
    return inside[2] in value
