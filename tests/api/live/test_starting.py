"""Every role starts while PostgreSQL is away, says so at its status door, and goes on by itself."""

import asyncio
import json
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from websockets.asyncio.client import connect

from api.auth import mint
from api.clock import now_ms

ROLES = ("dispatcher", "gateway", "http", "sequencer", "webhooks")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
SECRET = "a secret of 32 characters or more"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ports():
    return {name: free_port() for name in (*ROLES, "api", "stream")}


@asynccontextmanager
async def process(role, world, wires, ports):
    data = world.folder / "data"
    env = os.environ | {
        "HEXRUN_POSTGRES_URL": wires[0].url,
        "HEXRUN_REDIS_URL": wires[1].url,
        "HEXRUN_DATA": str(data),
        "HEXRUN_SECRET": SECRET,
        "HEXRUN_STATUS_PORT": str(ports[role]),
        "HEXRUN_HTTP_PORT": str(ports["api"]),
        "HEXRUN_STREAM_PORT": str(ports["stream"]),
        "PYTHONPATH": ROOT,
    }
    with (world.folder / f"{role}.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.cli", "role", role, env=env, cwd=ROOT, stdout=log, stderr=log
        )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        assert await child.wait() == 0


async def ask(port):
    """Status and what is degraded, as /readyz says; None while nobody answers."""
    try:
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/readyz")
    except httpx2.TransportError:
        return None
    return answer.status_code, answer.json()["degraded"]


async def test_all_wait_and_a_gateway_takes_fixes_meanwhile(world, wires, ports):
    wires[0].cut()
    async with AsyncExitStack() as all_of_them:
        children = [
            await all_of_them.enter_async_context(process(role, world, wires, ports))
            for role in ROLES
        ]
        for role in ROLES:

            async def away(role=role):
                answer = await ask(ports[role])
                return answer is not None and "postgres_away" in answer[1]

            await world.until(away, 60)
        assert (await ask(ports["sequencer"]))[0] == 503

        async def taken():
            return (await ask(ports["gateway"]))[0] == 200

        await world.until(taken, 60)
        token = mint(SECRET, sub="r1", role="rider", city="demo")
        async with connect(f"ws://127.0.0.1:{ports['stream']}/v1/stream") as phone:
            await phone.send(json.dumps({"type": "hello", "token": token}))
            fix = {"seq": 7, "at_ms": now_ms(), "lat": 31.23, "lon": 121.47, "system": "gcj02"}
            await phone.send(json.dumps({"type": "fixes", "fixes": [fix]}))
            async with asyncio.timeout(30):
                while (heard := json.loads(await phone.recv()))["type"] != "ack":
                    pass
            assert heard["seq"] == 7

        wires[0].mend()
        for role in ROLES:

            async def ready(role=role):
                return await ask(ports[role]) == (200, [])

            await world.until(ready, 60)
        assert all(child.returncode is None for child in children)
        await world.rider("r2")
        await world.order("o1")
        assert (await world.offered("o1")).rider_id == "r2"
