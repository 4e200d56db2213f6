"""Writes a round's plan: every offer on its own, all in one transaction under the city's epoch.

May import SQLAlchemy, dispatch and the codec.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ARRAY, Text, cast, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import order_from_json, to_json_text
from api.store.leases import hold
from api.store.rows import Change, change_by, update_orders
from api.store.schema import orders
from api.store.values import Receipt, Written
from dispatch.commands import Offer
from dispatch.model import Order
from dispatch.transitions import Refusal, apply

UNKNOWN_ORDER = "unknown_order"
OTHER_CITY = "other_city"
BUSY = "busy"


async def write(
    engine: AsyncEngine,
    city: str,
    epoch: int,
    offers: Sequence[tuple[str, Offer]],
    receipts: Sequence[Receipt],
) -> Written:
    """See `Store.write_plan`."""
    async with engine.begin() as connection:
        await hold(connection, city, epoch)
        known = await _lock(connection, [order_id for order_id, _ in offers])
        missing = {order_id for order_id, _ in offers} - known.keys()
        busy = await _existing(connection, missing) if missing else set()
        changes, dropped = _decide(city, known, busy, offers)
        await update_orders(connection, changes)
        await _insert_receipts(connection, changes, receipts)
    return Written(tuple(c.after.id for c in changes), tuple(dropped))


async def _lock(connection: AsyncConnection, ids: list[str]) -> dict[str, Order]:
    """Those that nobody else holds: one that is held for long must not hold up the city."""
    found = await connection.execute(
        select(orders.c.id, orders.c.body)
        .where(orders.c.id == func.any(cast(ids, ARRAY(Text))))
        .with_for_update(skip_locked=True)
    )
    return {row.id: order_from_json(row.body) for row in found}


async def _existing(connection: AsyncConnection, ids: set[str]) -> set[str]:
    query = select(orders.c.id).where(orders.c.id == func.any(cast(list(ids), ARRAY(Text))))
    return set(await connection.scalars(query))


def _decide(
    city: str, known: dict[str, Order], busy: set[str], offers: Sequence[tuple[str, Offer]]
) -> tuple[list[Change], list[tuple[str, str]]]:
    changes: dict[str, Change] = {}
    dropped: list[tuple[str, str]] = []
    for order_id, offer in offers:
        order = changes[order_id].after if order_id in changes else known.get(order_id)
        if order is None:
            dropped.append((order_id, BUSY if order_id in busy else UNKNOWN_ORDER))
            continue
        if order.city != city:
            dropped.append((order_id, OTHER_CITY))
            continue
        decided = apply(order, offer)
        if isinstance(decided, Refusal):
            dropped.append((order_id, decided.code))
        else:
            changes[order_id] = change_by(order, decided)
    return list(changes.values()), dropped


async def _insert_receipts(
    connection: AsyncConnection, changes: list[Change], receipts: Sequence[Receipt]
) -> None:
    numbers = {c.after.id: c.after.attempts for c in changes}
    kept = [r for r in receipts if r.order_id in numbers]
    if kept:
        await connection.execute(
            _INSERT_RECEIPTS,
            {
                "ids": [r.order_id for r in kept],
                "numbers": [numbers[r.order_id] for r in kept],
                "rounds": [r.round_at_ms for r in kept],
                "bodies": [to_json_text(r.body) for r in kept],
            },
        )


_INSERT_RECEIPTS = text("""
INSERT INTO receipts (order_id, number, round_at_ms, body)
SELECT n.order_id, n.number, n.round_at_ms, CAST(n.body AS jsonb)
FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS integer[]), CAST(:rounds AS bigint[]),
            CAST(:bodies AS text[])) AS n(order_id, number, round_at_ms, body)
ON CONFLICT DO NOTHING
""")
