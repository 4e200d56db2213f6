"""Brings the database's tables up to date and ends."""

from __future__ import annotations

import asyncio

from api.settings import Settings
from api.store import migrate
from api.storewatch import when_there


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    await when_there(lambda: migrate(settings.postgres_url), stop)
    ready.set()
