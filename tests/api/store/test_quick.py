"""The way without locks against who holds a row meanwhile, and connections that die under it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from api.store import Store
from api.store.statement import Statement
from dispatch.commands import Accept, GoOnShift, Offer
from dispatch.model import Order, OrderState, Place, Rider
from geo.errors import Unavailable

NOW_MS = 1_790_000_000_000
ON = GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=Place(lat=31.23, lon=121.47))
WAITING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'hexrun quick'
    AND wait_event_type = 'Lock'
"""
LIMIT_S = 30.0


async def waiting(sql: asyncpg.Connection, task: asyncio.Task[Any]) -> int | None:
    """The server process of the statement that waits for a row; None when `task` ends first."""
    async with asyncio.timeout(LIMIT_S):
        while not task.done():
            pid: int | None = await sql.fetchval(WAITING)
            if pid is not None:
                return pid
            await asyncio.sleep(0.01)
    return None


@pytest.fixture
async def offered(store: Store, placed: Callable[..., Any], offer: Callable[..., Offer]) -> Order:
    """An order that is offered to Rita, who is on shift."""
    await store.register_rider(Rider(id="rita", city="demo"))
    await store.run_rider("rita", ON)
    done = await store.run("o1", offer(await placed("o1")))
    assert done.refusal is None
    return done.order


def accept(order: Order) -> Accept:
    return Accept(at_ms=NOW_MS + 1, rider_id="rita", number=order.attempts)


async def test_who_goes_off_shift_meanwhile_accepts_nothing(
    store: Store, sql: asyncpg.Connection, offered: Order
) -> None:
    async with sql.transaction():
        # As his command does; his events are of no concern here.
        await sql.execute("SET LOCAL session_replication_role = replica")
        await sql.execute("UPDATE riders SET state = 'off', version = version + 1")
        accepting = asyncio.create_task(store.run("o1", accept(offered), action_id="a"))
        assert await waiting(sql, accepting) is not None, "it does not wait for his row"
    outcome = await accepting
    assert outcome.refusal is not None
    assert outcome.refusal.code == "not_on_shift"
    assert await store.order("o1") == offered


async def test_an_order_that_moves_meanwhile_is_read_again(
    store: Store, sql: asyncpg.Connection, offered: Order
) -> None:
    async with sql.transaction():
        await sql.execute("SELECT FROM orders WHERE id = 'o1' FOR UPDATE")
        first = asyncio.create_task(store.run("o1", accept(offered), action_id="a"))
        assert await waiting(sql, first) is not None
        second = asyncio.create_task(store.run("o1", accept(offered), action_id="b"))
    outcomes = [await first, await second]
    assert sorted(o.refusal is None for o in outcomes) == [False, True]
    assert await sql.fetchval("SELECT count(*) FROM events WHERE kind = 'accepted'") == 1


async def test_a_connection_that_dies_before_the_commit_changes_nothing(
    store: Store, sql: asyncpg.Connection, offered: Order
) -> None:
    async with sql.transaction():
        await sql.execute("SELECT FROM orders WHERE id = 'o1' FOR UPDATE")
        accepting = asyncio.create_task(store.run("o1", accept(offered), action_id="a"))
        pid = await waiting(sql, accepting)
        await sql.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(Unavailable):
            await accepting
    assert await store.order("o1") == offered
    again = await store.run("o1", accept(offered), action_id="a")
    assert (again.replayed, again.order.state) == (False, OrderState.ASSIGNED)


async def test_a_connection_that_dies_before_the_answer_has_changed_it_once(
    store: Store, sql: asyncpg.Connection, offered: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Statement.ask

    async def ask_and_die(self: Statement, driver: asyncpg.Connection, answer: str) -> list[Any]:
        await ask(self, driver, answer)
        driver.terminate()
        return await ask(self, driver, answer)

    with monkeypatch.context() as dying:
        dying.setattr(Statement, "ask", ask_and_die)
        with pytest.raises(Unavailable):
            await store.run("o1", accept(offered), action_id="a")
    again = await store.run("o1", accept(offered), action_id="a")
    assert (again.replayed, again.refusal, again.order.version) == (True, None, offered.version + 1)
    assert await sql.fetchval("SELECT count(*) FROM events WHERE kind = 'accepted'") == 1
