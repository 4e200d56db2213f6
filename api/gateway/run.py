"""The gateway as a process of its own; may import everything of `api`."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from api.gateway.server import serve_gateway
from api.settings import Settings
from api.store import Store


def run_gateway(settings: Settings, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, on uvloop where there is one; `ready` is told the port.

    Raises what `Store.open` raises, and OSError when the port cannot be had.
    """
    if sys.platform == "win32":
        asyncio.run(_run(settings, ready))
    else:
        import uvloop

        uvloop.run(_run(settings, ready))


async def _run(settings: Settings, ready: Callable[[int], None] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    store = await Store.open(settings.postgres_url)
    try:
        await serve_gateway(settings, store, settings.redis_url, stop, ready=ready)
    finally:
        await store.close()
