"""One gateway and two cities: whoever is in one sees nothing of the other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from api.clock import now_ms
from api.pool import Pool
from api.segments import Ref, iterate, read
from api.settings import CityArea
from dispatch.commands import GoOnShift
from dispatch.model import Place, Rider

BEIJING = CityArea(name="bj", lat=39.9042, lon=116.4074)


def fix(seq: int, lat: float, lon: float) -> dict[str, Any]:
    return {"seq": seq, "at_ms": now_ms(), "lat": lat, "lon": lon, "system": "wgs84"}


@pytest.fixture
async def both(world: Any) -> Any:
    world.settings = replace(world.settings, cities=(*world.settings.cities, BEIJING))
    await world.start()
    return world


async def enter(world: Any, role: str, sub: str, city: str) -> Any:
    client = await world.connect()
    await client.say("hello", token=world.tokens.mint(sub=sub, role=role, city=city))
    await client.hear("welcome")
    return client


async def test_each_city_has_its_own_frames_and_pool(both: Any) -> None:
    at = {"sh": (31.2304, 121.4737), "bj": (BEIJING.lat, BEIJING.lon)}
    riders = {}
    for city in at:
        await both.store.register_rider(Rider(id=f"{city}1", city=city))
        riders[city] = await enter(both, "rider", f"{city}1", city)
    for city, rider in riders.items():
        await rider.say("fixes", fixes=[fix(0, *at[city])])
    for rider in riders.values():
        assert (await rider.hear("ack"))["seq"] == 0
    folder = both.settings.data / "segments"
    (path,) = folder.iterdir()
    assert sorted(len(record.rows) for _, record in iterate(path)) == [1, 1]
    for city in at:
        pool = Pool(both.redis, city)
        async for _, frame in pool.frames("0-0"):
            assert [row.rider_id for row in frame.rows] == [f"{city}1"]
            # What a replay of this city's dispatcher reads holds nobody else's fixes.
            record = read(folder, *Ref(frame.segment, frame.offset, frame.length))
            assert [row.rider_id for row in record.rows] == [f"{city}1"]
            break
        assert [live.rider_id for live in await pool.riders()] == [f"{city}1"]


async def test_a_viewer_sees_his_own_city(both: Any) -> None:
    await both.on_shift("r1")
    await both.store.register_rider(Rider(id="b1", city="bj"))
    shift = GoOnShift(
        at_ms=now_ms(),
        shift_end_ms=now_ms() + 3_600_000,
        place=Place(lat=BEIJING.lat, lon=BEIJING.lon),
    )
    assert (await both.store.run_rider("b1", shift)).refusal is None
    await both.place("a")
    seen: dict[str, Any] = {}
    for city, rider_id in (("sh", "r1"), ("bj", "b1")):
        operator = await enter(both, "operator", "olga", city)
        while not seen.get(city, {}).get("riders"):
            await operator.say("watch_city")
            seen[city] = await operator.hear("city")
        assert [row[0] for row in seen[city]["riders"]] == [rider_id]
    assert seen["bj"]["centre"] == {"lat": BEIJING.lat, "lon": BEIJING.lon}
    stranger = await enter(both, "operator", "olga", "bj")
    await stranger.say("watch", orders=["a"])
    assert (await stranger.hear("error"))["code"] == "forbidden"
    assert '"a"' not in json.dumps(seen["bj"])


async def test_a_rider_of_one_city_is_nobody_in_the_other(both: Any) -> None:
    await both.register("r1")
    client = await both.connect()
    await client.say("hello", token=both.tokens.mint(sub="r1", role="rider", city="bj"))
    assert (await client.closed())[0] == 4403
    client = await both.connect()
    await client.say("hello", token=both.tokens.mint(sub="r1", role="rider", city="gz"))
    assert (await client.closed())[0] == 4403
    assert client.heard[-1]["expected"] == "bj, sh"
