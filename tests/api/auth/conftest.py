"""One installation with HTTP in process and a gateway on real sockets, and people who ask it."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api.auth import Tokens
from api.clock import now_ms
from api.data_keys import KeyRing
from api.gateway import serve_gateway
from api.http import make_app
from api.personal import OrderPersonal
from api.settings import CityArea, Settings, WebhookSettings
from api.store import Store
from api.store.webhooks import Whose
from api.webhooks import make_key
from dispatch.commands import Accept, GoOnShift, Offer
from dispatch.model import Matching, Order, Place, Rider, RouteStop, Stop, StopKind

SECRET = "a-secret-of-the-tests-0123456789-abcdef"
CITY = CityArea(name="demo", lat=31.2304, lon=121.4737)
BEIJING = CityArea(name="bj", lat=39.9042, lon=116.4074)
LIMIT_S = 10.0


class Socket:
    """One end of a stream."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, type_: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def hear(self, *types: str) -> dict[str, Any]:
        """The next message of one of the types; a close is `{"type": "closed", "code", ...}`."""
        async with asyncio.timeout(LIMIT_S):
            try:
                while True:
                    message: dict[str, Any] = json.loads(await self.socket.recv())
                    if message["type"] in types:
                        return message
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                reason = closed.rcvd.reason if closed.rcvd else ""
                return {"type": "closed", "code": code, "reason": reason}

    async def closed(self) -> tuple[int, str]:
        last = await self.hear("nothing")
        return last["code"], last["reason"]


@dataclass
class House:
    """The installation, and what a test does with it."""

    settings: Settings
    store: Store
    redis: Redis
    app: FastAPI
    folder: Path
    stack: AsyncExitStack
    tokens: Tokens = field(default_factory=lambda: Tokens(SECRET))
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    gateway: asyncio.Task[None] | None = None
    port: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def client(self, bearer: str | None = None, peer: str = "127.0.0.1") -> httpx2.AsyncClient:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(
                app=self.app, raise_app_exceptions=False, client=(peer, 1)
            ),
            base_url="http://hexrun",
            headers=headers,
        )

    async def ask(
        self,
        bearer: str | None,
        method: str,
        path: str,
        body: Any = None,
        peer: str = "127.0.0.1",
        **headers: str,
    ) -> httpx2.Response:
        async with self.client(bearer, peer) as client:
            return await client.request(method, path, json=body, headers=headers)

    def token(self, role: str, sub: str = "me", **claims: Any) -> str:
        return self.tokens.mint(sub=sub, role=role, **claims)

    async def key(self, role: str = "integrator", sub: str = "shop", **changes: Any) -> str:
        """The text of a fresh API key."""
        known = {"tenant": "default", "city": "demo", "label": "", "expires_at_ms": None}
        made = await self.store.keys.create(role=role, sub=sub, at_ms=now_ms(), **(known | changes))
        return made.text

    async def rider(self, rider_id: str, tenant: str = "default", city: str = "demo") -> None:
        await self.store.register_rider(Rider(id=rider_id, tenant=tenant, city=city))

    async def on_shift(self, rider_id: str, tenant: str = "default", city: str = "demo") -> None:
        await self.rider(rider_id, tenant, city)
        at_ms = now_ms()
        place = Place(lat=CITY.lat, lon=CITY.lon)
        await self.store.run_rider(
            rider_id, GoOnShift(at_ms=at_ms, shift_end_ms=at_ms + 3_600_000, place=place)
        )

    async def endpoint(self, tenant: str = "default", city: str = "demo") -> str:
        """The id of a webhook endpoint with a dead letter at position 1; nobody listens there."""
        store, endpoint_id = self.store.webhooks, f"wh_{uuid.uuid4().hex}"
        await store.create(
            Whose(tenant, city), endpoint_id, make_key(), now_ms(),
            url="http://127.0.0.1:9/hook", description=endpoint_id, kinds=None,
            coordinate_system="wgs84", after=None,
        )  # fmt: skip
        connection = await asyncpg.connect(self.settings.postgres_url.replace("+asyncpg", "", 1))
        await connection.execute(
            "INSERT INTO webhook_dead_letters VALUES"
            " ($1, 1, 1, 'order', 'o', 1, 'placed', 1, 0, 'no answer', false)",
            endpoint_id,
        )
        await connection.close()
        return endpoint_id

    async def order(
        self,
        whose: str,
        tenant: str = "default",
        city: str = "demo",
        *,
        accepted: bool = True,
        hall: bool = False,
        personal: OrderPersonal | None = None,
    ) -> Order:
        """An order of the customer, merchant and rider `whose`, or of nobody yet, in the hall."""
        at_ms = now_ms()
        stops = tuple(
            Stop(kind=kind, place=Place(lat=CITY.lat + d, lon=CITY.lon))
            for kind, d in ((StopKind.PICKUP, 0.0), (StopKind.DROPOFF, 0.01))
        )
        order = Order(
            id=f"o{next(self._numbers)}",
            tenant=tenant,
            city=city,
            job_type="delivery",
            customer_id=whose,
            merchant_id=whose,
            stops=stops,
            created_at_ms=at_ms,
            promise_from_ms=at_ms,
            promise_to_ms=at_ms + 1_800_000,
            expires_at_ms=at_ms + 1_800_000,
            price_fen=1200,
            matching=Matching.HALL if hall else Matching.DISPATCH,
        )
        sealed = (
            None if personal is None else self.store.personal.seal_order(order, personal, at_ms)
        )
        order = (
            await self.store.create_order(order, at_ms, idempotency=None, personal=sealed)
        ).order
        if hall:
            return order
        offer = Offer(
            at_ms=at_ms,
            rider_id=whose,
            deadline_ms=at_ms + 30_000,
            route=tuple(RouteStop(order_id=order.id, stop=i) for i in range(2)),
            order_version=order.version,
        )
        order = (await self.store.run(order.id, offer)).order
        if accepted:
            accept = Accept(at_ms=at_ms, rider_id=whose, number=order.attempts)
            order = (await self.store.run(order.id, accept)).order
        return order

    async def open_gateway(self, **changes: Any) -> None:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        settings = replace(self.settings, **changes)
        self.gateway = asyncio.create_task(
            serve_gateway(
                settings, self.store, settings.redis_url, self.stop, ready=port.set_result
            )
        )
        await asyncio.wait([self.gateway, port], return_when=asyncio.FIRST_COMPLETED)
        self.port = port.result()

    async def close(self) -> None:
        self.stop.set()
        if self.gateway is not None:
            await self.gateway

    async def socket(self, token: str | None = None, **options: Any) -> Socket:
        """A socket; with a token, one that has said hello."""
        address = f"ws://127.0.0.1:{self.port}/v1/stream"
        socket = Socket(await self.stack.enter_async_context(connect(address, **options)))
        if token is not None:
            await socket.say("hello", token=token)
        return socket


@pytest.fixture(scope="session")
def auth_database(new_database: Callable[..., str]) -> str:
    """One migrated database for all tests of this folder."""
    return new_database("auth", lasting=False)


@pytest.fixture
async def store(
    auth_database: str, tmp_path: Path, empty: Callable[..., Any]
) -> AsyncIterator[Store]:
    """A store on that database, emptied."""
    await empty(auth_database)
    opened = await Store.open(auth_database, data_keys=KeyRing.open(tmp_path / "data-keys"))
    yield opened
    await opened.close()


@pytest.fixture
def make_house(
    store: Store, auth_database: str, redis_url: str, tmp_path: Path
) -> Callable[..., House]:
    """A house with other settings."""
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET + "\n")

    def make(stack: AsyncExitStack, **changes: Any) -> House:
        known: dict[str, Any] = {
            "postgres_url": auth_database,
            "redis_url": redis_url,
            "data": tmp_path,
            "secret": SECRET,
            "secret_file": secret_file,
            "cities": (CITY,),
            "http_port": 0,
            "stream_port": 0,
        }
        settings = Settings(**(known | changes))
        redis = Redis.from_url(settings.redis_url)
        app = make_app(store, settings, redis, console_folder=tmp_path / "no-console")
        return House(settings, store, redis, app, tmp_path, stack)

    return make


@pytest.fixture
async def houses(make_house: Callable[..., House]) -> AsyncIterator[Callable[..., House]]:
    """`houses(**settings)`: a house, closed at the end."""
    made: list[House] = []
    async with AsyncExitStack() as stack:

        def make(**changes: Any) -> House:
            made.append(make_house(stack, **changes))
            return made[-1]

        yield make
        for house in made:
            await house.close()
    for house in made:
        await house.redis.aclose()


@pytest.fixture
def house(houses: Callable[..., House]) -> House:
    return houses()


@pytest.fixture
def two_cities(houses: Callable[..., House]) -> House:
    """One that serves `demo` and `bj`, and calls webhooks on this machine."""
    return houses(cities=(CITY, BEIJING), webhooks=WebhookSettings(allow_private=True))
