"""A migrated store on a fresh database, and what the tests put into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from api.personal import RiderPersonal
from api.store import Store
from api.supervisor import Child, DataFolder, EmbeddedValkey
from dispatch.commands import Accept, Offer
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Place, Rider, RouteStop
from dispatch.registry import OrderForm, StopForm

NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="session")
def migrated_url(new_database: Callable[..., str]) -> str:
    """One migrated database for all tests of this folder."""
    return new_database("store")


@pytest.fixture
async def sql(migrated_url: str, empty: Callable[..., Any]) -> AsyncIterator[asyncpg.Connection]:
    """The database, empty, on a connection of its own to look behind the store's back."""
    await empty(migrated_url)
    connection = await asyncpg.connect(migrated_url.replace("+asyncpg", "", 1))
    yield connection
    await connection.close()


@pytest.fixture
async def store(migrated_url: str, sql: asyncpg.Connection) -> AsyncIterator[Store]:
    """A store on the emptied database."""
    opened = await Store.open(migrated_url)
    yield opened
    await opened.close()


@pytest.fixture
def new_order() -> Callable[..., Order]:
    """A quoted delivery."""

    def make(order_id: str, **changes: Any) -> Order:
        stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
        form = OrderForm(customer_id="anna", stops=stops)
        order = JOB.order(order_id, "demo", form, JOB.quote(form, NOW_MS), NOW_MS)
        return replace(order, **changes)

    return make


@pytest.fixture
def placed(store: Store, new_order: Callable[..., Order]) -> Callable[..., Any]:
    """Place an order and give it as it stands."""

    async def place(order_id: str, **changes: Any) -> Order:
        created = await store.create_order(new_order(order_id, **changes), NOW_MS, idempotency=None)
        return created.order

    return place


@pytest.fixture
def registered(store: Store) -> Callable[..., Any]:
    """Register a rider, off shift, with what is known of him; needs a store with keys."""

    async def register(rider_id: str, own: RiderPersonal) -> None:
        known = Rider(id=rider_id, city="demo")
        await store.register_once(known, None, NOW_MS, name=own.name, phone=own.phone)

    return register


@pytest.fixture
def offer() -> Callable[..., Offer]:
    """An offer of the order as it stands to a rider."""

    def make(order: Order, rider_id: str = "rita", at_ms: int = NOW_MS) -> Offer:
        return Offer(
            at_ms=at_ms,
            rider_id=rider_id,
            deadline_ms=at_ms + 20_000,
            route=tuple(RouteStop(order_id=order.id, stop=n) for n in range(len(order.stops))),
            order_version=order.version,
        )

    return make


@pytest.fixture
def accepted(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer]
) -> Callable[..., Any]:
    """Place an order, offer it and have it accepted."""

    async def make(order_id: str, rider_id: str = "rita") -> Order:
        order = await placed(order_id)
        order = (await store.run(order_id, offer(order, rider_id))).order
        accept = Accept(at_ms=NOW_MS + 1, rider_id=rider_id, number=order.attempts)
        return (await store.run(order_id, accept)).order

    return make


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[OwnValkey]:
    """A Valkey of this test alone, running."""
    folder = DataFolder(tmp_path / "valkey")
    valkey = OwnValkey(folder)
    await valkey.start()
    yield valkey
    await valkey.stop()
    folder.close()


class OwnValkey:
    """Valkey that a test may stop and start; it keeps nothing."""

    def __init__(self, folder: DataFolder) -> None:
        self._server = EmbeddedValkey(folder, environ={})
        self._child: Child | None = None
        self.url = self._server.url

    async def start(self) -> None:
        await self._server.prepare()
        self._child = self._server.child()
        self._child.start()
        while not await self._server.ready():
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        assert self._child is not None
        await self._child.stop()
