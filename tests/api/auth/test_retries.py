"""Every route that changes something, asked twice: there is one effect, and one answer.

A route of the application that is in none of the tables fails the test. What is in the database is
compared as a whole, but for the audit log, in which a retry is a deed of its own.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.store.schema import metadata

TABLE = runpy.run_path(str(Path(__file__).with_name("matrix.py")))
CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))
Case, routes_of = CASES["Case"], CASES["routes_of"]

# With an Idempotency-Key, and what in another body makes it another request: none has no body.
KEYED: dict[str, dict[str, Any]] = {
    "POST /v1/orders": {"note": "no onions"},
    "POST /v1/orders/{order_id}/cancel": {"reason": "changed_my_mind"},
    "POST /v1/orders/{order_id}/claim": {},
    "POST /v1/riders": {"speed_mps": 5.0},
    "POST /v1/riders/{rider_id}/shift": {"shift_end_ms": 4_102_444_800_000},
    "POST /v1/keys": {"label": "door"},
    "POST /v1/webhooks": {"description": "till"},
    "POST /v1/webhooks/{endpoint_id}/rotate-secret": {"grace_s": 1},
}
# By an id of its own in the body.
OWN_ID = {"POST /v1/payments/notices": {"fen": 2}}
# Need no key: asked twice, everything is as it was after the first time.
REPEATABLE = {
    "POST /v1/quotes": "changes nothing",
    "POST /v1/tokens": "keeps nothing; a token more is a token more",
    "POST /v1/erasures": "what is erased stays erased",
    "DELETE /v1/keys/{key_id}": "404 says that it is gone",
    "DELETE /v1/webhooks/{endpoint_id}": "404 says that it is gone",
    "POST /v1/webhooks/{endpoint_id}/pause": "a state",
    "POST /v1/webhooks/{endpoint_id}/resume": "a state",
    "POST /v1/webhooks/{endpoint_id}/probe": "a request that is a test",
    "POST /v1/webhooks/{endpoint_id}/dead-letters/retry": "a mark",
    "POST /v1/webhooks/{endpoint_id}/dead-letters/{position}/retry": "a mark",
    "PATCH /v1/webhooks/{endpoint_id}": "sets what is given",
}
# Do something each time, and why no key can help.
AGAIN = {
    "POST /v1/tokens/revoke": "means until now, and later is more",
}
FREE = {"audit"}


@pytest.fixture
async def whole(auth_database: str) -> Any:
    """Everything in the database, as one text a table."""
    connection = await asyncpg.connect(auth_database.replace("+asyncpg", "", 1))
    tables = sorted(name for name in metadata.tables if name not in FREE)
    # A random code and a use to the hour are no effects of the request.
    rows = "SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM {} AS t"

    async def read() -> dict[str, Any]:
        return {name: await connection.fetchval(rows.format(name)) for name in tables}

    yield read
    await connection.close()


def role_of(route: str) -> str:
    """The first who may."""
    own = TABLE["ROUTES"][route][0].split()
    return next(
        role for role, status in zip(TABLE["ROLES"], own, strict=True) if status.startswith("2")
    )


async def asked(house: Any, route: str) -> Any:
    """`send(**changes)`: the same request again, its body changed."""
    if route == "POST /v1/tokens":
        role, bearer = "integrator", await house.key()
    else:
        role = role_of(route)
        bearer = house.token(role, "p0")
    case = Case(house, 0, "own", role)
    method, path = await case.path(route)
    body = await case.body(route)

    async def send(**changes: Any) -> Any:
        form = body if body is None else body | changes
        return await house.ask(bearer, method, path, form, **{"Idempotency-Key": "again"})

    return send


def test_every_changing_route_is_in_a_table(house: Any) -> None:
    changing = {r for r in routes_of(house.app.routes) if r.partition(" ")[0] not in ("GET",)}
    tables = [KEYED, OWN_ID, REPEATABLE, AGAIN]
    assert changing == set().union(*tables)
    assert len(changing) == sum(map(len, tables))


@pytest.mark.parametrize("route", [*KEYED, *OWN_ID])
async def test_the_same_again_is_answered_as_before(
    two_cities: Any, whole: Any, route: str
) -> None:
    send = await asked(two_cities, route)
    first = await send()
    assert first.is_success, first.text
    assert "Idempotent-Replay" not in first.headers
    after = await whole()
    again = await send()
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["Idempotent-Replay"] == "true"
    changes = (KEYED | OWN_ID)[route]
    if changes:
        other = await send(**changes)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert await whole() == after


@pytest.mark.parametrize("route", REPEATABLE)
async def test_what_needs_no_key(two_cities: Any, whole: Any, route: str) -> None:
    send = await asked(two_cities, route)
    assert (await send()).is_success
    after = await whole()
    again = await send()
    assert again.is_success or (again.status_code == 404 and route.startswith("DELETE"))
    assert await whole() == after


async def test_a_secret_that_was_replaced_since_is_not_given_again(two_cities: Any) -> None:
    route = "POST /v1/webhooks/{endpoint_id}/rotate-secret"
    send = await asked(two_cities, route)
    endpoint = (await send()).json()
    path = f"/v1/webhooks/{endpoint['id']}"
    token = two_cities.token("integrator", "p0")
    newer = await two_cities.ask(token, "POST", f"{path}/rotate-secret", {})
    assert newer.json()["secret"] != endpoint["secret"]
    assert (await send()).status_code == 409
    assert (await two_cities.ask(token, "GET", path)).json()["key_id"] == newer.json()["key_id"]
