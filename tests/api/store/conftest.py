"""A migrated store on a fresh database, and what the tests put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from api.store import Store, migrate
from dispatch.commands import Accept, Offer
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Place, RouteStop
from dispatch.registry import OrderForm, StopForm

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    await migrate(database_url)
    opened = await Store.open(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def sql(store: Store, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own to the same database, to look behind the store's back."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    yield connection
    await connection.close()


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
        created = await store.create_order(
            new_order(order_id, **changes), NOW_MS, idempotency=None
        )
        return created.order

    return place


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
