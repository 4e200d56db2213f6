"""Personal data over HTTP: who sees what in which state, contacts, erasure, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from api.clock import now_ms
from api.store import Store
from dispatch.commands import Accept, Arrive, Cancel, FinishStop, GoOnShift, Offer
from dispatch.model import Order, Party, Place, Rider, RouteStop

Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]
HOUR_MS = 3_600_000
ADDRESS, NOTE = "Frobozz Lane 4711", "Fnord 8823"
NAME, PHONE = "Quuxolina Xyzzyberg", "+8613977735557"
SENDER = "+8613866624446"
RIDER_PHONE = "+8613755513335"


@pytest.fixture
def form(form: dict[str, Any]) -> dict[str, Any]:
    """Two contacts, an address at the door, a note."""
    form["stops"][0]["contact"] = {"phone": SENDER}
    form["stops"][1]["contact"] = {"name": NAME, "phone": "139 7773 5557"}
    form["stops"][1]["place"]["text"] = ADDRESS
    return form | {"note": NOTE, "merchant_id": "shop"}


@pytest.fixture
async def rita(client_as: ClientAs, store: Store) -> Client:
    """A rider on shift, with a name and a phone."""
    client = client_as("rider", "rita")
    me = {"id": "rita", "name": "Plughard Waldorfson", "phone": RIDER_PHONE}
    assert (await client.post("/v1/riders", json=me)).status_code == 200
    at_ms = now_ms()
    here = Place(lat=31.2304, lon=121.4737)
    shift = GoOnShift(at_ms=at_ms, shift_end_ms=at_ms + HOUR_MS, place=here)
    await store.run_rider("rita", shift)
    return client


@pytest.fixture
def placed(anna: Client, form: dict[str, Any]) -> Callable[..., Any]:
    async def place(key: str = "k1") -> dict[str, Any]:
        answer = await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": key})
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    return place


async def bring(store: Store, order_id: str, state: str) -> Order:
    """The order, offered to rita and as far as `state`."""
    at_ms = now_ms()
    route = tuple(RouteStop(order_id=order_id, stop=n) for n in (0, 1))
    offer = Offer(
        at_ms=at_ms, rider_id="rita", deadline_ms=at_ms + 9_999, route=route, order_version=2
    )
    commands: list[Any] = [offer]
    if state != "offered":
        commands.append(Accept(at_ms=at_ms, rider_id="rita", number=1))
    if state in ("active", "done"):
        commands.append(Arrive(at_ms=at_ms, rider_id="rita", stop=0))
    if state == "done":
        commands.append(FinishStop(at_ms=at_ms, rider_id="rita", stop=0))
        commands.append(Arrive(at_ms=at_ms, rider_id="rita", stop=1))
        commands.append(FinishStop(at_ms=at_ms, rider_id="rita", stop=1))
    for command in commands:
        outcome = await store.run(order_id, command)
        assert outcome.refusal is None, outcome.refusal
    return outcome.order


def seen(answer: httpx2.Response) -> tuple[Any, ...]:
    """(address, note, the recipient's name and phone) of an order's answer, or its status."""
    if answer.status_code != 200:
        return (answer.status_code,)
    body = answer.json()
    contact = body["stops"][1]["contact"]
    shown = None if contact is None else (contact["name"], contact["phone"])
    return body["stops"][1]["place"]["text"], body["note"], shown


WHOLE = (ADDRESS, NOTE, (NAME, PHONE))
MERCHANT = (ADDRESS, NOTE, ("Q.", "****5557"))
SERVING = (ADDRESS, NOTE, ("Q.", ""))
AREA_ONLY = ("", "", None)


@pytest.mark.parametrize(
    ("state", "rider"),
    [
        ("open", (403,)),
        ("offered", AREA_ONLY),
        ("accepted", SERVING),
        ("active", SERVING),
        ("done", (403,)),
    ],
)
async def test_who_sees_what_in_which_state(
    client_as: ClientAs,
    store: Store,
    rita: Client,
    placed: Callable[..., Any],
    state: str,
    rider: tuple[Any, ...],
) -> None:
    order_id = (await placed())["id"]
    if state != "open":
        await bring(store, order_id, state)
    path = f"/v1/orders/{order_id}"
    for role, sub, tenant, wanted in (
        ("customer", "anna", "default", WHOLE),
        ("integrator", "erp", "default", WHOLE),
        ("operator", "olga", "default", WHOLE),
        ("merchant", "shop", "default", MERCHANT),
        ("customer", "bob", "default", (403,)),
        ("merchant", "other", "default", (403,)),
        ("operator", "olga", "else", (403,)),
        ("rider", "rob", "default", (403,)),
    ):
        answer = await client_as(role, sub, tenant=tenant).get(path)
        assert seen(answer) == wanted, (role, sub, tenant)
    assert seen(await rita.get(path)) == rider


async def test_every_answer_of_an_order_is_the_same(
    anna: Client, form: dict[str, Any], placed: Callable[..., Any]
) -> None:
    order = await placed()
    assert order["stops"][0]["contact"] == {"name": "", "phone": SENDER}
    assert (await anna.get(f"/v1/orders/{order['id']}")).json() == order
    assert await placed() == order  # a retry
    cancelled = await anna.post(f"/v1/orders/{order['id']}/cancel", json={"reason": PHONE})
    assert seen(cancelled) == WHOLE
    assert cancelled.json()["ended_reason"] == "***"


async def test_events_and_the_engine_have_none_of_it(
    olga: Client, store: Store, rita: Client, placed: Callable[..., Any]
) -> None:
    order = await bring(store, (await placed())["id"], "active")
    events = (await olga.get("/v1/events")).text
    for marker in (ADDRESS, NOTE, NAME, "1397773", "Waldorf", "137555"):
        assert marker not in events
        assert marker not in repr(order)


# --- contacts ---------------------------------------------------------------------------------


async def test_each_party_calls_the_other_by_a_masked_number(
    anna: Client, client_as: ClientAs, store: Store, rita: Client, placed: Callable[..., Any]
) -> None:
    order_id = (await placed())["id"]
    path = f"/v1/orders/{order_id}/contacts"
    assert (await anna.get(path)).json() == {"contacts": []}
    assert (await rita.get(path)).status_code == 403
    await bring(store, order_id, "offered")
    assert (await anna.get(path)).json() == {"contacts": []}
    assert (await rita.get(path)).status_code == 403
    assert (await store.run(order_id, Accept(at_ms=now_ms(), rider_id="rita", number=1))).events

    answers = [await client.get(path) for client in (rita, anna, client_as("merchant", "shop"))]
    for answer in answers:
        for marker in ("13977735557", "13866624446", "13755513335", NAME, "Waldorfson"):
            assert marker not in answer.text
    of_rita, of_anna, of_shop = ({p["party"]: p for p in a.json()["contacts"]} for a in answers)
    assert of_rita.keys() == {"stop:0", "stop:1"}
    assert of_anna.keys() == of_shop.keys() == {"stop:0", "stop:1", "rider"}
    assert (of_rita["stop:1"]["name"], of_anna["rider"]["name"]) == ("Q.", "P.")
    assert of_anna["stop:1"] == of_rita["stop:1"]
    at_ms = now_ms()
    door, rider = of_rita["stop:1"]["masked_number"], of_anna["rider"]["masked_number"]
    assert await store.personal.relay(door, RIDER_PHONE, at_ms) == PHONE
    assert await store.personal.relay(rider, PHONE, at_ms) == RIDER_PHONE
    assert (await client_as("customer", "bob").get(path)).status_code == 403

    await store.run(order_id, Cancel(at_ms=at_ms, by=Party.CUSTOMER, reason=""))
    assert (await anna.get(path)).json() == {"contacts": []}
    assert (await rita.get(path)).status_code == 403
    assert await store.personal.relay(door, RIDER_PHONE, at_ms) is None


async def test_who_gave_no_phone_has_no_number(
    anna: Client, olga: Client, store: Store, rita: Client, form: dict[str, Any]
) -> None:
    form["stops"][0]["contact"] = {"name": "王小明"}
    form["stops"][1]["contact"] = {}
    answer = await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": "k"})
    await bring(store, answer.json()["id"], "accepted")
    found = (await rita.get(f"/v1/orders/{answer.json()['id']}/contacts")).json()["contacts"]
    assert found == [{"party": "stop:0", "name": "王**", "masked_number": None}]
    assert (await olga.get("/v1/orders/nothing/contacts")).status_code == 404


# --- riders ----------------------------------------------------------------------------------


async def test_a_rider_s_name_and_phone(olga: Client, rita: Client, store: Store) -> None:
    known = (await olga.get("/v1/riders/rita")).json()
    assert (known["name"], known["phone"]) == ("Plughard Waldorfson", RIDER_PHONE)
    # On shift he may change his phone; what is left out stays.
    changed = await rita.post("/v1/riders", json={"id": "rita", "phone": "021 12345678"})
    assert changed.json() == known | {"phone": "+862112345678"}
    assert (await rita.get("/v1/riders/rita")).json() == changed.json()
    off = await rita.post("/v1/riders/rita/shift", json={"on": False})
    assert (off.json()["name"], off.json()["state"]) == ("Plughard Waldorfson", "off")
    stored = await store.rider("rita")
    assert isinstance(stored, Rider)
    assert "Waldorfson" not in repr(stored)


# --- erasure ---------------------------------------------------------------------------------


async def test_a_customer_is_forgotten(
    anna: Client, client_as: ClientAs, store: Store, placed: Callable[..., Any]
) -> None:
    ended, live = (await placed("k1"))["id"], (await placed("k2"))["id"]
    await anna.post(f"/v1/orders/{ended}/cancel", json={})
    with capture_logs() as lines:
        answer = await anna.post("/v1/erasures", json={})
    assert answer.json() == {"erased": 1, "when_ended": 1}
    (line,) = lines
    assert (line["event"], line["owner"], line["by"]) == (
        "personal_erased",
        "customer/anna",
        "customer/anna",
    )
    for marker in (ADDRESS, NOTE, NAME, "1397773"):
        assert marker not in repr(lines)
    assert seen(await anna.get(f"/v1/orders/{ended}")) == AREA_ONLY
    assert seen(await anna.get(f"/v1/orders/{live}")) == WHOLE
    await anna.post(f"/v1/orders/{live}/cancel", json={})
    await store.personal.tidy(now_ms() + 1)
    assert seen(await anna.get(f"/v1/orders/{live}")) == AREA_ONLY


async def test_who_may_have_whose_data_erased(
    anna: Client, olga: Client, client_as: ClientAs, rita: Client, placed: Callable[..., Any]
) -> None:
    order = (await placed())["id"]
    await anna.post(f"/v1/orders/{order}/cancel", json={})
    path, nothing = "/v1/erasures", {"erased": 0, "when_ended": 0}
    for role, sub, form, status in (
        ("customer", "bob", {"customer_id": "anna"}, 403),
        ("customer", "anna", {"rider_id": "anna"}, 403),
        ("rider", "rita", {"rider_id": "rob"}, 403),
        ("merchant", "shop", {}, 403),
        ("integrator", "erp", {"customer_id": "anna"}, 403),
        ("operator", "olga", {}, 422),
        ("operator", "olga", {"customer_id": "anna", "rider_id": "rita"}, 422),
    ):
        answer = await client_as(role, sub).post(path, json=form)
        assert answer.status_code == status, (role, form)
    stranger = client_as("operator", "olga", tenant="else")
    assert (await stranger.post(path, json={"customer_id": "anna"})).json() == nothing
    assert (await client_as("customer", "bob").post(path, json={})).json() == nothing
    assert seen(await anna.get(f"/v1/orders/{order}")) == WHOLE
    erased = await olga.post(path, json={"customer_id": "anna"})
    assert erased.json() == {"erased": 1, "when_ended": 0}
    assert (await rita.post(path, json={})).json() == {"erased": 0, "when_ended": 1}
    await rita.post("/v1/riders/rita/shift", json={"on": False})
    assert (await rita.post(path, json={"rider_id": "rita"})).json()["erased"] == 1
    assert (await rita.get("/v1/riders/rita")).json()["phone"] == ""


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contact", "field"),
    [
        ({"phone": "12345"}, "phone"),
        ({"phone": 13812345678}, "phone"),
        ({"phone": "1" * 33}, "phone"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"mail": "anna@example.com"}, "mail"),
        ("anna", ""),
    ],
)
async def test_a_contact_that_is_none(
    anna: Client, olga: Client, form: dict[str, Any], contact: Any, field: str
) -> None:
    form["stops"][1]["contact"] = contact
    answer = await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422
    where = "stops[1].contact" + (f".{field}" if field else "")
    assert answer.json()["error"]["field"] == where
    if field in ("phone", "name"):
        answer = await olga.post("/v1/riders", json={"id": "rita", **contact})
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_nothing_of_a_refused_body_is_logged(
    anna: Client, form: dict[str, Any], capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    for body in (
        json.dumps(form)[:-2],
        json.dumps(form | {"note": NOTE * 100}),
        json.dumps(form | {"job_type": NAME.lower().replace(" ", "_")}),
        json.dumps({**form, "customer_id": "bob"}),
    ):
        assert (await anna.post("/v1/orders", content=body, headers=headers)).status_code == 422
    said = capfd.readouterr()
    for text in (caplog.text, said.out, said.err):
        for marker in (ADDRESS, NOTE, NAME, "7773"):
            assert marker not in text
