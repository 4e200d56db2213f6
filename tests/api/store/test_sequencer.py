"""The sequencer: consecutive positions after commit, one at a time, and streams that are mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from api.codec import decode_event
from api.feed import stream_key
from api.sequencer import Publisher, run_sequencer
from api.store import Positioned, Store
from dispatch.commands import Cancel
from dispatch.model import Party
from geo.errors import Unavailable

NOW_MS = 1_790_000_000_000


class Sequencers:
    """Sequencers that run beside the test."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def start(self, redis_url: str) -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run_sequencer(self._store, redis_url, stop))
        self.running.append((stop, task))

    async def stop_all(self) -> None:
        for stop, task in self.running:
            stop.set()
            await asyncio.wait_for(task, 5)
        self.running.clear()

    async def kill_first(self) -> None:
        _, task = self.running.pop(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def reach(self, position: int) -> list[Positioned]:
        async with asyncio.timeout(10):
            while await self._store.last_position() < position:
                await asyncio.sleep(0.01)
        return await self._store.events_after(0, None, 10_000)


@pytest.fixture
async def sequencers(store: Store) -> AsyncIterator[Sequencers]:
    made = Sequencers(store)
    yield made
    await made.stop_all()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def stream(redis: Redis, city: str = "demo") -> list[int]:
    """The positions in a city's stream."""
    entries: Any = await redis.xrange(stream_key(city))
    assert [entry_id for entry_id, _ in entries] == [
        b"%s-0" % fields[b"position"] for _, fields in entries
    ]
    return [int(fields[b"position"]) for _, fields in entries]


async def until_stream(redis: Redis, positions: list[int], city: str = "demo") -> None:
    async with asyncio.timeout(10):
        while await stream(redis, city) != positions:
            await asyncio.sleep(0.01)


def assert_whole(entries: list[Positioned]) -> None:
    """Positions count, each points to the one before in its city, each subject's seq counts."""
    assert [p.position for p in entries] == list(range(1, len(entries) + 1))
    last: dict[str, int] = {}
    seqs: dict[str, int] = {}
    for entry in entries:
        assert entry.prev_position == last.get(entry.city, 0)
        last[entry.city] = entry.position
        subject = str(getattr(entry.event, "order_id", None) or entry.event)
        assert entry.event.seq == seqs.get(subject, 0) + 1
        seqs[subject] = entry.event.seq


async def test_positions_and_the_stream(
    sequencers: Sequencers,
    store: Store,
    sql: asyncpg.Connection,
    redis: Redis,
    redis_url: str,
    placed: Callable[..., Any],
) -> None:
    await placed("o1")
    sequencers.start(redis_url)
    await sequencers.reach(2)
    await placed("o2", city="other")
    await placed("o3")
    entries = await sequencers.reach(6)
    assert_whole(entries)
    await until_stream(redis, [1, 2, 5, 6])
    await until_stream(redis, [3, 4], "other")
    kept: Any = await redis.xrange(stream_key("demo"))
    for (_, fields), entry in zip(kept, (entries[n] for n in (0, 1, 4, 5)), strict=True):
        assert int(fields[b"prev"]) == entry.prev_position
        assert decode_event(fields[b"event"]) == entry.event
    assert await sql.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_wake_up_is_faster_than_the_poll(
    sequencers: Sequencers,
    store: Store,
    redis_url: str,
    placed: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.sequencer.POLL_S", 60.0)
    sequencers.start(redis_url)
    await asyncio.sleep(0.3)
    await placed("o1")
    await sequencers.reach(2)
    await sequencers.kill_first()


async def test_a_lost_wake_up_costs_one_poll(
    sequencers: Sequencers, sql: asyncpg.Connection, redis_url: str
) -> None:
    sequencers.start(redis_url)
    await asyncio.sleep(0.2)
    await write_behind_the_back(sql, "quiet")
    await sequencers.reach(1)


async def write_behind_the_back(sql: asyncpg.Connection, order_id: str, seq: int = 1) -> None:
    """An event without a wake-up, in the transaction that is open; of no order at all."""
    await sql.execute("SET session_replication_role = replica")
    await sql.execute(
        "WITH e AS (INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms,"
        " kind, body) VALUES ('order', $1, $2, 0, 'default', 'demo', 0, 'opened', '{}')"
        " RETURNING id, day) INSERT INTO outbox SELECT id, day FROM e",
        order_id,
        seq,
    )
    await sql.execute("RESET session_replication_role")


async def test_a_transaction_that_commits_late_is_not_skipped(
    sequencers: Sequencers,
    store: Store,
    sql: asyncpg.Connection,
    redis_url: str,
    placed: Callable[..., Any],
) -> None:
    sequencers.start(redis_url)
    slow = sql.transaction()
    await slow.start()
    await write_behind_the_back(sql, "slow", 1)
    await write_behind_the_back(sql, "slow", 2)
    for n in range(5):
        await placed(f"o{n}")
    before = await sequencers.reach(10)
    assert_whole(before)
    assert await store.last_position() == 10
    await slow.commit()
    after = await sequencers.reach(12)
    assert after[:10] == before
    assert_whole(after)
    late = [e.event for e in after[10:]]
    assert [(e.order_id, e.seq) for e in late] == [("slow", 1), ("slow", 2)]  # type: ignore[union-attr]
    # The late ones have the lower ids: by id, a reader would have skipped them.
    ids = await sql.fetch("SELECT event_id FROM feed ORDER BY position")
    assert ids[-1][0] < ids[0][0]


async def test_many_writers_and_two_sequencers(
    sequencers: Sequencers, store: Store, redis: Redis, redis_url: str, accepted: Callable[..., Any]
) -> None:
    sequencers.start(redis_url)
    sequencers.start(redis_url)

    async def write(n: int) -> None:
        await accepted(f"o{n}", f"r{n}")
        await store.run(f"o{n}", Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))

    await asyncio.gather(*(write(n) for n in range(20)))
    assert_whole(await sequencers.reach(100))
    await until_stream(redis, list(range(1, 101)))


async def test_when_one_dies_the_other_goes_on(
    sequencers: Sequencers, store: Store, redis: Redis, redis_url: str, placed: Callable[..., Any]
) -> None:
    sequencers.start(redis_url)
    await placed("o1")
    await sequencers.reach(2)
    sequencers.start(redis_url)
    await asyncio.sleep(0.1)
    await sequencers.kill_first()
    await placed("o2")
    assert_whole(await sequencers.reach(4))
    await until_stream(redis, [1, 2, 3, 4])


async def test_what_a_killed_one_did_not_publish_is_published(
    sequencers: Sequencers, store: Store, redis: Redis, redis_url: str, placed: Callable[..., Any]
) -> None:
    sequencers.start(redis_url)
    await placed("o1")
    await until_stream(redis, [1, 2])
    await sequencers.stop_all()
    session = await store.open_sequencing()
    assert await session.lock()
    await placed("o2")
    assert len(await session.take(100)) == 2  # committed; it dies before XADD
    await session.close()
    assert await stream(redis) == [1, 2]
    sequencers.start(redis_url)
    await until_stream(redis, [1, 2, 3, 4])


async def test_a_late_publisher_cannot_spoil_the_stream(
    sequencers: Sequencers, store: Store, redis: Redis, redis_url: str, placed: Callable[..., Any]
) -> None:
    """One that was paused between commit and XADD wakes up behind its successor."""
    await placed("o1")
    session = await store.open_sequencing()
    assert await session.lock()
    paused = await session.take(100)
    await session.close()
    sequencers.start(redis_url)
    await placed("o2")
    await until_stream(redis, [1, 2, 3, 4])
    zombie = Publisher(store, redis)
    await zombie.publish(paused)
    await until_stream(redis, [1, 2, 3, 4])


async def test_the_stream_of_another_database_is_dropped(
    sequencers: Sequencers, store: Store, redis: Redis, redis_url: str, placed: Callable[..., Any]
) -> None:
    strange: Any = {"position": 7, "prev": 0, "event": b"{}", "source": "elsewhere"}
    await redis.xadd(stream_key("demo"), strange, id="7-0")
    ahead: Any = {"position": 70, "prev": 0, "event": b"{}", "source": store.source}
    await redis.xadd(stream_key("other"), ahead, id="70-0")
    await placed("o1")
    await placed("o2", city="other")
    sequencers.start(redis_url)
    await until_stream(redis, [1, 2])
    await until_stream(redis, [3, 4], "other")


async def test_positions_go_on_without_redis_and_the_stream_is_mended(
    sequencers: Sequencers, store: Store, own_valkey: Any, placed: Callable[..., Any]
) -> None:
    sequencers.start(own_valkey.url)
    await placed("o1")
    await sequencers.reach(2)
    await own_valkey.stop()
    await placed("o2")
    await sequencers.reach(4)
    await own_valkey.start()
    redis = Redis.from_url(own_valkey.url)
    await until_stream(redis, [1, 2, 3, 4])
    await placed("o3")
    await until_stream(redis, [1, 2, 3, 4, 5, 6])
    await redis.aclose()


async def test_it_outlives_the_loss_of_its_session(
    sequencers: Sequencers,
    store: Store,
    sql: asyncpg.Connection,
    redis_url: str,
    placed: Callable[..., Any],
) -> None:
    sequencers.start(redis_url)
    await placed("o1")
    await sequencers.reach(2)
    ended = await sql.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'hexrun sequencer' AND datname = current_database()"
    )
    assert len(ended) == 1
    await placed("o2")
    assert_whole(await sequencers.reach(4))


async def test_only_the_session_with_the_lock_lives(store: Store) -> None:
    first, second = await store.open_sequencing(), await store.open_sequencing()
    assert await first.lock()
    assert not await second.lock()
    await first.close()
    async with asyncio.timeout(5):
        while not await second.lock():
            await asyncio.sleep(0.01)
    await second.close()
    with pytest.raises(Unavailable):
        await second.take(1)
