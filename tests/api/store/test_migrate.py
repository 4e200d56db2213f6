"""The migrations: once, again, side by side; and the same tables as the schema."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from api.store import Store, migrate
from api.store.migrate import MIGRATIONS, asyncpg_url
from api.store.schema import LIVE_ASSIGNMENT, LIVE_ORDER, metadata
from geo.errors import InvalidValue


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    await migrate(database_url)
    first = await Store.open(database_url)
    await first.close()
    await migrate(database_url)
    second = await Store.open(database_url)
    await second.close()
    assert first.source == second.source


async def test_many_may_migrate_at_once(database_url: str) -> None:
    await asyncio.gather(*(migrate(database_url) for _ in range(5)))
    connection = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    try:
        assert await connection.fetchval("SELECT count(*) FROM installation") == 1
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
    finally:
        await connection.close()


async def test_the_migrations_make_the_tables_of_the_schema(database_url: str) -> None:
    await migrate(database_url)
    engine = create_async_engine(asyncpg_url(database_url))
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata)
        )
    await engine.dispose()
    assert differences == []


async def test_the_checks_and_partial_indexes_are_those_of_the_schema(
    store: Store, sql: asyncpg.Connection
) -> None:
    # Alembic compares neither.
    checks = await sql.fetch(
        "SELECT conname, pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE contype = 'c'"
        " AND connamespace = 'public'::regnamespace"
    )
    found = {row["conname"]: set(re.findall(r"'(\w+)'", row["text"])) for row in checks}
    wanted = {
        str(constraint.name): set(re.findall(r"'(\w+)'", str(constraint.sqltext)))
        for table in metadata.tables.values()
        for constraint in table.constraints
        if hasattr(constraint, "sqltext")
    }
    assert found == wanted
    indexes = dict(await sql.fetch("SELECT indexname, indexdef FROM pg_indexes"))
    for name, states in (
        ("orders_live_by_city", LIVE_ORDER),
        ("orders_live_by_customer", LIVE_ORDER),
        ("assignments_one_live", LIVE_ASSIGNMENT),
    ):
        assert set(re.findall(r"'(\w+)'", indexes[name])) == set(states)


@pytest.mark.parametrize("url", ["", "mysql://root@host/db", "nonsense", "sqlite:///x"])
async def test_another_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="postgres_url"):
        await migrate(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_scheme_is_taken(scheme: str) -> None:
    url = asyncpg_url(f"{scheme}://anna:s%20cret@host:5433/base?ssl=require")
    assert url.drivername == "postgresql+asyncpg"
    assert (url.password, url.port, url.query["ssl"]) == ("s cret", 5433, "require")


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(InvalidValue) as caught:
        asyncpg_url("mysql://anna:geheim@host/db")
    assert "geheim" not in str(caught.value)


def test_every_migration_is_packaged() -> None:
    assert (MIGRATIONS / "env.py").is_file()
    assert list(Path(MIGRATIONS / "versions").glob("r*.py"))
