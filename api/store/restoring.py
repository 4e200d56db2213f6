"""What a backup says of its database, what a restored one must forget; may import SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from api.store.migrate import asyncpg_url
from geo.errors import Conflict, StartupError

_RELATIONS = text(
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
)
_COUNTS = text("""
SELECT (SELECT version_num FROM alembic_version) AS revision,
       (SELECT count(*) FROM orders) AS orders,
       (SELECT coalesce(max(position), 0) FROM heads) AS position
""")
# Streams, callbacks and followers know a database by its name: what comes after the restore is
# another history than what came after the backup, although its positions are the same.
_NEW_NAME = text("UPDATE installation SET id = gen_random_uuid()::text")
# No process of the time of the backup may go on as the owner of a city.
_NO_MEMBERS = text("DELETE FROM members")
_NO_OWNER = text("UPDATE leases SET epoch = epoch + 1, owner = '', expires_at_ms = 0")


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


async def begin_again(url: str) -> None:
    """Give a restored database a name of its own, and every city no owner."""
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            renamed = await connection.execute(_NEW_NAME)
            if renamed.rowcount != 1:
                raise StartupError("the restored database has no name: the backup is not whole")
            await connection.execute(_NO_OWNER)
            await connection.execute(_NO_MEMBERS)
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    return create_async_engine(asyncpg_url(url), poolclass=NullPool)
