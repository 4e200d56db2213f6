"""Creates orders and runs commands on them, each in one transaction on the locked row.

May import SQLAlchemy, dispatch and the codec.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import msgspec
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import (
    digest_of_command,
    order_from_json,
)
from api.personal import Sealed
from api.store.answers import claim, first
from api.store.leases import hold
from api.store.personal import put
from api.store.rows import change_by, day_of, event_from_row, insert_order, update_orders
from api.store.schema import actions, events, orders, riders
from api.store.values import Created, IdempotencyKey, Outcome
from dispatch.commands import Accept, Claim, Command, Confirm
from dispatch.events import Event
from dispatch.model import Order, RiderState
from dispatch.transitions import Events, Refusal, apply, fold
from geo.errors import Conflict, NotFound

CREATED_STATUS = 201
NOT_ON_SHIFT = "not_on_shift"

_LOCK = select(orders.c.body).where(orders.c.id == bindparam("id")).with_for_update()
_ACTION = select(actions).where(
    actions.c.order_id == bindparam("order_id"),
    actions.c.actor == bindparam("actor"),
    actions.c.action_id == bindparam("action_id"),
)

ClaimRule = Callable[[AsyncConnection, Order, Claim], Awaitable[Events | Refusal]]


async def create(
    engine: AsyncEngine,
    order: Order,
    at_ms: int,
    key: IdempotencyKey | None,
    open_at_ms: int | None,
    personal: Sealed | None = None,
) -> Created:
    """See `Store.create_order`."""
    decided = apply(order, Confirm(at_ms=at_ms, open_at_ms=open_at_ms))
    if isinstance(decided, Refusal):
        raise Conflict(decided.message)
    change = change_by(order, decided)
    try:
        async with engine.begin() as connection:
            if key is not None and not await claim(
                connection, key, at_ms, change.after, CREATED_STATUS
            ):
                known = await _replayed(connection, key)
                assert known is not None, "a key that is taken has an answer"
                return known
            await insert_order(connection, change)
            if personal is not None:
                await put(connection, personal)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "orders_pkey":
            raise
        raise Conflict(f"order {order.id} exists already") from None
    return Created(order=change.after, replayed=False)


async def replay(engine: AsyncEngine, key: IdempotencyKey) -> Created | None:
    """See `Store.replay`."""
    async with engine.connect() as connection:
        return await _replayed(connection, key)


async def _replayed(connection: AsyncConnection, key: IdempotencyKey) -> Created | None:
    found = await first(connection, key)
    return None if found is None else Created(order=order_from_json(found.answer), replayed=True)


async def run(
    engine: AsyncEngine,
    order_id: str,
    command: Command,
    action_id: str | None,
    rule: ClaimRule | None = None,
    epoch: tuple[str, int] | None = None,
) -> Outcome:
    """See `Store.run`. A claim is decided by `rule`, and remembered only when it wins."""
    async with engine.begin() as connection:
        if epoch is not None:
            await hold(connection, *epoch)
        order = await _lock(connection, order_id)
        if action_id is not None:
            known = await _first_outcome(connection, order, command, action_id)
            if known is not None:
                return known
        decided: Events | Refusal
        if isinstance(command, Claim):
            assert rule is not None, "a claim goes through the hall"
            decided = await rule(connection, order, command)
        else:
            decided = await _off_shift(connection, command) or apply(order, command)
        if isinstance(decided, Refusal):
            outcome = Outcome(order=order, refusal=decided)
        else:
            change = change_by(order, decided)
            await update_orders(connection, [change])
            outcome = Outcome(order=change.after, events=decided)
        lost = rule is not None and outcome.refusal is not None
        if action_id is not None and not lost:
            await _remember(connection, command, action_id, outcome)
    return outcome


async def _lock(connection: AsyncConnection, order_id: str) -> Order:
    if "\0" in order_id:
        raise NotFound(f"no order {order_id!r}")
    found = await connection.execute(_LOCK, {"id": order_id})
    body = found.scalar_one_or_none()
    if body is None:
        raise NotFound(f"no order {order_id!r}")
    return order_from_json(body)


async def _off_shift(connection: AsyncConnection, command: Command) -> Refusal | None:
    """Who is off shift accepts nothing. Holds his row: he goes off before this, or sees it."""
    if not isinstance(command, Accept):
        return None
    state = await connection.scalar(
        select(riders.c.state).where(riders.c.id == command.rider_id).with_for_update(read=True)
    )
    if state != RiderState.OFF:
        return None
    return Refusal(NOT_ON_SHIFT, f"rider {command.rider_id} is off shift")


def _actor(command: Command) -> str:
    """Who asks: two riders may choose the same action id."""
    return getattr(command, "rider_id", "")


async def _first_outcome(
    connection: AsyncConnection, order: Order, command: Command, action_id: str
) -> Outcome | None:
    asked = {"order_id": order.id, "actor": _actor(command), "action_id": action_id}
    found = await connection.execute(_ACTION, asked)
    row = found.one_or_none()
    if row is None:
        return None
    if row.digest != digest_of_command(command):
        raise Conflict(f"action {action_id!r} was used for another command on order {order.id}")
    history = await events_of_order(connection, order, row.version)
    whole = len(history) == row.version  # else the day of an order this old has been dropped
    return Outcome(
        order=order_after(history) if whole else order,
        events=tuple(history[len(history) - row.events :]),
        refusal=None if row.refusal is None else msgspec.json.decode(row.refusal, type=Refusal),
        replayed=True,
    )


async def _remember(
    connection: AsyncConnection, command: Command, action_id: str, outcome: Outcome
) -> None:
    await connection.execute(
        insert(actions).values(
            order_id=outcome.order.id,
            actor=_actor(command),
            action_id=action_id,
            digest=digest_of_command(command),
            version=outcome.order.version,
            events=len(outcome.events),
            refusal=outcome.refusal,
            created_at_ms=command.at_ms,
        )
    )


async def events_of_order(connection: AsyncConnection, order: Order, last_seq: int) -> list[Event]:
    """The order's first `last_seq` events, in order."""
    found = await connection.execute(
        select(events)
        .where(
            events.c.subject_kind == "order",
            events.c.subject_id == order.id,
            events.c.day == day_of(order.created_at_ms),
            events.c.seq <= last_seq,
        )
        .order_by(events.c.seq)
    )
    made = (event_from_row(row) for row in found.mappings())
    return [event for event in made if isinstance(event, Event)]


def order_after(history: list[Event]) -> Order:
    """The order that its whole history, from `Placed` on, adds up to."""
    placed = history[0].fact
    return fold(placed.order, history)  # type: ignore[union-attr]
