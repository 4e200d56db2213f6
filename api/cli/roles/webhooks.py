"""Sends events to the receivers that asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from api.http.answers import view_event
from api.settings import Settings
from api.status import status_door
from api.store import Positioned, Store
from api.storewatch import when_there
from api.webhooks import run_sender
from geo.datum import System


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    facts: dict[str, Any] = {}
    async with status_door("webhooks", settings, stop, ready, lambda: facts):
        store = await when_there(lambda: Store.open(settings.postgres_url), stop)
        if store is None:
            return
        try:
            ready.set()
            await run_sender(store, settings.webhooks, _view, stop, facts=facts)
        finally:
            await store.close()


def _view(entry: Positioned, coordinate_system: str) -> Mapping[str, Any]:
    return view_event(entry, System(coordinate_system)).model_dump(mode="json")
