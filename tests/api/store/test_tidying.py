"""The task beside the sequencer: what is over is erased, what is in the clear sealed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.clock import DAY_MS, now_ms
from api.data_keys import KeyRing
from api.personal import OrderPersonal, RiderPersonal
from api.store import Store
from api.tidying import keep_tidy
from dispatch.model import Order

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def store(migrated_url: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with keys on the emptied database."""
    opened = await Store.open(migrated_url, data_keys=KeyRing.open(tmp_path / "data-keys"))
    yield opened
    await opened.close()


async def tidied(store: Store, until: Callable[[], Any]) -> None:
    """Tidies until `until()` is true."""
    stop = asyncio.Event()
    tidying = asyncio.create_task(keep_tidy(store, stop))
    async with asyncio.timeout(20):
        while not await until():
            await asyncio.sleep(0.02)
        stop.set()
        await tidying


async def test_texts_in_no_list_are_found_and_sealed(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    """As an old process leaves them that ran beside newer ones."""
    at_ms = now_ms()
    for order_id, created_at_ms in (("new", at_ms), ("bare", at_ms), ("old", at_ms - 9 * DAY_MS)):
        await placed(order_id, created_at_ms=created_at_ms)
    await sql.execute("INSERT INTO heads (city, position) VALUES ('demo', 1)")
    await sql.execute("""
        UPDATE orders SET body = jsonb_set(
            jsonb_set(body, '{stops,1,place,text}', '"Frobozz Lane"'), '{note}', '"Fnord"')
        WHERE id <> 'bare'
    """)

    async def sealed() -> bool:
        return await sql.fetchval("SELECT count(*) FROM personal") > 0

    await tidied(store, sealed)
    rows = await sql.fetch("SELECT id FROM orders WHERE body::text ~ 'Frobozz|Fnord'")
    assert [row["id"] for row in rows] == ["old"], "looked at are the last days"
    assert [r["subject"] for r in await sql.fetch("SELECT subject FROM personal")] == ["order/new"]
    order = await store.order("new")
    assert order is not None
    own = await store.personal.of_order(order)
    assert (own.stops[1].text, own.note) == ("Frobozz Lane", "Fnord")


async def test_the_search_goes_through_all_pages_and_keeps_what_is_sealed(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    own = OrderPersonal(note="sealed")
    for n in range(5):
        order = new_order(f"o{n}")
        sealed = store.personal.seal_order(order, own, NOW_MS) if n == 0 else None
        await store.create_order(order, NOW_MS, idempotency=None, personal=sealed)
    await sql.execute("INSERT INTO heads (city, position) VALUES ('demo', 1)")
    await sql.execute("UPDATE orders SET body = jsonb_set(body, '{note}', '\"Fnord\"')")
    assert [n async for n in store.personal.search(NOW_MS, limit=2)] == [2, 2, 1]
    assert [n async for n in store.personal.search(NOW_MS, limit=2)] == [0, 0, 0]
    assert [n async for n in store.personal.search(NOW_MS + 1)] == []
    assert await store.personal.adopt() == 5
    notes = []
    for n in range(5):
        found = await store.order(f"o{n}")
        assert found is not None
        assert found.note == ""
        notes.append((await store.personal.of_order(found)).note)
    assert notes == ["sealed"] + ["Fnord"] * 4


async def test_it_erases_until_nothing_is_due_and_stops(
    store: Store, sql: asyncpg.Connection, registered: Callable[..., Any]
) -> None:
    for rider_id in ("rita", "rob"):
        await registered(rider_id, RiderPersonal(name="Quuxolina"))
    await sql.execute("UPDATE personal SET erase_at_ms = 2 WHERE subject = 'rider/rita'")

    async def erased() -> bool:
        return await sql.fetchval("SELECT count(*) FROM personal") == 1

    await tidied(store, erased)
    assert await sql.fetchval("SELECT subject FROM personal") == "rider/rob"
