"""What a use of the pool's connections costs, and that nobody gets a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from api.store import Store

LAST = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
OURS = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> $1
"""


async def test_a_read_is_a_statement_without_a_transaction_around_it(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    assert await store.order("o1") is not None
    last = [row["query"] for row in await sql.fetch(LAST, sql.get_server_pid())]
    assert any(query.startswith("SELECT orders.body") for query in last)
    assert not {"BEGIN;", "ROLLBACK;"} & set(last)


async def test_one_that_the_server_has_closed_is_replaced(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    await store.order("o1")
    for _ in range(3):
        await sql.execute(OURS, sql.get_server_pid())
        await asyncio.sleep(0.1)  # this end hears of it
        assert await store.order("o1") is not None
