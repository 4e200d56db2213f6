"""A plan is written whole but for what has moved, and only by who holds the lease."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from sqlalchemy import event

from api.store import Receipt, Store
from dispatch.commands import Cancel, Offer
from dispatch.model import Order, Party
from geo.errors import StaleEpoch

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def epoch(store: Store) -> int:
    taken = await store.leases.take("demo", "d1", 10_000)
    assert taken is not None
    return taken


async def test_a_stale_order_is_dropped_and_the_rest_commits(
    store: Store,
    sql: asyncpg.Connection,
    placed: Callable[..., Any],
    offer: Callable[..., Offer],
    epoch: int,
) -> None:
    orders = [await placed(f"o{n}") for n in range(4)]
    offers = [(o.id, offer(o, f"r{n}")) for n, o in enumerate(orders)]
    await store.run("o2", Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))
    receipts = [Receipt(order_id=o.id, round_at_ms=7, body={"why": o.id}) for o in orders]
    written = await store.write_plan("demo", epoch, offers, receipts)
    assert written.committed == ("o0", "o1", "o3")
    assert written.dropped == (("o2", "order_moved"),)
    rows = await sql.fetch("SELECT order_id, rider_id FROM assignments ORDER BY order_id")
    assert [tuple(r) for r in rows] == [("o0", "r0"), ("o1", "r1"), ("o3", "r3")]
    kept = await sql.fetch("SELECT order_id, number, body FROM receipts ORDER BY order_id")
    assert [(r[0], r[1], json.loads(r[2])) for r in kept] == [
        (o, 1, {"why": o}) for o in ("o0", "o1", "o3")
    ]
    for order_id in written.committed:
        order = await store.order(order_id)
        assert order is not None
        assert order.version == 3
        assert order.assignment is not None
    kinds = await sql.fetch("SELECT subject_id FROM events WHERE kind = 'offered' ORDER BY id")
    assert [r[0] for r in kinds] == ["o0", "o1", "o3"]


async def test_what_cannot_be_offered_is_named(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer], epoch: int
) -> None:
    here, there = await placed("o1"), await placed("o2", city="other")
    offers = [
        ("o1", offer(here)),
        ("o1", offer(here, "rob")),
        ("o2", offer(there)),
        ("o3", replace(offer(here), order_version=2)),
    ]
    written = await store.write_plan("demo", epoch, offers)
    assert written.committed == ("o1",)
    assert dict(written.dropped) == {
        "o1": "order_moved",
        "o2": "other_city",
        "o3": "unknown_order",
    }


async def test_an_order_that_another_holds_does_not_hold_up_the_rest(
    store: Store,
    sql: asyncpg.Connection,
    placed: Callable[..., Any],
    offer: Callable[..., Offer],
    epoch: int,
) -> None:
    orders = [await placed(order_id) for order_id in "ab"]
    offers = [(o.id, offer(o, f"rider of {o.id}")) for o in orders]
    async with sql.transaction(), asyncio.timeout(5):
        await sql.execute("SELECT FROM orders WHERE id = 'a' FOR UPDATE")
        written = await store.write_plan("demo", epoch, offers)
    assert written == (("b",), (("a", "busy"),))
    assert (await store.write_plan("demo", epoch, offers)).committed == ("a",)


async def test_an_empty_plan(store: Store, epoch: int) -> None:
    assert await store.write_plan("demo", epoch, []) == ((), ())


async def test_who_has_lost_the_lease_writes_nothing(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer], epoch: int
) -> None:
    order = await placed("o1")
    await store.leases.release("demo", "d1", epoch)
    newer = await store.leases.take("demo", "d2", 10_000)
    assert newer == epoch + 1
    with pytest.raises(StaleEpoch, match=f"epoch {newer}, the writer's is {epoch}"):
        await store.write_plan("demo", epoch, [("o1", offer(order))])
    with pytest.raises(StaleEpoch):
        await store.write_plan("elsewhere", 1, [("o1", offer(order))])
    assert await store.order("o1") == order
    assert (await store.write_plan("demo", newer, [("o1", offer(order))])).committed == ("o1",)


async def test_the_statements_of_a_plan_do_not_grow_with_it(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer], epoch: int
) -> None:
    counted: list[str] = []

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        counted.append(statement)

    orders = [await placed(f"o{n}") for n in range(62)]
    seen = []
    for batch in (orders[:2], orders[2:]):
        offers = [(o.id, offer(o, f"r{o.id}")) for o in batch]
        receipts = [Receipt(order_id=o.id, round_at_ms=7, body={}) for o in batch]
        event.listen(store._engine.sync_engine, "before_cursor_execute", count)
        written = await store.write_plan("demo", epoch, offers, receipts)
        event.remove(store._engine.sync_engine, "before_cursor_execute", count)
        assert len(written.committed) == len(batch)
        seen.append(len([s for s in counted if "NOTIFY" not in s]))
        counted.clear()
    assert seen[0] == seen[1] <= 6


async def test_plans_and_commands_side_by_side(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer], epoch: int
) -> None:
    orders: list[Order] = [await placed(f"o{n:02}") for n in range(30)]
    forth = [(o.id, offer(o, "rita")) for o in orders]
    back = [(o.id, offer(o, "rob")) for o in reversed(orders)]
    cancels = [Cancel(at_ms=NOW_MS, by=Party.CUSTOMER)] * len(orders)
    first, second, *others = await asyncio.gather(
        store.write_plan("demo", epoch, forth),
        store.write_plan("demo", epoch, back),
        *(store.run(o.id, cancel) for o, cancel in zip(orders, cancels, strict=True)),
    )
    assert not set(first.committed) & set(second.committed)
    # Whoever came later saw what had happened, or that somebody was at it.
    assert {code for _, code in first.dropped + second.dropped} <= {"order_moved", "busy"}
    for written in (first, second):
        assert len(written.committed) + len(written.dropped) == len(orders)
    assert all(o.refusal is None for o in others)
    assert all(o.state == "cancelled_customer" for o in [await store.order(o.id) for o in orders])


async def test_a_lease_is_taken_over_after_the_plan_under_way(
    store: Store, sql: asyncpg.Connection, epoch: int
) -> None:
    """What a plan holds while it is written, held by hand; it does not delay a heartbeat."""
    async with sql.transaction():
        await sql.execute("SELECT epoch FROM leases WHERE city = 'demo' FOR KEY SHARE")
        beat = await store.leases.beat("d1", {"demo": epoch}, 10_000)
        assert beat.kept == {"demo"}
        await store.leases.release("demo", "d1", epoch)
        taking = asyncio.create_task(store.leases.take("demo", "d2", 10_000))
        await asyncio.sleep(0.1)
        assert not taking.done()
    assert await taking == epoch + 1
