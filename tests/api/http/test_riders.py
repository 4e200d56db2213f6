"""Riders over HTTP: who registers whom, what is legal, and shifts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import asyncpg
import httpx2
import pytest

from api.clock import now_ms
from api.store import Store
from api.store import personal as personal_rows
from geo.errors import Unavailable

Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]
HOUR_MS = 3_600_000
HERE = {"lat": 31.22849, "lon": 121.47821}


def code(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"]["code"])


@pytest.fixture
def rita(client_as: ClientAs) -> Client:
    return client_as("rider", "rita")


async def test_an_operator_registers(olga: Client, client_as: ClientAs) -> None:
    form = {
        "id": "rita",
        "vehicle": "car",
        "speed_mps": 12.5,
        "capacity": [9, 4],
        "skills": ["ice"],
    }
    rider = (await olga.post("/v1/riders", json=form)).json()
    assert (rider["state"], rider["skills"], rider["capacity"]) == ("off", ["ice"], [9, 4])
    assert (await olga.get("/v1/riders/rita")).json() == rider
    for role in ("customer", "merchant", "integrator"):
        assert code(await client_as(role).post("/v1/riders", json=form), 403) == "forbidden"
        assert code(await client_as(role).get("/v1/riders/rita"), 403) == "forbidden"
    stranger = client_as("operator", "olga", tenant="else")
    assert code(await stranger.get("/v1/riders/rita"), 403) == "forbidden"
    assert code(await stranger.post("/v1/riders", json=form), 409) == "conflict"
    assert code(await olga.get("/v1/riders/nobody"), 404) == "not_found"


async def test_a_rider_registers_himself(olga: Client, rita: Client) -> None:
    assert (await rita.post("/v1/riders", json={"id": "rita"})).status_code == 200
    assert code(await rita.post("/v1/riders", json={"id": "rob"}), 403) == "forbidden"
    skilled = {"id": "rita", "skills": ["ice"]}
    assert code(await rita.post("/v1/riders", json=skilled), 403) == "forbidden"
    await olga.post("/v1/riders", json=skilled)
    kept = await rita.post("/v1/riders", json={"id": "rita", "vehicle": "bicycle"})
    assert (kept.json()["skills"], kept.json()["vehicle"]) == (["ice"], "bicycle")
    assert code(await rita.get("/v1/riders/rob"), 403) == "forbidden"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"id": "rita", "speed_mps": 9.0}, "speed_mps"),
        ({"id": "rita", "speed_mps": 0}, "speed_mps"),
        ({"id": "rita", "vehicle": "rocket"}, "vehicle"),
        ({"id": "rita", "capacity": [0]}, "capacity[0]"),
        ({"id": "rita", "capacity": []}, "capacity"),
        ({"id": "rita", "capacity": [5] * 4}, "capacity"),
        ({"id": "rita", "skills": [f"s{n}" for n in range(17)]}, "skills"),
        ({"id": "r i t a"}, "id"),
        ({"id": "rita", "state": "on"}, "state"),
        ({}, "id"),
    ],
)
async def test_what_a_rider_cannot_be(olga: Client, form: dict[str, Any], field: str) -> None:
    response = await olga.post("/v1/riders", json=form)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field


async def test_what_a_rider_may_be_at_most(olga: Client) -> None:
    form = {"id": "rita", "capacity": [5] * 3, "skills": [f"s{n}" for n in range(16)]}
    assert (await olga.post("/v1/riders", json=form)).status_code == 200
    on = {"on": True, "shift_end_ms": now_ms() + HOUR_MS, "place": HERE}
    assert (await olga.post("/v1/riders/rita/shift", json=on)).status_code == 200


async def test_a_shift(olga: Client, rita: Client, store: Store) -> None:
    await rita.post("/v1/riders", json={"id": "rita"})
    on = {"on": True, "shift_end_ms": now_ms() + HOUR_MS, "place": HERE}
    rider = (await rita.post("/v1/riders/rita/shift", json=on)).json()
    assert (rider["state"], rider["shift_end_ms"]) == ("on", on["shift_end_ms"])
    assert rider["place"]["lat"] == pytest.approx(HERE["lat"], abs=1e-6)
    assert code(await rita.post("/v1/riders/rita/shift", json=on), 409) == "already_on_shift"
    stored = await store.rider("rita")
    assert stored is not None
    assert stored.place is not None
    assert stored.place.lat == pytest.approx(31.2304, abs=1e-4)  # WGS-84 inside
    assert (await olga.post("/v1/riders/rita/shift", json={"on": False})).json()["state"] == "off"
    assert code(await rita.post("/v1/riders/rita/shift", json={"on": False}), 409) == "not_on_shift"
    assert code(await olga.post("/v1/riders/nobody/shift", json={"on": False}), 404)
    assert stored.version == 1


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"on": True, "place": HERE}, "shift_end_ms"),
        ({"on": True, "shift_end_ms": 1_000, "place": HERE}, "shift_end_ms"),
        ({"on": True, "shift_end_ms": HOUR_MS * 25, "place": HERE}, "shift_end_ms"),
        ({"on": True, "shift_end_ms": HOUR_MS}, "place"),
        ({"on": True, "shift_end_ms": HOUR_MS, "place": {"lat": 52.5, "lon": 13.4}}, "place"),
        ({"on": False, "shift_end_ms": HOUR_MS}, "shift_end_ms"),
        ({"on": False, "place": HERE}, "place"),
        ({"on": "yes"}, "on"),
        ({}, "on"),
    ],
)
async def test_what_a_shift_cannot_be(rita: Client, form: dict[str, Any], field: str) -> None:
    await rita.post("/v1/riders", json={"id": "rita"})
    if form.get("shift_end_ms", 0) >= HOUR_MS:
        form = form | {"shift_end_ms": now_ms() + form["shift_end_ms"]}
    response = await rita.post("/v1/riders/rita/shift", json=form)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field


async def test_name_and_phone_stand_with_the_registration_or_neither_does(
    olga: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is lost between the two: the client asks again with its key."""
    form = {"id": "rob", "name": "Rob", "phone": "13812345678"}
    again = {"Idempotency-Key": "r1"}
    real = personal_rows.put

    async def lost(*_: Any) -> None:
        raise Unavailable("the connection broke")

    monkeypatch.setattr(personal_rows, "put", lost)
    assert code(await olga.post("/v1/riders", json=form, headers=again), 503) == "unavailable"
    monkeypatch.setattr(personal_rows, "put", real)
    done = await olga.post("/v1/riders", json=form, headers=again)
    assert "Idempotent-Replay" not in done.headers
    assert (done.json()["name"], done.json()["phone"]) == ("Rob", "+8613812345678")
    own = await store.personal.of_rider("rob")
    assert own is not None
    assert own.name == "Rob"


# --- two at once -----------------------------------------------------------------------------


class Busy:
    """Another connection, which holds a lock while requests begin."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self._sql = sql

    async def meets(
        self, statement: str, *requests: Coroutine[Any, Any, httpx2.Response]
    ) -> list[httpx2.Response]:
        """The answers to requests that came to a lock of `statement`, then let go."""
        async with self._sql.transaction():
            await self._sql.execute(statement)
            asked = [asyncio.create_task(request) for request in requests]
            async with asyncio.timeout(20):
                while await self._sql.fetchval(WAITING) < len(requests):
                    await asyncio.sleep(0.01)
        return [await one for one in asked]


WAITING = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
HELD = "SELECT FROM riders WHERE id = 'rita' FOR UPDATE"


@pytest.fixture
async def busy(http_database: str) -> AsyncIterator[Busy]:
    sql = await asyncpg.connect(http_database.replace("+asyncpg", "", 1))
    yield Busy(sql)
    await sql.close()


@pytest.fixture
async def known(olga: Client) -> None:
    """Rita is registered with a name and a phone."""
    form = {"id": "rita", "name": "Rita", "phone": "13812345678"}
    assert (await olga.post("/v1/riders", json=form)).status_code == 200


async def test_what_is_erased_meanwhile_stays_erased(
    rita: Client, store: Store, known: None, busy: Busy
) -> None:
    renamed = rita.post("/v1/riders", json={"id": "rita", "name": "Margarita"})
    (answer,) = await busy.meets("DELETE FROM personal WHERE subject = 'rider/rita'", renamed)
    assert (answer.json()["name"], answer.json()["phone"]) == ("Margarita", "")
    own = await store.personal.of_rider("rita")
    assert own is not None
    assert (own.name, own.phone) == ("Margarita", "")


async def test_two_partial_changes_are_both_kept(
    olga: Client, rita: Client, known: None, busy: Busy
) -> None:
    await busy.meets(
        HELD,
        rita.post("/v1/riders", json={"id": "rita", "name": "Margarita"}),
        olga.post("/v1/riders", json={"id": "rita", "phone": "13887654321"}),
    )
    found = (await olga.get("/v1/riders/rita")).json()
    assert (found["name"], found["phone"]) == ("Margarita", "+8613887654321")


async def test_skills_that_are_given_meanwhile_are_kept(
    rita: Client, known: None, busy: Busy
) -> None:
    skilled = """UPDATE riders SET body = jsonb_set(body, '{skills}', '["ice"]')"""
    (answer,) = await busy.meets(skilled, rita.post("/v1/riders", json={"id": "rita"}))
    assert answer.json()["skills"] == ["ice"]


async def test_a_change_does_not_call_an_erasure_off(
    rita: Client, store: Store, known: None
) -> None:
    at_ms = now_ms()
    form = {"on": True, "shift_end_ms": at_ms + HOUR_MS, "place": HERE}
    assert (await rita.post("/v1/riders/rita/shift", json=form)).status_code == 200
    erased = await rita.post("/v1/erasures", json={})
    assert erased.json() == {"erased": 0, "when_ended": 1}
    await rita.post("/v1/riders", json={"id": "rita", "name": "Margarita"})
    await rita.post("/v1/riders/rita/shift", json={"on": False})
    await store.personal.tidy(now_ms() + 1)
    assert await store.personal.of_rider("rita") is None
