"""What a request gets wrong is refused in one shape that names the field and the value."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from api.auth import Tokens
from api.clock import now_ms
from api.http.limits import BODY_BYTES_MAX
from api.store import Store

Client = httpx2.AsyncClient
HOUR_MS = 3_600_000


def error(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    assert set(found) == {"code", "message", "field", "value", "expected"}
    return found


def changed(form: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The form with the value at a path such as `stops.0.place.lat`."""
    form = copy.deepcopy(form)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = form
    for part in way:
        target = target[part]
    target[last] = value
    return form


@pytest.mark.parametrize(
    ("path", "value", "field", "shown"),
    [
        ("stops.0.place.lat", 91, "stops[0].place.lat", 91),
        ("stops.1.place.lon", -181.5, "stops[1].place.lon", -181.5),
        ("stops.0.place.lat", "31.2", "stops[0].place.lat", "31.2"),
        ("stops.0.place.lat", True, "stops[0].place.lat", True),
        ("stops.0.place.lat", None, "stops[0].place.lat", None),
        ("stops.0.place.coordinate_system", "gcj-02", "stops[0].place.coordinate_system", "gcj-02"),
        ("stops.0.place.coordinate_system", None, "stops[0].place.coordinate_system", None),
        ("stops.0.place.height", 3, "stops[0].place.height", 3),
        ("stops.0.place.text", "a\0b", "stops[0].place.text", "a\0b"),
        ("stops.0.place_id", "", "stops[0].place_id", ""),
        ("stops.0.earliest_ms", 1.5, "stops[0].earliest_ms", 1.5),
        ("stops.0.earliest_ms", -1, "stops[0].earliest_ms", -1),
        ("stops.0.earliest_ms", 10**40, "stops[0].earliest_ms", 10**40),
        ("stops.0.earliest_ms", 1_000, "stops[0].earliest_ms", 1_000),
        ("stops.1.latest_ms", 1_000, "stops[1].latest_ms", 1_000),
        ("stops", [], "stops", "[]"),
        ("stops", "here", "stops", "here"),
        ("job_type", "teleport", "job_type", "teleport"),
        ("load", [0], "load", None),
        ("load", [-1], "load[0]", -1),
        ("load", [10**9], "load[0]", 10**9),
        ("load", [], "load", "[]"),
        ("load", [1, 1, 1, 1], "load", "[1, 1, 1, 1]"),
        ("details", {"ice": True}, "details", "{'ice': True}"),
        ("note", 7, "note", 7),
        ("note", "x" * 501, "note", "x" * 200 + "…"),
        ("tip_fen", 100, "tip_fen", 100),
        ("customer_id", "a b", "customer_id", "a b"),
    ],
)
@pytest.mark.parametrize("route", ["quotes", "orders"])
async def test_a_wrong_value_is_named(
    anna: Client,
    form: dict[str, Any],
    path: str,
    value: Any,
    field: str,
    shown: Any,
    route: str,
    store: Store,
) -> None:
    body = changed(form, path, value)
    response = await anna.post(f"/v1/{route}", json=body, headers={"Idempotency-Key": "k"})
    found = error(response, 422)
    assert found["field"] == field
    assert found["code"] in ("invalid_value", "unknown_key", "unknown_name")
    assert field in found["message"]
    assert found["expected"]
    if shown is not None:
        assert found["value"] == shown
    assert await store.counts("demo") == {}


NASTY: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, 10**30, 1.5, 1e308, float("nan"), "", "x" * 600, "\0", "\ud800",
    "\\u0000", "gcj02", [], [[]], {}, {"a": {"\0": 1}}, {"a": 10**30}, {"a": "\ud800"}, [1] * 20,
)  # fmt: skip


def _paths(value: Any, path: str = "") -> list[str]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [] if not path else [path]
    if isinstance(value, dict | list):
        for key, part in inner:
            here = f"{path}.{key}".lstrip(".")
            found += _paths(part, here) if isinstance(part, dict | list) else [here]
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_no_form_breaks_the_server(anna: Client, form: dict[str, Any], seed: int) -> None:
    """Any field replaced by anything is an order or a clear refusal."""
    rng = np.random.default_rng(seed)
    full = form | {"details": {}, "load": [1], "customer_id": "anna", "price_token": None}
    for n in range(80):
        body = full
        for _ in range(int(rng.integers(1, 3))):
            path = str(rng.choice(_paths(body)))
            body = changed(body, path, NASTY[int(rng.integers(0, len(NASTY)))])
        text = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{seed}-{n}"}
        response = await anna.post("/v1/orders", content=text, headers=headers)
        assert response.status_code in (201, 422), (text, response.text)
        if response.status_code == 422:
            found = error(response, 422)
            assert found["field"]
            assert found["expected"]


async def test_a_window_must_be_one(anna: Client, form: dict[str, Any]) -> None:
    start_ms = now_ms() + HOUR_MS
    body = changed(form, "stops.1.earliest_ms", start_ms)
    body = changed(body, "stops.1.latest_ms", start_ms - 1)
    found = error(await anna.post("/v1/quotes", json=body), 422)
    assert (found["field"], found["expected"]) == ("stops[1].latest_ms", f"later than {start_ms}")


@pytest.mark.parametrize("name", ["earliest_ms", "latest_ms"])
@pytest.mark.parametrize("stop", [0, 1])
async def test_a_window_lies_within_a_day(
    anna: Client, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch, stop: int, name: str
) -> None:
    at_ms = now_ms()
    monkeypatch.setattr("api.http.orders.now_ms", lambda: at_ms)
    del form["stops"][1]["latest_ms"]
    last_ms = at_ms + 24 * HOUR_MS
    good = changed(form, f"stops.{stop}.{name}", last_ms)
    assert (await anna.post("/v1/quotes", json=good)).status_code == 200
    body = changed(form, f"stops.{stop}.{name}", last_ms + 1)
    for route in ("quotes", "orders"):
        headers = {"Idempotency-Key": "k"}
        found = error(await anna.post(f"/v1/{route}", json=body, headers=headers), 422)
        assert (found["field"], found["value"]) == (f"stops[{stop}].{name}", last_ms + 1)
        assert found["expected"] == f"at most {last_ms}: 24 h from now"


@pytest.mark.parametrize(
    ("missing", "field"),
    [("stops", "stops"), ("stops.1.place", "stops[1].place"), ("stops.0.place.lon", "lon")],
)
async def test_a_missing_value_is_named(
    anna: Client, form: dict[str, Any], missing: str, field: str
) -> None:
    *way, last = [int(part) if part.isdigit() else part for part in missing.split(".")]
    target: Any = form
    for part in way:
        target = target[part]
    del target[last]
    found = error(await anna.post("/v1/quotes", json=form), 422)
    assert found["field"].endswith(field)
    assert "missing" in found["message"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"stops": NaN}',
        b"[" * 60_000,
        b'{"note": "\\ud800", "stops": []}',
    ],
)
async def test_a_body_that_is_no_form(anna: Client, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = await anna.post("/v1/quotes", content=content, headers=headers)
    assert error(response, 422)["message"]


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"])
async def test_a_body_that_is_not_announced_as_json(anna: Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    found = error(await anna.post("/v1/quotes", content=b'{"stops": []}', headers=headers), 415)
    assert (found["field"], found["value"]) == ("Content-Type", kind)
    assert found["expected"] == "application/json"


async def test_not_a_number_is_no_place(anna: Client, form: dict[str, Any]) -> None:
    for value in ("NaN", "Infinity", "1e999"):
        text = json.dumps(changed(form, "stops.0.place.lat", 12345)).replace("12345", value)
        headers = {"Content-Type": "application/json"}
        found = error(await anna.post("/v1/quotes", content=text, headers=headers), 422)
        assert found["field"] == "stops[0].place.lat"


async def test_a_place_outside_the_city(anna: Client, form: dict[str, Any]) -> None:
    body = changed(form, "stops.1.place", {"lat": 39.9, "lon": 116.4})
    found = error(await anna.post("/v1/quotes", json=body), 422)
    assert found["field"] == "stops[1].place"
    assert "km from the centre of demo" in found["value"]
    swapped = changed(form, "stops.0.place", {"lat": 31.2, "lon": -121.4})
    assert error(await anna.post("/v1/quotes", json=swapped), 422)["field"] == "stops[0].place"


async def test_a_body_that_is_too_long(anna: Client, form: dict[str, Any]) -> None:
    body = json.dumps(form | {"details": {"x": "y" * BODY_BYTES_MAX}}).encode()
    announced = await anna.post("/v1/quotes", content=body)
    assert error(announced, 413)["code"] == "too_large"

    async def pieces() -> Any:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    streamed = await anna.post(
        "/v1/quotes", content=pieces(), headers={"Content-Type": "application/json"}
    )
    assert error(streamed, 413)["code"] == "too_large"


async def test_a_path_that_is_no_id(anna: Client, olga: Client) -> None:
    for path in ("/v1/orders/a%00b", "/v1/orders/a%20b", "/v1/orders/" + "x" * 65):
        assert error(await anna.get(path), 422)["field"] == "order_id"
    assert error(await olga.get("/v1/riders/a%00b"), 422)["field"] == "rider_id"


async def test_unknown_routes_and_methods(anna: Client) -> None:
    assert error(await anna.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error(await anna.delete("/v1/quotes"), 405)["code"] == "method_not_allowed"


async def test_who_has_no_token(client_as: Callable[..., Client], form: dict[str, Any]) -> None:
    stranger = client_as()
    good = Tokens("test-" * 8).mint(sub="anna", role="customer")
    other = Tokens("other" * 8).mint(sub="anna", role="customer")
    old = Tokens("test-" * 8, lambda: now_ms() - HOUR_MS).mint(sub="anna", role="customer")
    for header, reason in (
        (None, "missing"),
        ("", "missing"),
        (f"Basic {good}", "missing"),
        ("Bearer nonsense", "malformed"),
        (f"Bearer {other}", "foreign"),
        (f"Bearer {old}", "expired"),
    ):
        headers = {} if header is None else {"Authorization": header}
        for method, path in (
            ("POST", "/v1/quotes"),
            ("POST", "/v1/orders"),
            ("GET", "/v1/orders/o1"),
            ("POST", "/v1/orders/o1/cancel"),
            ("GET", "/v1/events"),
            ("POST", "/v1/riders"),
            ("GET", "/v1/riders/r1"),
            ("POST", "/v1/riders/r1/shift"),
            ("GET", "/v1/city/demo/status"),
        ):
            response = await stranger.request(method, path, headers=headers)
            found = error(response, 401)
            assert found["code"] == "unauthorised"
            assert reason in found["message"]
            assert response.headers["WWW-Authenticate"] == "Bearer"
