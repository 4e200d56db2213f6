"""The figures, on a log small enough to count by hand."""

import numpy as np
import pytest
from msgspec import structs

from dispatch import events as e
from dispatch.model import Order, Party, Place, Rider, RiderState, Stop, StopKind
from geo.distance import Plane
from geo.travel import StraightLine
from sim.kpi import kpis
from sim.tally import gini

PLANE = Plane(30.0, 104.0)
TRAVEL = StraightLine(detour=1.0)
MIN = 60_000
HOME, SHOP, DOOR_A, DOOR_B = (0.0, 0.0), (1_000.0, 0.0), (1_000.0, 2_000.0), (1_000.0, 3_000.0)


def place(at):
    lat, lon = PLANE.lat_lon(*at)
    return Place(lat=float(lat), lon=float(lon))


def order(name, door, placed_min, promise_min, price_fen=1_000):
    return Order(
        id=name,
        city="c",
        job_type="delivery",
        customer_id="k",
        stops=(
            Stop(kind=StopKind.PICKUP, place=place(SHOP), load=(1,)),
            Stop(kind=StopKind.DROPOFF, place=place(door), load=(-1,)),
        ),
        created_at_ms=placed_min * MIN,
        promise_from_ms=0,
        promise_to_ms=promise_min * MIN,
        expires_at_ms=10**12,
        price_fen=price_fen,
    )


class Log:
    def __init__(self):
        self.events, self.seq = [], {}

    def add(self, minute, name, fact):
        seq = self.seq[name] = self.seq.get(name, 0) + 1
        kind = e.RiderEvent if isinstance(fact, e.WentOnShift | e.WentOffShift) else e.Event
        self.events.append(kind(name, seq, round(minute * MIN), fact))

    def placed(self, minute, made):
        self.add(minute, made.id, e.Placed(order=made))
        self.add(minute, made.id, e.Opened())

    def offered(self, minute, name, number, rider):
        fact = e.Offered(number=number, rider_id=rider, deadline_ms=0, route=())
        self.add(minute, name, fact)

    def on(self, minute, name, at=HOME):
        made = Rider(id=name, city="c", state=RiderState.ON, place=place(at))
        self.add(minute, name, e.WentOnShift(rider=made))


def day():
    """Rider r serves a and b together, after s declined a, and b timed out once; c is cancelled
    after s took it and gave it back and r took it; d expires; x is still waiting at minute 60."""
    log = Log()
    log.on(0, "r")
    log.on(0, "s", at=DOOR_B)
    log.placed(0, order("a", DOOR_A, 0, 30))
    log.placed(1, order("b", DOOR_B, 1, 25, price_fen=2_000))
    log.offered(1, "a", 1, "s")
    log.add(2, "a", e.Declined(number=1, rider_id="s", reason=""))
    log.offered(2, "a", 2, "r")
    log.add(3, "a", e.Accepted(number=2, rider_id="r"))
    log.offered(2, "b", 1, "s")
    log.add(4, "b", e.TimedOut(number=1, rider_id="s"))
    log.offered(4, "b", 2, "r")
    log.add(5, "b", e.Accepted(number=2, rider_id="r"))
    for name in ("a", "b"):
        log.add(5, name, e.Heading(rider_id="r", stop=0))
        log.add(8, name, e.Arrived(rider_id="r", stop=0))
    log.add(10, "a", e.StopDone(rider_id="r", stop=0))
    log.add(11, "b", e.StopDone(rider_id="r", stop=0))
    log.add(20, "a", e.Arrived(rider_id="r", stop=1))
    log.add(21, "a", e.StopDone(rider_id="r", stop=1))
    log.add(21, "a", e.Finished(number=2, rider_id="r"))
    log.add(30, "b", e.Arrived(rider_id="r", stop=1))
    log.add(33, "b", e.StopDone(rider_id="r", stop=1))
    log.add(33, "b", e.Finished(number=2, rider_id="r"))
    log.placed(33, order("c", DOOR_A, 33, 60))
    log.offered(34, "c", 1, "s")
    log.add(35, "c", e.Accepted(number=1, rider_id="s"))
    log.add(38, "c", e.Dropped(number=1, rider_id="s", reason="flat tyre"))
    log.add(38, "s", e.WentOffShift())
    log.offered(38, "c", 2, "r")
    log.add(39, "c", e.Accepted(number=2, rider_id="r"))
    log.add(42, "c", e.Cancelled(by=Party.CUSTOMER, reason="", rider_id="r"))
    log.placed(40, order("d", DOOR_A, 40, 60))
    log.add(50, "d", e.Expired())
    log.placed(55, order("x", DOOR_A, 55, 90))
    log.add(58, "unknown", e.Finished(number=1, rider_id="r"))
    return log.events


@pytest.fixture(scope="module")
def figures():
    return kpis(
        day(), plane=PLANE, travel=TRAVEL, until_ms=60 * MIN, round_ms=[1, 2, 3], refused_plans=4
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orders_created", 5),
        ("orders_delivered", 2),
        ("orders_cancelled_customer", 1),
        ("orders_cancelled_merchant", 0),
        ("orders_expired", 1),
        ("orders_live", 1),
        ("on_time_share", 0.5),  # a at 21 of 30, b at 33 of 25
        ("click_to_door_mean_min", 26.5),  # 21 and 32
        ("click_to_door_p50_min", 26.5),
        ("click_to_door_p95_min", 31.45),
        ("match_mean_min", 3.5),  # 0 to 3, 1 to 5
        ("to_pickup_mean_min", 4.0),  # 3 to 8, 5 to 8
        ("wait_pickup_mean_min", 2.5),  # 8 to 10, 8 to 11
        ("to_door_mean_min", 14.5),  # 10 to 20, 11 to 30
        ("hand_over_mean_min", 2.0),  # 20 to 21, 30 to 33
        ("lateness_mean_min", 4.0),  # 0 and 8
        ("lateness_p95_min", 7.6),
        ("bundled_share", 1.0),
        ("offers_made", 6),
        ("offers_accepted", 4),
        ("offers_declined", 1),
        ("offers_timed_out", 1),
        ("orders_reassigned", 1),
        ("riders", 2),
        ("online_h", 98 / 60),  # r 60, s 38
        ("orders_per_online_h", 2 / (98 / 60)),
        ("orders_per_busy_h", 2 / (36 / 60)),  # r 3 to 33 and 39 to 42, s 35 to 38
        ("utilisation", 36 / 98),
        ("km", 1.0 + 2.0 + 1.0),
        ("km_per_order", 2.0),
        ("empty_km_share", 0.25),
        ("income_per_online_h_yuan", 30 * 0.8 / (98 / 60)),
        ("income_gini", 0.5),  # all to one of two
        ("refused_plans", 4),
        ("round_ms_p95", 2.9),
    ],
)
def test_by_hand(figures, name, value):
    assert figures[name] == pytest.approx(value)


def test_the_parts_add_up_to_the_whole(figures):
    parts = ("match", "to_pickup", "wait_pickup", "to_door", "hand_over")
    total = sum(figures[f"{part}_mean_min"] for part in parts)
    assert total == pytest.approx(figures["click_to_door_mean_min"])


def test_a_promise_is_the_one_made_when_the_order_was_placed(figures):
    """Later values of the order, as a store would hold them, are not asked."""
    late = [
        structs.replace(event, fact=e.Placed(order=order("b", DOOR_B, 1, 99)))
        if isinstance(event.fact, e.Placed) and event.order_id == "b"
        else event
        for event in day()
    ]
    assert kpis(late, plane=PLANE, travel=TRAVEL, until_ms=60 * MIN)["on_time_share"] == 1.0
    assert figures["on_time_share"] == 0.5


def test_nothing_is_measured_by_none():
    empty = kpis([], plane=PLANE, travel=TRAVEL, until_ms=0)
    assert empty["orders_created"] == 0
    for name in ("on_time_share", "click_to_door_mean_min", "utilisation", "income_gini"):
        assert empty[name] is None


def test_a_visit_has_no_pickup_to_wait_at():
    visit = structs.replace(order("v", DOOR_A, 0, 60), stops=(order("v", DOOR_A, 0, 60).stops[1],))
    log = Log()
    log.on(0, "r", at=SHOP)
    log.placed(0, visit)
    log.offered(1, "v", 1, "r")
    log.add(2, "v", e.Accepted(number=1, rider_id="r"))
    log.add(5, "v", e.Arrived(rider_id="r", stop=0))
    log.add(25, "v", e.StopDone(rider_id="r", stop=0))
    log.add(25, "v", e.Finished(number=1, rider_id="r"))
    out = kpis(log.events, plane=PLANE, travel=TRAVEL, until_ms=30 * MIN)
    parts = ("match", "to_pickup", "wait_pickup", "to_door", "hand_over")
    assert [out[f"{part}_mean_min"] for part in parts] == [2.0, 3.0, 0.0, 0.0, 20.0]
    assert out["km"] == pytest.approx(2.0)


def test_goods_that_go_back_are_ridden_loaded_and_earn_nothing():
    log = Log()
    log.on(0, "r")
    made = order("a", DOOR_A, 0, 60)
    log.placed(0, made)
    log.offered(0, "a", 1, "r")
    log.add(1, "a", e.Accepted(number=1, rider_id="r"))
    log.add(5, "a", e.Arrived(rider_id="r", stop=0))
    log.add(6, "a", e.StopDone(rider_id="r", stop=0))
    log.add(20, "a", e.Arrived(rider_id="r", stop=1))
    log.add(21, "a", e.StopFailed(rider_id="r", stop=1, reason="nobody"))
    log.add(21, "a", e.ReturnAdded(rider_id="r", stop=made.stops[0]))
    log.add(35, "a", e.Arrived(rider_id="r", stop=2))
    log.add(36, "a", e.StopDone(rider_id="r", stop=2))
    log.add(36, "a", e.Returned(rider_id="r"))
    out = kpis(log.events, plane=PLANE, travel=TRAVEL, until_ms=60 * MIN)
    assert (out["orders_returned"], out["orders_delivered"], out["orders_live"]) == (1, 0, 0)
    assert out["km"] == pytest.approx(5.0)
    assert out["empty_km_share"] == pytest.approx(0.2)
    assert out["income_per_online_h_yuan"] == 0.0
    assert out["utilisation"] == pytest.approx(35 / 60)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), ([0.0, 0.0], 0.0), ([5.0, 5.0, 5.0], 0.0), ([0.0, 0.0, 0.0, 8.0], 0.75)],
)
def test_gini(values, expected):
    assert gini(np.array(values)) == pytest.approx(expected)
