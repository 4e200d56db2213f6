"""A phone that counts its fixes from 0 again says so, and nothing new is taken for a repeat."""

from __future__ import annotations

from typing import Any

from api.clock import now_ms
from api.gateway.marks import Watermarks
from api.messages import FixRow
from api.pool import COUNTERS_MAX, Pool
from api.segments import iterate

LAT, LON = 31.2304, 121.4737


async def counting(world: Any, counter: str | None, last_seq: int) -> Any:
    hello = {} if counter is None else {"counter": counter}
    rider = await world.enter("rider", "r1", **hello)
    assert rider.heard[0]["last_seq"] == last_seq
    return rider


async def say(rider: Any, *seqs: int) -> None:
    """Send these, the last one new, and hear that all are stored."""
    known = {"at_ms": now_ms(), "lat": LAT, "lon": LON, "system": "wgs84"}
    await rider.say("fixes", fixes=[known | {"seq": seq} for seq in seqs])
    await rider.hear("ack", lambda ack: ack["seq"] == seqs[-1])


def stored(world: Any) -> list[tuple[str, int]]:
    """(counter, number) of every row in the journal."""
    paths = (world.settings.data / "segments").iterdir()
    rows = [row for path in paths for _, record in iterate(path) for row in record.rows]
    return sorted((row.counter, row.seq) for row in rows)


async def test_each_counter_has_a_watermark_of_its_own(live: Any) -> None:
    await say(await counting(live, None, -1), 0, 1, 2, 3)
    await say(await counting(live, "install-1", -1), 0, 1)
    await say(await counting(live, "install-2", -1), 0)
    await say(await counting(live, "install-1", 1), 0, 1, 2)
    await say(await counting(live, "install-2", 0), 0, 1)
    await say(await counting(live, None, 3), 3, 4)
    assert stored(live) == [
        *(("", n) for n in range(5)),
        *(("install-1", n) for n in range(3)),
        *(("install-2", n) for n in range(2)),
    ]


async def test_another_gateway_goes_on_in_each(live: Any) -> None:
    await say(await counting(live, "b", -1), 0, 1, 2)
    await say(await counting(live, "a", -1), 0, 1)
    await live.end()
    await live.start()
    await say(await counting(live, "b", 2), 1, 2, 3)
    await say(await counting(live, "a", 1), 0, 1, 2)
    await say(await counting(live, None, -1), 0)
    expected = [("", 0), *(("a", n) for n in range(3)), *(("b", n) for n in range(4))]
    assert stored(live) == expected


async def test_the_latest_counters_are_remembered(pool_redis: Any) -> None:
    pool = Pool(pool_redis, "sh")
    names = [f"c{n}" for n in range(COUNTERS_MAX + 2)]
    most = 2**53 - 1
    for name in names:
        await pool.flush([_row(1, name), _row(most, name), _row(2, name)])
    await pool.flush([_row(5, names[2]), _row(6, "")])
    assert [await pool.last_seq("r1", name) for name in names] == [-1, -1, *[most] * COUNTERS_MAX]
    assert await pool.last_seq("r1") == 6
    assert await pool.last_seq("nobody", "c") == -1
    assert all(key.startswith(b"{sh}:") for key in await pool_redis.keys())

    await pool_redis.flushdb()
    marks = Watermarks(pool)
    for name in names:
        (await marks.of("r1", name)).taken = 7
    assert (await marks.of("r1", names[2])).taken == 7
    assert (await marks.of("r1", names[0])).taken == -1
    assert (await marks.of("r1", names[3])).taken == -1  # the longest unused had to go
    assert marks.on_trust("default/rider/r1", names[5]).taken == -1


def _row(seq: int, counter: str) -> FixRow:
    return FixRow("r1", seq, now_ms(), LAT, LON, counter=counter)
