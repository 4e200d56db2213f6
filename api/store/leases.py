"""The lease of a city, by which exactly one dispatcher may write plans; may import SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from api.store.schema import leases

_TAKE = text("""
INSERT INTO leases AS held (city, epoch, owner, expires_at_ms)
VALUES (:city, 1, :owner, :expires_at_ms)
ON CONFLICT (city) DO UPDATE
SET epoch = held.epoch + 1, owner = excluded.owner, expires_at_ms = excluded.expires_at_ms
WHERE held.expires_at_ms <= :now_ms
RETURNING epoch
""")


async def take(engine: AsyncEngine, city: str, owner: str, now_ms: int, ttl_ms: int) -> int | None:
    """See `Store.take_lease`."""
    values = {"city": city, "owner": owner, "now_ms": now_ms, "expires_at_ms": now_ms + ttl_ms}
    async with engine.begin() as connection:
        epoch = (await connection.execute(_TAKE, values)).scalar_one_or_none()
    return None if epoch is None else int(epoch)


async def renew(
    engine: AsyncEngine, city: str, owner: str, epoch: int, now_ms: int, ttl_ms: int
) -> bool:
    """See `Store.renew_lease`."""
    change = (
        update(leases)
        .where(leases.c.city == city, leases.c.owner == owner, leases.c.epoch == epoch)
        .values(expires_at_ms=now_ms + ttl_ms)
    )
    async with engine.begin() as connection:
        return (await connection.execute(change)).rowcount == 1


async def release(engine: AsyncEngine, city: str, owner: str, epoch: int) -> None:
    """See `Store.release_lease`."""
    change = (
        update(leases)
        .where(leases.c.city == city, leases.c.owner == owner, leases.c.epoch == epoch)
        .values(expires_at_ms=0)
    )
    async with engine.begin() as connection:
        await connection.execute(change)
