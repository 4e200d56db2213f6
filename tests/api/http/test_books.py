"""The money of a day: over a real port, down to accounts that add up to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from api.auth import Tokens
from api.clock import now_ms
from api.http import serve_http
from api.settings import Settings
from api.store import Store
from dispatch import commands as c
from dispatch.model import Order, RouteStop

LIMIT_S = 30


@pytest.fixture
async def at_port(store: Store, settings: Settings) -> AsyncIterator[Callable[..., Any]]:
    """`at_port(role, sub)`: a client of the server that listens."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_http(settings, stop, ready=port.set_result))
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(LIMIT_S):
            base = f"http://127.0.0.1:{await port}"

        async def enter(role: str, sub: str) -> httpx2.AsyncClient:
            token = Tokens(settings.secret).mint(sub=sub, role=role)
            headers = {"Authorization": f"Bearer {token}"}
            client = httpx2.AsyncClient(base_url=base, headers=headers)
            return await stack.enter_async_context(client)

        yield enter
    stop.set()
    await serving


async def placed(client: httpx2.AsyncClient, form: dict[str, Any], key: str) -> dict[str, Any]:
    answer = await client.post("/v1/orders", json=form, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    return order


async def serve(store: Store, order_id: str) -> Order:
    """Rita brings it, and the customer has nothing to object."""
    order = await store.order(order_id)
    assert order is not None
    at_ms, route = now_ms(), tuple(RouteStop(order_id=order_id, stop=n) for n in range(2))
    offer = c.Offer(
        at_ms=at_ms, rider_id="rita", deadline_ms=at_ms + 30_000, route=route,
        order_version=order.version,
    )  # fmt: skip
    steps: list[Any] = [offer, c.Accept(at_ms=at_ms, rider_id="rita", number=1)]
    for stop in range(2):
        for kind in (c.Head, c.Arrive, c.FinishStop):
            steps.append(kind(at_ms=at_ms, rider_id="rita", stop=stop))
    for command in (*steps, c.Complete(at_ms=at_ms)):
        outcome = await store.run(order_id, command)
        assert outcome.refusal is None, outcome.refusal
    return outcome.order


async def test_a_day_of_money(
    at_port: Any,
    store: Store,
    form: dict[str, Any],
    http_database: str,
    trial_balance: Callable[..., Any],
) -> None:
    anna, shop = await at_port("customer", "anna"), await at_port("integrator", "shop")
    names = ("cancelled", "expired", "completed", "waiting")
    orders = {name: await placed(anna, form, name) for name in names}
    price = orders["waiting"]["price_fen"]
    assert {order["price_fen"] for order in orders.values()} == {price}
    again = await placed(anna, form, "waiting")
    assert again == orders["waiting"]

    for _ in range(2):
        path = f"/v1/orders/{orders['cancelled']['id']}/cancel"
        answer = await anna.post(path, json={}, headers={"Idempotency-Key": "no"})
        assert answer.json()["state"] == "cancelled_customer"
    late = c.Expire(at_ms=orders["expired"]["expires_at_ms"] + 1)
    assert (await store.run(orders["expired"]["id"], late)).refusal is None
    await serve(store, orders["completed"]["id"])

    notice = {"provider": "wechat", "notice_id": "n1", "customer_id": "anna", "fen": price}
    notice["order_id"] = orders["completed"]["id"]
    answers = [await shop.post("/v1/payments/notices", json=notice) for _ in range(2)]
    assert [a.status_code for a in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert [a.headers.get("Idempotent-Replay") for a in answers] == [None, "true"]

    moved = {}
    for name, order in orders.items():
        answer = await anna.get(f"/v1/orders/{order['id']}/transfers")
        moved[name] = [(t["kind"], t["debit"], t["credit"]) for t in answer.json()["transfers"]]
        assert {t["fen"] for t in answer.json()["transfers"]} == {price}
    mine, escrow, sales = "customer/default/anna", "escrow/default", "sales/default"
    hold, release = ("hold", mine, escrow), ("release", escrow, mine)
    assert moved == {
        "cancelled": [hold, release],
        "expired": [hold, release],
        "completed": [hold, ("capture", escrow, sales), ("payment", "gateway/wechat", mine)],
        "waiting": [hold],
    }
    trial = await trial_balance(http_database)
    assert trial == {"gateway/wechat": -price, mine: -price, escrow: price, sales: price}
