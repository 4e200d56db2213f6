"""Followers see every event once and in order, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from api.feed import follow, stream_key
from api.sequencer import run_sequencer
from api.store import Positioned, Store


class Reader:
    """Follows a city in the background and keeps what it got."""

    def __init__(self, store: Store, redis: Redis, after: int = 0, city: str = "demo") -> None:
        self.got: list[Positioned] = []
        self.after = after
        self.stop = asyncio.Event()
        self._task = asyncio.create_task(self._read(store, redis, city))

    async def _read(self, store: Store, redis: Redis, city: str) -> None:
        async for entries in follow(store, redis, city, self.after, self.stop):
            self.got += entries

    async def reach(self, count: int) -> None:
        """Wait until `count` events came, then check that they are the right ones."""
        async with asyncio.timeout(10):
            while len(self.got) < count:
                assert not self._task.done(), self._task
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self._task, 3)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def sequencer(store: Store, redis_url: str) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_sequencer(store, redis_url, stop))
    yield stop
    stop.set()
    await task


async def everything(store: Store, after: int = 0) -> list[Positioned]:
    return await store.events_after(after, "demo", 10_000)


async def test_following_from_the_start_and_from_the_middle(
    store: Store, redis: Redis, sequencer: asyncio.Event, placed: Callable[..., Any]
) -> None:
    first = Reader(store, redis)
    await placed("o1")
    await first.reach(2)
    middle = Reader(store, redis, after=1)
    await placed("o2", city="other")
    await placed("o3")
    await first.reach(4)
    await middle.reach(3)
    assert first.got == await everything(store)
    assert middle.got == await everything(store, 1)
    await first.end()
    await middle.end()


async def test_a_position_of_another_city_will_do(
    store: Store, redis: Redis, sequencer: asyncio.Event, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    await placed("o2", city="other")
    reader = Reader(store, redis, after=4)
    await placed("o3")
    await reader.reach(2)
    assert [p.position for p in reader.got] == [5, 6]
    await reader.end()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_either_protocol(
    store: Store,
    redis_url: str,
    sequencer: asyncio.Event,
    placed: Callable[..., Any],
    protocol: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: Any, **__: Any) -> list[Positioned]:
        return []

    redis = Redis.from_url(redis_url, protocol=protocol)
    reader = Reader(store, redis)
    await placed("o1")
    await placed("o2")
    await reader.reach(4)
    wanted = await everything(store)
    await reader.end()
    monkeypatch.setattr(Store, "events_after", never)
    streamed = Reader(store, redis)
    await streamed.reach(4)
    assert streamed.got == reader.got == wanted
    await streamed.end()
    await redis.aclose()


async def test_a_stream_with_holes(
    store: Store, redis: Redis, sequencer: asyncio.Event, placed: Callable[..., Any]
) -> None:
    for n in range(4):
        await placed(f"o{n}")
    first = Reader(store, redis)
    await first.reach(8)
    key = stream_key("demo")
    await redis.xdel(key, "1-0", "4-0", "5-0")
    late, middle = Reader(store, redis), Reader(store, redis, after=2)
    await late.reach(8)
    await middle.reach(6)
    assert late.got == first.got == await everything(store)
    assert middle.got == await everything(store, 2)  # starts whole: the gap comes inside
    for reader in (first, late, middle):
        await reader.end()


async def test_redis_is_emptied(
    store: Store, redis: Redis, sequencer: asyncio.Event, placed: Callable[..., Any]
) -> None:
    reader = Reader(store, redis)
    for n in range(6):
        await placed(f"o{n}")
        if n % 2:
            await redis.flushall()
    late = Reader(store, redis)
    await reader.reach(12)
    await late.reach(12)
    assert reader.got == late.got == await everything(store)
    await placed("last")
    await reader.reach(14)
    assert reader.got == await everything(store)
    await reader.end()
    await late.end()


async def test_an_end_that_was_lost_with_redis_is_found(
    store: Store, redis: Redis, placed: Callable[..., Any]
) -> None:
    """Sequenced and never in the stream, and nothing comes after it."""
    reader = Reader(store, redis)
    session = await store.open_sequencing()
    assert await session.lock()
    await placed("o1")
    await session.take(10)
    await session.close()
    await reader.reach(2)
    await reader.end()


async def test_the_stream_of_another_database_is_not_believed(
    store: Store, redis: Redis, placed: Callable[..., Any]
) -> None:
    strange: Any = {"position": 1, "prev": 0, "event": b"{}", "source": "elsewhere"}
    await redis.xadd(stream_key("demo"), strange, id="1-0")
    reader = Reader(store, redis)
    session = await store.open_sequencing()
    assert await session.lock()
    await placed("o1")
    await session.take(10)
    await session.close()
    await reader.reach(2)
    assert reader.got == await everything(store)
    await reader.end()


async def test_redis_dies_and_comes_back_empty(
    store: Store, own_valkey: Any, placed: Callable[..., Any]
) -> None:
    stop = asyncio.Event()
    sequencer = asyncio.create_task(run_sequencer(store, own_valkey.url, stop))
    redis = Redis.from_url(own_valkey.url)
    reader = Reader(store, redis)
    await placed("o1")
    await reader.reach(2)
    await own_valkey.stop()
    await placed("o2")
    await reader.reach(4)
    await own_valkey.start()
    await placed("o3")
    await reader.reach(6)
    assert reader.got == await everything(store)
    await reader.end()
    await redis.aclose()
    stop.set()
    await sequencer


async def test_a_killed_sequencer_is_not_noticed(
    store: Store, redis: Redis, redis_url: str, placed: Callable[..., Any]
) -> None:
    reader = Reader(store, redis)
    placing = asyncio.create_task(_place_slowly(placed, 20))
    for _ in range(4):
        task = asyncio.create_task(run_sequencer(store, redis_url, asyncio.Event()))
        await asyncio.sleep(0.15)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    stop = asyncio.Event()
    last = asyncio.create_task(run_sequencer(store, redis_url, stop))
    await placing
    await reader.reach(40)
    assert reader.got == await everything(store)
    await reader.end()
    stop.set()
    await last


async def _place_slowly(placed: Callable[..., Any], count: int) -> None:
    for n in range(count):
        await placed(f"o{n}")
        await asyncio.sleep(0.02)
