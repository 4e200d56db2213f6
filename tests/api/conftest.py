"""Real servers for the tests of `api`: one PostgreSQL and one Valkey a test session."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from sqlalchemy.engine import make_url

from api.metrics import degraded, modes
from api.store import migrate
from api.store.schema import metadata
from api.supervisor import ServerUrls, leashed
from api.supervisor.embedded import POSTGRES_VARIABLE, REDIS_VARIABLE
from geo.datum import warm_up

STOP_LIMIT_S = 30
_numbers = itertools.cycle(range(1, 16))


@pytest.fixture(scope="session", autouse=True)
def warm_conversions() -> None:
    """As a process does beside opening its door; else the first test would wait for it."""
    warm_up()


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerUrls]:
    """PostgreSQL and Valkey in a process of their own, so that no test's event loop owns them.

    Always the embedded ones, whatever the environment names: the tests drop and flush.
    """
    folder = Path(tempfile.mkdtemp(prefix="hexrun-test-"))
    folder.chmod(0o755)  # as root, PostgreSQL's user must pass
    env = {k: v for k, v in os.environ.items() if k not in (POSTGRES_VARIABLE, REDIS_VARIABLE)}
    log = folder / "supervisor.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            leashed([sys.executable, "-m", "api.supervisor", str(folder)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=env,
            start_new_session=True,  # Ctrl-C is for pytest, which then ends this
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"the servers did not start:\n{log.read_text()}")
        yield ServerUrls(**json.loads(line))
    finally:
        process.terminate()
        process.communicate(timeout=STOP_LIMIT_S)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_database(servers: ServerUrls) -> Callable[..., str]:
    """`new_database("http")`: the address of a fresh migrated database, for a folder of tests.

    Making one takes longer than most tests do. `lasting=False`: commits do not wait for the disk.
    """

    async def make(folder: str, lasting: bool) -> str:
        name = f"{folder}_{uuid.uuid4().hex}"
        admin = await asyncpg.connect(servers.postgres.replace("+asyncpg", "", 1))
        await admin.execute(f"CREATE DATABASE {name}")
        if not lasting:
            await admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        await admin.close()
        url = make_url(servers.postgres).set(database=name).render_as_string(hide_password=False)
        await migrate(url)
        return url

    return lambda folder, *, lasting=True: asyncio.run(make(folder, lasting))


@pytest.fixture(scope="session")
def empty() -> Callable[[str], Awaitable[None]]:
    """`await empty(url)`: every row of that database goes but its name."""

    async def delete(url: str) -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", "", 1))
        emptied = "; ".join(f"DELETE FROM {t}" for t in metadata.tables if t != "installation")
        # No triggers, and no waiting for the disk: faster than TRUNCATE for a few rows.
        await connection.execute(
            "SET session_replication_role = replica; SET synchronous_commit = off; " + emptied
        )
        await connection.close()

    return delete


@pytest.fixture(scope="session")
def trial_balance() -> Callable[[str], Awaitable[dict[str, int]]]:
    """`await trial_balance(url)`: of every account of that database what came less what went."""

    async def read(url: str) -> dict[str, int]:
        connection = await asyncpg.connect(url.replace("+asyncpg", "", 1))
        rows = await connection.fetch(_TRIAL)
        await connection.close()
        return {row["account"]: int(row["fen"]) for row in rows}

    return read


_TRIAL = """
SELECT account, sum(fen) AS fen FROM (
    SELECT credit AS account, fen FROM transfers
    UNION ALL SELECT debit, -fen FROM transfers) AS sides
GROUP BY account
"""


@pytest.fixture
async def database_url(servers: ServerUrls) -> AsyncIterator[str]:
    """The address of a fresh, empty database, dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.postgres.replace("+asyncpg", "", 1))
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield make_url(servers.postgres).set(database=name).render_as_string(hide_password=False)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def redis_url(servers: ServerUrls) -> AsyncIterator[str]:
    """The address of an empty database of Valkey, flushed at the end."""
    url = f"{servers.redis}?db={next(_numbers)}"
    client = redis.asyncio.from_url(url)
    try:
        await client.flushdb()
        yield url
        await client.flushdb()
    finally:
        await client.aclose()


@pytest.fixture(autouse=True)
def _no_mode_of_another_test() -> None:
    """The degraded modes are the process's: what a test left on is not the next one's."""
    for mode, city in modes():
        degraded(mode, False, city)
