"""The pool on a real Valkey."""

from __future__ import annotations

import random

import pytest
import redis.asyncio
from redis.exceptions import RedisError

from api.messages import FixRow
from api.pool import GONE_MS, REFRESH_MS, FrameRow, Pool
from api.segments import Ref
from geo.cells import cell_of, to_text
from geo.distance import haversine_m

NOW = 1_800_000_000_000
LAT, LON = 31.2304, 121.4737
REF = Ref("g1-1.seg", 10, 20)


def row(
    rider: str, seq: int, at_ms: int = NOW, lat: float = LAT, lon: float = LON, **more
) -> FixRow:
    return FixRow(rider, seq, at_ms, lat, lon, **more)


@pytest.fixture
def pool(pool_redis) -> Pool:
    return Pool(pool_redis, "sh")


async def members(redis, lat: float, lon: float = LON) -> dict[bytes, float]:
    key = f"{{sh}}:cell:{to_text(cell_of(lat, lon)).zfill(16)}"
    return dict(await redis.zrange(key, 0, -1, withscores=True))


@pytest.mark.parametrize("seed", range(5))
async def test_any_order_of_arrival_ends_in_the_newest(pool, pool_redis, seed):
    rows = [row(f"r{i % 3}", i, NOW + (i * 7919) % 5000, LAT + (i % 9) * 0.02) for i in range(60)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    for first in range(0, len(rows), 13):
        await pool.flush(shuffled[first : first + 13])
    for rider in ("r0", "r1", "r2"):
        own = [r for r in rows if r.rider_id == rider]
        newest = max(own, key=lambda r: (r.at_ms, r.seq))
        live = await pool.get(rider)
        assert (live.at_ms, live.seq, live.lat) == (newest.at_ms, newest.seq, newest.lat)
        assert live.last_seq == max(r.seq for r in own)
        cells = {i: await members(pool_redis, LAT + i * 0.02) for i in range(9)}
        assert [i for i, who in cells.items() if rider.encode() in who] == [
            round((newest.lat - LAT) / 0.02)
        ]


async def test_of_two_fixes_of_one_moment_the_later_number_counts(pool):
    await pool.flush([row("r", 5, lat=LAT + 0.1)])
    await pool.flush([row("r", 4)])
    assert (await pool.get("r")).lat == LAT + 0.1
    await pool.flush([row("r", 6)])
    assert (await pool.get("r")).lat == LAT


async def test_what_a_record_keeps(pool):
    await pool.flush([row("r", 5, accuracy_m=4.0, speed_mps=None, heading_deg=90.0)])
    live = await pool.get("r")
    assert (live.accuracy_m, live.speed_mps, live.heading_deg) == (4.0, None, 90.0)
    assert live.in_pool
    assert await pool.riders() == [live]
    assert await pool.get("nobody") is None


async def test_the_cell_is_touched_when_it_changes_or_its_score_is_old(pool, pool_redis):
    await pool.flush([row("r", 0, NOW)])
    await pool.flush([row("r", 1, NOW + REFRESH_MS - 1)])
    assert await members(pool_redis, LAT) == {b"r": NOW}
    await pool.flush([row("r", 2, NOW + REFRESH_MS)])
    assert await members(pool_redis, LAT) == {b"r": NOW + REFRESH_MS}
    await pool.flush([row("r", 3, NOW + REFRESH_MS + 1, LAT + 0.1)])
    assert await members(pool_redis, LAT) == {}
    assert await members(pool_redis, LAT + 0.1) == {b"r": NOW + REFRESH_MS + 1}


async def test_who_is_long_gone_leaves_the_cell_when_another_comes(pool, pool_redis):
    await pool.flush([row("old", 0, NOW)])
    await pool.flush([row("new", 0, NOW + GONE_MS)])
    assert await members(pool_redis, LAT) == {b"new": NOW + GONE_MS}


async def test_nearest_is_what_brute_force_says(pool):
    rng = random.Random(7)
    rows = [
        row(f"r{i}", 0, NOW, LAT + rng.gauss(0, 0.03), LON + rng.gauss(0, 0.03)) for i in range(60)
    ]
    await pool.flush(rows)
    for n in range(100):
        k = 1 + n % 5
        lat, lon = LAT + rng.gauss(0, 0.02), LON + rng.gauss(0, 0.02)
        by_way = sorted(rows, key=lambda r: haversine_m(lat, lon, r.lat, r.lon))[:k]
        near = await pool.nearest(lat, lon, k, NOW, 60_000)
        assert [n.live.rider_id for n in near] == [r.rider_id for r in by_way]
        assert [n.distance_m for n in near] == pytest.approx(
            [haversine_m(lat, lon, r.lat, r.lon) for r in by_way]
        )


async def test_nearest_leaves_out_stale_removed_and_far_riders(pool):
    await pool.flush(
        [
            row("fresh", 0, NOW + 2 * REFRESH_MS),
            row("stale", 0, NOW),
            row("removed", 0, NOW + 2 * REFRESH_MS),
            row("far", 0, NOW + 2 * REFRESH_MS, LAT + 1.0),
        ]
    )
    assert await pool.remove("removed")
    assert not await pool.remove("nobody")
    near = await pool.nearest(LAT, LON, 9, NOW + 2 * REFRESH_MS, 60_000)
    assert [n.live.rider_id for n in near] == ["fresh"]
    assert not (await pool.get("removed")).in_pool


async def test_only_a_newer_fix_brings_a_removed_rider_back(pool):
    await pool.flush([row("r", 5, NOW)])
    await pool.remove("r")
    await pool.flush([row("r", 4, NOW - 1)])
    assert await pool.nearest(LAT, LON, 1, NOW, 60_000) == []
    await pool.flush([row("r", 6, NOW + 1)])
    assert len(await pool.nearest(LAT, LON, 1, NOW, 60_000)) == 1


async def test_a_rider_who_stays_is_fresh_by_his_fix_not_by_his_score(pool):
    await pool.flush([row("r", 0, NOW)])
    await pool.flush([row("r", 1, NOW + REFRESH_MS - 1)])
    assert len(await pool.nearest(LAT, LON, 1, NOW + REFRESH_MS, 1000)) == 1


async def test_frames_are_followed_with_their_place_in_the_journal(pool, pool_redis):
    assert await pool.last_frame_id() == "0-0"
    await pool.flush([row("a", 0), row("b", 1, heading_deg=7.0)], REF)
    await pool_redis.xadd("{sh}:fixes", {"f": b"\xc1"})  # not ours: skipped
    await pool.flush([row("a", 2)], REF)
    ids, frames = [], []
    async for frame_id, frame in pool.frames("0-0"):
        ids.append(frame_id)
        frames.append(frame)
        if len(frames) == 2:
            break
    assert ids[1] == await pool.last_frame_id()
    assert (frames[0].segment, frames[0].offset, frames[0].length) == REF
    assert frames[0].rows == [
        FrameRow("a", 0, NOW, LAT, LON),
        FrameRow("b", 1, NOW, LAT, LON, 7.0),
    ]
    assert [r.seq for r in frames[1].rows] == [2]


async def test_a_batch_of_more_riders_than_a_call_takes(pool):
    rows = [row(f"r{i}", 0, lat=LAT + i * 1e-5) for i in range(2500)]
    assert await pool.flush(rows, REF) == 2500
    assert await pool.flush(rows, REF) == 0
    assert len(await pool.riders()) == 2500


async def test_every_key_has_the_citys_hash_tag(pool, pool_redis):
    await pool.flush([row("r", 0)], REF)
    assert all(key.startswith(b"{sh}:") for key in await pool_redis.keys())


async def test_a_script_cache_that_was_flushed_is_filled_again(pool, pool_redis):
    await pool.flush([row("r", 0)])
    await pool_redis.script_flush()
    await pool.flush([row("r", 1, NOW + 1)])
    assert (await pool.get("r")).seq == 1


async def test_no_redis_is_an_error_of_redis(tmp_path):
    client = redis.asyncio.from_url(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(RedisError):
        await Pool(client, "sh").flush([row("r", 0)])
    await client.aclose()
