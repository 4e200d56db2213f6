"""Erases personal data whose time is over, and seals what lies in the clear; may import the store.

Runs beside the sequencer. At a start and each day the orders of the last days are looked through
for texts: a process of an old release that ran beside newer ones wrote them there. Any number may
run: each takes the rows that no other has locked.
"""

from __future__ import annotations

import asyncio

import structlog

from api.cancelling import end_if_cancelled
from api.clock import DAY_MS, monotonic_s, now_ms
from api.feed import pause
from api.store import UNAVAILABLE, Store

EVERY_S = 60.0
AGAIN_S = 0.2  # while there is more to do: in small steps beside the others' work
SEARCH_EVERY_S = 86_400.0
SEARCH_MS = 3 * DAY_MS

log = structlog.get_logger(__name__)


async def keep_tidy(store: Store, stop: asyncio.Event) -> None:
    """Call `store.personal.tidy` each minute until `stop` is set. Outlives a lost PostgreSQL."""
    search_at_s = 0.0
    while not stop.is_set():
        done = 0
        try:
            if monotonic_s() >= search_at_s:
                await _search(store, stop)
                search_at_s = monotonic_s() + SEARCH_EVERY_S
            done = await store.personal.tidy(now_ms())
        except UNAVAILABLE as error:
            log.warning("personal_not_tidied", error=type(error).__name__)
        except Exception:
            log.exception("personal_not_tidied")
        end_if_cancelled()
        await pause(stop, AGAIN_S if done else EVERY_S)


async def _search(store: Store, stop: asyncio.Event) -> None:
    listed = 0
    async for found in store.personal.search(now_ms() - SEARCH_MS):
        listed += found
        await pause(stop, AGAIN_S)
        if stop.is_set():
            return
    if listed:
        log.warning("texts_in_the_clear", orders=listed)
