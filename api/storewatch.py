"""Waits for PostgreSQL at a start; notices that it is away and back in a process that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from api.cancelling import end_if_cancelled
from api.metrics import Mode, degraded
from api.store import UNAVAILABLE, Store

ASK_S = 1.0
ANSWER_LIMIT_S = 2.0
AGAIN_S = 0.5

T = TypeVar("T")


async def when_there(ask: Callable[[], Awaitable[T]], stop: asyncio.Event) -> T | None:
    """What `ask` gives as soon as PostgreSQL answers; None when `stop` is set before."""
    while not stop.is_set():
        end_if_cancelled()
        try:
            answer = await ask()
        except UNAVAILABLE as error:
            end_if_cancelled()
            degraded(Mode.POSTGRES_AWAY, True, error=str(error))
            try:
                async with asyncio.timeout(AGAIN_S):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            degraded(Mode.POSTGRES_AWAY, False)
            return answer
    return None


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
