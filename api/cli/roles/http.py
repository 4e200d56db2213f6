"""The HTTP API and the console; of `dispatch.yaml` it knows what holds for the hall's claims."""

from __future__ import annotations

import asyncio

from api.cli.dispatch_file import read_dispatch_file
from api.cli.roles.warming import warm_up_after
from api.http import serve_http
from api.settings import Settings
from api.status import status_door


async def run(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    how = read_dispatch_file(settings.data)
    most = {area.name: how.of(area.name).policy.hall_orders_max for area in settings.cities}
    async with status_door("http", settings, stop, ready):
        warming = asyncio.create_task(warm_up_after(ready), name="warm up")
        try:
            await serve_http(settings, stop, ready=lambda port: ready.set(), hall_orders_max=most)
        finally:
            warming.cancel()
