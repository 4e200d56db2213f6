"""The proxy against a real echo server: each way to misbehave, and back."""

import asyncio
import contextlib

import pytest

from bench.chaos.levers import Levers
from bench.chaos.plant import free_ports
from bench.chaos.proxy import run


@pytest.fixture
async def through(tmp_path):
    """(levers, connect): `connect` opens a connection through the proxy to an echo server."""

    async def echo(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    inside, outside = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", inside)
    stop = asyncio.Event()
    targets = {"echo": [outside, "127.0.0.1", inside]}
    proxy = asyncio.create_task(run({"levers": tmp_path, "targets": targets}, stop))

    async def connect():
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", outside)
            except OSError:
                await asyncio.sleep(0.01)

    yield Levers(tmp_path), connect
    stop.set()
    await proxy
    server.close()


async def said(connection, data):
    """What comes back, within a while; b"" for a connection that ended, None for nothing."""
    reader, writer = connection
    with contextlib.suppress(OSError):
        writer.write(data)
    try:
        async with asyncio.timeout(0.4):
            return await reader.read(1000)
    except TimeoutError:
        return None
    except OSError:
        return b""


async def until(answer, connect, data=b"x"):
    """A fresh connection gives that answer at last."""
    async with asyncio.timeout(20):
        while await said(await connect(), data) != answer:
            pass


async def test_bytes_pass(through):
    _, connect = through
    assert await said(await connect(), b"hello") == b"hello"


async def test_a_cut_ends_connections_and_new_ones(through):
    levers, connect = through
    connection = await connect()
    assert await said(connection, b"a") == b"a"
    levers.set("proxy.echo", "cut")
    await until(b"", connect)
    assert await said(connection, b"b") == b""
    levers.set("proxy.echo", "open")
    await until(b"x", connect)


async def test_a_stall_holds_every_byte_and_loses_none(through):
    levers, connect = through
    connection = await connect()
    assert await said(connection, b"a") == b"a"
    levers.set("proxy.echo", "stall")
    await until(None, connect)
    assert await said(connection, b"b") is None
    levers.set("proxy.echo", "open")
    async with asyncio.timeout(20):
        assert await connection[0].read(1000) == b"b"


async def test_half_open_loses_answers_and_resets_afterwards(through):
    levers, connect = through
    connection = await connect()
    levers.set("proxy.echo", "half_open")
    await until(None, connect)
    assert await said(connection, b"b") is None
    levers.set("proxy.echo", "open")
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            assert await connection[0].read(1000) == b""
    await until(b"x", connect)


async def test_silence_is_for_ever_and_says_nothing(through):
    levers, connect = through
    connection = await connect()
    assert await said(connection, b"a") == b"a"
    levers.set("proxy.echo", "silence")
    await until(None, connect)
    assert await said(connection, b"b") is None
    levers.set("proxy.echo", "open")
    await until(b"x", connect)
    assert await said(connection, b"c") is None
    connection[1].transport.abort()


async def test_a_delay_is_felt_either_way(through):
    levers, connect = through
    connection = await connect()
    loop = asyncio.get_running_loop()
    levers.set("proxy.echo", "delay 100")
    await asyncio.sleep(0.1)
    began_s = loop.time()
    connection[1].write(b"a")
    assert await connection[0].read(10) == b"a"
    assert loop.time() - began_s >= 0.2
