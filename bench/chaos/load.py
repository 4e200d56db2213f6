"""The process of all clients: `python -m bench.chaos.load CONFIG`.

Registers the riders, tells the supervisor that it is ready, places the orders, and ends once every
order has ended or the time for that is over.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from bench.chaos.customers import TENANT, Caller, Customers, World, new_client
from bench.chaos.faults import DONE
from bench.chaos.levers import Levers
from bench.chaos.logs import Log, now_ms
from bench.chaos.phones import Phone
from bench.chaos.probes import TENANT as PROBE
from bench.chaos.probes import ProbePhone, probe_http
from bench.chaos.proxy import announce
from bench.chaos.receivers import Receivers

LIVE = ("scheduled", "open", "assigned", "under_way", "done")
SHIFT_MS = 12 * 3_600_000
PAGE = 500


async def main(config: dict[str, Any]) -> None:
    """See the module."""
    log = Log(Path(config["logs"]) / "clients.jsonl")
    levers = Levers(Path(config["levers"]))
    world = World(
        city=config["city"],
        lat=config["lat"],
        lon=config["lon"],
        secret=config["secret"],
        http=config["http"],
        streams=config["streams"],
        log=log,
        seed=config["seed"],
    )
    async with new_client() as client:
        operator = Caller(world, client, world.token("boss", "operator"))
        receivers = Receivers(log, levers)
        server = await receivers.serve(config["receivers_port"])
        endpoints = await _subscribe(config, operator, log, levers)
        phones = [Phone(world, f"r{n}", n % 2) for n in range(config["riders"])]
        probes = [ProbePhone(world, n) for n in range(2)]
        boss = Caller(world, client, world.token("boss", "operator", PROBE))
        await asyncio.gather(
            *(_register(world, operator, phone) for phone in phones),
            *(_register(world, boss, phone) for phone in probes),
        )
        beside = [
            *(asyncio.create_task(phone.run()) for phone in (*phones, *probes)),
            *(asyncio.create_task(probe_http(world, client, n)) for n in range(2)),
            asyncio.create_task(_follow(world, operator, seen := set())),
        ]
        announce()
        log.write("load_begins")
        await Customers(world, client, count=config["orders"], rate=config["rate"]).run()
        log.write("orders_placed")
        while levers.get(DONE) != "yes":
            await asyncio.sleep(0.1)
        log.write("faults_over")
        await _until_quiet(world, operator, config["quiet_s"])
        await _until_delivered(receivers, endpoints, seen, config["quiet_s"])
        world.over.set()
        done, late = await asyncio.wait(beside, timeout=5.0)
        for task in late:
            task.cancel()
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                raise RuntimeError("a client broke") from task.exception()
        server.close()
    log.write("load_ends")


async def _register(world: World, operator: Caller, phone: Phone) -> None:
    place = world.place(phone.rng)
    shift = {"on": True, "shift_end_ms": now_ms() + SHIFT_MS, "place": place}
    for path, body in (
        ("/v1/riders", {"id": phone.rider, "vehicle": "scooter", "capacity": [4]}),
        (f"/v1/riders/{phone.rider}/shift", shift),
    ):
        status, answer = await operator.post(path, body, first=0)
        if status not in (200, 201) and answer["error"]["code"] != "already_on_shift":
            raise RuntimeError(f"POST {path}: {answer}")


async def _subscribe(
    config: dict[str, Any], operator: Caller, log: Log, levers: Levers
) -> list[str]:
    """Endpoints for every event of the tenant; none where the system has no webhooks."""
    endpoints = ["w1", "w2"]
    for name in endpoints:
        body = {"url": f"{config['receivers']}/{name}"}
        status, answer = await operator.post("/v1/webhooks", body, first=0)
        if status in (404, 405):
            log.write("no_webhooks")
            return []
        if status not in (200, 201):
            raise RuntimeError(f"POST /v1/webhooks: {answer}")
        log.write("endpoint", endpoint=name, id=answer["id"], tenant=TENANT)
    levers.set("webhooks", "on")
    return endpoints


async def _follow(world: World, operator: Caller, seen: set[int]) -> None:
    """An integrator who reads the feed and remembers what he has seen."""
    after = 0
    while not world.over.is_set():
        page = await operator.get(f"/v1/events?after={after}&limit={PAGE}")
        for event in page["events"] if page else ():
            names = ("position", "subject", "id", "seq")
            world.log.write("event", **{name: event[name] for name in names})
            seen.add(event["position"])
        after = page["next_after"] if page else after
        if not (page and page["more"]):
            await asyncio.sleep(0.5)


async def _until_quiet(world: World, operator: Caller, limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limit_s
    turn = 0
    while loop.time() < ends_s:
        status = await operator.get(f"/v1/city/{world.city}/status", first=turn)
        turn += 1
        if status is not None and not any(status["orders"].get(state) for state in LIVE):
            break
        await asyncio.sleep(0.5)
    await asyncio.sleep(1.5)  # the last acknowledgements and events


async def _until_delivered(
    receivers: Receivers, endpoints: list[str], seen: set[int], limit_s: float
) -> None:
    """Until each endpoint has taken all that the integrator has read."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limit_s
    while loop.time() < ends_s:
        if all(seen <= receivers.taken.get(name, set()) for name in endpoints):
            return
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
