"""The event feed over HTTP, the city's status, and coordinates in the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import httpx2
import pytest

from api.clock import now_ms
from api.settings import Settings
from api.store import Store
from api.store.housekeeping import FEED_STEP
from geo.datum import System, from_wgs84, to_wgs84

Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]


async def sequence(store: Store) -> None:
    session = await store.open_sequencing()
    try:
        while not await session.lock():
            await asyncio.sleep(0.01)
        while await session.take(100):
            pass
    finally:
        await session.close()


async def place(client: Client, form: dict[str, Any], key: str) -> dict[str, Any]:
    response = await client.post("/v1/orders", json=form, headers={"Idempotency-Key": key})
    assert response.status_code == 201, response.text
    order: dict[str, Any] = response.json()
    return order


async def test_catching_up(
    client_as: ClientAs, anna: Client, store: Store, form: dict[str, Any]
) -> None:
    erp = client_as("integrator", "erp")
    empty = (await erp.get("/v1/events")).json()
    assert empty == {"events": [], "next_after": 0, "more": False}
    ids = [(await place(anna, form, f"k{n}"))["id"] for n in range(3)]
    await place(client_as("customer", "bob", tenant="else"), form, "k")
    await sequence(store)
    seen: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = (await erp.get("/v1/events", params={"after": after, "limit": 4})).json()
        assert len(page["events"]) <= 4
        seen += page["events"]
        after, more = page["next_after"], page["more"]
    assert [(e["id"], e["seq"], e["kind"]) for e in seen] == [
        (order_id, seq, kind) for order_id in ids for seq, kind in ((1, "placed"), (2, "opened"))
    ]
    assert [e["position"] for e in seen] == [1, 2, 3, 4, 5, 6]
    assert (await erp.get("/v1/events", params={"after": after})).json()["next_after"] == after


async def test_who_may_follow(client_as: ClientAs) -> None:
    for role in ("customer", "merchant", "rider"):
        response = await client_as(role).get("/v1/events")
        assert response.status_code == 403
    erp = client_as("integrator", "erp")
    for params in ({"after": -1}, {"after": 2**63}, {"limit": 0}, {"limit": 1001}, {"after": "x"}):
        response = await erp.get("/v1/events", params=params)
        assert response.status_code == 422
        assert response.json()["error"]["field"] in params


async def test_the_status_of_the_city(
    client_as: ClientAs, anna: Client, olga: Client, store: Store, form: dict[str, Any]
) -> None:
    for n in range(3):
        order = await place(anna, form, f"k{n}")
    await anna.post(f"/v1/orders/{order['id']}/cancel", json={})
    await olga.post("/v1/riders", json={"id": "rita"})
    shift = {
        "on": True,
        "shift_end_ms": now_ms() + 3_600_000,
        "place": {"lat": 31.2304, "lon": 121.4737, "coordinate_system": "wgs84"},
    }
    await olga.post("/v1/riders/rita/shift", json=shift)
    await sequence(store)
    status = (await olga.get("/v1/city/demo/status")).json()
    assert status == {
        "city": "demo",
        "orders": {"open": 2, "cancelled_customer": 1},
        "riders_on_shift": 1,
        "position": 8,
    }
    stranger = client_as("operator", "olga", tenant="else")
    empty = {"orders": {}, "riders_on_shift": 0}
    assert (await stranger.get("/v1/city/demo/status")).json() == status | empty
    assert (await olga.get("/v1/city/else/status")).status_code == 403
    for role in ("customer", "merchant", "rider", "integrator"):
        assert (await client_as(role).get("/v1/city/demo/status")).status_code == 403


@pytest.mark.parametrize("given", list(System))
@pytest.mark.parametrize("wanted", list(System))
async def test_coordinates_in_and_out(
    anna: Client, store: Store, form: dict[str, Any], given: System, wanted: System
) -> None:
    true = (31.2304, 121.4737)
    lat, lon = from_wgs84(*true, given)
    form["stops"][0]["place"] = {"lat": lat, "lon": lon, "coordinate_system": given.value}
    order = await place(anna, form, "k")
    stored = await store.order(order["id"])
    assert stored is not None
    kept = stored.stops[0].place
    assert (kept.lat, kept.lon) == pytest.approx(true, abs=1e-6)
    assert kept.system == given.value
    params = {"coordinate_system": wanted.value}
    seen = (await anna.get(f"/v1/orders/{order['id']}", params=params)).json()
    shown = seen["stops"][0]["place"]
    assert shown["coordinate_system"] == wanted.value
    assert (shown["lat"], shown["lon"]) == pytest.approx(from_wgs84(*true, wanted), abs=1e-6)


async def test_places_in_events(
    client_as: ClientAs, anna: Client, store: Store, form: dict[str, Any]
) -> None:
    await place(anna, form, "k")
    await sequence(store)
    erp = client_as("integrator", "erp")
    default = (await erp.get("/v1/events")).json()["events"][0]["fact"]["order"]["stops"][0]
    assert default["place"] == {
        "lat": pytest.approx(31.22849, abs=1e-6),
        "lon": pytest.approx(121.47821, abs=1e-6),
        "coordinate_system": "gcj02",
        "text": "",
    }
    params = {"coordinate_system": "wgs84"}
    page = (await erp.get("/v1/events", params=params)).json()
    true = page["events"][0]["fact"]["order"]["stops"][0]["place"]
    wanted = to_wgs84(31.22849, 121.47821, System.GCJ02)
    assert (true["lat"], true["lon"]) == pytest.approx(wanted, abs=1e-6)


async def test_an_unnamed_system_is_refused(anna: Client, form: dict[str, Any]) -> None:
    order = await place(anna, form, "k")
    for name in ("", "GCJ02", "utm"):
        params = {"coordinate_system": name}
        response = await anna.get(f"/v1/orders/{order['id']}", params=params)
        assert response.status_code == 422
        assert response.json()["error"]["field"] == "coordinate_system"


async def test_a_reader_that_was_away_for_too_long_is_told(
    client_as: ClientAs, store: Store, settings: Settings
) -> None:
    """The oldest part of the feed has gone by its age: stands for it, as first of all, another."""
    erp = client_as("integrator", "erp")
    sql = await asyncpg.connect(settings.postgres_url.replace("+asyncpg", "", 1))
    low = FEED_STEP
    try:
        async with sql.transaction():
            await sql.execute("DROP TABLE parts.feed_0")
            await sql.execute(f"SELECT make_partition('feed', 'position', {low}, {low} * 2)")
        await sql.execute("INSERT INTO heads (city, position) VALUES ('demo', $1)", low + 7)
        for after, is_gone in ((5, True), (low - 2, True), (low - 1, False), (0, False)):
            read = await erp.get("/v1/events", params={"after": after})
            asked = {"url": "https://93.184.216.34/hook", "after": after}
            sent = await erp.post("/v1/webhooks", json=asked)
            for answer, status in ((read, 200), (sent, 201)):
                assert answer.status_code == (409 if is_gone else status), (after, answer.text)
                if is_gone:
                    assert answer.json()["error"]["code"] == "feed_gone"
                    assert f"go on after {low - 1}" in answer.json()["error"]["message"]
    finally:
        await sql.execute("SELECT make_partition('feed', 'position', 0, $1)", low)
        await sql.close()
