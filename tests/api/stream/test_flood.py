"""A flood of orders over real sockets: riders answer and finish while most orders are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx2

from api.capacity import Limits
from api.clock import now_ms
from api.http import serve_http
from geo.datum import System, from_wgs84

CROWD = 40


async def test_riders_serve_through_a_flood_of_orders(world: Any) -> None:
    limits = Limits(orders_at_once=1, orders_waiting=2)
    world.settings = replace(world.settings, limits=limits, http_port=0)
    await world.start()
    await world.on_shift("r1")
    rider = await world.enter("rider", "r1")
    await world.offer(await world.place("a"), "r1")
    await rider.hear("offer")
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    http = asyncio.create_task(serve_http(world.settings, stop, ready=port.set_result))
    base = f"http://127.0.0.1:{await port}"
    token = world.tokens.mint(sub="anna", role="customer", city="sh")
    lat, lon = (float(x) for x in from_wgs84(31.2304, 121.4737, System.GCJ02))
    form = {
        "job_type": "delivery",
        "stops": [{"place": {"lat": lat + d, "lon": lon}} for d in (0, 0.01)],
    }
    over, statuses = asyncio.Event(), Counter[int]()

    async def customer(n: int, client: httpx2.AsyncClient) -> None:
        sent = 0
        while not over.is_set():
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"{n}-{sent}"}
            answer = await client.post("/v1/orders", json=form, headers=headers)
            statuses[answer.status_code] += 1
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "1"
                await asyncio.sleep(0.05)
            sent += 1

    async with httpx2.AsyncClient(base_url=base, timeout=30) as client:
        async with asyncio.TaskGroup() as tasks:
            for n in range(CROWD):
                tasks.create_task(customer(n, client))
            try:
                while statuses[503] < CROWD:
                    await asyncio.sleep(0.01)
                await rider.say("accept", action_id="0", order_id="a", number=1)
                assert (await rider.hear("result"))["ok"]
                moves = ((0, "arrived"), (0, "done"), (1, "arrived"), (1, "done"))
                for n, (stop_of, state) in enumerate(moves, 1):
                    await rider.say(
                        "stop", action_id=f"{n}", order_id="a", stop=stop_of, state=state,
                        at_ms=now_ms(),
                    )  # fmt: skip
                    assert (await rider.hear("result"))["ok"]
                fix = {"seq": 0, "at_ms": now_ms(), "lat": lat, "lon": lon, "system": "gcj02"}
                await rider.say("fixes", fixes=[fix])
                assert (await rider.hear("ack"))["seq"] == 0
                flooding = dict(statuses)
            finally:
                over.set()
        ready = (await client.get("/readyz")).json()
    assert set(statuses) == {201, 503}
    assert flooding[503] > 0
    assert "overloaded" in ready["degraded"]
    # What was refused has left nothing behind.
    assert (await world.store.counts("sh"))["open"] == statuses[201]
    stop.set()
    await http
