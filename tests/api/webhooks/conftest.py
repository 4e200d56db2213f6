"""Receivers on real sockets, a sender and a sequencer beside the test, orders with long lives."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from api.clock import monotonic_s, now_ms
from api.http.answers import view_event
from api.sequencer import run_sequencer
from api.settings import WebhookSettings
from api.store import Positioned, Store
from api.store.webhooks import Endpoint, Whose
from api.webhooks import make_key, run_sender
from dispatch.commands import Decline, Offer
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Place, RouteStop
from dispatch.registry import OrderForm, StopForm
from geo.datum import System

LIMIT_S = 60.0  # processes may start slowly where others work too
HERE = Whose("default", "demo")
FAST = WebhookSettings(retry_s=(0.1, 0.2, 0.4), give_up_s=60, pause_s=60, allow_private=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What a receiver was sent; `headers` by their names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float
    status: int | None

    @property
    def event(self) -> Any:
        return json.loads(self.body)


class Drop(Exception):
    """The receiver hangs up without an answer."""


Behave = Callable[[Any], Awaitable[int]]


class Receiver:
    """A small HTTP server. `behave(event)` gives the status, waits, or raises Drop."""

    def __init__(self) -> None:
        self.got: list[Request] = []
        self.behave: Behave = self.accept
        self.answer = b""
        self.headers = b""
        self.connections = 0
        self.busy = 0
        self.busy_max = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @staticmethod
    async def accept(event: Any) -> int:
        return 200

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = await reader.readexactly(int(headers["content-length"]))
        at_s = monotonic_s()
        self.busy += 1
        self.busy_max = max(self.busy_max, self.busy)
        status: int | None = None
        try:
            status = await self.behave(json.loads(body))
        except Drop:
            return False
        finally:
            self.busy -= 1
            self.got.append(Request(head[0].split()[1], headers, body, at_s, status))
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n" % (status, len(self.answer)))
        writer.write(self.headers + b"\r\n" + self.answer)
        await writer.drain()
        return True

    # --- what it got -------------------------------------------------------------------------

    def taken(self) -> list[Any]:
        """The events that it answered with 2xx, in order."""
        return [r.event for r in self.got if r.status is not None and 200 <= r.status < 300]

    def lives(self) -> dict[str, list[int]]:
        """The `seq` of the events taken by order, each event at its first time."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        seen: set[str] = set()
        for event in self.taken():
            if event["event_id"] not in seen:
                seen.add(event["event_id"])
                found[event["id"]].append(event["seq"])
        return dict(found)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true."""
        async with asyncio.timeout(LIMIT_S):
            while not true():
                await asyncio.sleep(0.01)


@pytest.fixture
def fast() -> WebhookSettings:
    """Retries in tenths of a second, to loopback."""
    return FAST


@pytest.fixture
def drop() -> type[Exception]:
    """What `behave` raises to hang up."""
    return Drop


@pytest.fixture
async def new_receiver() -> AsyncIterator[Callable[[], Awaitable[Receiver]]]:
    made: list[Receiver] = []

    async def make() -> Receiver:
        receiver = Receiver()
        await receiver.start()
        made.append(receiver)
        return receiver

    yield make
    for receiver in made:
        await receiver.stop()


@pytest.fixture
async def receiver(new_receiver: Callable[[], Awaitable[Receiver]]) -> Receiver:
    return await new_receiver()


@pytest.fixture(scope="session")
def webhook_database(new_database: Callable[..., str]) -> str:
    """One migrated database for all tests of this folder."""
    return new_database("webhooks")


@pytest.fixture
async def sql(
    webhook_database: str, empty: Callable[..., Any]
) -> AsyncIterator[asyncpg.Connection]:
    """That database, emptied, on a connection of its own."""
    await empty(webhook_database)
    connection = await asyncpg.connect(webhook_database.replace("+asyncpg", "", 1))
    yield connection
    await connection.close()


@pytest.fixture
async def store(webhook_database: str, sql: asyncpg.Connection) -> AsyncIterator[Store]:
    opened = await Store.open(webhook_database)
    yield opened
    await opened.close()


@pytest.fixture
async def sequencer(store: Store, redis_url: str) -> AsyncIterator[None]:
    """One that gives positions during the test."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_sequencer(store, redis_url, stop))
    yield
    stop.set()
    await task


class Senders:
    """Senders that run beside the test."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def start(self, settings: WebhookSettings = FAST) -> None:
        stop = asyncio.Event()
        work = run_sender(self._store, settings, view, stop, poll_s=0.05)
        self._running.append((stop, asyncio.create_task(work)))

    async def stop(self) -> None:
        for stop, task in self._running:
            stop.set()
            await task
        self._running.clear()


def view(entry: Positioned, coordinate_system: str) -> Mapping[str, Any]:
    return view_event(entry, System(coordinate_system)).model_dump(mode="json")


@pytest.fixture
async def senders(store: Store, sequencer: None) -> AsyncIterator[Senders]:
    made = Senders(store)
    yield made
    await made.stop()


@pytest.fixture
def endpoint(store: Store) -> Callable[..., Awaitable[Endpoint]]:
    """Make an endpoint for a URL; from the first event on, if nothing else is said."""

    async def make(url: str, whose: Whose = HERE, **changes: Any) -> Endpoint:
        given = {
            "url": url,
            "description": "",
            "kinds": None,
            "coordinate_system": "gcj02",
            "after": 0,
        }
        made = store.webhooks.create(
            whose, f"wh_{uuid.uuid4().hex}", make_key(), now_ms(), **given | changes
        )
        return await made

    return make


@pytest.fixture
def settled(store: Store, sql: asyncpg.Connection) -> Callable[..., Awaitable[None]]:
    """Wait until every event is in the feed, and delivered or dead at the endpoint."""

    async def wait(made: Endpoint) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not await done(made):
                await asyncio.sleep(0.02)

    async def done(made: Endpoint) -> bool:
        if await sql.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
            return False
        head = await store.last_position("demo")
        one = await store.webhooks.one(HERE, made.id)
        return one.cursor == head and not await store.webhooks.sending.behind(made.id)

    return wait


@pytest.fixture
def live(store: Store) -> Callable[..., Awaitable[Order]]:
    """Place an order and have it offered and declined until it has so many events (even)."""

    async def make(order_id: str, events: int = 2, **changes: Any) -> Order:
        at_ms = now_ms()
        stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
        form = OrderForm(customer_id="anna", stops=stops)
        order = JOB.order(order_id, "demo", form, JOB.quote(form, at_ms), at_ms)
        order = replace(order, **changes)
        order = (await store.create_order(order, at_ms, idempotency=None)).order
        return await go_on(store, order, events)

    return make


@pytest.fixture
def more(store: Store) -> Callable[..., Awaitable[Order]]:
    """Have the order offered and declined until it has so many events (even)."""

    async def make(order: Order, events: int) -> Order:
        return await go_on(store, order, events)

    return make


async def go_on(store: Store, order: Order, events: int) -> Order:
    """Offer it and have it declined until it has so many events (even)."""
    while order.version < events:
        at_ms = now_ms()
        offer = Offer(
            at_ms=at_ms,
            rider_id=f"r{order.version}",
            deadline_ms=at_ms + 20_000,
            route=tuple(RouteStop(order_id=order.id, stop=n) for n in range(len(order.stops))),
            order_version=order.version,
        )
        order = (await store.run(order.id, offer)).order
        decline = Decline(at_ms=at_ms, rider_id=offer.rider_id, number=order.attempts)
        outcome = await store.run(order.id, decline)
        assert outcome.refusal is None
        order = outcome.order
    return order
