"""How long a city is without its dispatcher: `python -m bench.handover [KILLS]`.

Three real dispatcher processes share eight cities. One after the other is killed, frozen or asked
to end; measured is the time until an order that is placed in one of its cities at that moment is
offered by another process, at rounds of two seconds. Needs no
server: starts its own in a folder that it removes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from redis.asyncio import Redis
from sqlalchemy import text

from api.clock import now_ms
from api.sequencer import run_sequencer
from api.store import Store, migrate
from api.supervisor import open_servers
from dispatch.commands import GoOnShift
from dispatch.model import Place, Rider
from dispatch.registry import OrderForm, StopForm, job_type

CITIES = tuple(f"city{n}" for n in range(8))
MEMBERS = 3
WAYS = {"freeze": signal.SIGSTOP, "kill": signal.SIGKILL, "end": signal.SIGTERM}
HERE, THERE = Place(lat=31.231, lon=121.47), Place(lat=31.24, lon=121.47)
_numbers = itertools.count()


class Town:
    """The servers' clients, and the dispatcher processes that run."""

    def __init__(self, store: Store, environment: dict[str, str], log: Path) -> None:
        self.store, self._environment, self._log = store, environment, log
        self.children: dict[int, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        with self._log.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "api.cli", "role", "dispatcher",
                env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.children[child.pid] = child

    async def stop(self) -> None:
        for child in self.children.values():
            if child.returncode is None:
                child.kill()
            await child.wait()

    async def owners(self) -> dict[str, int]:
        """City -> process number, of the leases that are not over."""
        async with self.store._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT city, owner FROM leases"
                    " WHERE expires_at_ms > extract(epoch FROM clock_timestamp()) * 1000"
                )
            )
            return {row.city: int(row.owner.split("-")[-2]) for row in rows}

    async def members(self) -> set[int]:
        """Process numbers of those who beat."""
        async with self.store._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT name FROM members"
                    " WHERE expires_at_ms > extract(epoch FROM clock_timestamp()) * 1000"
                )
            )
            return {int(row.name.split("-")[-2]) for row in rows}

    async def settled(self) -> dict[str, int]:
        """Everybody is a member, and every city has had the same owner for two seconds."""
        since, last = time.monotonic(), await self.owners()
        while True:
            owners = await self.owners()
            whole = set(owners) == set(CITIES) and set(owners.values()) <= set(self.children)
            if owners != last or not whole or await self.members() != set(self.children):
                since, last = time.monotonic(), owners
            elif time.monotonic() - since > 2.0:
                return owners
            await asyncio.sleep(0.05)

    async def place(self, city: str) -> str:
        """A rider and an order for him."""
        n = next(_numbers)
        await self.store.register_rider(Rider(id=f"r{n}", city=city))
        on = GoOnShift(at_ms=now_ms(), shift_end_ms=now_ms() + 3_600_000, place=HERE)
        await self.store.run_rider(f"r{n}", on)
        kind = job_type("delivery")
        form = OrderForm(customer_id="c", stops=(StopForm(place=HERE), StopForm(place=THERE)))
        at = now_ms()
        made = kind.order(f"o{n}", city, form, kind.quote(form, at), at)
        await self.store.create_order(made, at, idempotency=None)
        return f"o{n}"

    async def offered(self, order_id: str) -> None:
        while True:
            order = await self.store.order(order_id)
            if order is not None and order.assignment is not None:
                return
            await asyncio.sleep(0.02)


async def hand_over(town: Town, way: str) -> tuple[float, float]:
    """(seconds until all cities have living owners, seconds until the order is offered)."""
    owners = await town.settled()
    pid = max(town.children, key=list(owners.values()).count)
    city = next(c for c in CITIES if owners[c] == pid)
    child = town.children.pop(pid)
    child.send_signal(WAYS[way])
    began = time.monotonic()
    order_id = await town.place(city)
    offered = asyncio.create_task(town.offered(order_id))
    while True:
        found = await town.owners()
        if set(found) == set(CITIES) and pid not in found.values():
            break
        await asyncio.sleep(0.02)
    owned_s = time.monotonic() - began
    async with asyncio.timeout(120):
        await offered
    offered_s = time.monotonic() - began
    if way == "freeze":
        child.send_signal(signal.SIGCONT)  # it goes on as a member
        town.children[pid] = child
    else:
        await child.wait()
        await town.start()
    print(f"# {way} {owned_s:.2f} {offered_s:.2f}", flush=True)
    return owned_s, offered_s


async def main(times: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hexrun-bench-") as folder:
        Path(folder).chmod(0o755)
        async with AsyncExitStack() as stack:
            urls = await stack.enter_async_context(open_servers(Path(folder)))
            await migrate(urls.postgres)
            store = await Store.open(urls.postgres)
            stack.push_async_callback(store.close)
            redis = Redis.from_url(urls.redis)
            stack.push_async_callback(redis.aclose)
            stop = asyncio.Event()
            sequencer = asyncio.create_task(run_sequencer(store, urls.redis, stop))
            stack.push_async_callback(lambda: sequencer)
            stack.callback(stop.set)
            data = Path(folder) / "roles"
            data.mkdir()
            environment = os.environ | {
                "HEXRUN_POSTGRES_URL": urls.postgres,
                "HEXRUN_REDIS_URL": urls.redis,
                "HEXRUN_DATA": str(data),
                "HEXRUN_SECRET": "a secret of 32 characters or more",
                "HEXRUN_CITY": ";".join(f"{c}:31.23,121.47" for c in CITIES),
            }
            town = Town(store, environment, Path(folder) / "dispatchers.log")
            stack.push_async_callback(town.stop)
            for _ in range(MEMBERS):
                await town.start()
            for way in WAYS:
                found = [await hand_over(town, way) for _ in range(times)]
                for name, values in zip(
                    ("owned", "offered"), zip(*found, strict=True), strict=True
                ):
                    line = {
                        "way": way,
                        "until": name,
                        "times": times,
                        "median_s": round(statistics.median(values), 2),
                        "worst_s": round(max(values), 2),
                    }
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
