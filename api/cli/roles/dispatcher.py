"""Dispatches this process's share of the cities in the way of the folder's `dispatch.yaml`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from api.cli.dispatch_file import read_dispatch_file
from api.dispatching import Dispatching
from api.settings import Settings
from api.status import status_door
from api.store import Store
from api.storewatch import when_there

REDIS_LIMIT_S = 2.0  # longer than the half second of a blocking read


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    how = read_dispatch_file(settings.data)
    cities = [how.city(area) for area in settings.cities]
    dispatching: Dispatching | None = None

    def facts() -> Mapping[str, Any]:
        return {} if dispatching is None else dispatching.facts()

    async with status_door("dispatcher", settings, stop, ready, facts):
        store = await when_there(lambda: Store.open(settings.postgres_url), stop)
        if store is None:
            return
        redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_LIMIT_S, socket_connect_timeout=REDIS_LIMIT_S
        )
        try:
            dispatching = Dispatching(store, redis, cities, settings.data / "journal")
            await dispatching.run(stop, ready)
        finally:
            await redis.aclose()
            await store.close()
