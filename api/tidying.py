"""Erases personal data whose time is over, and seals what lies in the clear; may import the store.

Runs beside the sequencer. At a start and each day the orders of the last days are looked through
for texts: a process of an old release that ran beside newer ones wrote them there. Any number may
run: each takes the rows that no other has locked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from api.cancelling import end_if_cancelled
from api.clock import DAY_MS, now_ms
from api.feed import pause
from api.store import UNAVAILABLE, Store

EVERY_S = 60.0
AGAIN_S = 0.2  # while there is more to do: in small steps beside the others' work
SEARCH_EVERY_S = 86_400.0
SEARCH_MS = 3 * DAY_MS

log = structlog.get_logger(__name__)


async def keep_tidy(store: Store, stop: asyncio.Event) -> None:
    """Call `store.personal.tidy` each minute until `stop` is set. Outlives a lost PostgreSQL."""

    async def tidy() -> float:
        return AGAIN_S if await store.personal.tidy(now_ms()) else EVERY_S

    async def search() -> float:
        listed = 0
        async for found in store.personal.search(now_ms() - SEARCH_MS):
            listed += found
            if found:
                await store.personal.adopt()
            await pause(stop, AGAIN_S)
            if stop.is_set():
                break
        if listed:
            log.warning("texts_in_the_clear", orders=listed)
        return SEARCH_EVERY_S

    # Beside each other: looking through the days of large cities takes minutes.
    await asyncio.gather(_repeat(tidy, stop), _repeat(search, stop))


async def _repeat(work: Callable[[], Awaitable[float]], stop: asyncio.Event) -> None:
    """`work` gives the seconds until it is due again; one that failed is, after a minute."""
    while not stop.is_set():
        wait_s = EVERY_S
        try:
            wait_s = await work()
        except UNAVAILABLE as error:
            log.warning("personal_not_tidied", error=type(error).__name__)
        except Exception:
            log.exception("personal_not_tidied")
        end_if_cancelled()
        await pause(stop, wait_s)
