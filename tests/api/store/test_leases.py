"""Members and leases by PostgreSQL's clock: one owner a city, who beats or lets go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from api.store import Store
from api.store.leases import hold
from dispatch.commands import Cancel
from dispatch.model import Party
from geo.errors import StaleEpoch, Unavailable

TTL_MS = 60_000


async def expire(sql: asyncpg.Connection, table: str, name: str) -> None:
    """As if its time had passed; not by waiting."""
    column = "city" if table == "leases" else "name"
    await sql.execute(f"UPDATE {table} SET expires_at_ms = 1 WHERE {column} = $1", name)


async def test_a_lease(store: Store, sql: asyncpg.Connection) -> None:
    leases = store.leases
    assert await leases.take("demo", "d1", TTL_MS) == 1
    assert await leases.take("demo", "d2", TTL_MS) is None
    assert await leases.take("demo", "d1", TTL_MS) is None
    assert await leases.take("other", "d2", TTL_MS) == 1
    await expire(sql, "leases", "demo")
    assert await leases.take("demo", "d2", TTL_MS) == 2
    await leases.release("demo", "d1", 1)
    assert await leases.take("demo", "d3", TTL_MS) is None
    await leases.release("demo", "d2", 2)
    assert await leases.take("demo", "d3", TTL_MS) == 3


async def test_a_heartbeat_keeps_what_is_still_ours(store: Store, sql: asyncpg.Connection) -> None:
    leases = store.leases
    for city in ("a", "b", "c", "d"):
        await leases.take(city, "d1", TTL_MS)
    await expire(sql, "leases", "a")  # over, and nobody has taken it: it goes on
    await expire(sql, "leases", "b")
    assert await leases.take("b", "d2", TTL_MS) == 2
    await leases.release("c", "d1", 1)  # what was let go does not come back by a late heartbeat
    beat = await leases.beat("d1", {"a": 1, "b": 1, "c": 1, "d": 1}, TTL_MS)
    assert beat.kept == {"a", "d"}
    assert beat.held == {"b", "d"}, "as it stood before the heartbeat"
    assert (await leases.beat("d1", {}, TTL_MS)).held == {"a", "b", "d"}
    assert await leases.take("a", "d2", TTL_MS) is None
    assert await leases.take("c", "d2", TTL_MS) == 2


async def test_members_are_those_who_beat(store: Store, sql: asyncpg.Connection) -> None:
    leases = store.leases
    assert set((await leases.beat("d1", {}, TTL_MS)).members) == {"d1"}
    assert set((await leases.beat("d2", {}, TTL_MS)).members) == {"d1", "d2"}
    await expire(sql, "members", "d1")
    assert set((await leases.beat("d2", {}, TTL_MS)).members) == {"d2"}
    assert set((await leases.beat("d1", {}, TTL_MS)).members) == {"d1", "d2"}
    await leases.leave("d2")
    assert set((await leases.beat("d1", {}, TTL_MS)).members) == {"d1"}
    assert await sql.fetchval("SELECT count(*) FROM members") == 1


async def test_of_many_who_want_the_lease_one_gets_it(store: Store) -> None:
    epochs = await asyncio.gather(*(store.leases.take("demo", f"d{n}", TTL_MS) for n in range(10)))
    assert sorted(e for e in epochs if e is not None) == [1]


async def test_an_owner_who_freezes_in_a_transaction_delays_the_next_one_a_little(
    store: Store, sql: asyncpg.Connection
) -> None:
    """His connection stays open and his locks held, until PostgreSQL ends the transaction."""
    await store.leases.take("demo", "d1", TTL_MS)
    async with store._engine.connect() as connection:
        await hold(connection, "demo", 1)
        await expire(sql, "leases", "demo")
        async with asyncio.timeout(60):
            assert await store.leases.take("demo", "d2", TTL_MS) == 2
        with pytest.raises(Unavailable):
            await connection.execute(text("SELECT 1"))


async def test_a_command_of_an_owner_who_was_replaced_changes_nothing(
    store: Store, placed: Callable[..., Any]
) -> None:
    order = await placed("o1")
    cancel = Cancel(at_ms=order.created_at_ms + 1, by=Party.SYSTEM, reason="x")
    await store.leases.take("demo", "d1", TTL_MS)
    await store.leases.release("demo", "d1", 1)
    await store.leases.take("demo", "d2", TTL_MS)
    with pytest.raises(StaleEpoch):
        await store.run("o1", cancel, epoch=("demo", 1))
    assert await store.order("o1") == order
    assert (await store.run("o1", cancel, epoch=("demo", 2))).refusal is None


async def test_a_city_is_served_by_those_who_say_so_and_those_who_do_not_say(store: Store) -> None:
    leases = store.leases
    await leases.beat("old", {}, TTL_MS)  # of a release that did not tell
    await leases.beat("a", {}, TTL_MS, ["demo"])
    beat = await leases.beat("b", {}, TTL_MS, ["demo", "other"])
    assert beat.serving("demo") == {"old", "a", "b"}
    assert beat.serving("other") == {"old", "b"}
    assert (await leases.beat("a", {}, TTL_MS, ["other"])).serving("demo") == {"old", "b"}
