"""Erases personal data whose time is over, beside the sequencer; may import the store.

Any number may run: each takes the rows that no other has locked.
"""

from __future__ import annotations

import asyncio

import structlog

from api.cancelling import end_if_cancelled
from api.clock import now_ms
from api.feed import pause
from api.store import UNAVAILABLE, Store

EVERY_S = 60.0
AGAIN_S = 0.2  # while there is more to do: in small steps beside the others' work

log = structlog.get_logger(__name__)


async def keep_tidy(store: Store, stop: asyncio.Event) -> None:
    """Call `store.personal.tidy` each minute until `stop` is set. Outlives a lost PostgreSQL."""
    while not stop.is_set():
        done = 0
        try:
            done = await store.personal.tidy(now_ms())
        except UNAVAILABLE as error:
            log.warning("personal_not_tidied", error=type(error).__name__)
        except Exception:
            log.exception("personal_not_tidied")
        end_if_cancelled()
        await pause(stop, AGAIN_S if done else EVERY_S)
