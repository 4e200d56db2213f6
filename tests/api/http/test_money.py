"""Transfers of an order, payment notices, and retries of every write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from api.clock import now_ms
from api.store import Store

Client = httpx2.AsyncClient


@pytest.fixture
def igor(client_as: Callable[..., Client]) -> Client:
    """An integrator."""
    return client_as("integrator", "igor")


async def place(anna: Client, form: dict[str, Any], key: str = "k") -> dict[str, Any]:
    answer = await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    placed: dict[str, Any] = answer.json()
    return placed


async def test_the_transfers_of_an_order(
    anna: Client, client_as: Callable[..., Client], form: dict[str, Any]
) -> None:
    order = await place(anna, form)
    path = f"/v1/orders/{order['id']}/transfers"
    held = (await anna.get(path)).json()["transfers"]
    assert [(t["kind"], t["debit"], t["credit"], t["fen"]) for t in held] == [
        ("hold", "customer/default/anna", "escrow/default", order["price_fen"])
    ]
    await anna.post(f"/v1/orders/{order['id']}/cancel", json={})
    both = (await anna.get(path)).json()["transfers"]
    assert [t["kind"] for t in both] == ["hold", "release"]
    assert (await client_as("customer", "bob").get(path)).status_code == 403
    assert (await client_as("rider", "rita").get(path)).status_code == 403
    assert (await client_as("operator", "olga", tenant="else").get(path)).status_code == 403
    assert (await anna.get("/v1/orders/nothing/transfers")).status_code == 404


NOTICE = {"provider": "wechat", "notice_id": "n1", "customer_id": "anna", "fen": 599}


async def test_a_payment_is_noted_once(
    igor: Client, http_database: str, trial_balance: Callable[..., Any]
) -> None:
    answers = await asyncio.gather(
        *(igor.post("/v1/payments/notices", json=NOTICE) for _ in range(8))
    )
    assert {a.status_code for a in answers} == {201}
    assert len({a.text for a in answers}) == 1
    assert sum("Idempotent-Replay" not in a.headers for a in answers) == 1
    assert await trial_balance(http_database) == {
        "customer/default/anna": 599,
        "gateway/wechat": -599,
    }
    other = await igor.post("/v1/payments/notices", json=NOTICE | {"fen": 600})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")


async def test_a_payment_for_an_order(
    igor: Client,
    anna: Client,
    form: dict[str, Any],
    store: Store,
    http_database: str,
    trial_balance: Callable[..., Any],
) -> None:
    order = await place(anna, form)
    body = NOTICE | {"fen": order["price_fen"], "order_id": order["id"]}
    assert (await igor.post("/v1/payments/notices", json=body)).status_code == 201
    kinds = [r.transfer.kind for r in await store.ledger.transfers_of_order(order["id"])]
    assert kinds == ["hold", "payment"]
    assert (await trial_balance(http_database))["customer/default/anna"] == 0
    for wrong, status in (({"order_id": "nothing"}, 404), ({"customer_id": "bob"}, 409)):
        answer = await igor.post("/v1/payments/notices", json=body | {"notice_id": "n2"} | wrong)
        assert answer.status_code == status


@pytest.mark.parametrize("wrong", [{"fen": 0}, {"fen": 1.5}, {"provider": "We/Chat"}, {"x": 1}])
async def test_a_notice_that_cannot_be_right(igor: Client, wrong: dict[str, Any]) -> None:
    assert (await igor.post("/v1/payments/notices", json=NOTICE | wrong)).status_code == 422


async def test_who_may_note_payments(anna: Client, olga: Client) -> None:
    for client in (anna, olga):
        assert (await client.post("/v1/payments/notices", json=NOTICE)).status_code == 403


async def test_a_cancellation_again(anna: Client, form: dict[str, Any]) -> None:
    path = f"/v1/orders/{(await place(anna, form))['id']}/cancel"
    key = {"Idempotency-Key": "c1"}
    first = await anna.post(path, json={"reason": "late"}, headers=key)
    again = await anna.post(path, json={"reason": "late"}, headers=key)
    other = await anna.post(path, json={"reason": "cold"}, headers=key)
    assert (first.status_code, again.text) == (200, first.text)
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert other.status_code == 409


async def test_a_rider_and_his_shift_again(olga: Client) -> None:
    key = {"Idempotency-Key": "r1"}
    body = {"id": "rita", "speed_mps": 6.0}
    first = await olga.post("/v1/riders", json=body, headers=key)
    changed = await olga.post("/v1/riders", json=body | {"speed_mps": 5.0})
    assert changed.json()["speed_mps"] == 5.0
    again = await olga.post("/v1/riders", json=body, headers=key)
    assert (again.text, again.headers["Idempotent-Replay"]) == (first.text, "true")
    assert (await olga.get("/v1/riders/rita")).json()["speed_mps"] == 5.0
    assert (
        await olga.post("/v1/riders", json=body | {"id": "rob"}, headers=key)
    ).status_code == 409

    place = {"lat": 31.2285, "lon": 121.4782}
    on = {"on": True, "shift_end_ms": now_ms() + 3_600_000, "place": place}
    key = {"Idempotency-Key": "s1"}
    shifts = await asyncio.gather(
        *(olga.post("/v1/riders/rita/shift", json=on, headers=key) for _ in range(6))
    )
    assert {s.status_code for s in shifts} == {200}
    assert len({s.text for s in shifts}) == 1
    assert sum("Idempotent-Replay" not in s.headers for s in shifts) == 1
    # A refusal is an answer too, and the same key is not for another route or body.
    refused = [
        await olga.post("/v1/riders/rita/shift", json=on, headers={"Idempotency-Key": "s2"})
        for _ in range(2)
    ]
    assert [r.status_code for r in refused] == [409, 409]
    assert refused[1].headers["Idempotent-Replay"] == "true"
    assert refused[0].json() == refused[1].json()
    off = await olga.post("/v1/riders/rita/shift", json={"on": False}, headers=key)
    assert (off.status_code, off.json()["error"]["code"]) == (409, "conflict")


async def test_a_retry_after_the_shift_has_ended(
    olga: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = {"Idempotency-Key": "s1"}
    place, end_ms = {"lat": 31.2285, "lon": 121.4782}, now_ms() + 3_600_000
    on = {"on": True, "shift_end_ms": end_ms, "place": place}
    await olga.post("/v1/riders", json={"id": "rita"})
    first = await olga.post("/v1/riders/rita/shift", json=on, headers=key)
    monkeypatch.setattr("api.http.riders.now_ms", lambda: end_ms + 1)
    again = await olga.post("/v1/riders/rita/shift", json=on, headers=key)
    assert (again.status_code, again.text) == (200, first.text)
    assert (await olga.post("/v1/riders/rita/shift", json=on)).status_code == 422


async def test_what_failed_leaves_its_key_free(olga: Client, store: Store) -> None:
    key = {"Idempotency-Key": "r1"}
    on = {
        "on": True,
        "shift_end_ms": now_ms() + 3_600_000,
        "place": {"lat": 31.2285, "lon": 121.4782},
    }
    await olga.post("/v1/riders", json={"id": "rita"})
    await olga.post("/v1/riders/rita/shift", json=on)
    faster = {"id": "rita", "speed_mps": 5.0}
    assert (await olga.post("/v1/riders", json=faster, headers=key)).status_code == 409
    await olga.post("/v1/riders/rita/shift", json={"on": False})
    answer = await olga.post("/v1/riders", json=faster, headers=key)
    assert (answer.status_code, answer.json()["speed_mps"]) == (200, 5.0)
