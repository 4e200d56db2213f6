"""The sequencer: gives committed events their global positions and puts them into Redis.

May import redis, the clock and the store. One works at a time, the others stand by.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.feed import pause, stream_key, to_fields
from api.keep import Keep
from api.metrics import Mode, degraded
from api.store import UNAVAILABLE, Positioned, Sequencing, Store

BATCH_MAX = 500
POLL_S = 0.1
STANDBY_S = 0.5
RETRY_S = 0.5
STREAM_ENTRIES_MAX = 100_000
# A stream that lost its end gets this many events back; followers read older ones in the store.
REPUBLISH_MAX = 10_000
REDIS_LIMIT_S = 2.0
HOUSEKEEPING_S = 600.0
MEASURE_S = 5.0

_SEQUENCED = Counter("hexrun_events_sequenced_total", "events that were given their position")
_LAG = Gauge(
    "hexrun_sequencer_lag_seconds",
    "how old the oldest event of the last batch was when it got its position; 0 with nothing to do",
)
_OUTBOX = Gauge("hexrun_outbox_events", "committed events without a position")
_LEADS = Gauge("hexrun_sequencer_leads", "1 while this process is the one that gives positions")
_MENDED = Counter("hexrun_streams_mended_total", "streams in Redis that were made a copy again")
_BEHIND = Gauge("hexrun_streams_behind", "streams in Redis that are not a copy of the feed now")

_log = logging.getLogger("hexrun.sequencer")


async def run_sequencer(
    store: Store,
    redis_url: str,
    stop: asyncio.Event,
    keep: Keep | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Sequence until `stop` is set, or stand by for the one who does; how it goes is in `facts`.

    Outlives every loss of PostgreSQL and Redis: positions go on without Redis, whose streams are
    mended when it is back; without PostgreSQL it waits. The one that works also keeps house:
    partitions are made ahead, and what is older than `keep` goes.
    """
    redis = Redis.from_url(redis_url, socket_timeout=REDIS_LIMIT_S)
    facts = {} if facts is None else facts
    try:
        while not stop.is_set():
            try:
                session = await store.open_sequencing()
                try:
                    await _sequence(session, store, redis, keep or Keep(), stop, facts)
                finally:
                    _LEADS.set(0)
                    facts["leads"] = False
                    await session.close()
            except UNAVAILABLE as error:
                end_if_cancelled()
                degraded(Mode.POSTGRES_AWAY, True, error=str(error))
                await pause(stop, RETRY_S)
    finally:
        await redis.aclose()


async def _sequence(
    session: Sequencing,
    store: Store,
    redis: Redis,
    keep: Keep,
    stop: asyncio.Event,
    facts: dict[str, Any],
) -> None:
    degraded(Mode.POSTGRES_AWAY, False)
    facts["leads"] = False
    while not await session.lock():
        await pause(stop, STANDBY_S)
        if stop.is_set():
            return
    _log.info("this process gives the positions")
    _LEADS.set(1)
    facts["leads"] = True
    publisher = Publisher(store, redis)
    await publisher.start(await session.heads())
    keeping = asyncio.create_task(_keep_house(store, keep), name="keep house")
    measured_s = 0.0
    try:
        while not stop.is_set():
            placed = await session.take(BATCH_MAX)
            await publisher.publish(placed)
            end_if_cancelled()
            lag_s = (
                max(0.0, (now_ms() - min(p.event.at_ms for p in placed)) / 1000) if placed else 0.0
            )
            _SEQUENCED.inc(len(placed))
            _LAG.set(lag_s)
            facts |= {"lag_s": lag_s, "heads": publisher.heads, "streams_behind": publisher.behind}
            if monotonic_s() >= measured_s + MEASURE_S:
                measured_s = monotonic_s()
                facts["outbox"] = await session.waiting()
                _OUTBOX.set(facts["outbox"])
            if len(placed) < BATCH_MAX:
                await session.wait(POLL_S)
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def _keep_house(store: Store, keep: Keep) -> None:
    while True:
        try:
            await store.housekeeping.run(now_ms(), keep)
        except UNAVAILABLE as error:
            end_if_cancelled()
            _log.warning("cannot keep house: %s", error)
        except Exception:  # positions must go on whatever this meets
            _log.exception("cannot keep house")
        await asyncio.sleep(HOUSEKEEPING_S)


class Publisher:
    """Copies the feed into one capped stream a city, and mends a stream that is not its copy."""

    def __init__(self, store: Store, redis: Redis) -> None:
        self._store, self._redis = store, redis
        self._heads: dict[str, int] = {}
        self._broken: set[str] = set()
        self._retry_at_s = 0.0

    @property
    def heads(self) -> dict[str, int]:
        """The last position of each city."""
        return self._heads

    @property
    def behind(self) -> list[str]:
        """The cities whose stream is not a copy of the feed now."""
        return sorted(self._broken)

    async def start(self, heads: dict[str, int]) -> None:
        """Publish what a sequencer before this one gave a position to and did not publish."""
        self._heads = dict(heads)
        self._broken = set(heads)
        await self._mend()

    async def publish(self, placed: Sequence[Positioned]) -> None:
        """Append events to the streams; on failure remember which to mend, and go on."""
        by_city: defaultdict[str, list[Positioned]] = defaultdict(list)
        for entry in placed:
            by_city[entry.city].append(entry)
        for city, entries in by_city.items():
            self._heads[city] = entries[-1].position
            if city not in self._broken and not await self._append(city, entries):
                self._broken.add(city)
        if self._broken and monotonic_s() >= self._retry_at_s:
            await self._mend()

    async def _append(self, city: str, entries: Sequence[Positioned]) -> bool:
        try:
            async with asyncio.timeout(REDIS_LIMIT_S):
                pipe = self._redis.pipeline(transaction=False)
                for entry in entries:
                    pipe.xadd(
                        stream_key(city),
                        to_fields(entry, self._store.source),  # type: ignore[arg-type]
                        id=f"{entry.position}-0",
                        maxlen=STREAM_ENTRIES_MAX,
                        approximate=True,
                    )
                await pipe.execute()
        except (RedisError, OSError) as error:
            _log.warning("the stream of %s is behind: %s", city, error)
            return False
        return True

    async def _mend(self) -> None:
        for city in sorted(self._broken):
            try:
                async with asyncio.timeout(REDIS_LIMIT_S):
                    last = await self._last_in_stream(city)
            except (RedisError, OSError) as error:
                _log.warning("cannot mend the stream of %s: %s", city, error)
                break
            if not await self._republish(city, last):
                break
            self._broken.discard(city)
            _MENDED.inc()
        _BEHIND.set(len(self._broken))
        self._retry_at_s = monotonic_s() + (RETRY_S if self._broken else 0.0)

    async def _last_in_stream(self, city: str) -> int:
        """Its last position, 0 when it is empty. Drops a stream that is not a copy of our feed:

        another database's, or one that is ahead of ours since this one was restored.
        """
        key = stream_key(city)
        newest: Any = await self._redis.xrevrange(key, count=1)
        if newest:
            entry_id, fields = newest[0]
            last = int(entry_id.partition(b"-")[0])
            ours = fields.get(b"source", b"").decode() == self._store.source
            if ours and last <= self._heads[city]:
                return last
            _log.warning("dropping %s: it is not a copy of this feed", key)
        # Also when it is empty: an emptied stream still remembers the last id it had.
        await self._redis.delete(key)
        return 0

    async def _republish(self, city: str, last: int) -> bool:
        after = max(last, self._heads[city] - REPUBLISH_MAX)
        while after < self._heads[city]:
            entries = await self._store.events_after(after, city, BATCH_MAX)
            if not entries:
                break
            if not await self._append(city, entries):
                return False
            after = entries[-1].position
        return True
