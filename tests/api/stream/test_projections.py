"""Outbox, mirror, views and the operators' map, each without a socket."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec.structs import replace

from api import messages as m
from api.auth import Claims, Role
from api.gateway.audience import Audience, Fan, View
from api.gateway.city_map import CityMap
from api.gateway.marks import Watermarks
from api.gateway.mirror import Mirror
from api.gateway.outbox import Outbox
from api.gateway.views import offer_view, order_view, over_of, route_view
from api.messages import FixRow
from api.pool import FrameRow, Pool
from api.settings import CityArea
from dispatch import events as e
from dispatch.model import (
    Assignment,
    AssignmentState,
    Order,
    OrderState,
    Place,
    Rider,
    RiderState,
    RouteStop,
    Stop,
    StopKind,
    StopState,
)
from geo.datum import System

LAT, LON = 31.2304, 121.4737


def order(order_id: str, state: OrderState = OrderState.OPEN, **fields) -> Order:
    stops = tuple(
        Stop(kind=kind, place=Place(lat=LAT + i, lon=LON), earliest_ms=i or None)
        for i, kind in enumerate((StopKind.PICKUP, StopKind.DROPOFF))
    )
    return Order(
        id=order_id,
        city="sh",
        job_type="delivery",
        customer_id="cora",
        created_at_ms=0,
        promise_from_ms=0,
        promise_to_ms=9,
        expires_at_ms=9,
        price_fen=100,
        **({"state": state, "stops": stops} | fields),
    )


def at(*stops: str) -> tuple[RouteStop, ...]:
    """`a0` is stop 0 of order a."""
    return tuple(RouteStop(order_id=s[0], stop=int(s[1])) for s in stops)


def held(
    order_id: str,
    route: tuple[RouteStop, ...],
    offered_at_ms: int = 0,
    state: AssignmentState = AssignmentState.ACCEPTED,
    **fields,
) -> Order:
    """An order whose live attempt is r1's."""
    attempt = Assignment(
        number=1,
        rider_id="r1",
        state=state,
        offered_at_ms=offered_at_ms,
        deadline_ms=30,
        route=route,
    )
    accepted = state is not AssignmentState.OFFERED
    of = OrderState.ASSIGNED if accepted else OrderState.OPEN
    return order(order_id, of, assignment=attempt, **fields)


def served(of: Order, *done: int) -> Order:
    stops = tuple(
        replace(s, state=StopState.DONE) if i in done else s for i, s in enumerate(of.stops)
    )
    return replace(of, stops=stops)


def places(route: m.Route | m.Offer) -> list[str]:
    stops = route.stops if isinstance(route, m.Route) else route.route
    return [f"{s.order_id}{s.stop}" for s in stops]


# --- outbox ------------------------------------------------------------------------------------


async def test_events_leave_in_order_and_before_the_latest_values():
    outbox = Outbox()
    outbox.latest("p", b"old")
    outbox.event(b"1")
    outbox.latest("p", b"new")
    outbox.latest("q", b"q")
    outbox.event(b"2")
    assert outbox.waits("p")
    outbox.forget("q")
    outbox.close()
    got = []
    while (frame := await outbox.get()) is not None:
        got.append(frame)
    assert got == [b"1", b"2", b"new"]


async def test_a_closed_outbox_takes_no_more():
    outbox = Outbox()
    outbox.event(b"1")
    outbox.close()
    assert outbox.event(b"2")
    outbox.latest("p", b"3")
    assert [await outbox.get() for _ in range(2)] == [b"1", None]


async def test_an_outbox_is_bounded_for_events_and_says_so():
    outbox = Outbox(events_max=2)
    assert [outbox.event(b"x") for _ in range(3)] == [True, True, False]
    for n in range(100):
        outbox.latest("p", b"%d" % n)
    outbox.close()
    assert [await outbox.get() for _ in range(4)] == [b"x", b"x", b"99", None]


async def test_there_is_room_until_half_of_the_events_wait():
    outbox = Outbox(events_max=4)
    outbox.event(b"1")
    await outbox.room()
    outbox.event(b"2")
    waiting = asyncio.create_task(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.get()
    await waiting
    outbox.event(b"3")
    outbox.close()
    await outbox.room()


async def test_who_waits_for_a_frame_gets_it():
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    outbox.event(b"1")
    assert await waiting == b"1"


# --- views -------------------------------------------------------------------------------------


def test_a_route_is_the_newest_accepted_one_without_what_is_served():
    a = served(held("a", at("a0", "a1"), 1), 0)
    b = held("b", at("a0", "b0", "b1", "a1"), 2)
    assert places(route_view("r1", [a, b], System.WGS84)) == ["b0", "b1", "a1"]


def test_stops_that_no_route_names_come_last_and_strangers_not_at_all():
    a = held("a", at("x0", "a1", "a0"), 1)
    b = held("b", at("b0"), 0)
    assert places(route_view("r1", [a, b], System.WGS84)) == ["a1", "a0", "b0", "b1"]
    assert places(route_view("r2", [a, b], System.WGS84)) == []


def test_an_offer_is_not_on_the_route_but_brings_one():
    a = held("a", at("a0", "a1"), 1)
    b = held("b", at("a0", "b0", "b1", "a1"), 2, AssignmentState.OFFERED)
    assert places(route_view("r1", [a, b], System.WGS84)) == ["a0", "a1"]
    offer = offer_view(b, [a, b], System.GCJ02)
    assert places(offer) == ["a0", "b0", "b1", "a1"]
    assert [s.stop for s in offer.stops] == [0, 1]
    assert offer.stops[1].earliest_ms == 1
    assert offer.stops[0].lat != LAT


def test_customers_see_the_rider_from_acceptance_to_the_end():
    route = at("a0", "a1")
    for state, rider_id in ((AssignmentState.OFFERED, None), (AssignmentState.ACTIVE, "r1")):
        assert order_view(held("a", route, state=state), System.WGS84).rider_id == rider_id
    view = order_view(order("a", OrderState.EXPIRED), System.WGS84)
    assert (view.code, view.state, view.promise_to_ms) == ("502", "expired", 9)


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (e.Declined(number=1, rider_id="r1", reason="far"), "declined"),
        (e.TimedOut(number=1, rider_id="r1"), "timed_out"),
        (e.Withdrawn(number=1, rider_id="r1", reason=""), "withdrawn"),
        (e.Cancelled(by="customer", reason="", rider_id="r1"), "cancelled"),
    ],
)
def test_an_attempt_that_ends_before_its_order_is_told(fact, reason):
    before = held("a", at("a0"), state=AssignmentState.OFFERED)
    assert over_of("a", before, fact) == (
        "r1",
        m.OfferOver(order_id="a", number=1, reason=reason),
    )
    assert over_of("a", order("a"), fact) is None
    assert over_of("a", before, e.Finished(number=1, rider_id="r1")) is None


# --- mirror ------------------------------------------------------------------------------------


def test_the_mirror_keeps_live_orders_by_rider():
    mirror = Mirror()
    mirror.load([order("a"), order("d", OrderState.DONE)], [Rider(id="r1", city="sh")])
    assert [o.id for o in mirror.orders()] == ["a"]
    assert mirror.rider_state("r1") == "idle"
    mirror.put(held("a", at("a0"), state=AssignmentState.OFFERED))
    assert mirror.rider_state("r1") == "offered"
    mirror.put(held("a", at("a0")))
    assert mirror.rider_state("r1") == "busy"
    assert [o.id for o in mirror.orders_of("r1")] == ["a"]
    mirror.put(order("a", OrderState.CANCELLED_CUSTOMER))
    assert mirror.orders_of("r1") == []
    assert mirror.order("a") is None
    mirror.leave("r1")
    assert mirror.rider_state("r1") == "off"


def test_positions_are_newer_only_and_get_a_heading_from_the_way():
    mirror = Mirror()
    assert mirror.move("r1", FrameRow("r1", 1, 1000, LAT, LON))
    assert mirror.spot("r1").heading_deg is None
    assert not mirror.move("r1", FrameRow("r1", 1, 1000, LAT, LON))
    assert not mirror.move("r1", FrameRow("r1", 2, 999, LAT, LON))
    assert mirror.move("r1", FrameRow("r1", 2, 2000, LAT, LON + 0.001))
    assert mirror.spot("r1").heading_deg == 90.0
    assert mirror.move("r1", FrameRow("r1", 3, 3000, LAT, LON + 0.00101))  # 1 m: stands still
    assert mirror.spot("r1").heading_deg == 90.0
    assert mirror.move("r1", FrameRow("r1", 4, 4000, LAT, LON, 12.0))
    assert mirror.spot("r1").heading_deg == 12.0


# --- the operators' map ------------------------------------------------------------------------


class Operator:
    """A connection whose outbox nobody empties."""

    def __init__(self, tenant: str = "default", system: System = System.WGS84) -> None:
        self.view = View(system, m.JSON)
        self.session = self
        self.claims = Claims(sub="o", role=Role.OPERATOR, tenant=tenant, city="sh", iat=0, exp=9)
        self.outbox = Outbox()
        self.push, self.push_latest = self.outbox.event, self.outbox.latest
        self.waits, self.forget = self.outbox.waits, self.outbox.forget

    def tell(self, message: m.Told) -> None:
        self.push(m.JSON.encode(message))

    async def heard(self) -> list[dict]:
        self.outbox.close()
        frames = []
        while (frame := await self.outbox.get()) is not None:
            frames.append(msgspec.json.decode(frame))
        return frames


def city() -> tuple[Mirror, CityMap]:
    mirror = Mirror()
    riders = [
        Rider(id=f"r{i}", city="sh", tenant=tenant, state=RiderState.ON)
        for i, tenant in ((1, "default"), (2, "default"), (3, "other"))
    ]
    mirror.load([order("a"), order("b", tenant="other")], riders)
    for i in (1, 2, 3):
        mirror.move(f"r{i}", FrameRow(f"r{i}", 0, 1000, LAT, LON))
    return mirror, CityMap(CityArea(name="sh", lat=LAT, lon=LON), mirror, Audience())


def move(mirror: Mirror, city_map: CityMap, rider_id: str, seq: int) -> None:
    mirror.move(rider_id, FrameRow(rider_id, seq, 1000 + seq, LAT, LON))
    city_map.rider_changed(rider_id)


async def test_an_operator_who_lags_gets_everyone_once_instead_of_what_he_missed():
    mirror, city_map = city()
    operator = Operator()
    city_map.watch(operator)
    move(mirror, city_map, "r1", 1)
    city_map.tick()
    move(mirror, city_map, "r2", 2)
    city_map.tick()  # the first tick has not left yet
    snapshot, riders = await operator.heard()
    assert snapshot["type"] == "city"
    assert {row[0]: row[5] for row in riders["riders"]} == {"r1": 1001, "r2": 1002}


async def test_an_operator_who_keeps_up_gets_only_what_moved():
    mirror, city_map = city()
    operator = Operator()
    city_map.watch(operator)
    city_map.tick()
    move(mirror, city_map, "r2", 2)
    city_map.tick()
    _, riders = await operator.heard()
    assert [row[0] for row in riders["riders"]] == ["r2"]


async def test_an_operator_sees_his_tenants_riders_and_orders_only():
    mirror, city_map = city()
    operator = Operator("other")
    city_map.watch(operator)
    move(mirror, city_map, "r1", 1)
    city_map.order_changed(order("a"))
    city_map.tick()
    (snapshot,) = await operator.heard()
    assert [row[0] for row in snapshot["riders"]] == ["r3"]
    assert [o["order_id"] for o in snapshot["orders"]] == ["b"]


async def test_an_order_is_told_once_it_is_more_than_a_quote():
    _, city_map = city()
    operator = Operator()
    city_map.watch(operator)
    city_map.order_changed(order("new", OrderState.QUOTED))
    city_map.tick()
    city_map.order_changed(order("new"))
    city_map.tick()
    _, told = await operator.heard()
    assert [(o["order_id"], o["state"]) for o in told["orders"]] == [("new", "open")]


async def test_a_rider_who_goes_off_shift_is_told_once_and_gone():
    mirror, city_map = city()
    operator = Operator()
    city_map.watch(operator)
    city_map.rider_left(mirror.riders["r1"])
    mirror.leave("r1")
    city_map.tick()
    city_map.tick()
    _, gone = await operator.heard()
    assert [(row[0], row[4]) for row in gone["riders"]] == [("r1", "off")]


def test_a_fan_makes_one_message_a_system_and_one_frame_a_view():
    made = []

    def make(system: System) -> m.Told:
        made.append(system)
        return m.Orders(orders=[order_view(order("a"), system)])

    fan = Fan(make)
    frames = {fan.frame(View(s, c)) for s in System for c in (m.JSON, m.MSGPACK) for _ in range(3)}
    assert sorted(made) == sorted(System)
    assert len(frames) == 6


# --- watermarks --------------------------------------------------------------------------------


async def test_watermarks_are_raised_by_the_pool_and_bounded(pool_redis):
    pool = Pool(pool_redis, "sh")
    marks = Watermarks(pool, marks_max=2)
    mark = await marks.of("r1")
    assert (mark.stored, mark.taken) == (-1, -1)
    mark.taken = mark.stored = 4
    await pool.flush([FixRow("r1", 9, 1000, LAT, LON)])
    again = await marks.of("r1")
    assert again is mark
    assert (mark.stored, mark.taken) == (9, 9)
    mark.taken = mark.stored = 20  # what the pool says is older
    assert (await marks.of("r1")).stored == 20
    await marks.of("r2")
    await marks.of("r3")
    assert await marks.of("r1") is not mark
