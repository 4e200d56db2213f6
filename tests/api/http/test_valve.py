"""A flood of orders: most are refused, riders are served all the same, and nothing is left over."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis

from api.auth import Tokens
from api.capacity import Budget, Limits, read_limits
from api.clock import now_ms
from api.http import make_app
from api.http.valve import Capacity
from api.settings import CityArea, Settings
from api.store import Store
from dispatch.model import Rider
from geo.errors import InvalidValue, Overloaded, UnknownName

FLOOD = 60
LIMITS = Limits(orders_at_once=2, orders_waiting=4)


def client_of(app: FastAPI, role: str, sub: str, **claims: Any) -> httpx2.AsyncClient:
    settings = app.state.parts.settings
    token = Tokens(settings.secret).mint(sub=sub, role=role, **claims)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://hexrun",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.fixture
def small(store: Store, settings: Settings, app: FastAPI) -> FastAPI:
    """The application with room for few orders at once."""
    return make_app(store, replace(settings, limits=LIMITS), app.state.parts.redis)


@pytest.fixture
async def orders_held(settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    """A connection and its transaction, which lets nobody place an order while it lasts."""
    holder = await asyncpg.connect(settings.postgres_url.replace("+asyncpg", "", 1))
    held = holder.transaction()
    await held.start()
    await holder.execute("LOCK TABLE orders IN EXCLUSIVE MODE")
    yield holder, held
    await holder.close()


async def test_a_flood_of_orders_does_not_hold_up_riders(
    small: FastAPI, store: Store, orders_held: tuple[Any, Any], form: dict[str, Any]
) -> None:
    await store.register_rider(Rider(id="r1", city="demo"))
    holder, held = orders_held
    async with client_of(small, "customer", "anna") as anna, client_of(small, "rider", "r1") as r1:

        async def place(n: int) -> httpx2.Response:
            return await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": f"k{n}"})

        flood = [asyncio.create_task(place(n)) for n in range(FLOOD)]
        # All others are refused while these wait.
        room = LIMITS.orders_at_once + LIMITS.orders_waiting
        async with asyncio.timeout(60):
            while sum(task.done() for task in flood) < FLOOD - room:
                await asyncio.sleep(0.01)
        place_of = form["stops"][0]["place"]
        on = {"on": True, "shift_end_ms": now_ms() + 3_600_000, "place": place_of}
        async with asyncio.timeout(5):
            shift = await r1.post("/v1/riders/r1/shift", json=on)
        assert shift.status_code == 200, shift.text
        await held.rollback()
        answers = await asyncio.gather(*flood)
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {201, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "1"
                assert answer.json()["error"]["code"] == "overloaded"
        # What was refused has left nothing: not an order, and not its key.
        assert (await store.counts("demo"))["open"] == statuses[201]
        left = await holder.fetchval("SELECT count(*) FROM idempotency")
        assert left == statuses[201]
        again = await place(next(n for n, a in enumerate(answers) if a.status_code == 503))
        assert again.status_code == 201
        text = (await anna.get("/metrics")).text
    assert 'hexrun_http_unavailable_total{reason="orders"}' in text
    assert 'hexrun_http_requests_total{method="POST",route="/v1/orders",status="503"}' in text


async def test_a_late_event_loop_refuses_orders_then_looking(
    small: FastAPI, form: dict[str, Any]
) -> None:
    capacity: Capacity = small.state.capacity
    async with client_of(small, "customer", "anna") as anna, client_of(small, "rider", "r1") as r1:
        statuses = {}
        for lag_ms in (0.0, 1_500.0, 2_500.0):
            capacity.load.lag_ms = lag_ms
            answers = [
                await anna.post("/v1/quotes", json=form),
                await anna.get("/v1/orders/o1"),
                await r1.get("/v1/riders/r1"),
                await anna.post("/v1/orders/o1/cancel", json={}),
                await anna.get("/livez"),
            ]
            statuses[lag_ms] = [answer.status_code for answer in answers]
    assert statuses == {
        0.0: [200, 404, 404, 404, 200],
        1_500.0: [503, 404, 404, 404, 200],
        2_500.0: [503, 503, 404, 404, 200],
    }


async def test_too_many_orders_for_the_riders_on_shift(
    store: Store, settings: Settings, app: FastAPI, form: dict[str, Any]
) -> None:
    limits = Limits(open_orders_per_rider=1)
    crowded = make_app(store, replace(settings, limits=limits), app.state.parts.redis)
    async with (
        client_of(crowded, "customer", "anna", tenant="full") as anna,
        client_of(crowded, "customer", "anna", tenant="else") as other,
    ):
        keys = [{"Idempotency-Key": f"k{n}"} for n in range(2)]
        assert (await anna.post("/v1/orders", json=form, headers=keys[0])).status_code == 201
        crowded.state.capacity._crowds.clear()  # it asks anew after some seconds
        full = await anna.post("/v1/orders", json=form, headers=keys[1])
        assert (full.status_code, full.headers["Retry-After"]) == (503, "1")
        assert "open_orders_per_rider" in full.json()["error"]["message"]
        # An order that was taken is still answered, and another tenant has riders of his own.
        assert (await anna.post("/v1/orders", json=form, headers=keys[0])).status_code == 201
        assert (await other.post("/v1/orders", json=form, headers=keys[0])).status_code == 201


async def test_each_caller_s_places_are_checked_against_his_city(
    store: Store, settings: Settings, app: FastAPI, form: dict[str, Any]
) -> None:
    beijing = CityArea(name="bj", lat=39.9042, lon=116.4074)
    both = make_app(
        store, replace(settings, cities=(*settings.cities, beijing)), app.state.parts.redis
    )
    stops = [{"place": {"lat": 39.91 + d, "lon": 116.41}} for d in (0, 0.01)]
    there = {"job_type": "delivery", "stops": stops}
    statuses = {}
    for city in ("demo", "bj", "gz"):
        async with client_of(both, "customer", "anna", city=city) as client:
            answers = [await client.post("/v1/quotes", json=body) for body in (form, there)]
            statuses[city] = [answer.status_code for answer in answers]
    assert statuses == {"demo": [200, 422], "bj": [422, 200], "gz": [403, 403]}


async def test_metrics_are_for_private_addresses(
    store: Store, settings: Settings, redis_url: str
) -> None:
    redis = Redis.from_url(redis_url)
    seen = {}
    for readers in ("private", "all", "none"):
        app = make_app(store, replace(settings, metrics_for=readers), redis)
        for peer in ("127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "8.8.8.8"):
            transport = httpx2.ASGITransport(app=app, client=(peer, 1))
            async with httpx2.AsyncClient(transport=transport, base_url="http://h") as client:
                seen[readers, peer] = (await client.get("/metrics")).status_code
    await redis.aclose()
    assert {readers for (readers, peer), status in seen.items() if status == 200} == {
        "private",
        "all",
    }
    assert [p for (r, p), status in seen.items() if r == "private" and status != 200] == ["8.8.8.8"]


async def test_who_waits_too_long_for_a_budget_is_refused() -> None:
    budget = Budget("things", at_once=1, waiting_max=1, wait_s=0.05)

    async def use(gate: asyncio.Event) -> None:
        async with budget.share():
            await gate.wait()

    gate = asyncio.Event()
    user = asyncio.create_task(use(gate))
    await asyncio.sleep(0)
    assert not budget.full
    waiting = asyncio.create_task(use(gate))
    await asyncio.sleep(0)
    assert budget.full
    with pytest.raises(Overloaded, match="things"):
        await use(gate)
    with pytest.raises(Overloaded):
        await waiting
    gate.set()
    await user
    async with budget.share():
        assert budget.waiting == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [("orders=1", UnknownName), ("connections=x", InvalidValue), ("connections=0", InvalidValue)],
)
def test_wrong_limits_are_named(text: str, error: Callable[..., Exception]) -> None:
    with pytest.raises(error, match="HEXRUN_LIMITS"):  # type: ignore[call-overload]
        read_limits({"HEXRUN_LIMITS": text})


def test_limits_are_read() -> None:
    found = read_limits({"HEXRUN_LIMITS": "connections=5, orders_waiting=0"})
    assert found == Limits(connections=5, orders_waiting=0)
