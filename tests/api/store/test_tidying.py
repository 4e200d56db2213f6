"""The task beside the sequencer: what is over is erased at its start, and it ends when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.data_keys import KeyRing
from api.personal import RiderPersonal
from api.store import Store
from api.tidying import keep_tidy


@pytest.fixture
async def store(migrated_url: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with keys on the emptied database."""
    opened = await Store.open(migrated_url, data_keys=KeyRing.open(tmp_path / "data-keys"))
    yield opened
    await opened.close()


async def test_it_erases_until_nothing_is_due_and_stops(
    store: Store, sql: asyncpg.Connection, registered: Callable[..., Any]
) -> None:
    for rider_id in ("rita", "rob"):
        await registered(rider_id, RiderPersonal(name="Quuxolina"))
    await sql.execute("UPDATE personal SET erase_at_ms = 2 WHERE subject = 'rider/rita'")
    stop = asyncio.Event()
    tidying = asyncio.create_task(keep_tidy(store, stop))
    async with asyncio.timeout(10):
        while await sql.fetchval("SELECT count(*) FROM personal") > 1:
            await asyncio.sleep(0.02)
        stop.set()
        await tidying
    assert await sql.fetchval("SELECT subject FROM personal") == "rider/rob"
