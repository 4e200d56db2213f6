"""The keys of personal data at the start of a process; may import SQLAlchemy and the key ring."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.data_keys import KeyRing
from api.store.away import telling_unavailable
from api.store.connecting import CONNECT_LIMIT_S
from api.store.migrate import asyncpg_url
from geo.errors import StartupError

_HAS_TABLE = text("SELECT to_regclass('public.personal') IS NOT NULL")
_KEYS = text("SELECT DISTINCT key_id FROM personal ORDER BY key_id LIMIT 5")


async def open_ring(path: Path, url: str) -> KeyRing:
    """The keys of the file at `path`, which is made only while the database has no row of others.

    A second set would make rows that whoever has the first cannot read, and the other way round.

    Raises:
        StartupError: the file is missing, and rows are encrypted by keys that must be in it.
        InvalidValue: the file is not one of keys.
        One of `UNAVAILABLE`: the file is missing and PostgreSQL does not answer.
    """
    if not path.exists():
        keys = await _keys_in_use(url)
        if keys:
            raise StartupError(
                f"{path} is missing, but personal data are encrypted by {', '.join(keys)}: copy the"
                " file from where it was made, or from a backup (HEXRUN_DATA_KEYS_FILE)"
            )
    return KeyRing.open(path)


async def _keys_in_use(url: str) -> list[str]:
    options = {"timeout": CONNECT_LIMIT_S}
    engine = create_async_engine(asyncpg_url(url), poolclass=NullPool, connect_args=options)
    try:
        with telling_unavailable():
            async with engine.connect() as connection:
                if not await connection.scalar(_HAS_TABLE):
                    return []
                return list(await connection.scalars(_KEYS))
    finally:
        await engine.dispose()
