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

import uvloop

from bench.chaos import markers
from bench.chaos.customers import Customers
from bench.chaos.faults import DONE, PROGRESS
from bench.chaos.levers import Levers
from bench.chaos.logs import Log, now_ms
from bench.chaos.phones import Phone
from bench.chaos.probes import TENANT as PROBE
from bench.chaos.probes import ProbePhone, probe_http
from bench.chaos.proxy import announce
from bench.chaos.receivers import Receivers
from bench.chaos.world import TENANT, Caller, City, World, new_client

LIVE = ("scheduled", "open", "assigned", "under_way", "done")
ENDS = ("completed", "cancelled", "expired", "returned", "failed")
SHIFT_MS = 12 * 3_600_000
PAGE = 500


async def main(config: dict[str, Any]) -> None:
    """See the module."""
    log = Log(Path(config["logs"]) / "clients.jsonl")
    levers = Levers(Path(config["levers"]))
    world = World(
        cities=[City(*city) for city in config["cities"]],
        secret=config["secret"],
        http=config["http"],
        streams=config["streams"],
        log=log,
        seed=config["seed"],
    )
    async with new_client() as client:
        operators = {
            city.name: Caller(world, client, world.token("boss", "operator", city))
            for city in world.cities
        }
        receivers = Receivers(log, levers)
        server = await receivers.serve(config["receivers_port"])
        endpoints = await _subscribe(config, world, operators, levers)
        cities = world.cities
        phones = [
            Phone(world, f"r{n}", n // len(cities) % 2, cities[n % len(cities)])
            for n in range(config["riders"])
        ]
        probes = [ProbePhone(world, n) for n in range(2)]
        boss = Caller(world, client, world.token("boss", "operator", cities[0], PROBE))
        await asyncio.gather(
            *(_register(operators[phone.city.name], phone) for phone in phones),
            *(_register(boss, phone) for phone in probes),
        )
        keys = {name: await _key(operator) for name, operator in operators.items()}
        seen: dict[str, set[int]] = {city.name: set() for city in cities}
        beside = [
            *(asyncio.create_task(phone.run()) for phone in (*phones, *probes)),
            *(asyncio.create_task(probe_http(world, client, n)) for n in range(2)),
            *(
                asyncio.create_task(_follow(world, city, operators[city.name], seen[city.name]))
                for city in cities
            ),
        ]
        announce()
        log.write("load_begins")
        customers = Customers(
            world,
            client,
            phones,
            keys,
            count=config["orders"],
            rate=config["rate"],
            live_max=config["live_max"],
        )
        await customers.run(lambda share: levers.set(PROGRESS, str(share)))
        log.write("orders_placed")
        while levers.get(DONE) != "yes":
            await asyncio.sleep(0.1)
        log.write("faults_over")
        limit_s = config["quiet_s"]
        await asyncio.gather(*(_until_quiet(city, operators, limit_s) for city in cities))
        await _until_delivered(receivers, endpoints, seen, limit_s)
        world.over.set()
        done, late = await asyncio.wait(beside, timeout=5.0)
        for task in late:
            task.cancel()
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                raise RuntimeError("a client broke") from task.exception()
        server.close()
    log.write("load_ends")


async def _register(operator: Caller, phone: Phone) -> None:
    number = int("".join(filter(str.isdigit, phone.rider)))
    person = {"id": phone.rider, "vehicle": "scooter", "capacity": [4], **markers.contact(number)}
    place = phone.city.place(phone.rng) | {"text": markers.address(number)}
    shift = {"on": True, "shift_end_ms": now_ms() + SHIFT_MS, "place": place}
    for path, body in (("/v1/riders", person), (f"/v1/riders/{phone.rider}/shift", shift)):
        status, answer = await operator.post(path, body, first=0)
        if status not in (200, 201) and answer["error"]["code"] != "already_on_shift":
            raise RuntimeError(f"POST {path}: {answer}")


async def _key(operator: Caller) -> str:
    """An API key of the city's shop."""
    form = {"role": "integrator", "sub": "shop"}
    status, answer = await operator.post("/v1/keys", form, first=0)
    if status != 201:
        raise RuntimeError(f"POST /v1/keys: {answer}")
    return str(answer["key"])


async def _subscribe(
    config: dict[str, Any], world: World, operators: dict[str, Caller], levers: Levers
) -> dict[str, str]:
    """Endpoints for every event of the tenant, by name, each of one city."""
    endpoints = {"w1": world.cities[0].name, "w2": world.cities[0].name}
    endpoints |= {f"w{n}": city.name for n, city in enumerate(world.cities[1:], 3)}
    for name, city in endpoints.items():
        body = {"url": f"{config['receivers']}/{name}"}
        status, answer = await operators[city].post("/v1/webhooks", body, first=0)
        if status not in (200, 201):
            raise RuntimeError(f"POST /v1/webhooks: {answer}")
        world.log.write("endpoint", endpoint=name, id=answer["id"], tenant=TENANT, city=city)
    levers.set("webhooks", "on")
    return endpoints


async def _follow(world: World, city: City, operator: Caller, seen: set[int]) -> None:
    """An integrator who reads the feed and remembers what he has seen."""
    after = 0
    while not world.over.is_set():
        page = await operator.get(f"/v1/events?after={after}&limit={PAGE}")
        for event in page["events"] if page else ():
            names = ("position", "subject", "id", "seq")
            world.log.write("event", city=city.name, **{name: event[name] for name in names})
            seen.add(event["position"])
            if event["kind"] in ENDS:
                world.live -= 1
                world.log.write("order_ended", order=event["id"], kind=event["kind"])
        after = page["next_after"] if page else after
        if not (page and page["more"]):
            await asyncio.sleep(0.3)


async def _until_quiet(city: City, operators: dict[str, Caller], limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limit_s
    turn = 0
    while loop.time() < ends_s:
        status = await operators[city.name].get(f"/v1/city/{city.name}/status", first=turn)
        turn += 1
        if status is not None and not any(status["orders"].get(state) for state in LIVE):
            break
        await asyncio.sleep(0.5)
    await asyncio.sleep(1.5)  # the last acknowledgements and events


async def _until_delivered(
    receivers: Receivers, endpoints: dict[str, str], seen: dict[str, set[int]], limit_s: float
) -> None:
    """Until each endpoint has taken all that the integrator has read."""
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limit_s
    while loop.time() < ends_s:
        if all(seen[city] <= receivers.taken.get(name, set()) for name, city in endpoints.items()):
            return
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text())))
