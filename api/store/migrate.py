"""Brings a database to the tables of this release; may import SQLAlchemy and Alembic."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.store.away import telling_unavailable
from geo.errors import InvalidValue

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number that no other program uses as an advisory lock in this database.
MIGRATION_LOCK = 0x6865_7872_0001


async def migrate(url: str) -> None:
    """Run the migrations that are missing; does nothing when there is none.

    Any number of processes may call it at once: one works in one transaction, the others wait.

    Raises:
        InvalidValue: `url` is not the address of a PostgreSQL database.
        Unavailable: it does not answer; other errors of the driver are raised as they are.
    """
    engine = create_async_engine(asyncpg_url(url), poolclass=NullPool)
    try:
        with telling_unavailable():
            async with engine.begin() as connection:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}
                )
                await connection.run_sync(_upgrade)
    finally:
        await asyncio.shield(engine.dispose())


def asyncpg_url(url: str) -> URL:
    """`url` for SQLAlchemy with asyncpg; takes `postgres`, `postgresql` and `postgresql+asyncpg`.

    Raises:
        InvalidValue: another scheme, or no address at all.
    """
    expected = "postgresql://user:password@host:port/database"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidValue("postgres_url", url.rpartition("@")[2], expected) from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise InvalidValue("postgres_url", parsed.render_as_string(), expected)
    return parsed.set(drivername="postgresql+asyncpg")


def _upgrade(connection: Connection) -> None:
    # Imported here: it is needed once a start, and not at all where another process migrates.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
