"""What a backup says of its database, what a restored one must forget; may import SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from api.store.housekeeping import FEED_STEP
from api.store.migrate import asyncpg_url
from api.store.sequencing import NOWHERE
from geo.errors import Conflict, StartupError

_RELATIONS = text(
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
)
_COUNTS = text("""
SELECT (SELECT version_num FROM alembic_version) AS revision,
       (SELECT count(*) FROM orders) AS orders,
       (SELECT coalesce(max(position), 0) FROM heads) AS position
""")
# Streams and followers know a database by its name: what comes after the restore is another history
# than what came after the backup.
_NEW_NAME = text("UPDATE installation SET id = gen_random_uuid()::text")
# No process of the time of the backup may go on as the owner of a city.
_NO_MEMBERS = text("DELETE FROM members")
_NO_OWNER = text("UPDATE leases SET epoch = epoch + 1, owner = '', expires_at_ms = 0")
# Receivers drop ids that they know, and ask for what comes after a position that they know: none
# that the lost history may have given is given again. No system writes a million events a second,
# so what starts at a million for each second since 1970 is above all that any restore began.
FROM_EACH_MS = 1_000
_NO_KEYS = text("DELETE FROM keys")
_LAST = text("SELECT coalesce(max(position), 0) FROM heads")
_SKIP_POSITIONS = text(
    "INSERT INTO heads (city, position) VALUES (:nowhere, :position)"
    " ON CONFLICT (city) DO UPDATE SET position = excluded.position"
)
_PARTITION = text("SELECT make_partition('feed', 'position', :lower, :upper)")
_LAST_ID = text("SELECT coalesce(max(id), 0) FROM events")
_SKIP_IDS = text("SELECT setval(pg_get_serial_sequence('events', 'id'), :id)")


def for_libpq(url: str) -> tuple[str, str]:
    """The address as PostgreSQL's own programs take it, without the password, and the password."""
    address = asyncpg_url(url)
    bare = URL.create(
        "postgresql",
        username=address.username,
        host=address.host,
        port=address.port,
        database=address.database,
        query=address.query,
    )
    return bare.render_as_string(), str(address.password or "")


async def describe(url: str) -> dict[str, object]:
    """`revision` of the tables, number of `orders` and last `position` of the feed."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            row = (await connection.execute(_COUNTS)).mappings().one()
        return dict(row)
    finally:
        await engine.dispose()


async def check_empty(url: str) -> None:
    """Raises Conflict when the database has a table already."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            tables = await connection.scalar(_RELATIONS)
    finally:
        await engine.dispose()
    if tables:
        raise Conflict(f"the database has {tables} tables: restore into an empty one")


async def begin_again(url: str, now_ms: int) -> None:
    """Give a restored database of today's tables a name of its own, and every city no owner.

    Its next event ids and positions are above all that were given before or after the backup.
    """
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            renamed = await connection.execute(_NEW_NAME)
            if renamed.rowcount != 1:
                raise StartupError("the restored database has no name: the backup is not whole")
            await connection.execute(_NO_OWNER)
            await connection.execute(_NO_MEMBERS)
            await _skip(connection, now_ms * FROM_EACH_MS)
    finally:
        await engine.dispose()


async def forget_keys(url: str) -> None:
    """Delete all API keys: among them are those that were deleted after the backup."""
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(_NO_KEYS)
    finally:
        await engine.dispose()


async def _skip(connection: AsyncConnection, start: int) -> None:
    position = max(await connection.scalar(_LAST) + FEED_STEP, start)
    await connection.execute(_SKIP_POSITIONS, {"nowhere": NOWHERE, "position": position})
    lower = position // FEED_STEP * FEED_STEP
    await connection.execute(_PARTITION, {"lower": lower, "upper": lower + FEED_STEP})
    event_id = max(await connection.scalar(_LAST_ID) + FEED_STEP, start)
    await connection.execute(_SKIP_IDS, {"id": event_id})


def _engine(url: str) -> AsyncEngine:
    return create_async_engine(asyncpg_url(url), poolclass=NullPool)
