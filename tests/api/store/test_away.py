"""A server that answers but cannot write now is away: nothing changed, and one may ask again."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from api.store import Store
from dispatch.model import Order, Rider
from geo.errors import Unavailable

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize("sqlstate", ["53100", "53300", "25006", "57014", "40P01", "57P01"])
async def test_it_is_told_on_both_ways(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order], sqlstate: str
) -> None:
    """The way in one statement, which writes orders, and that of SQLAlchemy, which riders."""
    await sql.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}'; END $$"
    )
    try:
        for table in ("orders", "riders"):
            await sql.execute(
                f"CREATE TRIGGER fail BEFORE INSERT ON {table} EXECUTE FUNCTION fail()"
            )
        with pytest.raises(Unavailable, match="not now"):
            await store.create_order(new_order("o1"), NOW_MS, idempotency=None)
        with pytest.raises(Unavailable, match="not now"):
            await store.register_rider(Rider(id="rita", city="demo"))
    finally:
        await sql.execute("DROP FUNCTION fail CASCADE")
    created = await store.create_order(new_order("o1"), NOW_MS, idempotency=None)
    assert created.order.version == 2
    await store.register_rider(Rider(id="rita", city="demo"))
