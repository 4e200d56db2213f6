"""What a gateway follows: the city's events, and the frames of fixes of every gateway.

May import the feed, the store, the pool and the publisher.
"""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.feed import follow
from api.gateway.city_map import CityMap
from api.gateway.publish import Publisher
from api.metrics import Mode, degraded
from api.pool import Pool
from api.store import UNAVAILABLE, CityState, Store
from dispatch.events import RiderEvent, WentOffShift

log = structlog.get_logger(__name__)

RETRY_S = 1.0
TICK_S = 0.5


async def follow_events(
    store: Store,
    redis: Redis,
    pool: Pool,
    city: str,
    publisher: Publisher,
    loaded: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Load the city, set `loaded`, then publish its events until `stop` is set.

    Waits while the store is away, and goes on where it was.
    """
    state = await _load(store, city)
    publisher.load(state.orders, state.riders)
    loaded.set()
    position = state.position
    while not stop.is_set():
        try:
            async for batch in follow(store, redis, city, position, stop):
                for entry in batch:
                    await publisher.take(entry.event)
                    event = entry.event
                    if isinstance(event, RiderEvent) and isinstance(event.fact, WentOffShift):
                        await _leave_pool(pool, event.rider_id)
                position = batch[-1].position
        except UNAVAILABLE:  # which the watch over the store tells
            end_if_cancelled()
            await asyncio.sleep(RETRY_S)


async def _leave_pool(pool: Pool, rider_id: str) -> None:
    try:
        await pool.remove(rider_id)
    except (RedisError, OSError) as error:
        log.warning("rider_still_in_pool", rider_id=rider_id, error=str(error))


async def _load(store: Store, city: str) -> CityState:
    while True:
        try:
            return await store.load_city(city)
        except UNAVAILABLE:
            end_if_cancelled()
            await asyncio.sleep(RETRY_S)


async def follow_frames(pool: Pool, city: str, publisher: Publisher) -> None:
    """Publish positions, until cancelled. After Redis was away, the pool says what was missed."""
    while True:
        try:
            after = await pool.last_frame_id()
            publisher.place(await pool.riders())
            degraded(Mode.REDIS_AWAY, False, city)
            publisher.stale("positions", False)
            async for _, frame in pool.frames(after):
                publisher.take_frame(frame)
        except (RedisError, OSError) as error:
            end_if_cancelled()
            degraded(Mode.REDIS_AWAY, True, city, why=type(error).__name__)
            publisher.stale("positions", True)
            await asyncio.sleep(RETRY_S)


async def tick_map(city_map: CityMap) -> None:
    """Tell the operators each TICK_S what has changed, until cancelled."""
    while True:
        await asyncio.sleep(TICK_S)
        city_map.tick()
