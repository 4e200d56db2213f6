"""The hall: claims by riders, of which exactly one wins an order; may import SQLAlchemy, dispatch.

A thousand riders press at once. What they hear must not cost a transaction each: in a process one
claim of an order goes to the database at a time, and who waited while it was found taken is told
so from memory. What goes there looks without a lock first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import order_from_json, rider_from_json
from api.store import orders as order_store
from api.store.pooling import single_of
from api.store.schema import IN_HALL, actions, orders, riders
from api.store.values import Outcome
from dispatch.commands import Claim
from dispatch.hall import barred, in_hall, route_with
from dispatch.model import AssignmentState, Order
from dispatch.policy import Policy
from dispatch.transitions import Events, Refusal, apply
from geo.errors import NotFound

HALL_READ_MAX = 500
TAKEN = "already_taken"
_SHIPPED = Policy()

_KNOWN = (
    select(actions.c.order_id)
    .where(
        actions.c.order_id == bindparam("id"),
        actions.c.actor == bindparam("actor"),
        actions.c.action_id == bindparam("action_id"),
    )
    .exists()
)
_LOOK = select(orders.c.body, _KNOWN.label("known")).where(orders.c.id == bindparam("id"))


@dataclass(slots=True)
class _Gate:
    """One order's claims in this process. `seen` counts how often it was found taken, `outcome`
    is the latest of these, by `holder`."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    seen: int = 0
    holder: str = ""
    outcome: Outcome | None = None


class Hall:
    """`written` is called after a commit.

    A rider may claim up to so many live orders as `orders_max` says of his city, or the shipped
    policy where it says nothing.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        written: Callable[[], None],
        orders_max: Mapping[str, int],
    ) -> None:
        self._engine, self._single = engine, single_of(engine)
        self._written, self._orders_max = written, orders_max
        self._gates: dict[str, _Gate] = {}

    async def open_orders(self, tenant: str, city: str, at_ms: int) -> list[Order]:
        """The first HALL_READ_MAX orders that wait in the tenant's hall, oldest first."""
        query = (
            select(orders.c.body)
            .where(
                IN_HALL,
                orders.c.city == city,
                orders.c.tenant == tenant,
                orders.c.expires_at_ms > at_ms,
            )
            .order_by(orders.c.created_at_ms, orders.c.id)
            .limit(HALL_READ_MAX)
        )
        async with self._single.connect() as connection:
            return [order_from_json(body) for body in await connection.scalars(query)]

    async def claim(
        self,
        order_id: str,
        command: Claim,
        *,
        tenant: str,
        city: str,
        action_id: str | None = None,
    ) -> Outcome:
        """Give the order to the rider if he is the first and eligible.

        A refusal is an outcome. An `action_id` is kept for a claim that won: the same again gives
        that outcome again. One that was refused is not kept: an order that has come back to the
        hall may be claimed once more.

        Raises:
            NotFound: no such order of the tenant in the city.
            Conflict: the action id was used for another command.
        """
        whose = tenant, city
        gate = self._gates.setdefault(order_id, _Gate())
        seen = gate.seen
        gate.waiting += 1
        try:
            async with gate.lock:
                known = gate.outcome
                fresh = gate.seen > seen and gate.holder != command.rider_id
                if known is not None and fresh and _is_of(known.order, whose):
                    return Outcome(order=known.order, refusal=_taken(order_id))
                outcome = await self._ask(order_id, command, whose, action_id)
                live = outcome.order.assignment
                lost = outcome.refusal is not None and outcome.refusal.code == TAKEN
                if live is not None and (lost or outcome.events):
                    gate.seen, gate.holder, gate.outcome = gate.seen + 1, live.rider_id, outcome
                return outcome
        finally:
            gate.waiting -= 1
            if not gate.waiting:
                del self._gates[order_id]

    async def _ask(
        self, order_id: str, command: Claim, whose: tuple[str, str], action_id: str | None
    ) -> Outcome:
        async with self._single.connect() as connection:
            order, known = await _look(connection, order_id, command.rider_id, action_id)
        if order is None or not _is_of(order, whose):
            raise NotFound(f"no order {order_id!r}")
        if not known and not in_hall(order, command.at_ms):
            refused = apply(order, command)
            if isinstance(refused, Refusal):
                return Outcome(order=order, refusal=refused)
        outcome = await order_store.run(
            self._engine, order_id, command, action_id, rule=self._decide
        )
        if outcome.events and not outcome.replayed:
            self._written()
        return outcome

    async def _decide(
        self, connection: AsyncConnection, order: Order, command: Claim
    ) -> Events | Refusal:
        """On the locked order, and on the rider's locked row: his claims come one at a time."""
        decided = apply(order, command)
        if isinstance(decided, Refusal):
            return decided
        body = await connection.scalar(
            select(riders.c.body).where(riders.c.id == command.rider_id).with_for_update()
        )
        rider = None if body is None else rider_from_json(body)
        bodies = await connection.scalars(
            select(orders.c.body).where(orders.c.rider_id == command.rider_id)
        )
        held = [order_from_json(body) for body in bodies]
        offered = AssignmentState.OFFERED
        serves = sum(o.assignment is not None and o.assignment.state is not offered for o in held)
        orders_max = self._orders_max.get(order.city, _SHIPPED.hall_orders_max)
        refused = barred(order, rider, command.at_ms, serves, orders_max)
        if refused is not None:
            return refused
        route = route_with(order, held)
        return apply(order, Claim(at_ms=command.at_ms, rider_id=command.rider_id, route=route))


async def _look(
    connection: AsyncConnection, order_id: str, rider_id: str, action_id: str | None
) -> tuple[Order | None, bool]:
    """The order as it stands, without a lock, and whether the rider's action is known."""
    if "\0" in order_id:
        return None, False
    asked = {"id": order_id, "actor": rider_id, "action_id": action_id}
    found = await connection.execute(_LOOK, asked)
    row = found.one_or_none()
    return (None, False) if row is None else (order_from_json(row.body), row.known)


def _is_of(order: Order, whose: tuple[str, str]) -> bool:
    return (order.tenant, order.city) == whose


def _taken(order_id: str) -> Refusal:
    return Refusal(TAKEN, f"order {order_id} has a rider")
