"""A process makes a first key of personal data only where nobody has made one before."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from api.data_keys import KeyRing
from api.store import open_ring
from geo.errors import StartupError


async def test_a_second_set_of_keys_is_not_made(
    migrated_url: str, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    first = await open_ring(tmp_path / "first", migrated_url)
    await sql.execute(
        "INSERT INTO personal VALUES ('order/a', 'default', 'demo', 'customer/a', $1, '', '', 1)",
        first.newest,
    )
    with pytest.raises(StartupError, match=first.newest):
        await open_ring(tmp_path / "second", migrated_url)
    assert not (tmp_path / "second").exists()
    KeyRing.open(tmp_path / "third")  # made by hand, as for a rotation: it is up to who made it
    assert (await open_ring(tmp_path / "third", migrated_url)).ids != first.ids
    assert (await open_ring(tmp_path / "first", migrated_url)).ids == first.ids


async def test_a_database_without_tables_has_no_rows(database_url: str, tmp_path: Path) -> None:
    assert len((await open_ring(tmp_path / "keys", database_url)).ids) == 1
