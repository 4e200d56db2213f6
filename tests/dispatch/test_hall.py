"""Orders of the hall beside the rounds: kept out of them, routed once claimed."""

import pytest
from msgspec.structs import replace

from dispatch import commands as c
from dispatch.dispatcher import Ask, Decide, Dispatcher, Known
from dispatch.hall import barred, in_hall, route_with, suits
from dispatch.model import Matching, Rider, RiderState, RouteStop

T0 = 1_700_000_000_000
MINUTE = 60_000
HALL = {"matching": Matching.HALL}


def route_of(dispatcher, rider_id):
    """[(order, stop)] of the rider as the dispatcher has it."""
    columns = dispatcher.columns
    orders = {columns.order_row[name]: name for name in columns.order_row}
    route = columns.route(columns.rider_row[rider_id])
    named = [(orders[int(columns.stops["order"][s])], s) for s in route]
    return [(name, s - columns.stop_row(name, 0)) for name, s in named]


def decided(dispatcher, now_ms):
    dispatcher.tick(now_ms)
    return [effect for effect in dispatcher.outbox() if isinstance(effect, Decide)]


@pytest.fixture
def claimed(scene):
    """Ann serves `a`, on her way to its first stop, and claims `h`."""
    scene.rider("ann")
    scene.place("h", (0, 50), (0, 900), **HALL)
    scene.place("a")
    scene.offer("a", "ann")
    scene.do("a", c.Accept(at_ms=T0 + 1, rider_id="ann", number=1))
    scene.do("a", c.Head(at_ms=T0 + 2, rider_id="ann", stop=0))
    route = route_with(scene.orders["h"], [scene.orders["a"]])
    scene.do("h", c.Claim(at_ms=T0 + 3, rider_id="ann", route=route))
    return scene


def test_no_round_sees_an_order_of_the_hall(scene):
    scene.rider("ann")
    scene.place("h", **HALL)
    assert decided(scene.dispatcher, T0 + MINUTE) == []
    scene.place("a", (100, 0))
    (round_,) = decided(scene.dispatcher, T0 + 2 * MINUTE)
    orders = round_.snapshot.orders
    assert [orders.id[i] for i in range(len(orders.id)) if orders.waiting[i]] == ["a"]


def test_nor_does_it_after_a_restart_or_when_its_rider_gives_it_back(claimed):
    scene = claimed
    scene.do("h", c.DropOut(at_ms=T0 + 4, rider_id="ann", number=1))
    assert scene.dispatcher.counts()["orders_waiting"] == 0
    fresh = Dispatcher("toy", scene.dispatcher.columns.plane, scene.travel, scene.policy)
    fresh.receive(Known(orders=tuple(scene.orders.values()), riders=tuple(scene.riders.values())))
    assert decided(fresh, T0 + MINUTE) == []


def test_a_claimed_order_comes_last_whatever_its_route_was_told(claimed):
    ways = [("a", 0), ("a", 1), ("h", 0), ("h", 1)]
    assert route_of(claimed.dispatcher, "ann") == ways


def test_the_rider_is_open_to_offers_again(claimed):
    columns = claimed.dispatcher.columns
    assert columns.riders["open"][columns.rider_row["ann"]]


def test_a_restart_gives_the_same_route(claimed):
    scene = claimed
    fresh = Dispatcher("toy", scene.dispatcher.columns.plane, scene.travel, scene.policy)
    fresh.receive(Known(orders=tuple(scene.orders.values()), riders=tuple(scene.riders.values())))
    assert route_of(fresh, "ann") == route_of(scene.dispatcher, "ann")


def test_what_a_rider_has_set_out_for_since_comes_before(scene):
    scene.rider("ann")
    scene.place("h", **HALL)
    for name in ("a", "b"):
        scene.place(name)
        scene.offer(name, "ann")
        scene.do(name, c.Accept(at_ms=T0 + 1, rider_id="ann", number=1))
    scene.do("b", c.Head(at_ms=T0 + 2, rider_id="ann", stop=0))
    route = route_with(scene.orders["h"], [scene.orders["a"], scene.orders["b"]])
    told = [("b", 0), ("a", 0), ("a", 1), ("b", 1), ("h", 0), ("h", 1)]
    assert [(s.order_id, s.stop) for s in route] == told
    scene.do("h", c.Claim(at_ms=T0 + 3, rider_id="ann", route=route))
    assert route_of(scene.dispatcher, "ann") == told


def test_an_order_of_the_hall_expires_when_nobody_claims_it(scene):
    order = scene.place("h", **HALL)
    scene.dispatcher.tick(order.expires_at_ms - 1)
    assert scene.dispatcher.outbox() == []
    assert scene.dispatcher.wake_at() == order.expires_at_ms
    scene.dispatcher.tick(order.expires_at_ms)
    asked = [effect for effect in scene.dispatcher.outbox() if isinstance(effect, Ask)]
    assert [(a.order_id, a.command) for a in asked] == [("h", c.Expire(at_ms=order.expires_at_ms))]


def test_who_may_claim(scene):
    scene.place("h", skills=("cold",), load=(2,), **HALL)
    order = scene.orders["h"]
    ann = Rider(
        id="ann", city="toy", skills=("cold", "x"), state=RiderState.ON, shift_end_ms=T0 + MINUTE
    )
    assert in_hall(order, order.expires_at_ms - 1)
    assert not in_hall(order, order.expires_at_ms)
    assert suits(order, ann)
    assert barred(order, ann, T0, 2, 3) is None
    for code, rider, at_ms, live in (
        ("not_on_shift", None, T0, 0),
        ("not_on_shift", replace(ann, state=RiderState.OFF), T0, 0),
        ("not_on_shift", ann, T0 + MINUTE, 0),
        ("foreign_order", replace(ann, tenant="other"), T0, 0),
        ("foreign_order", replace(ann, city="other"), T0, 0),
        ("lacks_skill", replace(ann, skills=("x",)), T0, 0),
        ("too_large", replace(ann, capacity=(1, 9)), T0, 0),
        ("too_many_orders", ann, T0, 3),
    ):
        refusal = barred(order, rider, at_ms, live, 3)
        assert refusal is not None
        assert refusal.code == code
    assert not suits(order, replace(ann, capacity=(1,)))


def test_a_route_starts_with_nothing_held(scene):
    scene.place("h", **HALL)
    own = tuple(RouteStop(order_id="h", stop=i) for i in (0, 1))
    assert route_with(scene.orders["h"], []) == own
