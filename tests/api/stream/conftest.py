"""A gateway on real sockets with real servers behind it, and clients that talk to it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from sqlalchemy.engine import make_url
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.auth import Tokens
from api.clock import now_ms
from api.data_keys import KeyRing
from api.gateway import serve_gateway
from api.personal import in_the_clear, without_texts
from api.pool import Pool
from api.segments import SegmentWriter
from api.sequencer import run_sequencer
from api.settings import CityArea, Settings
from api.store import Store, migrate
from api.supervisor import ServerUrls
from dispatch.commands import GoOnShift, Offer
from dispatch.model import Order, Place, Rider, RouteStop, Stop, StopKind

SECRET = "a secret of the tests, long enough for all"
CITY = CityArea(name="sh", lat=31.2304, lon=121.4737)
LIMIT_S = 10.0


class Client:
    """One end of a socket: says frames, hears messages, remembers what it has heard."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[dict[str, Any]] = []

    async def say(self, type_: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def hear(
        self, type_: str, where: Callable[[dict[str, Any]], bool] = lambda message: True
    ) -> dict[str, Any]:
        """The next message of this type, past whatever comes before it."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                message = json.loads(await self.socket.recv())
                self.heard.append(message)
                if message["type"] == type_ and where(message):
                    return dict(message)

    async def closed(self) -> tuple[int, str]:
        """Code and reason with which the server closes; hears what comes before."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    self.heard.append(json.loads(await self.socket.recv()))
        except ConnectionClosed as closed:
            frame = closed.rcvd
        return (frame.code, frame.reason) if frame else (1006, "no close frame")


@dataclass
class World:
    """The servers, the gateway and what a test does to them."""

    settings: Settings
    store: Store
    redis: redis.asyncio.Redis
    tokens: Tokens
    sockets: AsyncExitStack
    port: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gateway: asyncio.Task[None] | None = None

    @property
    def pool(self) -> Pool:
        return Pool(self.redis, CITY.name)

    async def start(
        self, redis_url: str | None = None, writer: SegmentWriter | None = None
    ) -> None:
        self.stop = asyncio.Event()
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gateway = asyncio.create_task(
            serve_gateway(
                self.settings,
                self.store,
                redis_url or self.settings.redis_url,
                self.stop,
                ready=port.set_result,
                writer=writer,
            )
        )
        await asyncio.wait([self.gateway, port], return_when=asyncio.FIRST_COMPLETED)
        if self.gateway.done():
            await self.gateway
        self.port = port.result()

    async def end(self) -> None:
        self.stop.set()
        if self.gateway is not None:
            await self.gateway

    async def connect(
        self, *, query: str = "", subprotocols: tuple[str, ...] = (), **kwargs: Any
    ) -> Client:
        socket = await self.sockets.enter_async_context(
            connect(
                f"ws://127.0.0.1:{self.port}/v1/stream{query}",
                subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                **kwargs,
            )
        )
        return Client(socket)

    async def enter(self, role: str, sub: str, **hello: Any) -> Client:
        """A client that has been welcomed, a rider registered; his welcome is `heard[0]`."""
        if role == "rider":
            await self.register(sub)
        client = await self.connect()
        token = self.tokens.mint(sub=sub, role=role, city=CITY.name)
        await client.say("hello", token=token, **hello)
        await client.hear("welcome")
        return client

    async def register(self, rider_id: str) -> None:
        await self.store.register_rider(Rider(id=rider_id, city=CITY.name))

    async def on_shift(self, rider_id: str) -> None:
        await self.register(rider_id)
        at_ms = now_ms()
        command = GoOnShift(
            at_ms=at_ms, shift_end_ms=at_ms + 3_600_000, place=Place(lat=CITY.lat, lon=CITY.lon)
        )
        assert (await self.store.run_rider(rider_id, command)).refusal is None

    async def place(self, order_id: str, customer_id: str = "cora", **fields: Any) -> Order:
        at_ms = now_ms()
        stops = tuple(
            Stop(kind=kind, place=Place(lat=lat, lon=CITY.lon, text=f"door {lat}"))
            for kind, lat in ((StopKind.PICKUP, CITY.lat), (StopKind.DROPOFF, CITY.lat + 0.01))
        )
        order = Order(
            id=order_id,
            city=CITY.name,
            job_type="delivery",
            customer_id=customer_id,
            stops=stops,
            created_at_ms=at_ms,
            promise_from_ms=at_ms,
            promise_to_ms=at_ms + 1_800_000,
            expires_at_ms=at_ms + 1_800_000,
            price_fen=1200,
            **fields,
        )
        sealed = self.store.personal.seal_order(order, in_the_clear(order), at_ms)
        bare = without_texts(order)
        done = await self.store.create_order(bare, at_ms, idempotency=None, personal=sealed)
        return done.order

    async def offer(self, order: Order, rider_id: str, before: tuple[RouteStop, ...] = ()) -> Order:
        """Offer the order; `before` comes first in the route that goes with it."""
        at_ms = now_ms()
        command = Offer(
            at_ms=at_ms,
            rider_id=rider_id,
            deadline_ms=at_ms + 30_000,
            route=(*before, *(RouteStop(order_id=order.id, stop=i) for i in range(2))),
            order_version=order.version,
        )
        outcome = await self.store.run(order.id, command)
        assert outcome.refusal is None
        return outcome.order


@pytest.fixture(scope="session")
def migrated(servers: ServerUrls) -> str:
    """The name of a migrated database, from which a test's own is copied in no time."""
    name = "stream"

    async def make() -> None:
        admin = await asyncpg.connect(servers.postgres.replace("+asyncpg", "", 1))
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        await migrate(_url(servers, name))

    asyncio.run(make())
    return name


@pytest.fixture
async def migrated_url(servers: ServerUrls, migrated: str) -> AsyncIterator[str]:
    """The address of a migrated and empty database, dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers.postgres.replace("+asyncpg", "", 1))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {migrated}")
    yield _url(servers, name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


def _url(servers: ServerUrls, database: str) -> str:
    return make_url(servers.postgres).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
async def world(migrated_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A store with a sequencer; a test starts the gateway itself, or takes `live`."""
    store = await Store.open(migrated_url, data_keys=KeyRing.open(tmp_path / "data-keys"))
    settings = Settings(
        postgres_url=migrated_url,
        redis_url=redis_url,
        data=tmp_path,
        secret=SECRET,
        cities=(CITY,),
        stream_port=0,
    )
    stop = asyncio.Event()
    sequencer = asyncio.create_task(run_sequencer(store, redis_url, stop))
    client = redis.asyncio.from_url(redis_url)
    async with AsyncExitStack() as sockets:
        world = World(settings, store, client, Tokens(SECRET), sockets)
        yield world
        await world.end()
    stop.set()
    await sequencer
    await client.aclose()
    await store.close()


@pytest.fixture
async def live(world: World) -> World:
    """The world with its gateway running."""
    await world.start()
    return world


@pytest.fixture
async def pool_redis(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """An empty database of Valkey that gives bytes."""
    client = redis.asyncio.from_url(redis_url)
    yield client
    await client.aclose()
