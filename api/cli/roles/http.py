"""The HTTP API and the console."""

from __future__ import annotations

import asyncio

from api.cli.roles.warming import warm_up_after
from api.http import serve_http
from api.settings import Settings
from api.status import status_door


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    async with status_door("http", settings, stop, ready):
        warming = asyncio.create_task(warm_up_after(ready), name="warm up")
        try:
            await serve_http(settings, stop, ready=lambda port: ready.set())
        finally:
            warming.cancel()
