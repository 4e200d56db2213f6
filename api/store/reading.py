"""Reads what stands in the store; may import SQLAlchemy, dispatch and the codec."""

from __future__ import annotations

from sqlalchemy import bindparam, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import order_from_json, rider_from_json
from api.store.rows import event_from_row, events_by_id
from api.store.schema import LIVE_ORDER, feed, heads, installation, orders, riders
from api.store.values import CityState, Positioned
from dispatch.model import Order, Rider, RiderState

_live = orders.c.state.in_(LIVE_ORDER)
_ORDER = select(orders.c.body).where(orders.c.id == bindparam("id"))
_OF_RIDER = (
    select(orders.c.body).where(orders.c.rider_id == bindparam("rider_id")).order_by(orders.c.id)
)


async def order(engine: AsyncEngine, order_id: str) -> Order | None:
    """See `Store.order`."""
    if "\0" in order_id:
        return None
    async with engine.connect() as connection:
        body = await connection.scalar(_ORDER, {"id": order_id})
    return None if body is None else order_from_json(body)


async def rider(engine: AsyncEngine, rider_id: str) -> Rider | None:
    """See `Store.rider`."""
    if "\0" in rider_id:
        return None
    async with engine.connect() as connection:
        body = await connection.scalar(select(riders.c.body).where(riders.c.id == rider_id))
    return None if body is None else rider_from_json(body)


async def orders_of_rider(engine: AsyncEngine, rider_id: str) -> list[Order]:
    """See `Store.orders_of_rider`."""
    async with engine.connect() as connection:
        found = await connection.scalars(_OF_RIDER, {"rider_id": rider_id})
        return [order_from_json(body) for body in found]


async def live_orders(connection: AsyncConnection, city: str) -> list[Order]:
    """See `Store.live_orders`."""
    query = select(orders.c.body).where(orders.c.city == city, _live)
    found = await connection.scalars(query.order_by(orders.c.created_at_ms, orders.c.id))
    return [order_from_json(body) for body in found]


async def riders_on_shift(connection: AsyncConnection, city: str) -> list[Rider]:
    """See `Store.riders_on_shift`."""
    query = select(riders.c.body).where(riders.c.city == city, riders.c.state == RiderState.ON)
    return [rider_from_json(body) for body in await connection.scalars(query.order_by(riders.c.id))]


async def count_riders_on_shift(engine: AsyncEngine, city: str, tenant: str | None) -> int:
    """See `Store.count_riders_on_shift`."""
    query = select(func.count()).where(riders.c.city == city, riders.c.state == RiderState.ON)
    if tenant is not None:
        query = query.where(riders.c.tenant == tenant)
    async with engine.connect() as connection:
        return int(await connection.scalar(query) or 0)


async def load_city(engine: AsyncEngine, city: str) -> CityState:
    """See `Store.load_city`."""
    async with engine.connect() as connection:
        await connection.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        position = await last_position(connection, city)
        known = await live_orders(connection, city)
        on_shift = await riders_on_shift(connection, city)
    return CityState(position, tuple(known), tuple(on_shift))


async def last_position(connection: AsyncConnection, city: str | None) -> int:
    """See `Store.last_position`."""
    query = select(func.coalesce(func.max(heads.c.position), 0))
    if city is not None:
        query = query.where(heads.c.city == city)
    return int(await connection.scalar(query) or 0)


async def first_kept(connection: AsyncConnection) -> int:
    """See `Store.first_kept`."""
    return int(await connection.scalar(_FIRST_KEPT))


_FIRST_KEPT = text(
    """
SELECT coalesce(min(substr(c.relname, 6)::bigint), 0)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'feed'::regclass AND c.relname <> 'feed_rest'
""".replace("::", r"\:\:")
)


async def events_after(
    engine: AsyncEngine, position: int, city: str | None, limit: int, tenant: str | None
) -> list[Positioned]:
    """See `Store.events_after`."""
    query = select(feed).where(feed.c.position > position).order_by(feed.c.position).limit(limit)
    if city is not None:
        query = query.where(feed.c.city == city)
    if tenant is not None:
        query = query.where(feed.c.tenant == tenant)
    async with engine.connect() as connection:
        entries = (await connection.execute(query)).all()
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        # Not by a join: it would look into every partition for each event.
        known = await events_by_id(driver, [f.day for f in entries], [f.event_id for f in entries])
    return [
        Positioned(
            position=entry.position,
            prev_position=entry.prev_position,
            city=entry.city,
            event=event_from_row(known[entry.event_id]),
        )
        for entry in entries
        if entry.event_id in known
    ]


async def counts(
    engine: AsyncEngine, city: str, since_ms: int, tenant: str | None
) -> dict[str, int]:
    """See `Store.counts`."""
    query = (
        select(orders.c.state, func.count())
        .where(orders.c.city == city, or_(_live, orders.c.created_at_ms >= since_ms))
        .group_by(orders.c.state)
    )
    if tenant is not None:
        query = query.where(orders.c.tenant == tenant)
    async with engine.connect() as connection:
        return {state: n for state, n in await connection.execute(query)}


async def source(engine: AsyncEngine) -> str:
    """The name of this database, see `Store.source`."""
    async with engine.connect() as connection:
        return str((await connection.execute(select(installation.c.id))).scalar_one())
