"""Two gateways and two HTTP processes on one port each, replaced one after the other under load."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from api.clock import now_ms
from api.segments import iterate
from geo.datum import System, from_wgs84

LAT, LON = 31.2304, 121.4737
RIDERS = 6
LIMIT_S = 60
# Imports once and forks a process a role: "start NAME" and "wait PID" on its standard input.
LAUNCHER = """
import asyncio, os, sys
from api.cli.roles import load_role, run_until_signal
from api.settings import Settings

def serve(name):
    async def work(stop, ready):
        async def say():
            await ready.wait()
            print("\\nready", os.getpid(), flush=True)
        saying = asyncio.create_task(say())
        await load_role(name)(Settings.from_environment(), stop, ready)
    run_until_signal(work)

for line in sys.stdin:
    word, what = line.split()
    if word == "wait":
        print("\\nended", what, os.waitstatus_to_exitcode(os.waitpid(int(what), 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            serve(what)
            code = 0
        finally:
            os._exit(code)
    print("\\nstarted", pid, flush=True)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Fleet:
    """Processes of the roles, all on the same two ports."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.stream_port, self.http_port = free_port(), free_port()
        self.running: set[int] = set()
        self._launcher: asyncio.subprocess.Process | None = None

    async def open(self) -> None:
        settings = self.world.settings
        self._launcher = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LAUNCHER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | {
                "HEXRUN_POSTGRES_URL": settings.postgres_url,
                "HEXRUN_REDIS_URL": settings.redis_url,
                "HEXRUN_DATA": str(settings.data),
                "HEXRUN_SECRET": settings.secret,
                "HEXRUN_CITY": f"sh:{LAT},{LON}",
                "HEXRUN_STREAM_PORT": str(self.stream_port),
                "HEXRUN_HTTP_PORT": str(self.http_port),
            },
        )  # fmt: skip

    async def close(self) -> None:
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
        if self._launcher is not None:
            self._launcher.kill()
            await self._launcher.communicate()

    async def start(self, role: str) -> int:
        """The process's id, once it serves."""
        pid = int((await self._ask(f"start {role}", "started"))[0])
        self.running.add(pid)
        await self._hear("ready")
        return pid

    async def stop(self, pid: int) -> int:
        """Its exit code."""
        os.kill(pid, signal.SIGTERM)
        self.running.remove(pid)
        return int((await self._ask(f"wait {pid}", "ended"))[1])

    async def _ask(self, line: str, word: str) -> list[str]:
        assert self._launcher is not None
        assert self._launcher.stdin is not None
        self._launcher.stdin.write(f"{line}\n".encode())
        return await self._hear(word)

    async def _hear(self, word: str) -> list[str]:
        assert self._launcher is not None
        assert self._launcher.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while True:
                line = (await self._launcher.stdout.readline()).decode()
                assert line, "the launcher ended"
                if line.startswith(f"{word} "):
                    return line.split()[1:]


@pytest.fixture
async def fleet(world: Any) -> AsyncIterator[Fleet]:
    made = Fleet(world)
    await made.open()
    yield made
    await made.close()


class Phone(ABC):
    """A client that comes back whenever its line is cut, as the close code says."""

    def __init__(self, fleet: Fleet, role: str, sub: str) -> None:
        self.address = f"ws://127.0.0.1:{fleet.stream_port}/v1/stream"
        token = fleet.world.tokens.mint(sub=sub, role=role, city="sh")
        self.hello = {"type": "hello", "token": token, "system": "wgs84"}
        self.codes: Counter[int] = Counter()

    async def run(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with connect(self.address, close_timeout=1, compression=None) as line:
                    await line.send(json.dumps(self.hello))
                    await self.talk(line, over)
            except ConnectionClosed as closed:
                self.codes[closed.rcvd.code if closed.rcvd else 1006] += 1
            except (OSError, InvalidHandshake):  # a door that closes: connect again
                self.codes[0] += 1

    @abstractmethod
    async def talk(self, line: Any, over: asyncio.Event) -> None:
        """What it does on a line that is open, until `over` or the line is cut."""


class RiderPhone(Phone):
    def __init__(self, fleet: Fleet, sub: str) -> None:
        super().__init__(fleet, "rider", sub)
        self.acknowledged, self.seq, self.waiting = -1, 0, []

    async def talk(self, line: Any, over: asyncio.Event) -> None:
        welcome = json.loads(await line.recv())
        assert welcome["type"] == "welcome", welcome
        self.note(welcome["last_seq"])
        hearing = asyncio.create_task(self.hear(line))
        try:
            if self.waiting:
                await line.send(json.dumps({"type": "fixes", "fixes": self.waiting}))
            while self.waiting or not over.is_set():
                if not over.is_set():
                    fix = {"seq": self.seq, "at_ms": now_ms(), "lat": LAT, "lon": LON}
                    self.waiting.append(fix | {"system": "wgs84"})
                    self.seq += 1
                    await line.send(json.dumps({"type": "fixes", "fixes": self.waiting[-1:]}))
                await asyncio.sleep(0.02)
        finally:
            hearing.cancel()
            await asyncio.wait([hearing])

    async def hear(self, line: Any) -> None:
        async for raw in line:
            message = json.loads(raw)
            if message["type"] == "ack":
                self.note(message["seq"])

    def note(self, seq: int) -> None:
        self.acknowledged = max(self.acknowledged, seq)
        self.waiting = [fix for fix in self.waiting if fix["seq"] > seq]


class Watcher(Phone):
    """Follows one order; keeps the versions of each of its lines apart."""

    def __init__(self, fleet: Fleet, order_id: str) -> None:
        super().__init__(fleet, "customer", "cora")
        self.order_id = order_id
        self.lines: list[list[int]] = []

    async def talk(self, line: Any, over: asyncio.Event) -> None:
        await line.send(json.dumps({"type": "watch", "orders": [self.order_id]}))
        self.lines.append([])
        async for raw in line:
            message = json.loads(raw)
            if message["type"] == "order":
                self.lines[-1].append(message["version"])


async def customer(fleet: Fleet, over: asyncio.Event, counts: Counter[str]) -> list[str]:
    """Posts orders one after the other, each again with its key until it is answered."""
    gcj_lat, gcj_lon = from_wgs84(LAT, LON, System.GCJ02)
    stops = [{"place": {"lat": float(gcj_lat) + d, "lon": float(gcj_lon)}} for d in (0, 0.01)]
    token = fleet.world.tokens.mint(sub="anna", role="customer", city="sh")
    placed: list[str] = []
    base = f"http://127.0.0.1:{fleet.http_port}"
    async with httpx2.AsyncClient(base_url=base, timeout=10) as client:
        while not over.is_set():
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"k{len(placed)}"}
            try:
                answer = await client.post(
                    "/v1/orders", json={"job_type": "delivery", "stops": stops}, headers=headers
                )
            except httpx2.TransportError:
                counts["cut"] += 1
                continue
            assert answer.status_code == 201, answer.text
            placed.append(answer.json()["id"])
            await asyncio.sleep(0.01)
    return placed


async def churn(fleet: Fleet, order_id: str, over: asyncio.Event) -> int:
    """Offers the order and takes it back again and again; gives its last version."""
    from dispatch.commands import Decline

    world = fleet.world
    while not over.is_set():
        order = await world.offer(await world.store.order(order_id), "r0")
        command = Decline(at_ms=now_ms(), rider_id="r0", number=order.assignment.number)
        assert (await world.store.run(order_id, command)).refusal is None
        await asyncio.sleep(0.05)
    return (await world.store.order(order_id)).version


async def test_every_process_is_replaced_and_nothing_is_lost(fleet: Fleet) -> None:
    world, over, counts = fleet.world, asyncio.Event(), Counter[str]()
    for n in range(RIDERS):
        await world.on_shift(f"r{n}")
    await world.place("watched")
    roles = ("gateway", "http", "gateway", "http")
    old = [await fleet.start(role) for role in roles]
    riders = [RiderPhone(fleet, f"r{n}") for n in range(RIDERS)]
    watcher = Watcher(fleet, "watched")
    async with AsyncExitStack() as exits, asyncio.TaskGroup() as tasks:
        exits.callback(over.set)
        for phone in riders:
            tasks.create_task(phone.run(over))
        watching = tasks.create_task(watcher.run(over))
        shopping = tasks.create_task(customer(fleet, over, counts))
        moving = tasks.create_task(churn(fleet, "watched", over))
        await asyncio.sleep(0.5)
        for role, process in zip(roles, old, strict=True):
            await fleet.start(role)
            assert await fleet.stop(process) == 0
        await asyncio.sleep(0.5)
        over.set()
        placed, last = await shopping, await moving
        async with asyncio.timeout(10):
            while not (watcher.lines[-1] and watcher.lines[-1][-1] == last):
                await asyncio.sleep(0.02)
        watching.cancel()

    # Fixes: all that was recorded is acknowledged, and all that was acknowledged is on the disk.
    stored: dict[str, set[int]] = {}
    rows = 0
    for path in sorted((world.settings.data / "segments").iterdir()):
        for _, record in iterate(path):
            for row in record.rows:
                stored.setdefault(row.rider_id, set()).add(row.seq)
                rows += 1
    for n, phone in enumerate(riders):
        assert phone.acknowledged == phone.seq - 1 > 50
        assert stored[f"r{n}"] == set(range(phone.seq))
    cut = sum((phone.codes for phone in riders), watcher.codes)
    assert cut[1012] >= RIDERS  # each was sent elsewhere at least once
    assert set(cut) <= {0, 1012}

    # Events: on each line every version from its first one on, and none goes back.
    assert len(watcher.lines) > 1
    heard = [line for line in watcher.lines if line]
    for line in heard:
        assert line == list(range(line[0], line[-1] + 1))
    assert all(b[0] >= a[-1] for a, b in itertools.pairwise(heard))

    # Requests: each key made one order.
    assert len(placed) > 20
    assert len(set(placed)) == len(placed)
    assert (await world.store.counts("sh"))["open"] == len(placed) + 1
    print(f"rows {rows}, twice {rows - sum(map(len, stored.values()))}, cut {counts}, {cut}")
