"""What is read: a city to start from, the feed, counts; and what a server that is away gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api.sequencer import run_sequencer
from api.store import UNAVAILABLE, Store, reading
from dispatch.commands import Arrive, Cancel, Complete, FinishStop, GoOffShift, GoOnShift
from dispatch.events import Event, Placed, RiderEvent
from dispatch.model import Order, Party, Place, Rider
from dispatch.transitions import evolve, evolve_rider

NOW_MS = 1_790_000_000_000


async def sequence(store: Store) -> None:
    """Give positions to all there is."""
    session = await store.open_sequencing()
    try:
        while not await session.lock():
            await asyncio.sleep(0.01)
        while await session.take(3):
            pass
    finally:
        await session.close()


async def test_the_events_of_a_city_and_a_tenant(store: Store, placed: Callable[..., Any]) -> None:
    await placed("o1")
    await placed("o2", city="other")
    await placed("o3", tenant="shop")
    assert await store.events_after(0, None, 100) == []
    assert await store.last_position("demo") == 0
    await sequence(store)
    everything = await store.events_after(0, None, 100)
    assert [p.position for p in everything] == [1, 2, 3, 4, 5, 6]
    assert [p.prev_position for p in everything] == [0, 1, 0, 3, 2, 5]
    demo = await store.events_after(0, "demo", 100)
    assert [p.position for p in demo] == [1, 2, 5, 6]
    assert await store.events_after(2, "demo", 1) == demo[2:3]
    shop = await store.events_after(0, "demo", 100, tenant="shop")
    assert [p.event.order_id for p in shop] == ["o3", "o3"]  # type: ignore[union-attr]
    assert await store.events_after(0, "other", 100, tenant="shop") == []
    assert (await store.last_position("demo"), await store.last_position("other")) == (6, 4)
    assert (await store.last_position(), await store.last_position("nowhere")) == (6, 0)


async def test_live_orders_and_counts(store: Store, accepted: Callable[..., Any]) -> None:
    for n in range(4):
        await accepted(f"o{n}", f"r{n}")
    await store.run("o0", Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))
    for stop in (0, 1):
        for command in (Arrive, FinishStop):
            for n in (1, 2):
                await store.run(f"o{n}", command(at_ms=NOW_MS, rider_id=f"r{n}", stop=stop))
    await store.run("o1", Complete(at_ms=NOW_MS))
    assert [o.id for o in await store.live_orders("demo")] == ["o2", "o3"]
    assert await store.live_orders("other") == []
    everything = {"cancelled_customer": 1, "completed": 1, "done": 1, "assigned": 1}
    assert await store.counts("demo") == everything
    assert await store.counts("demo", NOW_MS + 1) == {"done": 1, "assigned": 1}
    assert await store.counts("other") == {}
    assert await store.counts("demo", tenant="default") == everything
    assert await store.counts("demo", tenant="else") == {}


class Follower:
    """A dispatcher's memory as `Store.load_city` tells it to be kept."""

    def __init__(self, orders: tuple[Order, ...], riders: tuple[Rider, ...]) -> None:
        self.orders = {o.id: o for o in orders}
        self.riders = {r.id: r for r in riders}

    def receive(self, event: Event | RiderEvent) -> None:
        if isinstance(event, RiderEvent):
            rider = self.riders.get(event.rider_id, Rider(id=event.rider_id, city="demo"))
            if event.seq > rider.version:
                self.riders[event.rider_id] = evolve_rider(rider, event)
            return
        if event.order_id not in self.orders:
            if not isinstance(event.fact, Placed):
                return
            self.orders[event.order_id] = event.fact.order
        order = self.orders[event.order_id]
        if event.seq > order.version:
            assert event.seq == order.version + 1, "an event is missing"
            self.orders[event.order_id] = evolve(order, event)


async def work(store: Store, accepted: Callable[..., Any], rider_id: str) -> None:
    """A rider's five shifts with an order each: every second one is cancelled."""
    await store.register_rider(Rider(id=rider_id, city="demo"))
    here = Place(lat=31.23, lon=121.47)
    for k in range(5):
        on = GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 9_999, place=here)
        await store.run_rider(rider_id, on)
        order = await accepted(f"{rider_id}-{k}", rider_id)
        await store.run(order.id, Arrive(at_ms=NOW_MS, rider_id=rider_id, stop=0))
        if k % 2:
            await store.run(order.id, Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))
        else:
            await store.run(order.id, FinishStop(at_ms=NOW_MS, rider_id=rider_id, stop=0))
            await store.run(order.id, Arrive(at_ms=NOW_MS, rider_id=rider_id, stop=1))
            await store.run(order.id, FinishStop(at_ms=NOW_MS, rider_id=rider_id, stop=1))
        if k < 4:
            await store.run_rider(rider_id, GoOffShift(at_ms=NOW_MS))


async def test_who_starts_from_a_snapshot_misses_nothing(
    store: Store, redis_url: str, accepted: Callable[..., Any]
) -> None:
    """Writers and the sequencer at work; whoever joins at any moment ends with the same state."""
    stop = asyncio.Event()
    sequencer = asyncio.create_task(run_sequencer(store, redis_url, stop))
    joined = []

    async def join() -> None:
        for _ in range(15):
            joined.append(await store.load_city("demo"))
            await asyncio.sleep(0.03)

    await asyncio.gather(*(work(store, accepted, f"r{n}") for n in range(4)), join())
    stop.set()
    await sequencer
    await sequence(store)
    live = {o.id: o for o in await store.live_orders("demo")}
    on_shift = {r.id: r for r in await store.riders_on_shift("demo")}
    assert len(joined) == 15
    for position, orders, riders in joined:
        follower = Follower(orders, riders)
        for entry in await store.events_after(position, "demo", 10_000):
            follower.receive(entry.event)
        assert {k: v for k, v in follower.orders.items() if k in live} == live
        assert {k: v for k, v in follower.riders.items() if v.state == "on"} == on_shift
        for order_id in follower.orders.keys() - live.keys():
            assert follower.orders[order_id] == await store.order(order_id)


async def test_a_snapshot_and_its_position_are_of_one_moment(
    store: Store, placed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that is placed and sequenced while the city is being read."""
    await placed("o1")
    await sequence(store)
    original = reading.live_orders

    async def meanwhile(connection: AsyncConnection, city: str) -> list[Order]:
        found = await original(connection, city)
        await placed("o2")
        await sequence(store)
        return found

    monkeypatch.setattr(reading, "live_orders", meanwhile)
    state = await store.load_city("demo")
    assert ([o.id for o in state.orders], state.position) == (["o1"], 2)
    later = await store.events_after(state.position, "demo", 10)
    assert [(p.event.order_id, p.event.seq) for p in later] == [("o2", 1), ("o2", 2)]  # type: ignore[union-attr]


async def test_a_server_that_is_away_is_told_as_such(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any], migrated_url: str
) -> None:
    await placed("o1")
    ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
    mine = sql.get_server_pid()
    async with store._engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
        for row in await sql.fetch(ours, mine):
            await sql.execute("SELECT pg_terminate_backend($1)", row["pid"])
        await asyncio.sleep(0.1)
        with pytest.raises(UNAVAILABLE):
            await connection.exec_driver_sql("SELECT 1")
    assert await store.order("o1") is not None  # a dead connection is replaced before its use
    with pytest.raises(UNAVAILABLE):
        await Store.open("postgresql://nobody@127.0.0.1:1/none")
    refused = migrated_url.replace("?host=", "?host=/nowhere")
    with pytest.raises(UNAVAILABLE):
        await Store.open(refused)
