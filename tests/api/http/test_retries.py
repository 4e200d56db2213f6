"""A retry is known whatever was rotated since, and in every process; its digest tells nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from redis.asyncio import Redis

from api.auth import Tokens
from api.data_keys import KeyRing
from api.http import make_app
from api.settings import Settings
from api.store import Store

OLD, NEW = "test-" * 8, "another-secret-0123456789-abcdefghijk"
KEYED = {"Idempotency-Key": "k"}


@pytest.fixture
async def place(settings: Settings, tmp_path: Path, form: dict[str, Any]) -> Any:
    """`place(store, secret)`: the order, asked for at a process that read this secret."""
    redis = Redis.from_url(settings.redis_url)
    token = Tokens(OLD).mint(sub="anna", role="customer")
    headers = KEYED | {"Authorization": f"Bearer {token}"}

    async def ask(store: Store, secret: str = OLD, **changes: Any) -> httpx2.Response:
        app = make_app(
            store, replace(settings, secret=secret), redis, console_folder=tmp_path / "no-console"
        )
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://hexrun") as client:
            return await client.post("/v1/orders", json=form | changes, headers=headers)

    yield ask
    await redis.aclose()


async def test_the_secret_is_rotated_meanwhile(store: Store, place: Callable[..., Any]) -> None:
    first = await place(store)
    assert first.status_code == 201
    for secret in (f"{OLD}\n{NEW}", f"{NEW}\n{OLD}"):
        again = await place(store, secret)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["Idempotent-Replay"] == "true"
        assert (await place(store, secret, note="more onions")).status_code == 409


async def test_the_data_keys_are_rotated_meanwhile(
    store: Store, keys: KeyRing, http_database: str, place: Callable[..., Any]
) -> None:
    first = await place(store)
    old = keys.newest
    keys.rotate()
    while await store.personal.reseal():
        pass
    assert await store.personal.keys_in_use() == {keys.newest: 2}
    keys.remove(old)
    other = await Store.open(http_database, data_keys=keys)
    again = await place(other)
    await other.close()
    assert (again.status_code, again.json()) == (201, first.json())


async def test_orders_are_taken_after_the_data_keys_are_lost(
    store: Store, http_database: str, tmp_path: Path, place: Callable[..., Any]
) -> None:
    assert (await place(store)).status_code == 201
    other = await Store.open(http_database, data_keys=KeyRing.open(tmp_path / "found-none"))
    assert (await place(other)).status_code == 409
    third = await Store.open(http_database, data_keys=KeyRing.open(tmp_path / "found-none"))
    assert await third.digests.of("x") == await other.digests.of("x")
    await other.close()
    await third.close()


async def test_processes_that_start_together_have_one_key(
    store: Store, keys: KeyRing, http_database: str
) -> None:
    stores = [await Store.open(http_database, data_keys=keys) for _ in range(4)]
    found = await asyncio.gather(*(one.digests.of("x") for one in (*stores, store)))
    assert len(set(found)) == 1
    for one in stores:
        await one.close()


async def test_who_reads_the_database_cannot_try(
    store: Store, http_database: str, place: Callable[..., Any]
) -> None:
    await place(store)
    digest = await store.digests.of("x")
    sql = await asyncpg.connect(http_database.replace("+asyncpg", "", 1))
    row = await sql.fetchrow("SELECT * FROM personal WHERE subject = 'installation/digests'")
    await sql.close()
    tried = (hmac.new(row["ciphertext"][:n], b"x", hashlib.sha256).hexdigest() for n in (32, 48))
    assert digest not in {*tried, hashlib.sha256(b"x").hexdigest()}
