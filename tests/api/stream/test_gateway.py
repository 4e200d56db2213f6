from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from api.auth import Tokens
from api.clock import now_ms
from api.segments import SegmentFile, SegmentWriter, iterate
from geo.datum import System, from_wgs84

LAT, LON = 31.2304, 121.4737


def fix(seq: int, lat: float = LAT, lon: float = LON, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "at_ms": now_ms(), "lat": lat, "lon": lon, "system": "wgs84", **fields}


def stored(world: Any) -> list[tuple[str, int]]:
    """(rider, seq) of every row in the journal, in its order."""
    paths = sorted((world.settings.data / "segments").iterdir())
    return [(r.rider_id, r.seq) for p in paths for _, record in iterate(p) for r in record.rows]


# --- coming in ---------------------------------------------------------------------------------


async def test_token_comes_in_header_query_or_hello(live):
    await live.register("r1")
    token = live.tokens.mint(sub="r1", role="rider", city="sh")
    for how in (
        {"query": f"?token={token}"},
        {"additional_headers": {"Authorization": f"Bearer {token}"}},
    ):
        client = await live.connect(**how)
        await client.say("hello")
        welcome = await client.hear("welcome")
        assert (welcome["role"], welcome["subject"], welcome["last_seq"]) == ("rider", "r1", -1)
        assert welcome["system"] == "gcj02"
    await live.enter("operator", "o1")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda live: None, "no token"),
        (lambda live: "x.y.z", "malformed"),
        (lambda live: Tokens("another secret, as long as the first").mint(sub="r", role="rider"),
         "foreign"),
        (lambda live: Tokens(live.settings.secret, lambda: now_ms() - 3_600_000).mint(
            sub="r", role="rider", city="sh"), "expired"),
    ],
)  # fmt: skip
async def test_missing_broken_foreign_and_expired_tokens_close_4401(live, make, word):
    client = await live.connect()
    token = make(live)
    await client.say("hello", **({} if token is None else {"token": token}))
    code, reason = await client.closed()
    assert code == 4401
    assert word in reason


async def test_another_city_closes_4403(live):
    client = await live.connect()
    await client.say("hello", token=live.tokens.mint(sub="r", role="rider", city="bj"))
    assert (await client.closed())[0] == 4403
    assert client.heard[-1]["field"] == "token.city"


async def test_a_rider_who_is_not_registered_closes_4403(live):
    client = await live.connect()
    await client.say("hello", token=live.tokens.mint(sub="r1", role="rider", city="sh"))
    code, reason = await client.closed()
    assert (code, client.heard[-1]["field"]) == (4403, "token.sub")
    assert "register first" in reason


async def test_another_tenant_s_token_does_not_become_the_rider(live):
    await live.on_shift("r1")
    rider = await live.enter("rider", "r1")
    await live.offer(await live.place("a"), "r1")
    await rider.hear("offer")
    thief = await live.connect()
    token = live.tokens.mint(sub="r1", role="rider", city="sh", tenant="else")
    await thief.say("hello", token=token)
    await thief.say("fixes", fixes=[fix(0)])
    assert (await thief.closed())[0] == 4403
    assert [(m["type"], m["field"]) for m in thief.heard] == [("error", "token.tenant")]
    await rider.say("heartbeat")  # he has not been superseded
    assert (await rider.hear("ack"))["seq"] == -1
    assert stored(live) == []


async def test_a_socket_ends_with_its_token_and_a_fresh_one_resumes(live):
    await live.register("r1")
    client = await live.connect()
    await client.say("hello", token=live.tokens.mint(sub="r1", role="rider", city="sh", ttl_s=2))
    await client.say("fixes", fixes=[fix(0)])
    assert await client.closed() == (4401, "token expired")
    assert [m["seq"] for m in client.heard if m["type"] == "ack"][-1:] == [0]
    again = await live.enter("rider", "r1")
    assert again.heard[0]["last_seq"] == 0


async def test_a_frame_before_hello_closes_4401(live):
    client = await live.connect()
    await client.say("heartbeat")
    assert (await client.closed())[0] == 4401


async def test_sub_protocol_is_echoed_and_an_unknown_one_refused(live):
    client = await live.connect(subprotocols=("hexrun.v1.msgpack", "hexrun.v1.json"))
    assert client.socket.subprotocol == "hexrun.v1.msgpack"
    await live.register("r1")
    token = live.tokens.mint(sub="r1", role="rider", city="sh")
    await client.socket.send(msgspec.msgpack.encode({"type": "hello", "token": token}))
    frame = await client.socket.recv()
    assert isinstance(frame, bytes)
    assert msgspec.msgpack.decode(frame)["type"] == "welcome"
    assert (await live.connect()).socket.subprotocol is None
    with pytest.raises(InvalidStatus) as refused:
        await live.connect(subprotocols=("chat",))
    assert refused.value.response.status_code == 400


async def test_too_large_a_frame_closes_1009(live):
    client = await live.enter("rider", "r1")
    await client.socket.send("x" * 70_000)
    assert (await client.closed())[0] == 1009


async def test_an_undecodable_frame_closes_4400(live):
    client = await live.enter("rider", "r1")
    await client.socket.send("{")
    assert (await client.closed())[0] == 4400


# --- fixes -------------------------------------------------------------------------------------


async def test_fixes_are_journaled_acknowledged_and_in_the_pool(live):
    client = await live.enter("rider", "r1")
    gcj = from_wgs84(LAT, LON, System.GCJ02)
    await client.say("fixes", fixes=[fix(0), fix(1, *gcj, system="gcj02", heading_deg=90)])
    ack = await client.hear("ack")
    assert ack["seq"] == 1
    assert stored(live) == [("r1", 0), ("r1", 1)]
    while (known := await live.pool.get("r1")) is None:
        await asyncio.sleep(0.01)
    assert (known.seq, known.heading_deg) == (1, 90)
    assert (known.lat, known.lon) == pytest.approx((LAT, LON), abs=1e-8)


async def test_a_resend_after_a_new_connection_is_not_stored_twice(live):
    first = await live.enter("rider", "r1")
    await first.say("fixes", fixes=[fix(0), fix(1)])
    assert (await first.hear("ack"))["seq"] == 1
    second = await live.enter("rider", "r1")
    assert second.heard[0]["last_seq"] == 1
    assert await first.closed() == (4409, "this rider has connected again")
    await second.say("fixes", fixes=[fix(0), fix(1), fix(2)])
    await second.hear("ack", lambda ack: ack["seq"] == 2)
    assert stored(live) == [("r1", 0), ("r1", 1), ("r1", 2)]


async def test_another_gateway_goes_on_from_the_pool(live):
    client = await live.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(7)])
    await client.hear("ack")
    await live.end()
    await live.start()
    again = await live.enter("rider", "r1")
    assert again.heard[0]["last_seq"] == 7


async def test_one_wrong_fix_keeps_the_frame_out(live):
    client = await live.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0), fix(1, lat=91.0)])
    error = await client.hear("error")
    assert (error["field"], error["value"]) == ("fixes[1].lat", 91.0)
    assert "-90 to 90" in error["expected"]
    await client.say("fixes", fixes=[fix(0)])
    await client.hear("ack", lambda ack: ack["seq"] == 0)
    assert stored(live) == [("r1", 0)]


async def test_acks_are_cumulative_and_at_most_one_a_second(live):
    client = await live.enter("rider", "r1")
    for seq in range(12):
        await client.say("fixes", fixes=[fix(seq)])
        await asyncio.sleep(0.1)
    await client.hear("ack", lambda ack: ack["seq"] == 11)
    acks = [message for message in client.heard if message["type"] == "ack"]
    assert 2 <= len(acks) < 12
    assert all(b["server_ms"] - a["server_ms"] >= 990 for a, b in zip(acks, acks[1:]))  # noqa: B905, RUF007


async def test_redis_gone_does_not_hold_up_acknowledgements(world, tmp_path):
    await world.start(redis_url=f"unix://{tmp_path}/nobody.sock")
    client = await world.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0)])
    assert (await client.hear("ack"))["seq"] == 0
    assert stored(world) == [("r1", 0)]


async def test_no_acknowledgement_before_the_fsync(world, tmp_path):
    go_on = threading.Event()

    class Slow(SegmentFile):
        def sync(self) -> None:
            assert go_on.wait(5)
            super().sync()

    writer = SegmentWriter(tmp_path / "segments", "g1", open_file=lambda path: Slow(path, "x"))
    await world.start(writer=writer)
    client = await world.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0)])
    await client.say("heartbeat")
    assert (await client.hear("ack"))["seq"] == -1
    await asyncio.sleep(0.2)
    assert await world.pool.get("r1") is None
    go_on.set()
    assert (await client.hear("ack"))["seq"] == 0


async def test_a_full_disk_is_told_and_what_was_lost_may_come_again(world, tmp_path):
    class Full(SegmentFile):
        full = True

        def sync(self) -> None:
            if Full.full:
                raise OSError(errno.ENOSPC, "no space left on device")
            super().sync()

    writer = SegmentWriter(tmp_path / "segments", "g1", open_file=lambda path: Full(path, "x"))
    await world.start(writer=writer)
    client = await world.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0), fix(1)])
    error = await client.hear("error")
    assert (error["code"], error["field"]) == ("not_stored", "fixes")
    assert not [m for m in client.heard if m["type"] == "ack"]
    assert await world.pool.get("r1") is None
    Full.full = False
    await client.say("fixes", fixes=[fix(0), fix(1)])
    assert (await client.hear("ack"))["seq"] == 1
    assert stored(world) == [("r1", 0), ("r1", 1)]


async def test_stop_journals_acknowledges_and_sends_clients_elsewhere(live):
    client = await live.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0)])
    await client.hear("ack")
    await client.say("fixes", fixes=[fix(1)])
    pong = await client.socket.ping()
    await pong  # the gateway has read what came before the ping
    live.stop.set()
    assert (await client.closed())[0] == 1012
    assert [m["seq"] for m in client.heard if m["type"] == "ack"][-1] == 1
    assert stored(live) == [("r1", 0), ("r1", 1)]


async def test_the_process_serves_until_sigterm(world):
    settings = world.settings
    with socket.create_server(("127.0.0.1", 0)) as free:
        world.port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from api.cli.roles import run_role; run_role('gateway')",
        env=os.environ
        | {
            "HEXRUN_POSTGRES_URL": settings.postgres_url,
            "HEXRUN_REDIS_URL": settings.redis_url,
            "HEXRUN_DATA": str(settings.data),
            "HEXRUN_SECRET": settings.secret,
            "HEXRUN_CITY": "sh:31.2304,121.4737",
            "HEXRUN_STREAM_PORT": str(world.port),
        },
    )
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError):
                await world.connect()
                break
            await asyncio.sleep(0.05)
    client = await world.enter("rider", "r1")
    await client.say("fixes", fixes=[fix(0)])
    assert (await client.hear("ack"))["seq"] == 0
    process.send_signal(signal.SIGTERM)
    assert (await client.closed())[0] == 1012
    assert await asyncio.wait_for(process.wait(), 10) == 0
    assert stored(world) == [("r1", 0)]


async def test_a_heartbeat_is_answered(live):
    client = await live.enter("customer", "cora")
    await client.say("heartbeat")
    assert (await client.hear("ack"))["seq"] == -1


# --- orders ------------------------------------------------------------------------------------


async def test_a_rider_serves_an_order(live):
    rider = await live.enter("rider", "r1", system="wgs84")
    assert (await rider.hear("route"))["stops"] == []
    await live.on_shift("r1")
    await live.offer(await live.place("a"), "r1")
    offer = await rider.hear("offer")
    assert (offer["order_id"], offer["number"], offer["price_fen"]) == ("a", 1, 1200)
    assert [(s["kind"], s["lat"], s["text"]) for s in offer["stops"]] == [
        ("pickup", LAT, ""),
        ("dropoff", LAT + 0.01, ""),
    ]
    assert [s["stop"] for s in offer["route"]] == [0, 1]
    await rider.say("accept", action_id="1", order_id="a", number=1)
    assert (await rider.hear("result"))["ok"]
    route = await rider.hear("route")
    assert [(s["order_id"], s["stop"], s["state"], s["text"]) for s in route["stops"]] == [
        ("a", 0, "planned", f"door {LAT}"),
        ("a", 1, "planned", f"door {LAT + 0.01}"),
    ]
    for n, (stop, state) in enumerate(((0, "arrived"), (0, "done"), (1, "arrived"), (1, "done"))):
        await rider.say(
            "stop", action_id=f"s{n}", order_id="a", stop=stop, state=state, at_ms=now_ms()
        )
        assert (await rider.hear("result"))["ok"]
    await rider.hear("route", lambda m: m["stops"] == [])
    assert (await live.store.order("a")).state == "done"


async def test_the_same_action_twice_gives_the_same_result(live):
    rider = await live.enter("rider", "r1")
    await live.on_shift("r1")
    await live.offer(await live.place("a"), "r1")
    for _ in range(2):
        await rider.say("accept", action_id="1", order_id="a", number=1)
        assert (await rider.hear("result"))["code"] == "ok"
    await rider.say("accept", action_id="2", order_id="a", number=1)
    refused = await rider.hear("result")
    assert (refused["ok"], refused["code"]) == (False, "already_accepted")
    await rider.say("accept", action_id="3", order_id="nothing", number=1)
    assert (await rider.hear("result"))["code"] == "not_found"


async def test_a_rider_who_comes_back_gets_his_offers_and_route(live):
    await live.on_shift("r1")
    rider = await live.enter("rider", "r1")
    await live.offer(await live.place("a"), "r1")
    await rider.hear("offer")
    await rider.say("accept", action_id="1", order_id="a", number=1)
    await rider.hear("result")
    await live.offer(await live.place("b"), "r1")
    again = await live.enter("rider", "r1")
    assert (await again.hear("offer"))["order_id"] == "b"
    # The feed may have told it already, before the greeting.
    routes = [m for m in again.heard if m["type"] == "route" and m["stops"]]
    route = routes[-1] if routes else await again.hear("route", lambda m: bool(m["stops"]))
    assert [(s["order_id"], s["stop"]) for s in route["stops"]] == [("a", 0), ("a", 1)]
    await again.say("decline", action_id="2", order_id="b", number=1, reason="too far")
    over = await again.hear("offer_over")
    assert over == {"type": "offer_over", "order_id": "b", "number": 1, "reason": "declined"}


# --- viewers -----------------------------------------------------------------------------------


async def test_a_customer_watches_his_own_order_and_its_rider_only_under_way(live):
    await live.on_shift("r1")
    rider = await live.enter("rider", "r1")
    await rider.say("fixes", fixes=[fix(0)])
    await rider.hear("ack")
    order = await live.place("mine")
    await live.place("theirs", customer_id="carl")
    customer = await live.enter("customer", "cora")
    await customer.say("watch", orders=["mine", "theirs", "nothing"])
    for field, code in (("orders[1]", "forbidden"), ("orders[2]", "not_found")):
        error = await customer.hear("error")
        assert (error["field"], error["code"]) == (field, code)
    shown = await customer.hear("order")
    assert (shown["order_id"], shown["state"], shown["code"]) == ("mine", "open", "101")
    await live.offer(order, "r1")
    await customer.hear("order", lambda m: m["version"] == shown["version"] + 1)
    await rider.hear("offer")
    await rider.say("accept", action_id="1", order_id="mine", number=1)
    assigned = await customer.hear("order", lambda m: m["state"] == "assigned")
    assert assigned["rider_id"] == "r1"
    position = await customer.hear("position")
    expected = from_wgs84(LAT, LON, System.GCJ02)
    assert (position["lat"], position["lon"]) == pytest.approx(expected, abs=1e-7)
    assert not [m for m in customer.heard[:-2] if m["type"] == "position"]
    await rider.say("fixes", fixes=[fix(1, lat=LAT + 0.001)])
    moved = await customer.hear("position")
    assert moved["at_ms"] > position["at_ms"]
    assert moved["heading_deg"] == pytest.approx(0.0, abs=0.5)
    assert not [m for m in customer.heard if "theirs" in json.dumps(m) and m["type"] != "error"]


async def test_a_burst_of_frames_is_answered_frame_by_frame(live):
    operator = await live.enter("operator", "olga")
    for _ in range(600):
        await operator.say("watch_city")
    for _ in range(600):
        await operator.hear("city")


async def test_only_operators_watch_the_city(live):
    customer = await live.enter("customer", "cora")
    await customer.say("watch_city")
    assert (await customer.closed())[0] == 4403
    assert customer.heard[-1]["code"] == "forbidden"


async def test_an_operator_sees_riders_and_orders_move(live):
    await live.on_shift("r1")
    await live.place("old")
    operator = await live.enter("operator", "olga")
    rider = await live.enter("rider", "r1")
    city = {}
    while not (city.get("riders") and city.get("orders")):
        await operator.say("watch_city")
        city = await operator.hear("city")
    assert city["centre"] == {"lat": LAT, "lon": LON}
    assert city["riders"] == [["r1", LAT, LON, None, "idle", None]]
    assert [order["order_id"] for order in city["orders"]] == ["old"]
    order = await live.place("a")
    await operator.hear("orders", lambda m: m["orders"][-1]["order_id"] == "a")
    await live.offer(order, "r1")
    await operator.hear("riders", lambda m: m["riders"][0][4] == "offered")
    at = fix(0, lat=LAT + 0.002)
    await rider.say("fixes", fixes=[at])
    moved = await operator.hear("riders", lambda m: m["riders"][0][5] is not None)
    assert moved["riders"] == [["r1", LAT + 0.002, LON, None, "offered", at["at_ms"]]]
    await rider.say("accept", action_id="1", order_id="a", number=1)
    await operator.hear("orders", lambda m: m["orders"][-1]["state"] == "assigned")
    await operator.hear("riders", lambda m: m["riders"][0][4] == "busy")


async def test_positions_of_another_gateway_reach_the_viewers(live):
    await live.on_shift("r1")
    operator = await live.enter("operator", "olga")
    await operator.say("watch_city")
    first = live.stop, live.gateway
    await live.start()
    rider = await live.enter("rider", "r1")
    await rider.say("fixes", fixes=[fix(0)])
    await operator.hear("riders", lambda m: m["riders"][0][5] is not None)
    first[0].set()
    await first[1]


async def test_plain_http_is_answered(live):
    async def ask(path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    assert (await ask("/livez")).startswith(b"HTTP/1.1 200")
    ready = await ask("/readyz")
    assert ready.startswith(b"HTTP/1.1 200")
    assert b'"cities": {"sh": true}' in ready
    assert b"hexrun_stream_connections" in await ask("/metrics")
    assert b"/v1/stream" in await ask("/elsewhere")
