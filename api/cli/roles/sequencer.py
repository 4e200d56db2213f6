"""Gives events their places, tells Redis of them, keeps the tables tidy."""

from __future__ import annotations

import asyncio
from typing import Any

from api.sequencer import run_sequencer
from api.settings import Settings
from api.status import status_door
from api.store import Store, open_ring
from api.storewatch import when_there
from api.tidying import keep_tidy


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    facts: dict[str, Any] = {}

    async def opened() -> Store:
        url = settings.postgres_url
        keys = await open_ring(settings.data_keys, url)
        days = settings.keep_personal_days
        return await Store.open(url, data_keys=keys, keep_personal_days=days)

    async with status_door("sequencer", settings, stop, ready, lambda: facts):
        store = await when_there(opened, stop)
        if store is None:
            return
        tidying = asyncio.create_task(keep_tidy(store, stop), name="tidy personal data")
        try:
            ready.set()
            await run_sequencer(store, settings.redis_url, stop, settings.keep, facts)
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
            await store.close()
