"""Quotes and orders over HTTP: prices that hold, retries that are safe, and who may see what."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from api.auth import Tokens
from api.clock import now_ms
from api.store import Store
from dispatch.commands import Accept, Arrive, Offer, Open
from dispatch.model import RouteStop

SECRET = "test-" * 8
Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]


async def place(client: Client, form: dict[str, Any], key: str = "k1") -> httpx2.Response:
    return await client.post("/v1/orders", json=form, headers={"Idempotency-Key": key})


def error(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The error, which has the one shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field", "value", "expected"}
    assert body["error"]["code"] == code
    found: dict[str, Any] = body["error"]
    return found


async def test_a_quote(anna: Client, form: dict[str, Any]) -> None:
    answer = (await anna.post("/v1/quotes", json=form)).json()
    assert [line["name"] for line in answer["lines"]] == ["base", "distance"]
    assert sum(line["fen"] for line in answer["lines"]) == answer["price_fen"] > 500
    assert now_ms() < answer["promise_from_ms"] < answer["promise_to_ms"]
    assert 590_000 < answer["expires_at_ms"] - now_ms() <= 600_000


async def test_an_order_at_the_quoted_price(
    anna: Client, store: Store, form: dict[str, Any]
) -> None:
    quote = (await anna.post("/v1/quotes", json=form)).json()
    response = await place(anna, form | {"price_token": quote["price_token"]})
    assert response.status_code == 201
    assert "Idempotent-Replay" not in response.headers
    order = response.json()
    assert order["price_fen"] == quote["price_fen"]
    assert order["promise_to_ms"] == quote["promise_to_ms"]
    assert (order["state"], order["codes"]["wechat"], order["final"]) == ("open", "101", False)
    assert [s["kind"] for s in order["stops"]] == ["pickup", "dropoff"]
    assert [s["state"] for s in order["stops"]] == ["planned", "planned"]
    assert order["stops"][1]["place"]["text"] == "third floor"
    stored = await store.order(order["id"])
    assert stored is not None
    assert (stored.customer_id, stored.tenant) == ("anna", "default")
    assert (stored.note, stored.stops[1].place.text) == ("", "")
    assert order["note"] == "no onions"
    assert stored.stops[0].place.system == "gcj02"
    seen = (await anna.get(f"/v1/orders/{order['id']}")).json()
    assert seen == order


async def test_an_order_without_a_quote(anna: Client, form: dict[str, Any]) -> None:
    order = (await place(anna, form)).json()
    assert order["price_fen"] == (await anna.post("/v1/quotes", json=form)).json()["price_fen"]


async def test_an_order_for_later_is_scheduled_until_an_hour_before(
    anna: Client, store: Store, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ms = now_ms()
    monkeypatch.setattr("api.http.orders.now_ms", lambda: at_ms)
    del form["stops"][1]["latest_ms"]
    form["stops"][0]["earliest_ms"] = at_ms + 3_600_000
    assert (await place(anna, form, "soon")).json()["state"] == "open"
    form["stops"][0]["earliest_ms"] += 1
    order = (await place(anna, form, "later")).json()
    assert (order["state"], order["version"]) == ("scheduled", 2)
    stored = await store.order(order["id"])
    assert stored is not None
    assert stored.open_at_ms == at_ms + 1
    assert (await store.run(order["id"], Open(at_ms=at_ms + 1))).refusal is None
    seen = (await anna.get(f"/v1/orders/{order['id']}")).json()
    assert (seen["state"], seen["stops"]) == ("open", order["stops"])


async def test_a_price_holds_for_ten_minutes(
    anna: Client, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await anna.post("/v1/quotes", json=form)).json()["price_token"]
    later = now_ms() + 601_000
    monkeypatch.setattr("api.http.orders.now_ms", lambda: later)
    found = error(await place(anna, form | {"price_token": token}), 409, "price_expired")
    assert "quote again" in found["message"]


async def test_a_price_is_for_its_form_and_its_caller(
    anna: Client, client_as: ClientAs, form: dict[str, Any]
) -> None:
    token = (await anna.post("/v1/quotes", json=form)).json()["price_token"]
    farther = copy.deepcopy(form)
    farther["stops"][1]["place"]["lat"] = 31.26
    for client, body in (
        (anna, farther),
        (anna, form | {"load": [2]}),
        (client_as("customer", "bob"), form),
    ):
        found = error(await place(client, body | {"price_token": token}), 422, "invalid_value")
        assert found["field"] == "price_token"
        assert "another" in found["expected"]
    access = Tokens(SECRET).mint(sub="anna", role="customer")
    for forged in ("", "nonsense", token[:-2], access):
        found = error(await place(anna, form | {"price_token": forged}), 422, "invalid_value")
        assert found["field"] == "price_token"


async def test_the_price_token_is_no_key_to_the_door(
    client_as: ClientAs, anna: Client, form: dict[str, Any]
) -> None:
    token = (await anna.post("/v1/quotes", json=form)).json()["price_token"]
    stranger = client_as()
    response = await stranger.get("/v1/orders/x", headers={"Authorization": f"Bearer {token}"})
    assert "issuer" in error(response, 401, "unauthorised")["message"]


async def test_a_retry_gives_the_first_answer(
    anna: Client, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quote = (await anna.post("/v1/quotes", json=form)).json()
    form = form | {"price_token": quote["price_token"]}
    first = await place(anna, form)
    await anna.post(f"/v1/orders/{first.json()['id']}/cancel", json={})
    # Long after the price and the window are over.
    monkeypatch.setattr("api.http.orders.now_ms", lambda: quote["expires_at_ms"] + 7_200_000)
    again = await place(anna, form)
    assert again.status_code == first.status_code == 201
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.json() == first.json()


async def test_another_body_under_the_same_key(anna: Client, form: dict[str, Any]) -> None:
    await place(anna, form)
    found = error(await place(anna, form | {"note": "with onions"}), 409, "conflict")
    assert "k1" in found["message"]
    assert (await place(anna, form | {"note": "with onions"}, "k2")).status_code == 201


async def test_keys_are_each_client_s_own(
    anna: Client, client_as: ClientAs, form: dict[str, Any]
) -> None:
    first = await place(anna, form)
    for client in (client_as("customer", "bob"), client_as("customer", "anna", tenant="else")):
        other = await place(client, form)
        assert other.status_code == 201
        assert other.json()["id"] != first.json()["id"]


async def test_twenty_at_once_make_one_order(
    anna: Client, store: Store, form: dict[str, Any]
) -> None:
    answers = await asyncio.gather(*(place(anna, form) for _ in range(20)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum("Idempotent-Replay" not in a.headers for a in answers) == 1
    assert await store.counts("demo") == {"open": 1}


@pytest.mark.parametrize("key", [None, "", "x" * 256, "white space", "na\x7fme"])
async def test_the_key_is_needed(anna: Client, form: dict[str, Any], key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await anna.post("/v1/orders", json=form, headers=headers)
    assert error(response, 422, "invalid_value")["field"] == "Idempotency-Key"


async def test_the_order_as_it_goes_on(
    anna: Client, client_as: ClientAs, store: Store, form: dict[str, Any]
) -> None:
    order_id = (await place(anna, form)).json()["id"]
    at_ms = now_ms()
    route = tuple(RouteStop(order_id=order_id, stop=n) for n in (0, 1))
    offer = Offer(
        at_ms=at_ms, rider_id="rita", deadline_ms=at_ms + 9_999, route=route, order_version=2
    )
    await store.run(order_id, offer)
    await store.run(order_id, Accept(at_ms=at_ms, rider_id="rita", number=1))
    await store.run(order_id, Arrive(at_ms=at_ms, rider_id="rita", stop=0))
    order = (await anna.get(f"/v1/orders/{order_id}")).json()
    assert (order["state"], order["codes"]["wechat"]) == ("under_way", "201")
    assert [s["state"] for s in order["stops"]] == ["arrived", "planned"]
    assert order["stops"][0]["arrived_at_ms"] == at_ms
    assert order["assignment"]["rider_id"] == "rita"
    assert order["assignment"]["state"] == "active"
    rita = await client_as("rider", "rita").get(f"/v1/orders/{order_id}")
    assert rita.json() == order


async def test_who_may_see_an_order(
    anna: Client, client_as: ClientAs, form: dict[str, Any]
) -> None:
    body = form | {"merchant_id": "shop"}
    order_id = (await place(anna, body)).json()["id"]
    for role, sub, claims, status in (
        ("customer", "bob", {}, 403),
        ("customer", "shop", {}, 403),
        ("merchant", "shop", {}, 200),
        ("merchant", "anna", {}, 403),
        ("rider", "anna", {}, 403),
        ("operator", "olga", {}, 200),
        ("integrator", "erp", {}, 200),
        ("operator", "olga", {"tenant": "else"}, 403),
        ("customer", "anna", {"tenant": "else"}, 403),
        ("operator", "olga", {"city": "else"}, 403),
    ):
        client = client_as(role, sub, **claims)
        response = await client.get(f"/v1/orders/{order_id}")
        assert response.status_code == status, (role, sub, claims)
        if status == 403:
            error(response, 403, "forbidden")
            cancelled = await client.post(f"/v1/orders/{order_id}/cancel", json={})
            error(cancelled, 403, "forbidden")
    assert (await anna.get(f"/v1/orders/{order_id}")).json()["state"] == "open"
    error(await anna.get("/v1/orders/nothing"), 404, "not_found")
    error(await anna.post("/v1/orders/nothing/cancel", json={}), 404, "not_found")


async def test_for_whom_an_order_is(
    anna: Client, client_as: ClientAs, form: dict[str, Any]
) -> None:
    found = error(await place(anna, form | {"customer_id": "bob"}), 422, "invalid_value")
    assert found["field"] == "customer_id"
    shop, erp = client_as("merchant", "shop"), client_as("integrator", "erp")
    for client in (shop, erp):
        found = error(await place(client, form), 422, "invalid_value")
        assert found["field"] == "customer_id"
    order = (await place(shop, form | {"customer_id": "anna"})).json()
    assert (order["customer_id"], order["merchant_id"]) == ("anna", "shop")
    body = form | {"customer_id": "anna", "merchant_id": "other"}
    assert error(await place(shop, body, "k2"), 422, "invalid_value")["field"] == "merchant_id"
    assert (await place(erp, body)).json()["merchant_id"] == "other"
    error(await place(client_as("rider", "rita"), form), 403, "forbidden")


@pytest.mark.parametrize(
    ("role", "sub", "state"),
    [
        ("customer", "anna", "cancelled_customer"),
        ("merchant", "shop", "cancelled_merchant"),
        ("integrator", "erp", "cancelled_merchant"),
        ("operator", "olga", "cancelled_system"),
    ],
)
async def test_cancelling(
    anna: Client, client_as: ClientAs, form: dict[str, Any], role: str, sub: str, state: str
) -> None:
    order_id = (await place(anna, form | {"merchant_id": "shop"})).json()["id"]
    url, client = f"/v1/orders/{order_id}/cancel", client_as(role, sub)
    headers = {"Idempotency-Key": "c1"}
    first = await client.post(url, json={"reason": "closed"}, headers=headers)
    assert first.status_code == 200
    assert (first.json()["state"], first.json()["ended_reason"]) == (state, "closed")
    again = await client.post(url, json={"reason": "closed"}, headers=headers)
    assert again.json() == first.json()
    error(await client.post(url, json={"reason": "other"}, headers=headers), 409, "conflict")
    refused = error(await client.post(url, json={}), 409, "not_cancellable")
    assert state in refused["message"]


async def test_a_rider_does_not_cancel(
    anna: Client, client_as: ClientAs, form: dict[str, Any]
) -> None:
    order_id = (await place(anna, form)).json()["id"]
    response = await client_as("rider", "rita").post(f"/v1/orders/{order_id}/cancel", json={})
    error(response, 403, "forbidden")
