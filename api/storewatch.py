"""Notices that PostgreSQL is away and back, in a process that goes on without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.cancelling import end_if_cancelled
from api.metrics import Mode, degraded
from api.store import UNAVAILABLE, Store

ASK_S = 1.0
ANSWER_LIMIT_S = 2.0


async def watch_store(
    store: Store, stop: asyncio.Event, told: Callable[[bool], None] = lambda there: None
) -> None:
    """Ask each ASK_S until `stop` is set; `told` hears each time whether there was an answer."""
    while not stop.is_set():
        why = ""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await store.ping()
        except UNAVAILABLE as error:
            end_if_cancelled()
            why = type(error).__name__
        degraded(Mode.POSTGRES_AWAY, bool(why), why=why)
        told(not why)
        await asyncio.sleep(ASK_S)
