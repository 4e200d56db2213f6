"""Two cities in one process: the same people in both, and nothing of one is reached from the other.

`matrix.py` asks for single objects; here are lists, retries, and riders with a token of elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from api.clock import now_ms
from api.data_keys import KeyRing
from api.personal import RiderPersonal
from api.store import Store
from dispatch.commands import Claim
from dispatch.model import Rider

CENTRES = {"demo": (31.2285, 121.4782), "bj": (39.9042, 116.4074)}


@pytest.fixture
async def filled(two_cities: Any) -> dict[str, list[str]]:
    """Each city's ids: an order, one in the hall, a rider, an endpoint, a key, a made key."""
    house, ids = two_cities, {}
    for city in CENTRES:
        rider = f"rider-of-{city}"
        await house.on_shift(rider, city=city)
        order = await house.order(rider, city=city)
        hall = await house.order("cora", city=city, hall=True)
        key = (await house.key("integrator", "erp", city=city)).split("_")[1]
        made = await house.ask(
            house.token("operator", "olga", city=city),
            "POST", "/v1/keys", {"role": "merchant", "sub": "shop"},
        )  # fmt: skip
        endpoint = await house.endpoint(city=city)
        ids[city] = [order.id, hall.id, rider, endpoint, key, made.json()["id"]]
    session = await house.store.open_sequencing()
    assert await session.lock()
    while await session.take(100):
        pass
    await session.close()
    return ids


@pytest.mark.parametrize(("here", "there"), [("demo", "bj"), ("bj", "demo")])
@pytest.mark.parametrize(
    ("path", "role", "shown"),
    [
        ("/v1/events", "operator", (0, 1, 2)),
        ("/v1/events", "integrator", (0, 1, 2)),
        ("/v1/hall", "rider", (1,)),
        ("/v1/webhooks", "integrator", (3,)),
        ("/v1/keys", "operator", (4, 5)),
        ("/v1/audit", "operator", (5,)),
    ],
)
async def test_a_list_holds_one_city(
    two_cities: Any, filled: Any, path: str, role: str, shown: Any, here: str, there: str
) -> None:
    token = two_cities.token(role, f"rider-of-{here}", city=here)
    answer = await two_cities.ask(token, "GET", path)
    assert answer.status_code == 200, answer.text
    for index in shown:
        assert filled[here][index] in answer.text
    for foreign in filled[there]:
        assert json.dumps(foreign) not in answer.text


async def test_a_status_counts_one_city(two_cities: Any, filled: Any) -> None:
    await two_cities.order("cora", city="bj", hall=True)
    for city, waiting in (("demo", 1), ("bj", 2)):
        token = two_cities.token("operator", city=city)
        status = (await two_cities.ask(token, "GET", f"/v1/city/{city}/status")).json()
        assert (status["riders_on_shift"], status["orders"]["open"]) == (1, waiting)
    answer = await two_cities.ask(token, "GET", "/v1/city/demo/status")
    assert answer.status_code == 403


async def test_a_rider_with_a_token_of_elsewhere_reaches_nothing(
    two_cities: Any, filled: Any
) -> None:
    """Not what his id has in his own city, and not what waits in the other."""
    house = two_cities
    own, hall, me, *_ = filled["demo"]
    token = house.token("rider", me, city="bj")
    shift = {"on": False}
    for method, path, body, status in (
        ("GET", "/v1/hall", None, 404),
        ("POST", f"/v1/orders/{hall}/claim", None, 404),
        ("POST", f"/v1/orders/{filled['bj'][1]}/claim", None, 409),
        ("GET", f"/v1/orders/{own}", None, 403),
        ("GET", f"/v1/orders/{own}/contacts", None, 403),
        ("GET", f"/v1/riders/{me}", None, 403),
        ("POST", f"/v1/riders/{me}/shift", shift, 403),
        ("POST", "/v1/riders", {"id": me}, 409),
    ):
        answer = await house.ask(token, method, path, body)
        assert answer.status_code == status, (path, answer.text)
    assert (await house.store.order(hall)).assignment is None
    await house.open_gateway()
    assert (await (await house.socket(token)).closed())[0] == 4403


async def test_who_waits_for_a_claim_elsewhere_is_told_nothing(
    two_cities: Any, filled: Any
) -> None:
    """What is answered from memory knows the cities too."""
    store, hall = two_cities.store, filled["demo"][1]
    claims = [("rider-of-demo", "demo"), ("late", "demo"), ("rider-of-bj", "bj")]
    answers = await asyncio.gather(
        *(
            store.hall.claim(
                hall, Claim(at_ms=now_ms(), rider_id=rider), tenant="default", city=city
            )
            for rider, city in claims
        ),
        return_exceptions=True,
    )
    assert answers[0].refusal is None
    assert answers[1].refusal.code == "already_taken"
    assert "NotFound" in repr(answers[2])


async def test_a_key_of_one_city_is_not_known_in_the_other(two_cities: Any) -> None:
    """The same caller, the same Idempotency-Key and body: each city has its own."""
    house = two_cities
    lat, lon = CENTRES["demo"]
    stops = [{"place": {"lat": lat, "lon": lon}}, {"place": {"lat": lat + 0.01, "lon": lon}}]
    for path, body, status in (
        ("/v1/orders", {"stops": stops, "customer_id": "cora"}, 422),
        ("/v1/riders", {"id": "r1"}, 409),
    ):
        for city, expected in (("demo", (200, 201)), ("bj", (status,))):
            token = house.token("operator", "olga", city=city)
            once = {"Idempotency-Key": path}
            answer = await house.ask(token, "POST", path, body, **once)
            assert answer.status_code in expected, answer.text
            assert "Idempotent-Replay" not in answer.headers
    assert answer.json()["error"]["message"].startswith("rider r1")


async def test_a_revocation_holds_in_one_city(two_cities: Any) -> None:
    house = two_cities
    order = await house.order("cora", city="bj")
    cora = house.token("customer", "cora", city="bj")
    for what in ({"role": "customer", "sub": "cora"}, {"jti": house.tokens.verify(cora).jti}):
        olga = house.token("operator", "olga")
        assert (await house.ask(olga, "POST", "/v1/tokens/revoke", what)).status_code == 200
        answer = await house.ask(cora, "GET", f"/v1/orders/{order.id}")
        assert answer.status_code == 200, answer.text


async def test_an_erasure_reaches_all_cities_of_the_tenant_and_no_other(
    two_cities: Any, auth_database: str
) -> None:
    """Somebody has a right to it wherever his data lie, see docs/privacy.md."""
    house, quux = two_cities, RiderPersonal(name="Quuxolina")
    store = await Store.open(auth_database, data_keys=KeyRing.open(house.folder / "data-keys"))
    for tenant, city, rider, erased in (
        ("default", "demo", "r1", 1),
        ("default", "bj", "r2", 1),
        ("else", "demo", "r3", 0),
    ):
        known = Rider(id=rider, tenant=tenant, city=city)
        await store.register_once(known, None, now_ms(), name="Quuxolina")
        olga = house.token("operator", "olga")
        answer = await house.ask(olga, "POST", "/v1/erasures", {"rider_id": rider})
        assert answer.json() == {"erased": erased, "when_ended": 0}
        assert await store.personal.of_rider(rider) == (None if erased else quux)
    await store.close()
