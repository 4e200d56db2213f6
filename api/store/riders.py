"""Registers riders and runs their own commands; may import SQLAlchemy, dispatch and the codec."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import rider_from_json
from api.store.answers import first, once
from api.store.rows import update_rider
from api.store.schema import orders, riders
from api.store.values import IdempotencyKey, RiderOutcome
from dispatch.commands import RiderCommand
from dispatch.model import OrderState, Rider, RiderState
from dispatch.transitions import Refusal, apply_rider
from geo.errors import Conflict, NotFound

# What he has accepted and not ended; an offer that he has not answered does not hold him.
_TAKEN = (OrderState.ASSIGNED.value, OrderState.UNDER_WAY.value)


async def register(
    engine: AsyncEngine,
    rider: Rider,
    key: IdempotencyKey | None,
    at_ms: int,
    *,
    keep_skills: bool = False,
    beside: Callable[[AsyncConnection], Awaitable[None]] | None = None,
) -> tuple[Rider, bool]:
    """See `Store.register_once`. `beside` writes more of him, once his row is locked."""

    async def change(connection: AsyncConnection) -> Rider:
        registered = await _register(connection, rider, keep_skills)
        if beside is not None:
            await beside(connection)
        return registered

    return await once(engine, key, at_ms, Rider, change)


async def _register(connection: AsyncConnection, rider: Rider, keep_skills: bool) -> Rider:
    fresh = replace(rider, state=RiderState.OFF, shift_end_ms=0, version=0, place=None)
    row = insert(riders).values(
        id=fresh.id,
        tenant=fresh.tenant,
        city=fresh.city,
        state=fresh.state.value,
        version=fresh.version,
        body=fresh,
    )
    added = await connection.execute(row.on_conflict_do_nothing().returning(riders.c.id))
    if added.first() is not None:
        return fresh
    known = await _lock(connection, fresh.id)
    if (known.tenant, known.city) != (fresh.tenant, fresh.city):
        raise Conflict(f"rider {fresh.id} is registered with another tenant or city")
    again = replace(
        fresh,
        skills=known.skills if keep_skills else fresh.skills,
        state=known.state,
        shift_end_ms=known.shift_end_ms,
        version=known.version,
        place=known.place,
    )
    if again == known:
        return known
    if known.state is RiderState.ON:
        raise Conflict(f"rider {fresh.id} is on shift: what he can do changes after it")
    await update_rider(connection, again, ())
    return again


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a shift's outcome is answered with; its events stand in the store already."""

    rider: Rider
    refusal: Refusal | None


async def run(
    engine: AsyncEngine, rider_id: str, command: RiderCommand, key: IdempotencyKey | None
) -> RiderOutcome:
    """See `Store.run_rider`."""
    outcomes = []

    async def change(connection: AsyncConnection) -> _Answer:
        outcomes.append(await _run(connection, rider_id, command))
        return _Answer(outcomes[0].rider, outcomes[0].refusal)

    answer, replayed = await once(engine, key, command.at_ms, _Answer, change)
    return _again(answer) if replayed else outcomes[0]


async def replay(engine: AsyncEngine, key: IdempotencyKey) -> RiderOutcome | None:
    """See `Store.replay_rider`."""
    async with engine.connect() as connection:
        found = await first(connection, key)
    return None if found is None else _again(msgspec.json.decode(found.answer, type=_Answer))


def _again(answer: _Answer) -> RiderOutcome:
    return RiderOutcome(rider=answer.rider, refusal=answer.refusal, replayed=True)


async def _run(connection: AsyncConnection, rider_id: str, command: RiderCommand) -> RiderOutcome:
    rider = await _lock(connection, rider_id)
    taken = await connection.scalar(
        select(func.count())
        .select_from(orders)
        .where(orders.c.rider_id == rider_id, orders.c.state.in_(_TAKEN))
    )
    decided = apply_rider(rider, command, live_orders=taken or 0)
    if isinstance(decided, Refusal):
        return RiderOutcome(rider=rider, refusal=decided)
    after = await update_rider(connection, rider, decided)
    return RiderOutcome(rider=after, events=decided)


async def _lock(connection: AsyncConnection, rider_id: str) -> Rider:
    if "\0" in rider_id:
        raise NotFound(f"no rider {rider_id!r}")
    found = await connection.execute(
        select(riders.c.body).where(riders.c.id == rider_id).with_for_update()
    )
    body = found.scalar_one_or_none()
    if body is None:
        raise NotFound(f"no rider {rider_id!r}")
    return rider_from_json(body)
