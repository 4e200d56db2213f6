"""The gateway and HTTP go on without PostgreSQL, without Redis and without room on the disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlalchemy.engine import make_url

from api import segments
from api.clock import now_ms
from api.gateway import server
from api.gateway.ingest import Ingest, Taken
from api.http import serve_http
from api.messages import FixRow
from api.pool import Pool
from api.segments import SegmentFile, SegmentWriter, iterate
from api.session import Watermark
from geo.datum import System, from_wgs84

LAT, LON = 31.2304, 121.4737


class Wire:
    """A Unix socket in front of a server's, which can be cut and mended."""

    def __init__(self, near: Path, far: Path) -> None:
        self.near, self.far = near, far
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._carry, self.near)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self.near.unlink(missing_ok=True)
        for end in list(self._ends):
            end.transport.abort()

    async def _carry(self, here: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        there, into = await asyncio.open_unix_connection(self.far)
        self._ends |= {out, into}

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65_536):
                    writer.write(data)
                    await writer.drain()
            writer.transport.abort()

        await asyncio.gather(pump(here, into), pump(there, out))
        self._ends -= {out, into}


@pytest.fixture
async def postgres(servers: Any, tmp_path: Path) -> AsyncIterator[Wire]:
    url = make_url(servers.postgres)
    name = f".s.PGSQL.{url.port or url.query.get('port') or 5432}"
    wire = Wire(tmp_path / name, Path(str(url.query["host"])) / name)
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
async def valkey(servers: Any, tmp_path: Path) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path / "valkey.sock", Path(urlsplit(servers.redis).path))
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
def migrated_url(migrated_url: str, postgres: Wire) -> str:
    url = make_url(migrated_url).update_query_dict({"host": str(postgres.near.parent)})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def redis_url(redis_url: str, valkey: Wire) -> str:
    return f"unix://{valkey.near}?{urlsplit(redis_url).query}"


def fix(seq: int, lat: float = LAT) -> dict[str, Any]:
    return {"seq": seq, "at_ms": now_ms(), "lat": lat, "lon": LON, "system": "wgs84"}


def stored(world: Any) -> list[tuple[str, int]]:
    paths = sorted((world.settings.data / "segments").iterdir())
    return [(r.rider_id, r.seq) for p in paths for _, record in iterate(p) for r in record.rows]


async def ready_of(world: Any) -> tuple[int, list[str]]:
    """Status and degraded modes, as the gateway's /readyz says."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{world.port}/readyz")
    return answer.status_code, answer.json()["degraded"]


async def serving(world: Any, order_id: str = "a") -> Any:
    """A rider who has accepted an order of cora's."""
    await world.on_shift("r1")
    rider = await world.enter("rider", "r1")
    await world.offer(await world.place(order_id), "r1")
    await rider.hear("offer")
    await rider.say("accept", action_id="1", order_id=order_id, number=1)
    assert (await rider.hear("result"))["ok"]
    return rider


async def again_as(world: Any, sub: str, **claims: Any) -> Any:
    client = await world.connect()
    token = world.tokens.mint(sub=sub, role="rider", city="sh", **claims)
    await client.say("hello", token=token)
    await client.hear("welcome")
    return client


async def test_postgresql_gone(world: Any, postgres: Wire) -> None:
    await world.start()
    await serving(world)
    await world.register("r2")
    customer = await world.enter("customer", "cora")
    await customer.say("watch", orders=["a"])
    await customer.hear("order")
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    http = asyncio.create_task(serve_http(world.settings, stop, ready=port.set_result))
    lat, lon = (float(x) for x in from_wgs84(LAT, LON, System.GCJ02))
    form = {
        "job_type": "delivery",
        "stops": [{"place": {"lat": lat + d, "lon": lon}} for d in (0, 0.01)],
    }
    token = world.tokens.mint(sub="anna", role="customer", city="sh")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{await port}", headers=headers
    ) as shop:
        await postgres.cut()
        assert (await customer.hear("stale"))["what"] == ["orders"]
        refused = await shop.post("/v1/orders", json=form)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")

        # He on shift and he whom the gateway does not know come in and are acknowledged.
        rider = await again_as(world, "r1")
        async with asyncio.timeout(10):  # the route as the gateway knows it; in either order
            while not {"route", "error"} <= {m["type"] for m in rider.heard}:
                rider.heard.append(json.loads(await rider.socket.recv()))
        assert [m["code"] for m in rider.heard if m["type"] == "error"] == ["unavailable"]
        assert all(m["stops"] for m in rider.heard if m["type"] == "route")
        await rider.say("fixes", fixes=[fix(0)])
        assert (await rider.hear("ack"))["seq"] == 0
        await customer.hear("position")
        await rider.say("stop", action_id="2", order_id="a", stop=0, state="arrived", at_ms=1)
        assert (await rider.hear("result"))["code"] == "unavailable"
        other = await again_as(world, "r2")
        await other.say("fixes", fixes=[fix(0)])
        assert (await other.hear("ack"))["seq"] == 0
        liar = await again_as(world, "r3", tenant="else")
        assert sorted(stored(world)) == [("r1", 0), ("r2", 0)]
        status, modes = await ready_of(world)
        assert (status, "postgres_away" in modes) == (200, True)

        await postgres.mend()
        assert (await customer.hear("stale"))["what"] == []
        assert (await rider.hear("route"))["stops"]
        assert (await liar.closed())[0] == 4403
        await rider.say("stop", action_id="2", order_id="a", stop=0, state="arrived", at_ms=1)
        assert (await rider.hear("result"))["ok"]
        assert (await shop.post("/v1/orders", json=form)).status_code == 201
        assert "postgres_away" not in (await ready_of(world))[1]
    stop.set()
    await http


async def test_who_was_let_in_on_trust_is_checked_before_he_acts(
    world: Any, postgres: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where his action is the first that the database answers again."""
    monkeypatch.setattr("api.gateway.room.Room.greet_later", lambda *_: None)
    await world.start()
    await world.place("a")
    customer = await world.enter("customer", "cora")
    await postgres.cut()
    assert (await customer.hear("stale"))["what"] == ["orders"]
    liar = await again_as(world, "r3", tenant="else")
    await liar.hear("error")
    await postgres.mend()
    assert (await customer.hear("stale"))["what"] == []
    await liar.say("accept", action_id="1", order_id="a", number=1)
    assert (await liar.closed())[0] == 4403
    assert "result" not in {message["type"] for message in liar.heard}


async def test_a_stranger_on_trust_takes_nothing_and_learns_nothing(
    world: Any, postgres: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a gateway that started in the outage and knows nobody."""
    monkeypatch.setattr(server, "LOAD_LIMIT_S", 0.1)
    await world.start()
    rider = await serving(world)
    await rider.say("fixes", fixes=[fix(0), fix(1)])
    assert (await rider.hear("ack"))["seq"] == 1
    await world.end()
    await postgres.cut()
    await world.start()
    rider = await again_as(world, "r1")
    await rider.say("fixes", fixes=[fix(2)])
    assert (await rider.hear("ack"))["seq"] == 2
    stranger = await again_as(world, "r1", tenant="else")
    assert stranger.heard[0]["last_seq"] == -1
    await stranger.say("fixes", fixes=[fix(9_000_000_000_000_000, LAT + 1)])
    await stranger.hear("ack")
    again = await again_as(world, "r1")  # his phone has lost its line
    assert again.heard[0]["last_seq"] == 2
    assert await rider.closed() == (4409, "this rider has connected again")
    await again.say("fixes", fixes=[fix(2), fix(3)])
    await again.hear("ack", lambda ack: ack["seq"] == 3)

    await postgres.mend()
    assert (await again.hear("route"))["stops"]
    assert (await stranger.closed())[0] == 4403
    assert {m["type"] for m in stranger.heard} <= {"welcome", "ack", "error"}
    await again.say("fixes", fixes=[fix(4)])
    await again.hear("ack", lambda ack: ack["seq"] == 4)
    await until(lambda live: live.seq == 4, world)
    last = await again_as(world, "r1")
    assert last.heard[0]["last_seq"] == 4
    assert (await again.closed())[0] == 4409
    await last.say("fixes", fixes=[fix(4), fix(5)])
    await last.hear("ack", lambda ack: ack["seq"] == 5)
    await until(lambda live: (live.seq, live.lat) == (5, pytest.approx(LAT)), world)
    rows = [
        (row.seq, row.on_trust)
        for path in (world.settings.data / "segments").iterdir()
        for _, record in iterate(path)
        for row in record.rows
    ]
    trusted = [(2, "default"), (3, "default"), (9_000_000_000_000_000, "else")]
    assert sorted(rows) == sorted([(0, ""), (1, ""), (4, ""), (5, ""), *trusted])


async def test_who_is_known_ends_his_own_connection_on_trust(
    world: Any, postgres: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.gateway.room.Room.greet_later", lambda *_: None)
    await world.start()
    await world.register("r1")
    customer = await world.enter("customer", "cora")
    await postgres.cut()
    assert (await customer.hear("stale"))["what"] == ["orders"]
    early = await again_as(world, "r1")
    stranger = await again_as(world, "r1", tenant="else")
    await postgres.mend()
    assert (await customer.hear("stale"))["what"] == []
    late = await again_as(world, "r1")
    assert (await early.closed())[0] == 4409
    await late.say("fixes", fixes=[fix(0)])
    assert (await late.hear("ack"))["seq"] == 0
    await stranger.say("heartbeat")  # nobody has asked about him yet
    await stranger.hear("ack")
    await stranger.say("accept", action_id="1", order_id="a", number=1)
    assert (await stranger.closed())[0] == 4403
    await late.say("fixes", fixes=[fix(1)])
    await late.hear("ack", lambda ack: ack["seq"] == 1)


async def until(true: Callable[[Any], bool], world: Any) -> None:
    """Until the pool has r1 so."""
    async with asyncio.timeout(10):
        while not ((live := await world.pool.get("r1")) and true(live)):
            await asyncio.sleep(0.02)


async def test_redis_gone(world: Any, valkey: Wire) -> None:
    await world.start()
    rider = await serving(world)
    customer = await world.enter("customer", "cora")
    await customer.say("watch", orders=["a"])
    await customer.hear("order")
    await valkey.cut()
    assert (await customer.hear("stale"))["what"] == ["positions"]
    late = await world.connect()
    await late.say("hello", token=world.tokens.mint(sub="cora", role="customer", city="sh"))
    assert (await late.hear("stale"))["what"] == ["positions"]
    await rider.say("fixes", fixes=[fix(0), fix(1)])
    assert (await rider.hear("ack"))["seq"] == 1
    await customer.hear("position")  # of a rider of the same gateway
    assert "redis_away:sh" in (await ready_of(world))[1]
    await valkey.mend()
    assert (await customer.hear("stale"))["what"] == []
    await rider.say("fixes", fixes=[fix(2)])
    while (known := await world.pool.get("r1")) is None or known.seq < 2:
        await asyncio.sleep(0.01)
    assert "redis_away:sh" not in (await ready_of(world))[1]
    assert stored(world) == [("r1", 0), ("r1", 1), ("r1", 2)]


async def test_a_rider_changes_gateways_after_redis_was_lost(world: Any) -> None:
    await world.start()
    rider = await world.enter("rider", "r1")
    await rider.say("fixes", fixes=[fix(0), fix(1)])
    assert (await rider.hear("ack"))["seq"] == 1
    first = world.stop, world.gateway
    await world.redis.flushdb()
    await world.start()
    rider = await world.enter("rider", "r1")
    assert rider.heard[0]["last_seq"] == -1
    # What was acknowledged need not come again; what comes again is stored again.
    await rider.say("fixes", fixes=[fix(1), fix(2)])
    assert (await rider.hear("ack"))["seq"] == 2
    assert sorted(stored(world)) == [("r1", 0), ("r1", 1), ("r1", 1), ("r1", 2)]
    assert (await world.pool.get("r1")).seq == 2
    first[0].set()
    await first[1]


class Disk:
    """Segments on a disk that can be full or slow."""

    def __init__(self) -> None:
        self.full, self.goes = False, threading.Event()
        self.goes.set()

    def open(self, path: Path) -> SegmentFile:
        disk = self

        class File(SegmentFile):
            def sync(self) -> None:
                assert disk.goes.wait(10)
                if disk.full:
                    raise OSError(errno.ENOSPC, "no space left on device")
                super().sync()

        return File(path, "x")


async def test_no_room_on_the_disk(world: Any, tmp_path: Path) -> None:
    disk = Disk()
    disk.full = True
    await world.start(writer=SegmentWriter(tmp_path / "segments", "g1", open_file=disk.open))
    rider = await world.enter("rider", "r1")
    await rider.say("fixes", fixes=[fix(0), fix(1)])
    assert (await rider.hear("error"))["code"] == "not_stored"
    assert await ready_of(world) == (503, ["disk_fails"])
    disk.full = False
    # A later fix must not be acknowledged over the lost ones.
    await rider.say("fixes", fixes=[fix(2)])
    assert (await rider.hear("error"))["code"] == "not_stored"
    await rider.say("heartbeat")
    assert (await rider.hear("ack"))["seq"] == -1
    await rider.say("fixes", fixes=[fix(0), fix(1), fix(2)])
    assert (await rider.hear("ack", lambda m: m["seq"] >= 0))["seq"] == 2
    assert stored(world) == [("r1", 0), ("r1", 1), ("r1", 2)]
    assert await ready_of(world) == (200, [])
    assert len(list((tmp_path / "segments").iterdir())) == 1  # none of the empty ones is left


async def test_a_slow_disk(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SLOW_S", 0.1)
    disk = Disk()
    await world.start(writer=SegmentWriter(tmp_path / "segments", "g1", open_file=disk.open))
    rider = await world.enter("rider", "r1")
    disk.goes.clear()
    await rider.say("fixes", fixes=[fix(0)])
    async with asyncio.timeout(10):
        while await ready_of(world) != (200, ["disk_slow"]):
            await asyncio.sleep(0.02)
    assert not [m for m in rider.heard if m["type"] == "ack"]
    disk.goes.set()
    assert (await rider.hear("ack"))["seq"] == 0
    await rider.say("fixes", fixes=[fix(1)])
    async with asyncio.timeout(10):
        while (await ready_of(world))[1]:
            await asyncio.sleep(0.02)


async def test_rows_that_wait_for_the_disk_are_bounded(pool_redis: Any, tmp_path: Path) -> None:
    disk = Disk()
    disk.goes.clear()
    writer = SegmentWriter(tmp_path / "segments", "g1", open_file=disk.open)
    mark, settled = Watermark(), []
    ingest = Ingest(
        writer, Pool(pool_redis, "sh"), settled.append, print, lambda rows: None, rows_max=3
    )
    works = [asyncio.create_task(work) for work in (writer.run(), ingest.run())]
    took = 0

    async def put() -> None:
        nonlocal took
        for seq in range(8):
            row = FixRow("r1", seq, now_ms(), LAT, LON, None, None, None, "wgs84")
            mark.taken = seq
            await ingest.put(Taken("r1", mark, 0, [row]))
            took += 1

    putting = asyncio.create_task(put())
    await asyncio.sleep(0.3)
    assert took == 3
    disk.goes.set()
    await putting
    await ingest.finish()
    assert mark.stored == 7
    for work in works:
        work.cancel()
    await writer.close()


async def test_metrics_tell_of_all_this(live: Any) -> None:
    rider = await live.enter("rider", "r1")
    await rider.say("fixes", fixes=[fix(0)])
    await rider.hear("ack")
    await rider.say("fixes", fixes=[fix(0)])
    await rider.hear("ack")
    async with httpx2.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{live.port}/metrics")).text
    for name in (
        'hexrun_fixes_total{outcome="stored"}',
        'hexrun_fixes_total{outcome="repeated"}',
        'hexrun_stream_connections{city="sh",role="rider"} 1.0',
        'hexrun_stream_frames_total{way="in"}',
        "hexrun_fix_ack_seconds_count",
        "hexrun_segment_commit_seconds_count",
    ):
        assert name in text, name
    assert json.dumps("r1") not in text
