"""The hall over HTTP: a thousand riders press at once, and one has the order."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import httpx2
import pytest

from api.cli.roles import load_role
from api.clock import now_ms
from api.settings import Settings
from api.store import Store

HALL = {"matching": "hall"}


@pytest.fixture
def place(anna: httpx2.AsyncClient, form: dict[str, Any]) -> Callable[..., Any]:
    """Places an order in the hall; gives its id."""

    async def send(key: str, **changes: Any) -> str:
        body = form | HALL | changes
        answer = await anna.post("/v1/orders", json=body, headers={"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
        assert answer.json()["matching"] == "hall"
        return str(answer.json()["id"])

    return send


@pytest.fixture
def rider(client_as: Callable[..., httpx2.AsyncClient], form: dict[str, Any]) -> Callable[..., Any]:
    """A rider on shift at the centre; gives his client."""

    centre = form["stops"][0]["place"]

    async def start(rider_id: str) -> httpx2.AsyncClient:
        client = client_as("rider", rider_id)
        await client.post("/v1/riders", json={"id": rider_id})
        shift = {"on": True, "shift_end_ms": now_ms() + 3_600_000, "place": centre}
        answer = await client.post(f"/v1/riders/{rider_id}/shift", json=shift)
        assert answer.status_code == 200, answer.text
        return client

    return start


async def test_a_thousand_riders_claim_and_one_has_it(
    store: Store, http_database: str, place: Any, rider: Any, client_as: Any
) -> None:
    order_id = await place("k")
    await rider("model")
    sql = await asyncpg.connect(http_database.replace("+asyncpg", "", 1))
    # A thousand like him; by the API it would take longer than the claims.
    await sql.execute("SET session_replication_role = replica")
    await sql.execute(
        "INSERT INTO riders (id, tenant, city, state, version, body)"
        " SELECT 'r' || n, tenant, city, state, version,"
        " jsonb_set(body, '{id}', to_jsonb('r' || n))"
        " FROM riders, generate_series(1, 1000) AS n"
    )
    clients = {n: client_as("rider", f"r{n}") for n in range(1, 1001)}

    async def claim(n: int) -> httpx2.Response:
        key = {"Idempotency-Key": "press"}
        return await clients[n].post(f"/v1/orders/{order_id}/claim", headers=key)

    answers = await asyncio.gather(*(claim(n) for n in clients))
    assert Counter(a.status_code for a in answers) == {200: 1, 409: 999}
    lost = {a.json()["error"]["code"] for a in answers if a.status_code == 409}
    assert lost == {"already_taken"}
    kinds = "SELECT count(*) FROM events WHERE subject_id = $1 AND kind = 'accepted'"
    assert await sql.fetchval(kinds, order_id) == 1
    (winner,) = [n for n, a in enumerate(answers, 1) if a.status_code == 200]
    again = await claim(winner)
    assert (again.status_code, again.json()) == (200, answers[winner - 1].json())
    assert again.json()["assignment"]["rider_id"] == f"r{winner}"
    assert await sql.fetchval(kinds, order_id) == 1
    await sql.close()


async def test_the_role_lets_riders_claim_as_dispatch_yaml_says(
    settings: Settings, place: Any, rider: Any
) -> None:
    (settings.data / "dispatch.yaml").write_text("cities: {demo: {policy: {hall_orders_max: 1}}}")
    order_ids = [await place(key) for key in "ab"]
    rita = await rider("rita")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop, ready = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(load_role("http")(replace(settings, http_port=port), stop, ready))
    async with asyncio.timeout(60):
        await ready.wait()
    base = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=base, headers=rita.headers) as client:
        answers = [await client.post(f"/v1/orders/{order_id}/claim") for order_id in order_ids]
    stop.set()
    await serving
    assert [answer.status_code for answer in answers] == [200, 409]
    assert answers[1].json()["error"]["code"] == "too_many_orders"


async def test_the_hall_shows_the_nearest_first(place: Any, rider: Any, form: Any) -> None:
    centre = form["stops"][0]["place"]
    far = form["stops"][0] | {"place": centre | {"lat": 31.25}}
    away = await place("far", stops=[far, form["stops"][1]])
    near = await place("near")
    rita = await rider("rita")
    shown = (await rita.get("/v1/hall")).json()["orders"]
    assert [o["id"] for o in shown] == [near, away]
    assert shown[0]["away_m"] < 50 < 2_000 < shown[1]["away_m"] < 3_000
    there = {"lat": 31.25, "lon": centre["lon"], "limit": 1}
    shown = (await rita.get("/v1/hall", params=there)).json()["orders"]
    assert [o["id"] for o in shown] == [away]
    assert (await rita.post(f"/v1/orders/{near}/claim")).status_code == 200
    assert [o["id"] for o in (await rita.get("/v1/hall")).json()["orders"]] == [away]


async def test_what_he_cannot_take_is_not_shown(
    place: Any, rider: Any, client_as: Any, anna: httpx2.AsyncClient, form: Any
) -> None:
    await place("heavy", load=[6])
    await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": "plain"})
    rita = await rider("rita")
    assert (await rita.get("/v1/hall")).json() == {"orders": []}
    await place("light")
    assert len((await rita.get("/v1/hall")).json()["orders"]) == 1
    await rita.post("/v1/riders/rita/shift", json={"on": False})
    assert (await rita.get("/v1/hall")).json() == {"orders": []}


async def test_only_riders_claim(place: Any, anna: Any, olga: Any, rider: Any) -> None:
    order_id = await place("k")
    for client in (anna, olga):
        assert (await client.post(f"/v1/orders/{order_id}/claim")).status_code == 403
        assert (await client.get("/v1/hall")).status_code == 403
    rita = await rider("rita")
    assert (await rita.post("/v1/orders/nothing/claim")).status_code == 404
    wrong = await rita.get("/v1/hall", params={"lat": 31.2})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "lon")


async def test_a_wrong_mode_is_refused_by_name(anna: httpx2.AsyncClient, form: Any) -> None:
    body = form | {"matching": "auction"}
    answer = await anna.post("/v1/orders", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "matching")
