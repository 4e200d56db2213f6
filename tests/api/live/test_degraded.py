"""The dispatcher without Redis, without PostgreSQL, with a disk that fails, and back again."""

import asyncio
import os
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from api.clock import now_ms
from api.journal import Broken, Start, journals, read_journal
from api.messages import FixRow
from api.metrics import Mode, modes
from api.pool import Pool
from api.replay import replay_folder
from api.segments import Record, SegmentWriter
from api.store import Store


async def send_fix(world, rider_id, lat):
    """As a gateway does: into a segment first, then into the pool and the stream."""
    writer = SegmentWriter(world.folder / "segments", f"g{now_ms()}")
    row = FixRow(rider_id, 0, now_ms(), lat, 121.47)
    future = writer.append(Record(received_ms=now_ms(), rows=[row]))
    await writer.commit()
    ref = await future
    await writer.close()
    await Pool(world.redis, "demo").flush([row], ref)


async def receipt(world, order_id):
    async with world.store._engine.connect() as connection:
        body = await connection.scalar(
            text("SELECT body FROM receipts WHERE order_id = :id"), {"id": order_id}
        )
        import json

        return json.loads(body)


async def test_without_redis_riders_are_where_they_were_last_seen(world, wires):
    """A fix brings `far` near; later fixes do not arrive, and then they do again."""
    away = (Mode.REDIS_AWAY, "demo")
    redis = Redis.from_url(wires[1].url, socket_timeout=2.0)
    policy = replace(world.quick, stale_after_ms=2_000)
    await world.rider("far", lat=31.30)
    await world.rider("mid", lat=31.25)
    async with world.running(policy=policy, redis=redis) as member:
        await send_fix(world, "far", 31.2311)
        row = member.cities["demo"]._dispatcher.columns
        await world.until(lambda: row.riders["fix_ms"].max() > now_ms() - 60_000)
        wires[1].cut()
        await world.until(lambda: away in modes())
        seen_ms = int(row.riders["fix_ms"].max())
        await world.until(lambda: now_ms() > seen_ms + 2_000)
        await world.order("o1")
        assert (await world.offered("o1")).rider_id == "far", "the last known place counts"
        assert (await receipt(world, "o1"))["stale"]
        assert (Mode.POSITIONS_STALE, "demo") in modes()
        await world.redis.flushdb()  # and everything in it is lost
        wires[1].mend()
        await world.until(lambda: away not in modes())
        await world.accept("o1")
        await send_fix(world, "mid", 31.231)
        await world.until(lambda: row.riders["fix_ms"].max() > seen_ms)
        await world.order("o2")
        assert (await world.offered("o2")).rider_id == "mid"
        assert not (await receipt(world, "o2"))["stale"]
    await redis.aclose()
    assert replay_folder(world.folder).ok


async def test_without_postgres_nothing_is_offered_and_then_it_is(world, wires):
    away = (Mode.POSTGRES_AWAY, "")
    store = await Store.open(wires[0].url)
    await world.rider("r1")
    await world.rider("r2", lat=31.232)
    async with world.solvers() as solvers, world.running("a", solvers=solvers, store=store) as a:
        driver = a.cities["demo"]
        wires[0].cut()
        await world.until(lambda: away in modes())
        await world.order("o1")
        before = driver.rounds
        await asyncio.sleep(2.0)
        assert await world.attempt("o1") is None
        assert driver.rounds <= before + 1, "no rounds for nothing"
        wires[0].mend()
        assert await world.offered("o1")
        assert a.cities["demo"] is driver, "its lease was over, and nobody had taken it"
        assert away not in modes()
        await world.accept("o1")

        wires[0].cut()
        async with world.running("b", solvers=solvers) as b:
            await world.until(lambda: "demo" in b.cities)
            await world.order("o2")
            assert await world.offered("o2")
            wires[0].mend()
            await world.until(lambda: a.cities.get("demo") is not driver)
            await world.until(lambda: away not in modes())
        await world.until(lambda: "demo" in a.cities)
        await world.accept("o2")
        await world.order("o3")
        assert await world.offered("o3")
    await store.close()
    assert replay_folder(world.folder).ok


async def test_servers_that_hang_are_as_good_as_away(world, wires):
    """No connection breaks; after a while all goes on by itself."""
    store = await Store.open(wires[0].url)
    redis = Redis.from_url(wires[1].url, socket_timeout=2.0)
    await world.rider("r1")
    async with world.running(store=store, redis=redis) as member:
        driver = member.cities["demo"]
        for wire in wires:
            wire.hang()
        await world.order("o1")
        await world.until(lambda: (Mode.POSTGRES_AWAY, "") in modes())
        await world.until(lambda: (Mode.REDIS_AWAY, "demo") in modes())
        assert await world.attempt("o1") is None
        for wire in wires:
            wire.mend()
        assert await world.offered("o1")
        assert member.cities["demo"] is driver
        await world.until(
            lambda: not modes() & {(Mode.POSTGRES_AWAY, ""), (Mode.REDIS_AWAY, "demo")}
        )
    await redis.aclose()
    await store.close()


@pytest.fixture
def soon(monkeypatch):
    """A journal that broke is tried again at once."""
    monkeypatch.setattr("api.dispatching.city.JOURNAL_RETRY_S", 0.5)


FAILS, SLOW = (Mode.DISK_FAILS, "demo"), (Mode.DISK_SLOW, "demo")


async def test_a_full_disk_breaks_the_journal_and_nothing_else(world, soon):
    await world.rider("r1")
    async with world.running() as member:
        await world.order("o1")
        assert await world.offered("o1")
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), member.cities["demo"]._journal._writer.fileno())
        await world.accept("o1")
        await world.order("o2")
        assert await world.offered("o2")
        await world.until(lambda: len(journals(world.folder)) == 2 and FAILS not in modes())
        await world.accept("o2")
        await world.order("o3")
        assert await world.offered("o3")
    paths = journals(world.folder)
    assert len(paths) == 2
    starts = [next(iter(read_journal(path))) for path in paths]
    assert [isinstance(s, Start) and s.gap_since_ms is not None for s in starts] == [False, True]
    result = replay_folder(world.folder)
    assert result.ok
    assert result.gaps == 1


async def test_a_journal_that_cannot_be_made_is_made_later(world, soon):
    (world.folder / "journal").write_text("in the way")
    await world.rider("r1")
    async with world.running():
        assert FAILS in modes()
        await world.order("o1")
        assert await world.offered("o1")
        (world.folder / "journal").unlink()
        await world.until(lambda: FAILS not in modes())
        await world.accept("o1")
        await world.order("o2")
        assert await world.offered("o2")
    result = replay_folder(world.folder)
    assert result.ok
    assert (result.files, result.gaps) == (1, 1)


async def test_a_slow_disk_delays_nobody(world, soon):
    """The journal's file becomes a pipe that nobody reads."""
    outlet, inlet = os.pipe()
    os.set_blocking(inlet, False)
    with open(inlet, "wb", buffering=0) as pipe:
        while pipe.write(b"x" * 4096):
            pass
        os.set_blocking(inlet, True)
        await world.rider("r1")
        async with world.running() as member:
            recorder = member.cities["demo"]._journal
            os.dup2(inlet, recorder._writer.fileno())
            await world.order("o1")
            assert await world.offered("o1")
            await world.until(lambda: (recorder.check(), SLOW in modes())[1])
            await world.accept("o1")
            await world.order("o2")
            assert await world.offered("o2")
            while SLOW in modes():  # somebody reads after all
                os.read(outlet, 65_536)
                await asyncio.sleep(0.02)
                recorder.check()
    os.close(outlet)


def test_a_broken_journal_says_where(tmp_path):
    """Where the disk takes a short mark again."""
    from api.dispatching.recorder import Recorder
    from api.journal import CityShape, Tick
    from dispatch.policy import Policy

    async def run():
        start = Start(city=CityShape(name="demo", lat=31.23, lon=121.47), policy=Policy())
        recorder = await Recorder.open(tmp_path / "journal", start)
        recorder.write(Tick(1))
        await asyncio.sleep(0.1)
        writer = recorder._writer
        whole = os.dup(writer.fileno())
        append, full = writer.append, os.open("/dev/full", os.O_WRONLY)

        def once(encoded):
            """The first record meets a full disk; then there is room again."""
            writer.append = append
            os.dup2(full, writer.fileno())
            try:
                append(encoded)
            finally:
                os.dup2(whole, writer.fileno())

        writer.append = once
        recorder.write(Tick(2))
        await asyncio.sleep(0.1)
        recorder.write(Tick(3))
        assert recorder.broken_since_ms is not None
        await recorder.close()

    asyncio.run(run())
    (path,) = journals(tmp_path)
    found = list(read_journal(path))
    assert [r.at_ms for r in found if isinstance(r, Tick)] == [1]
    assert isinstance(found[-1], Broken)
    assert "space" in found[-1].why
