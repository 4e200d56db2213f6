"""Sockets of riders and viewers; takes fixes from the start, also while PostgreSQL is away."""

from __future__ import annotations

import asyncio

from api.cli.roles.warming import warm_up_after
from api.data_keys import KeyRing
from api.gateway import serve_gateway
from api.settings import Settings
from api.status import status_door
from api.store import UNAVAILABLE, Store, open_ring


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    async with status_door("gateway", settings, stop, ready):
        try:
            keys = await open_ring(settings.data_keys, settings.postgres_url)
        except UNAVAILABLE:
            keys = KeyRing.open(settings.data_keys)  # fixes do not wait for the database
        store = await Store.open(settings.postgres_url, data_keys=keys, may_be_away=True)
        warming = asyncio.create_task(warm_up_after(ready), name="warm up")
        try:
            await serve_gateway(
                settings, store, settings.redis_url, stop, ready=lambda port: ready.set()
            )
        finally:
            warming.cancel()
            await store.close()
