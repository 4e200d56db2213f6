"""The minds: what a rider reports is legal, whatever he is told and when."""

import dataclasses
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from dispatch import commands as c
from dispatch.jobs.delivery import JOB
from dispatch.lifecycle import ORDER, STOP
from dispatch.model import (
    AssignmentState,
    OrderState,
    Party,
    Place,
    Rider,
    RouteStop,
    StopKind,
    StopState,
)
from dispatch.registry import OrderForm, StopForm
from dispatch.transitions import Refusal, apply, apply_rider, evolve_rider, fold
from geo.distance import Plane
from geo.travel import MANHATTAN, TravelLaw
from sim.behaviour import (
    Answer,
    EndShift,
    OfferSeen,
    Report,
    RiderMind,
    StartShift,
    StopAhead,
)
from sim.scenario import RiderKnobs, Shift

LAW = TravelLaw(0, 1.0, 1)
HOUR_MS = 3_600_000
SURE = RiderKnobs(
    count=1,
    shifts=(Shift(start_h=0, hours=8),),
    accept_share=1.0,
    ignore_share=0.0,
    answer_s=3.0,
    service_spread=0.0,
)


def rider(knobs=SURE, law=LAW, seed=0, end_ms=8 * HOUR_MS):
    return RiderMind(
        knobs=knobs,
        law=law,
        speed_mps=5.0,
        x=0.0,
        y=0.0,
        shift_start_ms=1_000,
        shift_end_ms=end_ms,
        rng=np.random.default_rng(seed),
    )


def on_shift(**kwargs):
    mind = rider(**kwargs)
    mind.act(1_000)
    return mind


def ahead(order_id="a", stop=0, x=100.0, y=0.0, **kwargs):
    kind = StopKind.PICKUP if stop == 0 else StopKind.DROPOFF
    return StopAhead(order_id=order_id, stop=stop, number=1, kind=kind, x=x, y=y, **kwargs)


def played(mind, until_ms):
    """What he does up to then: [(at_ms, action), ...]."""
    done = []
    while (due := mind.wake_at()) is not None and due <= until_ms:
        done += [(due, action) for action in mind.act(due)]
    return done


def reports(done):
    return [(at, a.order_id, a.stop, a.state.value) for at, a in done if isinstance(a, Report)]


def test_a_shift_starts_and_ends_on_time():
    mind = rider()
    assert mind.wake_at() == 1_000
    assert mind.act(999) == []
    assert mind.act(1_000) == [StartShift(shift_end_ms=8 * HOUR_MS)]
    assert mind.wake_at() == 8 * HOUR_MS
    assert mind.act(8 * HOUR_MS) == [EndShift()]
    assert mind.wake_at() is None


def test_one_order_from_offer_to_door():
    mind = on_shift()
    mind.offered(10_000, OfferSeen(order_id="a", number=1, deadline_ms=40_000))
    (answered_ms, answer), *rest = played(mind, 60_000)
    assert answer == Answer(order_id="a", number=1, accept=True)
    assert 10_000 < answered_ms <= 40_000
    assert rest == []
    stops = [
        ahead(ready_ms=90_000, approach_ms=5_000, leave_ms=2_000),
        ahead(stop=1, x=100.0, y=500.0, approach_ms=7_000, leave_ms=3_000),
    ]
    mind.route(60_000, stops)
    assert reports(played(mind, HOUR_MS)) == [
        (60_000, "a", 0, "heading"),
        (80_000, "a", 0, "arrived"),  # 100 m at 5 m/s
        (90_000, "a", 0, "done"),  # ready later than he is
        (92_000, "a", 1, "heading"),
        (192_000, "a", 1, "arrived"),
        (199_000, "a", 1, "done"),
    ]
    assert mind.position(HOUR_MS) == (100.0, 500.0)


def test_he_moves_along_the_law():
    straight, grid = on_shift(), on_shift(law=TravelLaw(MANHATTAN, 1.0, 1))
    for mind in (straight, grid):
        mind.route(10_000, [ahead(x=300.0, y=400.0)])
        mind.act(10_000)
    assert straight.position(60_000) == pytest.approx((150.0, 200.0))
    assert straight.fix(60_000).speed_mps == pytest.approx(5.0)
    assert grid.position(60_000) == pytest.approx((250.0, 0.0))
    assert grid.position(90_000) == pytest.approx((300.0, 100.0))
    assert grid.fix(60_000).speed_mps == pytest.approx(5.0)
    assert straight.fix(9_000).speed_mps == 0.0


def test_service_takes_the_factor_of_what_is_planned():
    quick = dataclasses.replace(SURE, service_factor=0.1)
    mind = on_shift(knobs=quick)
    mind.route(10_000, [ahead(approach_ms=45_000, leave_ms=45_000), ahead(stop=1)])
    assert [at for at, *_ in reports(played(mind, HOUR_MS))][:4] == [10_000, 30_000, 34_500, 39_000]


def test_one_door_is_approached_and_left_once():
    door = {"place_id": "m1", "approach_ms": 10_000, "leave_ms": 4_000}
    mind = on_shift()
    stops = [
        ahead("a", **door),
        ahead("b", **door, ready_ms=50_000),
        ahead("a", 1, x=200.0),
        ahead("b", 1, x=200.0),
    ]
    mind.route(10_000, stops)
    assert reports(played(mind, 80_000)) == [
        (10_000, "a", 0, "heading"),
        (30_000, "a", 0, "arrived"),
        (40_000, "a", 0, "done"),
        (40_000, "b", 0, "heading"),
        (40_000, "b", 0, "arrived"),
        (50_000, "b", 0, "done"),
        (54_000, "a", 1, "heading"),
        (74_000, "a", 1, "arrived"),
        (74_000, "a", 1, "done"),
        # The same point, but nobody's door: a stop of its own.
        (74_000, "b", 1, "heading"),
        (74_000, "b", 1, "arrived"),
        (74_000, "b", 1, "done"),
    ]


def test_a_new_first_stop_diverts_him_where_he_is():
    mind = on_shift()
    first = [ahead("a", x=1_000.0), ahead("a", 1)]
    mind.route(1_000, first)
    mind.act(1_000)
    here = mind.position(51_000)
    assert here == (250.0, 0.0)
    mind.route(51_000, [ahead("b", x=250.0, y=50.0), ahead("b", 1, x=250.0, y=50.0), *first])
    assert reports(played(mind, 62_000)) == [
        (51_000, "b", 0, "heading"),
        (61_000, "b", 0, "arrived"),
        (61_000, "b", 0, "done"),
        (61_000, "b", 1, "heading"),
        (61_000, "b", 1, "arrived"),
        (61_000, "b", 1, "done"),
    ]
    # He had headed for a's pickup before: it is not reported twice.
    assert reports(played(mind, HOUR_MS))[0][1:] == ("a", 0, "arrived")


def test_the_same_route_again_changes_nothing():
    mind = on_shift()
    stops = [ahead("a", x=1_000.0), ahead("a", 1)]
    mind.route(1_000, stops)
    mind.act(1_000)
    path = mind.path
    mind.route(20_000, [structs.replace(stops[0], state=StopState.HEADING), stops[1]])
    assert mind.path is path
    assert mind.wake_at() == 201_000


def test_a_stop_that_moves_turns_him():
    mind = on_shift()
    mind.route(1_000, [ahead("a", x=1_000.0), ahead("a", 1)])
    mind.act(1_000)
    mind.route(101_000, [ahead("a", x=500.0, y=50.0), ahead("a", 1)])
    assert reports(played(mind, 111_000)) == [
        (111_000, "a", 0, "arrived"),
        (111_000, "a", 0, "done"),
        (111_000, "a", 1, "heading"),
    ]


def test_where_he_has_arrived_he_stays_until_the_stop_is_gone():
    mind = on_shift()
    here = ahead("a", ready_ms=500_000)
    mind.route(1_000, [here, ahead("a", 1)])
    played(mind, 30_000)
    other = [ahead("b", x=0.0), ahead("b", 1, x=0.0)]
    mind.route(40_000, [*other, here, ahead("a", 1)])
    assert played(mind, 400_000) == []
    assert mind.position(400_000) == (100.0, 0.0)
    mind.route(400_000, [*other, structs.replace(here, ready_ms=600_000), ahead("a", 1)])
    assert played(mind, 599_999) == []
    mind.route(599_999, other)
    assert reports(played(mind, 599_999)) == [(599_999, "b", 0, "heading")]


def test_a_route_in_an_impossible_order_is_ridden_in_the_possible_one():
    mind = on_shift()
    mind.route(1_000, [ahead("a", 1, x=50.0), ahead("b"), ahead("a", 0), ahead("b", 1)])
    assert [(o, s) for _, o, s, state in reports(played(mind, HOUR_MS)) if state == "done"] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("b", 1),
    ]


def test_a_mind_that_starts_in_the_middle_reports_only_what_is_missing():
    mind = on_shift()
    mind.route(1_000, [ahead("a", state=StopState.ARRIVED, x=0.0), ahead("a", 1, x=0.0)])
    assert [(s, state) for _, _, s, state in reports(played(mind, HOUR_MS))] == [
        (0, "done"),
        (1, "heading"),
        (1, "arrived"),
        (1, "done"),
    ]


def test_a_late_route_does_not_send_him_back():
    mind = on_shift()
    stops = [ahead("a"), ahead("a", 1, x=500.0)]
    mind.route(1_000, stops)
    played(mind, 30_000)
    mind.route(30_000, stops)  # sent before the server knew of the pickup
    assert mind.position(61_000) == (300.0, 0.0)


def test_an_order_taken_again_is_reported_again():
    mind = on_shift()
    stops = [ahead("a"), ahead("a", 1)]
    mind.route(1_000, stops)
    played(mind, 2_000)
    mind.route(2_000, [structs.replace(s, number=2) for s in stops])
    assert reports(played(mind, 2_000)) == [(2_000, "a", 0, "heading")]


def answers(knobs, count=2_000):
    mind = on_shift(knobs=knobs, end_ms=10**12)
    for i in range(count):
        at = 10_000 * (i + 1)
        mind.offered(at, OfferSeen(order_id=f"o{i}", number=1, deadline_ms=at + 10**9))
        mind.offered(at, OfferSeen(order_id=f"o{i}", number=1, deadline_ms=at + 10**9))
    return [(at, a) for at, a in played(mind, 10**9) if isinstance(a, Answer)]


def test_he_accepts_declines_and_ignores_by_the_shares():
    knobs = dataclasses.replace(SURE, accept_share=0.7, ignore_share=0.2)
    given = answers(knobs)
    yes = [a for _, a in given if a.accept]
    no = [a for _, a in given if not a.accept]
    assert len(yes) == pytest.approx(1_400, abs=80)
    assert len(no) == pytest.approx(200, abs=50)
    assert {a.reason for a in no} == {"busy"}
    assert len({a.order_id for _, a in given}) == len(given)


def test_answers_take_their_mean_time():
    given = answers(SURE)
    waits = [at - 10_000 * (int(a.order_id[1:]) + 1) for at, a in given]
    assert min(waits) >= 1_000
    assert np.mean(waits) == pytest.approx(3_000, rel=0.1)


def test_an_answer_too_late_is_not_given():
    mind = on_shift()
    mind.offered(10_000, OfferSeen(order_id="a", number=1, deadline_ms=10_500))
    assert played(mind, 60_000) == []
    mind.offered(70_000, OfferSeen(order_id="a", number=2, deadline_ms=200_000))
    mind.offer_over("a", 2)
    assert played(mind, 300_000) == []


def test_after_his_shift_he_takes_nothing_and_goes_when_he_is_done():
    mind = on_shift(end_ms=60_000)
    mind.route(50_000, [ahead("a", x=250.0), ahead("a", 1, x=500.0, leave_ms=5_000)])
    played(mind, 61_000)
    mind.offered(62_000, OfferSeen(order_id="b", number=1, deadline_ms=90_000))
    done = played(mind, HOUR_MS)
    assert Answer(order_id="b", number=1, accept=False, reason="shift_over") in [a for _, a in done]
    assert done[-1] == (155_000, EndShift())  # 50 s + 2 x 50 s of riding + 5 s to leave
    mind.offered(200_000, OfferSeen(order_id="c", number=1, deadline_ms=300_000))
    assert mind.wake_at() is None


def test_he_does_not_go_between_his_yes_and_the_route():
    mind = on_shift(end_ms=60_000)
    mind.offered(50_000, OfferSeen(order_id="a", number=1, deadline_ms=70_000))
    assert [a for _, a in played(mind, 59_999)] == [Answer(order_id="a", number=1, accept=True)]
    assert mind.act(60_000) == []
    mind.offer_over("a", 1)
    assert mind.act(60_000) == [EndShift()]


def test_a_shift_that_is_over_before_he_looks_does_not_begin():
    mind = rider(end_ms=60_000)
    assert mind.act(60_000) == []
    assert mind.wake_at() is None


# --- any order of inputs --------------------------------------------------------------------

PLANE = Plane(30.66, 104.06)
CODES_OF_RACES = {
    "not_your_order",
    "stale_assignment",
    "offer_over",
    "wrong_stop_state",
    "wrong_stop",
}
KNOBS = dataclasses.replace(SURE, accept_share=0.8, ignore_share=0.1, service_spread=0.3)


class Town:
    """Three orders and one rider; what he is told takes `lag` messages to reach him."""

    def __init__(self, seed, lag):
        self.now_ms = 1_000
        self.mind = rider(KNOBS, seed=seed, end_ms=4 * HOUR_MS)
        self.rider = Rider(id="r", city="c")
        self.orders = {}
        self.held = set()
        self.route = []
        self.lag = lag
        self.wire = deque()
        self.refusals = []
        for i, (x, y) in enumerate([(200.0, 0.0), (200.0, 0.0), (-900.0, 400.0)]):
            here, there = PLANE.lat_lon(x, y), PLANE.lat_lon(x + 300.0, y - 500.0)
            form = OrderForm(
                customer_id="k",
                merchant_id="m" if i < 2 else "n",
                stops=tuple(StopForm(place=Place(lat=lat, lon=lon)) for lat, lon in (here, there)),
            )
            name = f"o{i}"
            self.orders[name] = JOB.order(name, "c", form, JOB.quote(form, 0), 0)
            self.orders[name] = structs.replace(self.orders[name], expires_at_ms=10**12)
            self.do(name, c.Confirm(at_ms=0))

    def do(self, name, command):
        events = apply(self.orders[name], command)
        if not isinstance(events, Refusal):
            self.orders[name] = fold(self.orders[name], events)
        return events

    def send(self, message):
        self.wire.append(message)
        while len(self.wire) > self.lag:
            self.deliver()

    def deliver(self):
        self.wire.popleft()(self.now_ms)

    def send_route(self, shuffle=None):
        stops = [self.seen(r) for r in self.route]
        if shuffle is not None:
            stops = [stops[i] for i in np.random.default_rng(shuffle).permutation(len(stops))]
        self.send(lambda now: self.mind.route(now, stops))

    def seen(self, at):
        order = self.orders[at.order_id]
        stop = order.stops[at.stop]
        x, y = PLANE.xy(stop.place.lat, stop.place.lon)
        return StopAhead(
            order_id=order.id, stop=at.stop, number=order.assignment.number, kind=stop.kind,
            x=x, y=y, approach_ms=stop.approach_ms, leave_ms=stop.leave_ms,
            place_id=stop.place_id, state=stop.state,
        )  # fmt: skip

    def offer(self, name):
        order = self.orders[name]
        command = c.Offer(
            at_ms=self.now_ms, rider_id="r", deadline_ms=self.now_ms + 20_000, route=(),
            order_version=order.version,
        )  # fmt: skip
        if not isinstance(self.do(name, command), Refusal):
            live = self.orders[name].assignment
            seen = OfferSeen(order_id=name, number=live.number, deadline_ms=live.deadline_ms)
            self.send(lambda now: self.mind.offered(now, seen))

    def offer_all(self, _):
        """All three, and time to answer."""
        for name in self.orders:
            self.offer(name)
        self.run(self.now_ms + 10_000)

    def take_back(self, name, command):
        live = self.orders[name].assignment
        if live is None or isinstance(self.do(name, command), Refusal):
            return
        self.held.discard(name)
        self.route = [r for r in self.route if r.order_id != name]
        number = live.number
        if live.state is AssignmentState.OFFERED:
            self.send(lambda now: self.mind.offer_over(name, number))
        else:
            self.send_route()

    def withdraw(self, name):
        live = self.orders[name].assignment
        if live is not None:
            self.take_back(name, c.Withdraw(at_ms=self.now_ms, number=live.number))

    def cancel(self, name):
        self.take_back(name, c.Cancel(at_ms=self.now_ms, by=Party.SYSTEM))

    def run(self, until_ms):
        """Lets time pass: the rider acts, offers end."""
        while True:
            due = self.mind.wake_at()
            ends = [
                o.assignment.deadline_ms + 1
                for o in self.orders.values()
                if o.assignment is not None and o.assignment.state is AssignmentState.OFFERED
            ]
            moment = min([d for d in (due, *ends) if d is not None], default=None)
            if moment is None or moment > until_ms:
                break
            self.now_ms = max(self.now_ms, moment)
            for name, order in list(self.orders.items()):
                live = order.assignment
                if live is not None and live.state is AssignmentState.OFFERED:
                    ended = c.TimeOut(at_ms=self.now_ms, number=live.number)
                    if self.now_ms > live.deadline_ms:
                        self.take_back(name, ended)
            for action in self.mind.act(self.now_ms):
                self.carry_out(action)
        self.now_ms = max(self.now_ms, until_ms)

    def carry_out(self, action):
        at_ms = self.now_ms
        if isinstance(action, StartShift | EndShift):
            command = (
                c.GoOnShift(
                    at_ms=at_ms, shift_end_ms=action.shift_end_ms, place=Place(lat=0.0, lon=0.0)
                )
                if isinstance(action, StartShift)
                else c.GoOffShift(at_ms=at_ms)
            )
            events = apply_rider(self.rider, command, len(self.held))
            if isinstance(events, Refusal):
                self.refusals.append(events.code)
            else:
                self.rider = evolve_rider(self.rider, events[0])
            return
        if isinstance(action, Answer):
            kind = c.Accept if action.accept else c.Decline
            command = kind(at_ms=at_ms, rider_id="r", number=action.number)
        else:
            kind = {"heading": c.Head, "arrived": c.Arrive, "done": c.FinishStop}[action.state]
            command = kind(at_ms=at_ms, rider_id="r", stop=action.stop)
        events = self.do(action.order_id, command)
        if isinstance(events, Refusal):
            self.refusals.append(events.code)
            if isinstance(action, Answer):
                self.send(lambda now: self.mind.offer_over(action.order_id, action.number))
            return
        order = self.orders[action.order_id]
        if isinstance(action, Answer):
            if action.accept:
                self.held.add(order.id)
                self.route += [RouteStop(order_id=order.id, stop=i) for i in range(2)]
                self.send_route()
        else:
            self.route = [
                r for r in self.route if not STOP.ended(self.orders[r.order_id].stops[r.stop].state)
            ]
            if ORDER.ended(order.state) or order.state is OrderState.DONE:
                self.held.discard(order.id)


NAMES = st.sampled_from(["o0", "o1", "o2"])
# Offers of all three, an hour of riding, a shuffle amid it: rare by chance, so made likely here.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), NAMES),
        st.tuples(st.just("offer_all"), st.just("")),
        st.tuples(st.just("run"), st.sampled_from([0, 1_000, 5_000, 20_000, 40_000, 90_000])),
        st.tuples(st.just("run"), st.integers(0, 200_000)),
        st.tuples(st.just("withdraw"), NAMES),
        st.tuples(st.just("cancel"), NAMES),
        st.tuples(st.just("shuffle"), st.integers(0, 99)),
    ),
    min_size=15,
    max_size=40,
)


def lived(town, steps):
    """The town after the steps, all messages, and the end of the day."""
    town.run(1_000)
    for what, value in steps:
        if what == "run":
            town.run(town.now_ms + value)
        elif what == "shuffle":
            town.send_route(value)
        else:
            getattr(town, what)(value)
    town.lag = 0
    town.send_route()
    town.run(40 * HOUR_MS)
    return town


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 5), steps=STEPS)
def test_told_at_once_he_never_reports_what_is_illegal(seed, steps):
    town = lived(Town(seed, lag=0), steps)
    assert town.refusals == []
    assert town.held == set()
    assert town.route == []
    assert town.rider.state == "off"
    assert town.mind.wake_at() is None


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 5), lag=st.integers(1, 4), steps=STEPS)
def test_told_late_he_still_serves_what_is_his(seed, lag, steps):
    town = lived(Town(seed, lag), steps)
    assert set(town.refusals) <= CODES_OF_RACES | {"has_orders"}
    assert town.held == set()
    assert town.route == []
