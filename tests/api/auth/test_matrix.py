"""The table of `matrix.py`, cell by cell."""

from __future__ import annotations

import itertools
import json
import runpy
from collections.abc import AsyncIterator, Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api import messages as m
from api.auth import Tokens
from api.clock import now_ms
from api.personal import Contact, OrderPersonal, StopPersonal

TABLE = runpy.run_path(str(Path(__file__).with_name("matrix.py")))
ROLES, WHOSE = TABLE["ROLES"], TABLE["WHOSE"]
ROUTES, PUBLIC, FRAMES = TABLE["ROUTES"], TABLE["PUBLIC"], TABLE["FRAMES"]
KEY_ROLES = ("merchant", "integrator", "operator")
CASES = runpy.run_path(str(Path(__file__).with_name("cases.py")))
Case, ask, routes_of, PLACE = (CASES[name] for name in ("Case", "ask", "routes_of", "PLACE"))


def cells(row: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """(whose, role, expected) of a row."""
    for whose, cell in zip(WHOSE, row, strict=True):
        if cell != ".":
            for role, expected in zip(ROLES, cell.split(), strict=True):
                yield whose, role, expected


def test_every_route_has_a_row(house: Any) -> None:
    described = house.app.openapi()["paths"]
    known = {f"{method.upper()} {path}" for path, item in described.items() for method in item}
    assert known | set(routes_of(house.app.routes)) == set(ROUTES) | PUBLIC


def test_the_description_says_who_is_refused(house: Any) -> None:
    for path, item in house.app.openapi()["paths"].items():
        for operation in item.values():
            if path.startswith("/v1/"):
                assert {"401", "403", "429"} <= set(operation["responses"]), path


def test_every_frame_has_a_row() -> None:
    assert {m.frame_type(t.__name__) for t in m.CLIENT_FRAMES} == set(FRAMES)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_route(two_cities: Any, route: str) -> None:
    house, wrong = two_cities, []
    for number, (whose, role, expected) in enumerate(cells(ROUTES[route])):
        case = Case(house, number, whose, role)
        response = await ask(case, route, house.token(role, case.me))
        if response.status_code != int(expected):
            wrong.append((whose, role, expected, response.status_code, response.text))
    assert not wrong


@pytest.mark.parametrize("route", ROUTES)
async def test_an_api_key(two_cities: Any, route: str) -> None:
    """Reaches what a token of its role reaches."""
    house, wrong = two_cities, []
    for number, (whose, role, expected) in enumerate(cells(ROUTES[route])):
        if role not in KEY_ROLES or whose != "own":
            continue  # from here on a key is the claims that a token is
        case = Case(house, number, whose, role)
        expected = TABLE["KEYS"].get(route, {}).get(role, expected)
        response = await ask(case, route, await house.key(role, case.me))
        if response.status_code != int(expected):
            wrong.append((whose, role, expected, response.status_code, response.text))
    assert not wrong


@pytest.mark.parametrize("route", ROUTES)
async def test_a_token_that_is_not_good(house: Any, route: str) -> None:
    """None, expired, foreign, revoked, of another city; and a scoped one on all but looking."""
    at_ms = now_ms()
    gone = house.token("operator", "gone")
    operator = house.token("operator")
    jti = house.tokens.verify(gone).jti
    revoked = await house.ask(operator, "POST", "/v1/tokens/revoke", {"jti": jti})
    assert revoked.status_code == 200
    key = await house.key("operator")
    deleted = await house.ask(operator, "DELETE", f"/v1/keys/{key.split('_')[1]}")
    assert deleted.status_code == 204
    old = Tokens(house.settings.secret, lambda: at_ms - 3_600_000).mint(sub="me", role="operator")
    other = Tokens("x" * 20 + "another-secret").mint(sub="me", role="operator")
    expired_key = await house.key("operator", expires_at_ms=at_ms - 1)
    case = Case(house, 0, "own", "operator")
    method, path = await case.path(route)
    body, headers = await case.body(route), {"Idempotency-Key": case.me}
    for bearer, status, word in (
        (None, 401, "missing"),
        ("nonsense", 401, "malformed"),
        (old, 401, "expired"),
        (other, 401, "foreign"),
        (gone, 401, "revoked"),
        (key, 401, "unknown"),
        (expired_key, 401, "expired"),
        ("hxk_", 401, "unknown"),
        (key[:-1], 401, "unknown"),
        (house.token("operator", city="bj"), 403, "city"),
    ):
        response = await house.ask(bearer, method, path, body, **headers)
        error = response.json()["error"]
        assert (response.status_code, word in error["message"]) == (status, True), (word, error)
    order = await house.order("cora")
    scoped = house.token("integrator", "link", orders=[order.id])
    response = await house.ask(scoped, method, path, body, **headers)
    assert response.status_code == 403
    if route not in TABLE["SCOPED_ROUTES"]:
        assert "scoped" in response.json()["error"]["message"]


# --- what the bodies show ----------------------------------------------------------------------

ADDRESS, NOTE, NAME, PHONE = "Frobozz Lane 4711", "Fnord 8823", "Quuxolina", "+8613977735557"
PERSONAL = OrderPersonal(
    stops=(
        StopPersonal(),
        StopPersonal(text=ADDRESS, contact=Contact(name=NAME, phone=PHONE)),
    ),
    note=NOTE,
)
SHOWN = {
    "all": {ADDRESS, NOTE, NAME, PHONE},
    "masked": {ADDRESS, NOTE, '"Q."', '"****5557"'},
    "names": {ADDRESS, NOTE, '"Q."'},
    "only": {'"Q."'},
    ".": set(),
}


def shown(body: str) -> set[str]:
    """Which of the order's texts, whole or masked, stand in the body."""
    return {text for text in set().union(*SHOWN.values()) if text in body}


class Told(Case):
    """A case whose orders hold texts."""

    def __init__(self, house: Any, number: int, whose: str, role: str) -> None:
        super().__init__(house, number, whose, role)
        self.house = copy(house)
        self.house.order = partial(house.order, personal=PERSONAL)


@pytest.mark.parametrize("route", ROUTES)
async def test_who_reads_which_texts(two_cities: Any, route: str) -> None:
    """Every order that there is has texts: no answer has more of them than the table says."""
    wrong, number = [], itertools.count()
    seen = TABLE["SEEN"].get(route, (". . . . .",) * 4)
    for whose, row, statuses in zip(WHOSE, seen, ROUTES[route], strict=True):
        if statuses == ".":
            continue
        for role, kind in zip(ROLES, row.split(), strict=True):
            case = Told(two_cities, next(number), whose, role)
            await case.house.order(case.me)
            body = (await ask(case, route, case.house.token(role, case.me))).text
            if shown(body) != SHOWN[kind]:
                wrong.append((whose, role, kind, body))
    assert not wrong


@pytest.mark.parametrize("role", ["customer", "merchant", "integrator"])
async def test_a_link_shows_no_texts(house: Any, role: str) -> None:
    """Whoever holds it and whosever name it has, under way and ended."""
    order = await house.order("cora", personal=PERSONAL)
    path = f"/v1/orders/{order.id}"
    for sub in ("link", "cora"):
        link = house.token(role, sub, orders=[order.id])
        body = (await house.ask(link, "GET", path)).json()
        assert (body["state"], shown(json.dumps(body))) == ("assigned", set())
        assert [stop["contact"] for stop in body["stops"]] == [None, None]
    await house.ask(house.token("operator"), "POST", f"{path}/cancel", {})
    ended = await house.ask(link, "GET", path)
    assert (ended.json()["state"], shown(ended.text)) == ("cancelled_system", set())
    whole = await house.ask(house.token("customer", "cora"), "GET", path)
    assert shown(whole.text) == SHOWN["all"]


# --- the socket --------------------------------------------------------------------------------


@pytest.fixture
async def open_house(two_cities: Any) -> AsyncIterator[Any]:
    await two_cities.open_gateway()
    return two_cities


async def frame_of(case: Case, frame: str) -> dict[str, Any]:
    """The frame's fields; the order is of the one it belongs to, and offered to him."""
    at_ms = now_ms()
    if frame == "fixes":
        return {"fixes": [{"seq": 0, "at_ms": at_ms, "system": "wgs84", **PLACE}]}
    if frame not in ("accept", "decline", "claim", "stop", "watch"):
        return {}
    if frame == "claim":
        return {"action_id": "a", "order_id": await case.hall_order()}
    # Tenants and cities share no riders: what is elsewhere was offered to somebody else.
    owner = case.owner
    if case.role == "rider" and case.whose != "own":
        owner = f"{case.owner}-elsewhere"
    order = await case.house.order(owner, **case.place, accepted=frame == "stop")
    if frame == "watch":
        return {"orders": [order.id]}
    act = {"action_id": "a", "order_id": order.id}
    if frame == "stop":
        return act | {"stop": 0, "state": "heading", "at_ms": at_ms}
    return act | {"number": order.attempts}


ANSWERS = {
    "hello": ("error",),
    "heartbeat": ("ack",),
    "fixes": ("ack",),
    "accept": ("result",),
    "decline": ("result",),
    "claim": ("result",),
    "stop": ("result",),
    "watch": ("order", "error"),
    "watch_city": ("city",),
}


async def heard(socket: Any, frame: str) -> str:
    """As the table has it."""
    answer = await socket.hear(*ANSWERS[frame])
    match answer["type"]:
        case "closed":
            return str(answer["code"])
        case "result":
            return "ok" if answer["ok"] else "no"
        case "error" if answer["code"] == "forbidden" and frame == "watch":
            return "no"
    return str(answer["type"])


@pytest.mark.parametrize("frame", FRAMES)
async def test_a_frame(open_house: Any, frame: str) -> None:
    house, wrong = open_house, []
    for number, (whose, role, expected) in enumerate(cells(FRAMES[frame])):
        case = Case(house, number, whose, role)
        if role == "rider":
            await house.on_shift(case.me)
        fields = await frame_of(case, frame)
        socket = await house.socket(house.token(role, case.me))
        assert (await socket.hear("welcome"))["role"] == role
        await socket.say(frame, **fields)
        found = await heard(socket, frame)
        if expected == "4403" and found != "4403":
            found = str((await socket.closed())[0])
        if found != expected:
            wrong.append((whose, role, expected, found))
        await socket.socket.close()
    assert not wrong


async def test_a_scoped_token_may_only_look_and_watch(open_house: Any) -> None:
    house = open_house
    order, other = await house.order("cora"), await house.order("cora")
    foreign = await house.order("cora", tenant="else")
    scoped = house.token("customer", "link", orders=[order.id, foreign.id])
    for order_id, status in ((order.id, 200), (other.id, 403), (foreign.id, 403)):
        assert (await house.ask(scoped, "GET", f"/v1/orders/{order_id}")).status_code == status
    for frame in FRAMES:
        socket = await house.socket(scoped)
        await socket.hear("welcome")
        case = Case(house, 0, "own", "customer")
        fields = {"orders": [order.id]} if frame == "watch" else await frame_of(case, frame)
        await socket.say(frame, **fields)
        allowed = await heard(socket, frame) != "4403"
        assert allowed == (frame in TABLE["SCOPED_FRAMES"]), frame
    watcher = await house.socket(scoped)
    await watcher.say("watch", orders=[other.id, foreign.id])
    assert [(await watcher.hear("error"))["code"] for _ in range(2)] == ["forbidden"] * 2
