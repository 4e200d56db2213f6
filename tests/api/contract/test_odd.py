"""What no honest client sends is refused in the one shape, with a status that is described."""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

PLACE = {"lat": 31.2285, "lon": 121.4782, "coordinate_system": "gcj02", "text": "third floor"}
STOP = {
    "place": PLACE,
    "contact": {"name": "Max Mei", "phone": "13812345678"},
    "earliest_ms": None,
    "latest_ms": None,
    "place_id": "shop-1",
}
FORM = {
    "job_type": "delivery",
    "stops": [STOP, STOP],
    "customer_id": "me",
    "merchant_id": "me",
    "load": [1, 1],
    "note": "no onions",
    "details": {},
}
# Every field of every form.
FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "POST /v1/quotes": ("operator", FORM),
    "POST /v1/orders": ("operator", FORM | {"price_token": None, "matching": "hall"}),
    "POST /v1/orders/{order_id}/cancel": ("customer", {"reason": "waited_too_long"}),
    "POST /v1/riders": (
        "operator",
        {
            "id": "r1",
            "vehicle": "scooter",
            "speed_mps": 5.5,
            "capacity": [5],
            "skills": ["cold"],
            "name": "Max Mei",
            "phone": "13812345678",
        },
    ),
    "POST /v1/riders/{rider_id}/shift": ("rider", {"on": True, "shift_end_ms": 1, "place": PLACE}),
    "POST /v1/payments/notices": (
        "integrator",
        {
            "provider": "wechat",
            "notice_id": "n1",
            "customer_id": "me",
            "fen": 1,
            "order_id": "o1",
        },
    ),
    "POST /v1/erasures": ("operator", {"customer_id": "nobody", "rider_id": None}),
    "POST /v1/keys": (
        "operator",
        {"role": "merchant", "sub": "me", "label": "till", "expires_at_ms": 1},
    ),
    "POST /v1/tokens": (
        "key of integrator",
        {"role": "customer", "sub": "me", "ttl_s": 60, "orders": ["o1"]},
    ),
    "POST /v1/tokens/revoke": ("integrator", {"jti": "j1", "role": None, "sub": None}),
    "POST /v1/webhooks": (
        "integrator",
        {
            "url": "http://127.0.0.1:9/hook",
            "description": "till",
            "kinds": ["placed"],
            "coordinate_system": "wgs84",
            "after": 10**17,
        },
    ),
    "PATCH /v1/webhooks/{endpoint_id}": (
        "integrator",
        {
            "url": "http://127.0.0.1:9/hook",
            "description": "till",
            "kinds": ["placed"],
            "coordinate_system": "wgs84",
        },
    ),
    "POST /v1/webhooks/{endpoint_id}/rotate-secret": ("integrator", {"grace_s": 0}),
}
# As they stand in a body.
ODD = [
    r'"a\u0000b"', r'"\ud800"', r'"\udfff\ud800"', '"\U0001f6f5\u202e\ufffe"', '" "', '""',
    '"' + "x" * 5_000 + '"', "-0", "1e400", "-1e400", "NaN", "Infinity", "1.5", str(2**63),
    str(-(2**63)), "9" * 4_000, "9" * 5_000, "true", "null", "[]", "{}", '[[[[{"a": [1]}]]]]',
    '{"a\\u0000": 1}', "{" + '"k": 1, "k": 2' + "}",
]  # fmt: skip


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything in the body, but the body itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inner:
        yield (*way, key)
        if isinstance(child, dict | list):
            yield from leaves(child, (*way, key))


def with_odd(body: Any, way: tuple[Any, ...], odd: str) -> bytes:
    body = copy.deepcopy(body)
    target = body
    for step in way[:-1]:
        target = target[step]
    target[way[-1]] = "@odd@"
    return json.dumps(body).replace('"@odd@"', odd).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def described(server: Any) -> Any:
    return requests.get(server.url + "/openapi.json", timeout=30).json()["paths"]


@pytest.fixture(scope="module")
def ids(server: Any) -> dict[str, str]:
    hook = server.made("integrator", "/v1/webhooks", {"url": "http://127.0.0.1:9/hook"})
    return {"order_id": server.order(), "rider_id": "me", "endpoint_id": hook["id"]}


def check(response: requests.Response, described: Any, method: str, path: str, what: Any) -> None:
    known = described[path][method.lower()]["responses"]
    assert str(response.status_code) in known, (method, path, what, response.text)
    assert response.status_code < 500, (method, path, what, response.text)
    if response.status_code >= 400:
        error = response.json()["error"]
        assert set(error) == {"code", "message", "field", "value", "expected"}


def ask_odd(server: Any, described: Any, ids: Any, name: str, every: int) -> None:
    """Each `every`-th pair of a field and an odd value."""
    who, body = FULL[name]
    method, _, path = name.partition(" ")
    headers = {
        "Authorization": f"Bearer {server.bearers[who]}",
        "Content-Type": "application/json",
        "Idempotency-Key": "odd",
    }
    # One stop stands for both.
    ways = [way for way in leaves(body) if way[:2] != ("stops", 0)]
    pairs = [(way, odd) for way in ways for odd in ODD]
    with requests.Session() as session:
        for way, odd in pairs[::every]:
            content, url = with_odd(body, way, odd), server.url + path.format(**ids)
            answer = session.request(method, url, data=content, headers=headers, timeout=30)
            check(answer, described, method, path, (way, odd[:40]))


@pytest.mark.parametrize("name", FULL)
def test_an_odd_value_in_a_field(server: Any, described: Any, ids: Any, name: str) -> None:
    ask_odd(server, described, ids, name, 11)


@pytest.mark.long
@pytest.mark.parametrize("name", FULL)
def test_every_odd_value_in_every_field(server: Any, described: Any, ids: Any, name: str) -> None:
    ask_odd(server, described, ids, name, 1)


@pytest.mark.parametrize(
    "odd", ["%00", "a%00b", "%ff", "..%2f..", "%F0%9F%9B%B5", "x" * 500, "%20"]
)
def test_an_odd_id_in_every_path(server: Any, described: Any, odd: str) -> None:
    for path, item in described.items():
        if "{" not in path:
            continue
        asked = path
        for name in ("order_id", "rider_id", "endpoint_id", "key_id", "city", "position"):
            asked = asked.replace("{" + name + "}", odd)
        for method in item:
            body = {} if method in ("post", "patch") else None
            answer = server.ask("operator", method.upper(), asked, body)
            assert answer.status_code in (403, 404, 422), (asked, method, answer.text)
            assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "odd", ["-1", str(2**63), "9" * 5_000, "１", "1e3", "nan", "%00", "", "a", "%ff"]
)
def test_an_odd_value_in_every_query(server: Any, described: Any, ids: Any, odd: str) -> None:
    known = {**ids, "key_id": "k", "city": "demo", "position": "1"}
    for path, item in described.items():
        for method, operation in item.items():
            named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            for name in named:
                who = "rider" if path == "/v1/hall" else "operator"
                asked = path.format(**known) + f"?{name}={odd}"
                body = None if method == "get" else {}
                answer = server.ask(who, method.upper(), asked, body)
                check(answer, described, method, path, (name, odd[:40]))


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT"])
def test_a_method_that_a_route_does_not_know(server: Any, described: Any, method: str) -> None:
    for path, item in described.items():
        asked = path.replace("{", "").replace("}", "").replace("position", "1")
        answer = requests.request(
            method, server.url + asked, timeout=30,
            headers={"Authorization": f"Bearer {server.bearers['operator']}"},
        )  # fmt: skip
        assert answer.status_code == 405, (method, path, answer.text)
        assert {m.lower() for m in answer.headers["Allow"].split(", ")} == set(item)
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.shop+json", 200),
        ("application/jsonp", 415),
        ("text/json", 415),
        ("multipart/form-data", 415),
        ("application/x-www-form-urlencoded", 415),
        ("nonsense", 415),
        ("", 415),
        (";;;", 415),
        ("application/json\xff", 415),
    ],
)
def test_a_content_type(server: Any, kind: str, status: int) -> None:
    body = json.dumps({"stops": [{"place": PLACE}, {"place": PLACE}], "customer_id": "me"})
    headers = {"Authorization": f"Bearer {server.bearers['operator']}"}
    answer = requests.post(
        server.url + "/v1/quotes", data=body, timeout=30,
        headers=headers | {"Content-Type": kind.encode("latin-1")},  # type: ignore[dict-item]
    )  # fmt: skip
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("key", [b"", b"a b", b"\xc3\xa9", b"x" * 256])
def test_a_key_that_is_none(server: Any, key: bytes) -> None:
    body = {"stops": [{"place": PLACE}, {"place": PLACE}], "customer_id": "me"}
    headers = {"Authorization": f"Bearer {server.bearers['operator']}", "Idempotency-Key": key}
    answer = requests.post(server.url + "/v1/orders", json=body, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "Idempotency-Key")


@pytest.mark.parametrize(
    "value", [b"", b"Bearer", b"Bearer  ", b"Basic eDp5", b"Bearer \xff\xfe", b"bearer a.b.c",
              b"Bearer " + b"x" * 9_000, b"Bearer hxk_\xff_\x00"[:-1]],
)  # fmt: skip
def test_a_bearer_that_is_none(server: Any, value: bytes) -> None:
    headers = {"Authorization": value}
    answer = requests.get(server.url + "/v1/events", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised")


@pytest.mark.parametrize(
    "line", [b"GET /v1/events?after=\xff HTTP/1.1", b"GET /v1/orders/\xff HTTP/1.1",
             b"GET //v1/events HTTP/1.1", b"GET http://other/v1/events HTTP/1.1",
             b"GET * HTTP/1.1", b"GET /\x00 HTTP/1.1", b"\x16\x03\x01"],
)  # fmt: skip
def test_a_line_that_is_none(server: Any, line: bytes) -> None:
    """The process says 4xx or closes, and lives."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or not answer
    assert requests.get(server.url + "/livez", timeout=30).status_code == 200
