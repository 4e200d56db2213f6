"""A client who does not read, on a real socket, without the rest of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from api import messages as m
from api.gateway import connection as module
from api.gateway.connection import Connection, Parts
from api.gateway.outbox import EVENTS_MAX
from api.session import Session

BIG = b"[%s]" % (b"1," * 100_000 + b"1")


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Connection, ClientConnection]]:
    """A connection of the gateway and its client."""
    nothing = cast(Any, None)
    parts = Parts(nothing, nothing, {}, set(), nothing, nothing)
    made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def handle(socket: ServerConnection) -> None:
        made.set_result(Connection(socket, Session("s", ("sh",), m.JSON), m.JSON, parts))
        await made.result().serve()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", max_size=None, close_timeout=0.1) as client:
            yield await made, client


async def quietly(client: ClientConnection) -> AsyncIterator[str | bytes]:
    """What the client gets until the end, whatever the end is."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()


async def fill(connection: Connection) -> None:
    """Push until the socket takes no more and the outbox is full."""
    stuck = 0
    while stuck < 10:
        connection.push_latest("probe", BIG)
        await asyncio.sleep(0.02)
        stuck = stuck + 1 if connection.waits("probe") else 0
    for _ in range(EVENTS_MAX + 1):
        connection.push(BIG)


async def test_too_many_waiting_events_close_4408(ends):
    connection, client = ends
    await fill(connection)
    frames = [frame async for frame in quietly(client)]
    assert client.close_code == 4408
    assert client.close_reason.startswith("resume")
    assert frames
    await connection.gone.wait()


async def test_a_client_who_never_reads_is_dropped(ends, monkeypatch):
    monkeypatch.setattr(module, "CLOSE_S", 0.2)
    connection, client = ends
    await fill(connection)
    async with asyncio.timeout(10):
        await connection.gone.wait()
    assert [frame async for frame in quietly(client)]
    assert client.close_code == 1006


async def test_latest_values_never_overflow(ends):
    connection, client = ends
    for n in range(10 * EVENTS_MAX):
        connection.push_latest("p", b"%d" % n)
    assert await client.recv() == str(10 * EVENTS_MAX - 1)


async def test_no_hello_in_time_closes_4401(monkeypatch):
    monkeypatch.setattr(module, "HELLO_S", 0.1)
    nothing = cast(Any, None)
    parts = Parts(nothing, nothing, {}, set(), nothing, nothing)

    async def handle(socket: ServerConnection) -> None:
        await Connection(socket, Session("s", ("sh",), m.JSON), m.JSON, parts).serve()

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
    assert closed.value.rcvd.code == 4401
