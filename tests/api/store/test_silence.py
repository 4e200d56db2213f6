"""Connections to PostgreSQL that go silent without an end are given up, and fresh ones made."""

import asyncio
import contextlib

import pytest
from sqlalchemy.engine import make_url

from api.store import UNAVAILABLE, Store
from geo.errors import Unavailable

LIMIT_S = 30
AT_ONCE = 30  # more than there are connections


class Line:
    """A relay to PostgreSQL's socket, whose connections can fall silent for good."""

    def __init__(self, path):
        self._path = path
        self.silent = asyncio.Event()
        self.pumps = set()

    async def serve(self, reader, writer):
        silent = self.silent
        back, server = await asyncio.open_unix_connection(self._path)
        pumps = [
            asyncio.create_task(self._pump(reader, server, silent)),
            asyncio.create_task(self._pump(back, writer, silent)),
        ]
        self.pumps.update(pumps)
        await asyncio.wait(pumps)
        for end in (writer, server):
            end.transport.abort()

    async def _pump(self, reader, writer, silent):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not silent.is_set():
                    writer.write(data)
        if not silent.is_set():
            writer.transport.abort()

    def fall_silent(self):
        """Whatever is connected now; what comes next is good."""
        self.silent.set()
        self.silent = asyncio.Event()


@pytest.fixture
async def far(migrated_url, sql, monkeypatch):
    """(store, line): the store speaks to PostgreSQL through the line."""
    for module in ("store", "quick", "sequencing"):
        monkeypatch.setattr(f"api.store.{module}.ANSWER_LIMIT_S", 0.5)
    url = make_url(migrated_url)
    line = Line(f"{url.query['host']}/.s.PGSQL.{url.query.get('port', 5432)}")
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    opened = await Store.open(
        url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    )
    yield opened, line
    async with asyncio.timeout(LIMIT_S):
        await opened.close()
    server.close()
    for pump in line.pumps:
        pump.cancel()


async def until_answered(ask):
    """Ask again and again; what comes at last."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with contextlib.suppress(*UNAVAILABLE):
                return await ask()


async def test_a_store_whose_connections_have_gone_silent_comes_back(far, new_order):
    store, line = far
    order = new_order("o1")
    await store.create_order(order, order.created_at_ms, idempotency=None)
    await asyncio.gather(*(store.order("o1") for _ in range(AT_ONCE)))
    line.fall_silent()
    asked = (until_answered(lambda: store.order("o1")) for _ in range(AT_ONCE))
    assert {found.id for found in await asyncio.gather(*asked)} == {"o1"}


async def test_one_that_was_idle_is_asked_before_its_use(far, new_order, monkeypatch):
    monkeypatch.setattr("api.store.pooling.IDLE_MAX_S", 0.0)
    store, line = far
    order = new_order("o1")
    await store.create_order(order, order.created_at_ms, idempotency=None)
    await store.order("o1")
    line.fall_silent()
    assert (await store.order("o1")).id == "o1"


async def test_so_does_the_quick_way(far, new_order):
    store, line = far

    async def place(name):
        order = new_order(name)
        return await store.create_order(order, order.created_at_ms, idempotency=None)

    await asyncio.gather(*(place(f"before-{n}") for n in range(AT_ONCE)))
    line.fall_silent()
    await asyncio.gather(*(until_answered(lambda n=n: place(f"after-{n}")) for n in range(AT_ONCE)))
    assert (await store.order("after-7")).id == "after-7"


async def test_a_sequencer_says_that_its_session_is_lost(far, new_order):
    store, line = far
    session = await store.open_sequencing()
    assert await session.lock()
    line.fall_silent()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(Unavailable):
            await session.take(10)
        await session.close()
