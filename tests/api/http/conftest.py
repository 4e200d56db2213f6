"""The application on a real store and a real Redis, and clients that speak to it in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from api.auth import Tokens
from api.clock import now_ms
from api.data_keys import KeyRing
from api.http import make_app
from api.settings import CityArea, Settings
from api.store import Store

SECRET = "test-" * 8
# The centre of the demo city as a mini-program's map shows it.
CENTRE = {"lat": 31.22849, "lon": 121.47821, "coordinate_system": "gcj02"}


@pytest.fixture(scope="session")
def http_database(new_database: Callable[..., str]) -> str:
    """One migrated database for all tests of this folder."""
    return new_database("http")


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    """Those that the settings name, made."""
    return KeyRing.open(tmp_path / "data-keys")


@pytest.fixture
async def store(
    http_database: str, keys: KeyRing, empty: Callable[..., Any]
) -> AsyncIterator[Store]:
    """A store on that database, emptied."""
    await empty(http_database)
    opened = await Store.open(http_database, data_keys=keys)
    yield opened
    await opened.close()


@pytest.fixture
def settings(http_database: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        postgres_url=http_database,
        redis_url=redis_url,
        data=tmp_path,
        secret=SECRET,
        cities=(CityArea(name="demo", lat=31.2304, lon=121.4737, radius_km=60.0),),
        http_port=0,
    )


@pytest.fixture
async def app(store: Store, settings: Settings, tmp_path: Path) -> AsyncIterator[FastAPI]:
    redis = Redis.from_url(settings.redis_url)
    yield make_app(store, settings, redis, console_folder=tmp_path / "no-console")
    await redis.aclose()


@pytest.fixture
async def client_as(app: FastAPI) -> AsyncIterator[Callable[..., httpx2.AsyncClient]]:
    """`client_as("customer", "anna")`: a client with a token; no role: one without."""
    tokens = Tokens(SECRET)
    made: list[httpx2.AsyncClient] = []

    def make(role: str | None = None, sub: str = "anna", **claims: Any) -> httpx2.AsyncClient:
        headers = {}
        if role is not None:
            headers["Authorization"] = f"Bearer {tokens.mint(sub=sub, role=role, **claims)}"
        client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://hexrun",
            headers=headers,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def anna(client_as: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """A customer."""
    return client_as("customer", "anna")


@pytest.fixture
def olga(client_as: Callable[..., httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """An operator."""
    return client_as("operator", "olga")


@pytest.fixture
def form() -> dict[str, Any]:
    """A delivery of a kilometre or so, due in an hour."""
    there = CENTRE | {"lat": 31.24, "text": "third floor"}
    return {
        "job_type": "delivery",
        "stops": [
            {"place": dict(CENTRE), "place_id": "shop-1"},
            {"place": there, "latest_ms": now_ms() + 3_600_000},
        ],
        "note": "no onions",
    }
