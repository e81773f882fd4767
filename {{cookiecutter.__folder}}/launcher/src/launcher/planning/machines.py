"""Of several machines that would do, the first that can be had; and what an account may have at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from ..errors import UserError
from ..job import Machine
from ..money.prices import Price, check_machine, machines, price
from ..settings import schema

Allowance = Callable[[Machine, bool], int | None]
UNKNOWN = "cannot be told"
QUOTA = (
    "another cloud.region or cloud.spot that you have quota for (`uv run launch doctor_only=true` "
    "shows which, and where to ask for more)"
)


@dataclass(frozen=True)
class Choice:
    """What was taken, and why not what stood before it.

    Args:
        name: the machine, a row of the price table.
        passed: one reason for each that was passed over.
    """

    name: str
    passed: tuple[str, ...] = ()

    def text(self) -> str:
        """Say it in a line; nothing where there was no choice to make."""
        return f"chosen    {self.name} ({'; '.join(self.passed)})\n" if self.passed else ""


def choose(config: DictConfig, nodes: int, starts: int, allowance: Allowance | None) -> Choice:
    """Take the first machine that the region has, that fits the cap, and that the account has quota for.

    Args:
        nodes: how many are needed at the same time.
        starts: how often each may be paid for the whole time limit; trials count here too.
        allowance: asks the provider's quota; None asks nobody.

    Raises:
        UserError: there is none; says for each why, and what would help. Also if one of them is no machine at all.
    """
    cloud, names = config.cloud, schema.machines(config.cloud)
    for name in names:
        check_machine(cloud.backend, name)
    if len(names) == 1:
        return Choice(names[0])
    passed: list[str] = []
    remedies: dict[str, None] = {}  # each once, in order
    for name in names:
        reason, remedy = _obstacle(cloud, name, nodes, starts, allowance)
        if not reason:
            return Choice(name, tuple(passed))
        passed.append(f"{name}: {reason}")
        remedies[remedy] = None
    others = "another cloud.machine (cpu trains without a GPU)"
    raise UserError(
        f"None of cloud.machine=[{','.join(names)}] can be had: {'; '.join(passed)}. "
        f"Give {', '.join([*remedies, f'or {others}'])}."
    )


def _obstacle(
    cloud: Any, name: str, nodes: int, starts: int, allowance: Allowance | None
) -> tuple[str, str]:
    """Say why a machine cannot be taken, and what to give so that it can; nothing where it can."""
    try:
        cost = price(cloud.backend, name, cloud.region, cloud)
        worst = cost.worst_case(cloud.spot, cloud.max_hours * starts, cloud.nodes)
    except UserError as error:
        return str(error).removesuffix("."), "another cloud.region or cloud.spot"
    if worst > cloud.max_cost_usd:
        reason = f"could cost {worst:.2f} USD, more than cloud.max_cost_usd={cloud.max_cost_usd:g}"
        return reason, "a lower cloud.max_hours or a higher cloud.max_cost_usd"
    have = _ask(allowance, cost.machine, cloud.spot)
    if have is not None and have < nodes:
        kind = "on spot" if cloud.spot else "on demand"
        reason = (
            f"the account's quota allows {have} {kind} in {cloud.region}, and {nodes} is needed"
        )
        return reason, QUOTA
    return "", ""


def table(cloud: Any, allowance: Allowance | None) -> Iterator[str]:
    """Give lines that show each machine of the region: prices, and how many the account may have."""
    yield f"{'machine':<11}{'type':<26}{'USD/h spot':>11}{'on demand':>11}{'may have: spot':>16}{'on demand':>15}"
    for name in machines(cloud.backend):
        try:
            cost = price(cloud.backend, name, cloud.region)
        except UserError:
            continue
        spot, demand = (_may_have(cost, tier, allowance) for tier in (True, False))
        on_demand = "-" if cost.on_demand is None else f"{cost.on_demand:.2f}"
        yield (
            f"{name:<11}{cost.machine.type:<26}{cost.spot:>11.2f}{on_demand:>11}{spot:>16}{demand:>15}"
        )


def _may_have(cost: Price, spot: bool, allowance: Allowance | None) -> str:
    if not spot and cost.on_demand is None:
        return "spot only"
    have = _ask(allowance, cost.machine, spot)
    return UNKNOWN if have is None else str(have)


def _ask(allowance: Allowance | None, machine: Machine, spot: bool) -> int | None:
    """Ask for a quota; trouble in that forbids nothing, for the service asks again."""
    try:
        return allowance(machine, spot) if allowance else None
    except UserError:
        return None
