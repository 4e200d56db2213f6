"""Follows a city's events: from its Redis stream while that is whole, else from the store.

May import redis and the store. The stream is a copy of the feed that may be lost at any time; its
entry ids are the positions, so Redis itself refuses a position twice or out of order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.codec import decode_event, encode_event
from api.store import Positioned, Store

BATCH_MAX = 500
BLOCK_MS = 250
READ_LIMIT_S = 2.0
# While Redis is away the store is asked this often, and Redis tried again this often.
DOWN_POLL_S = 0.2
DOWN_RETRY_S = 1.0
# A quiet stream is compared with the store: it may be quiet because it lost its end.
QUIET_CHECK_S = 1.0

_log = logging.getLogger("hexrun.feed")


def stream_key(city: str) -> str:
    """The stream of a city; the braces put all keys of a city into one slot of a cluster."""
    return f"{{{city}}}:events"


def to_fields(entry: Positioned, source: str) -> dict[str, bytes | int | str]:
    """The stream's entry; `source` names the database that gave the position."""
    return {
        "position": entry.position,
        "prev": entry.prev_position,
        "event": encode_event(entry.event),
        "source": source,
    }


def from_fields(city: str, source: str, fields: Mapping[bytes, bytes]) -> Positioned | None:
    """The entry of `to_fields`, None when another database gave the position."""
    if fields[b"source"].decode() != source:
        return None
    return Positioned(
        position=int(fields[b"position"]),
        prev_position=int(fields[b"prev"]),
        city=city,
        event=decode_event(fields[b"event"]),
    )


async def follow(
    store: Store, redis: Redis, city: str, after: int, stop: asyncio.Event
) -> AsyncIterator[list[Positioned]]:
    """The city's events after the position `after`, in order, none skipped and none twice.

    Ends when `stop` is set, a quarter of a second later at most. Goes on without Redis, and
    raises what the store raises when PostgreSQL is away too: then follow again from the last
    position. Takes one connection of `redis`, which must give bytes.
    """
    stream = _Stream(store, redis, city)
    last, checked_s = after, 0.0
    clock = asyncio.get_running_loop().time
    down_until_s = 0.0
    while not stop.is_set():
        end_if_cancelled()
        entries: list[Positioned] | None = None
        if clock() >= down_until_s:
            try:
                entries = await stream.read(last)
            except (RedisError, OSError) as error:
                _log.warning("no stream of %s, reading the store: %s", city, error)
                down_until_s = clock() + DOWN_RETRY_S
        if entries:
            if entries[0].prev_position <= last:
                whole = _unbroken(entries)
                last = whole[-1].position
                yield whole
                continue
        elif entries is not None and clock() - checked_s < QUIET_CHECK_S:
            continue
        checked_s = clock()
        missed = await store.events_after(last, city, BATCH_MAX)
        if missed:
            last = missed[-1].position
            yield missed
        elif entries is None or entries:
            await pause(stop, DOWN_POLL_S)


def _unbroken(entries: list[Positioned]) -> list[Positioned]:
    """Up to the first gap; what follows it is read again."""
    for n in range(1, len(entries)):
        if entries[n].prev_position != entries[n - 1].position:
            return entries[:n]
    return entries


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait `seconds`, or until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


class _Stream:
    def __init__(self, store: Store, redis: Redis, city: str) -> None:
        self._source, self._redis, self._city = store.source, redis, city
        self._key = stream_key(city)

    async def read(self, last: int) -> list[Positioned] | None:
        """The entries after `last`, waiting a little; None when the stream is not ours."""
        # A server that hangs must not hold the follower for the client's own, longer, limits.
        async with asyncio.timeout(READ_LIMIT_S):
            reply = await self._redis.xread(
                {self._key: f"{last}-0"}, count=BATCH_MAX, block=BLOCK_MS
            )
        entries: list[Positioned] = []
        for fields in _fields_of(reply):
            entry = from_fields(self._city, self._source, fields)
            if entry is None:
                return None
            entries.append(entry)
        return entries


def _fields_of(reply: Any) -> list[Mapping[bytes, bytes]]:
    """The entries of an XREAD of one stream, in the shape of either protocol version."""
    if not reply:
        return []
    streams = reply.values() if isinstance(reply, dict) else [pair[1] for pair in reply]
    found = next(iter(streams))
    # RESP3 wraps the entries of a stream once more.
    if len(found) == 1 and found[0] and isinstance(found[0][0], (tuple, list)):
        found = found[0]
    return [fields for _, fields in found]
