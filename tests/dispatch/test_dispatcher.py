"""The loop around decide: toy cities to their end, restarts, timers, fixes, and rude orders of
events."""

import copy
from collections import Counter
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from msgspec import structs

from dispatch import commands as c
from dispatch import events as e
from dispatch.columns import CLOCK_SLACK_MS
from dispatch.dispatcher import (
    REST_MAX_MS,
    REST_MS,
    UNWRITABLE,
    Decide,
    Decided,
    Dispatcher,
    Fixes,
    Known,
    PlanWritten,
    WritePlan,
)
from dispatch.engine import decide
from dispatch.lifecycle import ORDER
from dispatch.model import OrderState, Party, RouteStop, StopState
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.timers import REPEAT_MS
from dispatch.transitions import evolve
from geo.errors import InvalidValue
from geo.travel import StraightLine

WILD = {
    "orders": 40, "minutes": 40, "riders": 6, "accept": 0.7, "decline": 0.15, "cancel": 0.2,
    "fail": 0.1, "drop_out": 0.15, "withdraw": 0.1, "deviate": 0.2, "scheduled": 0.2,
    "visits": 0.15, "skilled": 0.2, "windows": 0.3, "breaks": True,
}  # fmt: skip
CITIES = {
    "calm": {"orders": 40, "minutes": 40},
    "wild": WILD,
    "small": WILD | {"capacity": (2,), "riders": 5},
    "hurried": WILD | {"ride_max_ms": 15 * 60_000},
    "slow": WILD | {"lag_ms": 700, "decide_ms": 900},
    "crawling": WILD | {"lag_ms": 4_000, "decide_ms": 12_000},
    "alone": {"orders": 25, "minutes": 40, "riders": 1},
    "nobody": {"orders": 10, "minutes": 20, "riders": 0, "scheduled": 0.5},
    "mute": {"orders": 20, "minutes": 30, "accept": 0.0, "decline": 0.0},
}


def audit(kit, toy):
    """Checks the columns whenever the dispatcher has heard everything."""
    told = Counter()

    def look(_, message):
        told["events"] += isinstance(message, e.Event | e.RiderEvent)
        heard = told["events"] == len(toy.events)
        if heard and not toy.dispatcher._in_flight and not isinstance(message, Fixes):
            kit.check_columns(toy.dispatcher, toy.orders, toy.riders)
            told["looks"] += 1

    toy.audits.append(look)
    return told


@pytest.mark.parametrize(("city", "seed"), [*((city, 1) for city in CITIES), ("wild", 2)])
def test_every_order_ends_and_nothing_is_left_behind(kit, city, seed):
    toy = kit.Toy(seed, **CITIES[city])
    looks = audit(kit, toy)
    toy.run()
    assert looks["looks"] > 20
    assert all(ORDER.ended(o.state) for o in toy.orders.values())
    assert not toy.violations
    seen = kit.view(toy.dispatcher)
    assert seen["waiting"] == set()
    for rider in seen["riders"].values():
        assert (rider["route"], rider["load"], rider["locked"]) == ([], (0, 0, 0), 0)
    counts = toy.dispatcher.counts()
    assert (counts["orders_live"], counts["orders_waiting"]) == (0, 0)
    assert toy.dispatcher.wake_at() is None, "nothing is left to wait for"
    assert not toy.dispatcher._timers


def test_the_cities_see_everything(kit):
    """The runs above would prove little if some end or event never came about."""
    states, facts = set(), set()
    for seed in (1, 2):
        toy = kit.Toy(seed, **WILD | {"orders": 70}).run()
        states |= {o.state for o in toy.orders.values()}
        facts |= {type(event.fact) for event in toy.events}
    assert states == {s for s in OrderState if ORDER.ended(s)}
    assert facts == set(e.FACTS.values())


def test_rows_are_used_again(kit):
    toy = kit.Toy(3, orders=80, minutes=160, riders=8).run()
    assert toy.dispatcher.columns.orders.size < 40
    assert toy.dispatcher.columns.stops.size == 3 * toy.dispatcher.columns.orders.size


# --- a second dispatcher, started from what the store knows ------------------------------------


@pytest.mark.parametrize("city", ["calm", "wild", "small", "hurried", "strict"])
def test_a_restart_in_the_middle_of_the_day_changes_nothing(kit, city):
    """Compared by id: rows differ, and with them the order in which a plan lists its orders.

    A plan is taken a little after the restart, because of what the store does not know: when a
    rider has left the door of an order that is done. All is offered at once: much to compare.
    """
    moods = WILD if city == "strict" else CITIES[city]
    strict = Policy(tick_ms=10_000, complete_after_ms=10 * kit.MINUTE, diversion=False)
    toy = kit.Toy(7, strict if city == "strict" else None, **moods)
    at_once = replace(toy.policy, commit_ahead_ms=10**9)
    offers = 0
    for minute in range(4, 50, 5):
        toy.run(kit.T0 + minute * kit.MINUTE + 9_990)
        first = copy.deepcopy(toy.dispatcher)
        second = Dispatcher("toy", kit.PLANE, toy.travel, toy.policy)
        second.receive(kit.known_of(toy.orders, toy.riders))
        one, two = kit.view(first), kit.view(second)
        for rider_id in set(one["riders"]) - set(two["riders"]):
            assert not one["riders"].pop(rider_id)["route"], "only riders off shift are unknown"
        assert one["riders"] == two["riders"]
        plans = []
        for dispatcher in (first, second):
            dispatcher.receive(toy.fixes())
            dispatcher.tick(toy.now + 20_000)
            rounds = [x.snapshot for x in dispatcher.outbox() if isinstance(x, Decide)]
            plans += [decide(s, at_once) for s in rounds]
            assert not [p for s in rounds for p in check_plan(s, plans[-1], at_once)]
        assert kit.view(first)["waiting"] == kit.view(second)["waiting"], "the time is known now"
        assert len({kit.canonical(plan) for plan in plans}) <= 1
        offers += sum(len(plan.offers) for plan in plans)
    assert offers > 8


def test_the_same_events_after_a_restart_are_known(kit):
    """The store's snapshot may be ahead of the stream: what comes again changes nothing."""
    toy = kit.Toy(9, **WILD)
    toy.run(kit.T0 + 30 * kit.MINUTE)
    second = Dispatcher("toy", kit.PLANE, toy.travel, toy.policy)
    second.receive(kit.known_of(toy.orders, toy.riders))
    before = kit.view(second)
    live = {o.id for o in toy.orders.values() if not ORDER.ended(o.state)}
    live -= {o.id for o in toy.orders.values() if o.state is OrderState.DONE}
    on = {r.id for r in kit.known_of(toy.orders, toy.riders).riders}
    for event in toy.events:
        if getattr(event, "order_id", None) in live or getattr(event, "rider_id", None) in on:
            second.receive(event)
    assert kit.view(second) == before


@pytest.mark.parametrize("city", ["wild", "slow", "crawling"])
def test_a_city_of_restarts_goes_on_to_the_end(kit, city):
    """A crash every few minutes, with events under way and plans half written."""
    toy = kit.Toy(11, **CITIES[city])
    restarts = 0
    while not toy.quiet:
        toy.run(kit.T0 + (restarts + 1) * 97_003)
        toy.restart()
        restarts += 1
    toy.run()
    assert restarts > 20
    assert not toy.violations
    assert all(ORDER.ended(o.state) for o in toy.orders.values())
    for rider in kit.view(toy.dispatcher)["riders"].values():
        assert (rider["route"], rider["load"]) == ([], (0, 0, 0))


def test_a_restart_while_a_rider_off_shift_has_an_offer(kit, scene):
    """An offer does not hold a rider back, and the store knows only riders on shift."""
    scene.rider("r")
    scene.place("o")
    scene.offer("o", "r")
    scene.off("r", kit.T0 + 1)
    assert scene.known().riders == ()
    second = scene.restarted()
    kit.check_columns(second, scene.orders, scene.riders)
    second.tick(kit.T0 + 20_001)
    (ask,) = second.outbox()
    assert ask.command == c.TimeOut(at_ms=kit.T0 + 20_001, number=1)
    scene.dispatcher = second
    scene.do("o", ask.command)
    kit.check_columns(second, scene.orders, scene.riders)
    assert kit.view(second)["waiting"] == {"o"}
    second.tick(kit.T0 + 30_000)
    (effect,) = second.outbox()
    assert not check_plan(effect.snapshot, decide(effect.snapshot, scene.policy), scene.policy)


def test_a_restart_while_a_rider_off_shift_has_goods(kit, scene):
    """He took the offer after his shift; the city still decides."""
    scene.rider("r")
    scene.place("o")
    scene.offer("o", "r")
    scene.off("r", kit.T0 + 1)
    scene.accept("o", kit.T0 + 2)
    scene.serve("o", 0, kit.T0 + 3)
    scene.place("p")
    second = scene.restarted()
    kit.check_columns(second, scene.orders, scene.riders)
    second.tick(kit.T0 + 10)
    (effect,) = second.outbox()
    plan = decide(effect.snapshot, scene.policy)
    assert [w.order_id for w in plan.waits] == ["p"]


def test_an_offer_to_a_rider_nobody_has_heard_of(kit, scene):
    scene.place("o")
    scene.offer("o", "stranger", route=[("o", 0), ("o", 1)])
    assert scene.route("stranger") == [("o", 0), ("o", 1)]
    assert scene.column("open", "stranger") is False
    scene.rider("stranger", 100, 0)
    assert scene.route("stranger") == [("o", 0), ("o", 1)]
    assert scene.column("open", "stranger") is False
    scene.accept("o")
    assert scene.column("open", "stranger") is True


def test_a_restart_keeps_the_moments_of_done_orders(kit, scene):
    """The time to object runs from the end of the order, not from a dispatcher's start."""
    scene.rider("r")
    scene.place("o")
    scene.give("o", "r")
    for stop in (0, 1):
        scene.serve("o", stop, kit.T0 + 1000)
    second = scene.restarted()
    due = kit.T0 + 1000 + scene.policy.complete_after_ms
    assert second.wake_at() == due
    for dispatcher in (scene.dispatcher, second):
        dispatcher.tick(due - 1)
        assert dispatcher.outbox() == []
        dispatcher.tick(due)
        (ask,) = dispatcher.outbox()
        assert (ask.order_id, ask.command) == ("o", c.Complete(at_ms=due))


def test_a_restart_keeps_the_moment_of_opening(kit, scene):
    scene.place("o", open_at_ms=kit.T0 + 5000, pickup={"earliest_ms": kit.T0 + 99_000})
    for dispatcher in (scene.dispatcher, scene.restarted()):
        assert dispatcher.wake_at() == kit.T0 + 5000


def test_a_restart_keeps_who_declined(kit, scene):
    scene.rider("r")
    scene.place("o")
    for number, answer in (
        (1, c.Decline(at_ms=kit.T0, rider_id="r", number=1)),
        (2, c.TimeOut(at_ms=kit.T0 + 99_000, number=2)),
    ):
        scene.offer("o", "r")
        assert scene.orders["o"].assignment.number == number
        scene.do("o", answer)
    for dispatcher in (scene.dispatcher, scene.restarted()):
        dispatcher.tick(kit.T0)
        (effect,) = dispatcher.outbox()
        assert effect.snapshot.declined.tolist() == [[0, 0]]


def test_a_restart_keeps_the_limit_of_a_ride(kit, scene):
    scene.rider("r")
    scene.place("o", ride_max_ms=600_000)
    scene.give("o", "r")
    scene.serve("o", 0, kit.T0 + 1000)
    for dispatcher in (scene.dispatcher, scene.restarted()):
        columns = dispatcher.columns
        row = columns.stop_row("o", 1)
        assert columns.stops["latest_ms"][row] == kit.T0 + 601_000


def test_a_restart_keeps_when_a_rider_is_free(kit, scene):
    scene.rider("r")
    for order_id in ("a", "b"):
        scene.place(order_id)
        scene.give(order_id, "r")
    scene.serve("a", 0, kit.T0 + 1000)
    for dispatcher in (scene.dispatcher, scene.restarted()):
        (free,) = dispatcher.columns.snapshot(kit.T0 + 1001).riders.free_ms
        assert free == kit.T0 + 21_000, "he still leaves the door"


# --- plans in flight ---------------------------------------------------------------------------


def in_flight(kit, scene, riders=1):
    for i in range(riders):
        scene.rider(f"r{i}", 100.0 * i, 0)
    scene.place("o")
    _, plan = scene.decide(kit.T0)
    scene.dispatcher.receive(Decided(plan=plan))
    (write,) = scene.dispatcher.outbox()
    assert isinstance(write, WritePlan)
    return plan, write


def test_the_offers_of_a_plan_are_written_as_they_were_decided(kit, scene):
    plan, write = in_flight(kit, scene)
    ((order_id, offer),) = write.offers
    (planned,) = plan.offers
    assert write.plan == plan
    assert (order_id, offer.rider_id, offer.route) == ("o", planned.rider_id, planned.route)
    assert (offer.at_ms, offer.deadline_ms) == (kit.T0, kit.T0 + scene.policy.offer_ms)
    assert offer.order_version == planned.order_version == 2


def test_a_plan_in_flight_keeps_its_orders_and_riders(kit, scene):
    in_flight(kit, scene, riders=2)
    scene.place("p", (50, 0))
    snapshot, plan = scene.decide(kit.T0 + 2000)
    assert [o.order_id for o in plan.offers] == ["p"]
    busy = plan.offers[0].rider_id
    assert sorted(snapshot.riders.open.tolist()) == [False, True]
    scene.dispatcher.receive(Decided(plan=plan))
    scene.dispatcher.outbox()
    scene.place("q", (60, 0))
    _, plan = scene.decide(kit.T0 + 4000)
    assert plan.offers == (), f"{busy} is asked already, and so is the other"


def test_no_round_while_nothing_waits(kit, scene):
    in_flight(kit, scene)
    scene.dispatcher.tick(kit.T0 + 60_000)
    assert scene.dispatcher.outbox() == []


def test_rounds_leave_out_what_is_far_too_early(kit):
    """Ready in an hour, 30 s to approach: looked at 15 minutes before, 10 + 5 ahead."""
    policy = Policy(commit_ahead_ms=600_000, look_ahead_ms=300_000)
    look_ms = kit.T0 + 60 * kit.MINUTE - 30_000 - 900_000
    scene = kit.Scene(policy)
    scene.rider("r")
    pickup = {"earliest_ms": kit.T0 + 60 * kit.MINUTE}
    late = {"expires_at_ms": kit.T0 + 200 * kit.MINUTE}
    scene.place("early", pickup=pickup, **late)
    assert scene.dispatcher.wake_at() == look_ms
    scene.dispatcher.tick(look_ms - 1)
    assert scene.dispatcher.outbox() == []
    scene.place("now", (90, 0), **late)
    snapshot, plan = scene.decide(look_ms - 1)
    assert [snapshot.orders.id[row] for row in np.flatnonzero(snapshot.orders.waiting)] == ["now"]
    scene.dispatcher.receive(Decided(plan=plan))
    scene.dispatcher.outbox()
    snapshot, _ = scene.decide(look_ms + policy.tick_ms)
    assert [snapshot.orders.id[row] for row in np.flatnonzero(snapshot.orders.waiting)] == ["early"]


def test_what_ends_while_it_is_too_early_is_not_looked_at(kit, scene):
    pickup = {"earliest_ms": kit.T0 + 100 * kit.MINUTE}
    scene.place("early", pickup=pickup, expires_at_ms=kit.T0 + 200 * kit.MINUTE)
    scene.do("early", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER, reason="changed_mind"))
    scene.dispatcher.tick(kit.T0 + 100 * kit.MINUTE)
    assert scene.dispatcher.outbox() == []


def test_one_round_at_a_time(kit, scene):
    scene.rider("r")
    scene.place("o")
    scene.dispatcher.tick(kit.T0)
    assert len(scene.dispatcher.outbox()) == 1
    scene.place("p")
    scene.dispatcher.tick(kit.T0 + 60_000)
    assert scene.dispatcher.outbox() == [], "the first has not been answered"
    assert scene.dispatcher.wake_at() > kit.T0 + 60_000


def test_a_dropped_offer_gives_order_and_rider_back(kit, scene):
    in_flight(kit, scene)
    assert (scene.column("open", "r0"), kit.view(scene.dispatcher)["waiting"]) == (False, set())
    written = PlanWritten(at_ms=kit.T0, dropped=(("o", "order_moved"),))
    scene.dispatcher.receive(written)
    assert (scene.column("open", "r0"), kit.view(scene.dispatcher)["waiting"]) == (True, {"o"})
    scene.dispatcher.receive(written)
    assert scene.column("open", "r0") is True
    assert [o.order_id for o in scene.decide(kit.T0 + 2000)[1].offers] == ["o"]


def test_an_order_that_cannot_be_written_takes_no_rider_from_the_others(kit, scene):
    """It rests for ever longer, and is like any other once something of it was written."""
    in_flight(kit, scene)
    unwritable = PlanWritten(at_ms=kit.T0, dropped=(("o", UNWRITABLE),))
    now_ms, rests = kit.T0, []
    for _ in range(7):
        scene.dispatcher.receive(unwritable)
        assert (scene.column("open", "r0"), kit.view(scene.dispatcher)["waiting"]) == (True, set())
        wakes_ms = scene.dispatcher.wake_at()
        rests.append(wakes_ms - now_ms)
        now_ms = wakes_ms
        _, plan = scene.decide(now_ms)
        assert [o.order_id for o in plan.offers] == ["o"]
        scene.dispatcher.receive(Decided(plan=plan))
        scene.dispatcher.outbox()
    assert rests == [min(REST_MS * 2**n, REST_MAX_MS) for n in range(7)]
    scene.offer("o", "r0", now_ms, deadline_ms=now_ms + 1)
    scene.do("o", c.Decline(at_ms=now_ms + 1, rider_id="r0", number=1))
    scene.dispatcher.receive(unwritable)
    assert kit.view(scene.dispatcher)["waiting"] == set()
    scene.dispatcher.tick(now_ms + REST_MS)
    assert kit.view(scene.dispatcher)["waiting"] == {"o"}


def test_a_dropped_offer_of_an_order_that_is_gone(kit, scene):
    """The customer was faster than the plan; his order's end was heard first."""
    in_flight(kit, scene)
    scene.do("o", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER))
    assert scene.column("open", "r0") is True
    scene.dispatcher.receive(PlanWritten(at_ms=kit.T0, dropped=(("o", "order_moved"),)))
    kit.check_columns(scene.dispatcher, scene.orders, scene.riders)


@pytest.mark.parametrize("heard_first", ["event", "written"])
def test_a_written_offer_counts_once(kit, scene, heard_first):
    _, write = in_flight(kit, scene)
    ((order_id, offer),) = write.offers
    if heard_first == "written":
        scene.dispatcher.receive(PlanWritten(at_ms=kit.T0))
        assert scene.column("open", "r0") is False
    scene.do(order_id, offer)
    if heard_first == "event":
        scene.dispatcher.receive(PlanWritten(at_ms=kit.T0))
    assert scene.column("open", "r0") is False
    assert scene.route("r0") == [("o", 0), ("o", 1)]
    scene.accept("o")
    assert scene.column("open", "r0") is True


def test_a_plan_does_not_offer_what_has_gone_meanwhile(kit, scene):
    """Between snapshot and plan one order was cancelled and one rider went off shift."""
    scene.rider("stays", 0, 0)
    scene.rider("goes", 5000, 0)
    scene.place("cancelled", (0, 0))
    scene.place("kept", (5000, 0), (5100, 0))
    _, plan = scene.decide(kit.T0)
    assert {o.order_id: o.rider_id for o in plan.offers} == {"cancelled": "stays", "kept": "goes"}
    scene.do("cancelled", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER))
    scene.off("goes")
    scene.dispatcher.receive(Decided(plan=plan))
    assert scene.dispatcher.outbox() == []
    assert kit.view(scene.dispatcher)["waiting"] == {"kept"}
    assert [o.rider_id for o in scene.decide(kit.T0 + 2000)[1].offers] == ["stays"]


def test_an_empty_plan_is_no_write(kit, scene):
    scene.place("o")
    _, plan = scene.decide(kit.T0)
    scene.dispatcher.receive(Decided(plan=plan))
    assert scene.dispatcher.outbox() == []
    assert scene.dispatcher.wake_at() == kit.T0 + 2000


# --- events that come twice or at a bad moment -------------------------------------------------


def test_events_that_are_known_change_nothing(kit):
    toy = kit.Toy(12, **WILD)
    toy.run(kit.T0 + 25 * kit.MINUTE)
    live = {o for o in toy.dispatcher.columns.order_row}
    before = kit.view(toy.dispatcher)
    timers = sorted(toy.dispatcher._timers._heap)
    again = [x for x in toy.events if isinstance(x, e.RiderEvent) or x.order_id in live]
    assert len(again) > 60
    for event in reversed(again):
        toy.dispatcher.receive(event)
    assert kit.view(toy.dispatcher) == before
    assert sorted(toy.dispatcher._timers._heap) == timers
    assert toy.dispatcher.outbox() == []


@pytest.mark.parametrize("seed", [13, 14])
def test_an_order_that_is_handed_over_is_what_the_event_would_make_of_it(kit, seed):
    """Also where events come twice and too late."""
    events = kit.Toy(seed, **WILD).run().events
    rng = np.random.default_rng(seed)
    told, folded = (
        Dispatcher("toy", kit.PLANE, StraightLine(), Policy(complete_after_ms=10 * kit.MINUTE))
        for _ in range(2)
    )
    after, handed = {}, []
    for event in events:
        if isinstance(event, e.Event):
            before = after.get(event.order_id)
            after[event.order_id] = evolve(before or event.fact.order, event)
        handed.append((event, after.get(getattr(event, "order_id", None))))
    for n, (event, order) in enumerate(handed):
        again = [handed[i] for i in rng.integers(0, n + 1, 2)]
        for x, it in ((event, order), *again):
            if it is None:
                told.receive(x)
            else:
                told.follow(x, it)
            folded.receive(x)
        assert told._orders == folded._orders
        declined = {tuple(pair) for pair in told.columns.snapshot(kit.T0).declined.tolist()}
        assert declined == {
            (told.columns.order_row[order.id], told.columns.rider_row[rider_id])
            for order in told._orders.values()
            for rider_id in order.declined_by
        }
    assert kit.view(told) == kit.view(folded)
    one, two = (d.columns.snapshot(kit.T0) for d in (told, folded))
    for table in ("stops", "orders", "riders"):
        a, b = getattr(one, table), getattr(two, table)
        for name in a.__dataclass_fields__:
            assert np.array_equal(getattr(a, name), getattr(b, name)), (table, name)


def test_an_old_end_of_shift_does_not_end_the_next_one(kit, scene):
    scene.rider("r", 0, 0)
    scene.off("r")
    scene.rider("r", 700, 0, at_ms=kit.T0 + 1)
    on, off = scene.events[0], scene.events[1]
    for event in (off, on):
        scene.dispatcher.receive(event)
    assert scene.column("open", "r") is True
    assert scene.column("x", "r") == pytest.approx(700)
    second = scene.restarted()
    second.receive(off)
    assert kit.view(second)["riders"]["r"]["open"] is True


def test_events_of_orders_that_are_not_known_are_left_alone(kit, scene):
    scene.dispatcher.receive(e.Event("who", 5, kit.T0, e.Accepted(number=1, rider_id="r")))
    scene.dispatcher.receive(e.Event("who", 9, kit.T0, e.Completed()))
    assert kit.view(scene.dispatcher) == {"riders": {}, "waiting": set()}


def test_an_offer_that_comes_after_the_rider_has_arrived_does_not_push_him_away(kit, scene):
    """Decided while he was riding, written when he stood at the door: he acts there first."""
    scene.rider("r", 0, 0)
    scene.place("a", (500, 0))
    scene.give("a", "r")
    scene.step(c.Head, "a", 0, kit.T0)
    scene.place("b", (400, 0))
    scene.step(c.Arrive, "a", 0, kit.T0 + 1000)
    scene.offer("b", "r", kit.T0 + 1001, route=[("b", 0), ("a", 0), ("b", 1), ("a", 1)])
    assert scene.route("r") == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    kit.check_columns(scene.dispatcher, scene.orders, scene.riders)
    scene.accept("b", kit.T0 + 1002)
    scene.step(c.FinishStop, "a", 0, kit.T0 + 2000)
    assert (scene.route("r")[0], scene.column("locked", "r")) == (("b", 0), 0)


def test_a_stop_without_diversion_is_kept_too(kit):
    scene = kit.Scene(Policy(diversion=False))
    scene.rider("r", 0, 0)
    scene.place("a", (500, 0))
    scene.give("a", "r")
    scene.place("b", (400, 0))
    scene.step(c.Head, "a", 0, kit.T0)
    assert scene.column("locked", "r") == 2
    scene.offer("b", "r", kit.T0 + 1, route=[("b", 0), ("a", 0), ("b", 1), ("a", 1)])
    assert scene.route("r")[0] == ("a", 0)
    assert scene.snapshot(kit.T0 + 2).riders.locked.tolist() == [1]


def test_goods_that_go_back_come_next(kit, scene):
    scene.rider("r", 0, 0)
    scene.place("a", (0, 0), (100, 0))
    scene.place("b", (0, 0), (900, 0))
    route = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    scene.give("a", "r", route=route)
    scene.give("b", "r", route=route)
    for order_id in ("a", "b"):
        scene.serve(order_id, 0, kit.T0 + 1)
    scene.step(c.Arrive, "a", 1, kit.T0 + 2)
    scene.step(c.FailStop, "a", 1, kit.T0 + 3, reason="nobody")
    for dispatcher in (scene.dispatcher, scene.restarted()):
        assert scene.route("r", dispatcher) == [("a", 2), ("b", 1)]
        assert kit.view(dispatcher)["riders"]["r"]["load"] == (2, 0, 0)
        kit.check_columns(dispatcher, scene.orders, scene.riders)
    scene.serve("a", 2, kit.T0 + 9)
    assert scene.orders["a"].state is OrderState.RETURNED
    assert kit.view(scene.dispatcher)["riders"]["r"]["load"] == (1, 0, 0)


def test_goods_that_go_back_do_not_push_a_rider_from_the_door_where_he_stands(kit, scene):
    """Two doors in one house: he stands at the second when the first order fails."""
    scene.rider("r", 0, 0)
    route = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    for order_id in ("a", "b"):
        scene.place(order_id)
        scene.give(order_id, "r", route=route)
    for order_id in ("a", "b"):
        scene.serve(order_id, 0, kit.T0 + 1)
    scene.step(c.Arrive, "a", 1, kit.T0 + 2)
    scene.step(c.Arrive, "b", 1, kit.T0 + 3)
    scene.step(c.FailStop, "a", 1, kit.T0 + 4, reason="nobody")
    assert scene.route("r") == [("b", 1), ("a", 2)]
    assert scene.column("locked", "r") == 1


def test_a_rider_goes_his_own_way(kit, scene):
    """What he reports counts more than what he was told, also after a restart."""
    scene.rider("r", 0, 0)
    route = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    for order_id in ("a", "b"):
        scene.place(order_id)
        scene.give(order_id, "r", route=route)
    scene.step(c.Head, "a", 0, kit.T0 + 1)
    scene.step(c.Head, "b", 0, kit.T0 + 2)
    expected = [("b", 0), ("a", 0), ("a", 1), ("b", 1)]
    for dispatcher in (scene.dispatcher, scene.restarted()):
        assert scene.route("r", dispatcher) == expected
    scene.step(c.Arrive, "b", 0, kit.T0 + 3)
    for dispatcher in (scene.dispatcher, scene.restarted()):
        assert scene.route("r", dispatcher) == expected
        assert kit.view(dispatcher)["riders"]["r"]["locked"] == 1


def test_a_told_route_that_begins_where_the_rider_stands_locks_him_there(kit, scene):
    """He had set out for another door without acting; an operator sends him back."""
    scene.rider("r", 0, 0)
    for order_id in ("a", "b", "c"):
        scene.place(order_id)
    for order_id in ("a", "b"):
        scene.give(order_id, "r")
    scene.step(c.Arrive, "a", 0, kit.T0 + 1)
    scene.step(c.Head, "b", 0, kit.T0 + 2)
    assert (scene.route("r")[0], scene.column("locked", "r")) == (("b", 0), 0)
    scene.offer("c", "r", route=[("a", 0), *[s for s in scene.route("r") if s != ("a", 0)]])
    assert (scene.route("r")[0], scene.column("locked", "r")) == (("a", 0), 1)


def test_a_dropped_order_leaves_the_route_and_waits_again(kit, scene):
    scene.rider("r")
    for order_id in ("a", "b"):
        scene.place(order_id)
        scene.give(order_id, "r")
    scene.step(c.Arrive, "a", 0, kit.T0 + 1)
    assert scene.column("locked", "r") == 1
    scene.do("a", c.DropOut(at_ms=kit.T0 + 2, rider_id="r", number=1))
    assert scene.route("r") == [("b", 0), ("b", 1)]
    assert scene.column("locked", "r") == 0
    columns = scene.dispatcher.columns
    row = columns.stop_row("a", 0)
    assert columns.stops["approach_ms"][row] == 30_000, "the next rider has to approach again"
    assert columns.stops["earliest_ms"][row] == 0
    assert kit.view(scene.dispatcher)["waiting"] == {"a"}


def test_a_rider_who_stands_at_a_door_acts_after_his_approach(kit, scene):
    scene.rider("r", 0, 0)
    scene.place("a", (500, 0), pickup={"earliest_ms": kit.T0 + 5000})
    scene.give("a", "r")
    scene.step(c.Arrive, "a", 0, kit.T0 + 10_000)
    columns = scene.dispatcher.columns
    row = columns.stop_row("a", 0)
    assert columns.stops["approach_ms"][row] == 0
    assert columns.stops["earliest_ms"][row] == kit.T0 + 40_000
    assert scene.column("x", "r") == pytest.approx(500)


def test_an_order_with_more_load_dimensions_than_columns_is_refused_by_name(kit, scene):
    with pytest.raises(InvalidValue, match=r"stops\[0\]\.load"):
        scene.place("o", load=(1, 1, 1, 1))


# --- timers ------------------------------------------------------------------------------------


def ask_times(scene, kind, start_ms, end_ms, step_ms=1000):
    """When a command of the kind is asked, ticking every second."""
    found = []
    for at_ms in range(start_ms, end_ms, step_ms):
        found += [at_ms for _, command in scene.asks(at_ms) if isinstance(command, kind)]
    return found


def test_an_offer_times_out_after_its_deadline_and_is_asked_again(kit, scene):
    scene.rider("r")
    scene.place("o")
    scene.offer("o", "r", deadline_ms=kit.T0 + 20_000)
    assert scene.dispatcher.wake_at() == kit.T0 + 20_001
    assert scene.asks(kit.T0 + 20_000) == []
    at_ms = kit.T0 + 20_001
    assert scene.asks(at_ms) == [("o", c.TimeOut(at_ms=at_ms, number=1))]
    assert scene.asks(at_ms) == []
    assert scene.asks(at_ms + REPEAT_MS - 1) == []
    again = at_ms + REPEAT_MS
    assert scene.dispatcher.wake_at() == again
    assert scene.asks(again) == [("o", c.TimeOut(at_ms=again, number=1))]
    scene.do("o", c.TimeOut(at_ms=again, number=1))
    assert ask_times(scene, c.TimeOut, again, again + 60_000) == []


def test_an_answered_offer_does_not_time_out(kit, scene):
    scene.rider("r")
    for order_id in ("a", "b"):
        scene.place(order_id)
        scene.offer(order_id, "r")
    scene.accept("a")
    scene.do("b", c.Decline(at_ms=kit.T0, rider_id="r", number=1))
    assert ask_times(scene, c.TimeOut, kit.T0, kit.T0 + 90_000) == []


def test_the_time_out_of_an_old_attempt_does_not_hit_the_next(kit, scene):
    scene.rider("r")
    scene.place("o")
    scene.offer("o", "r", deadline_ms=kit.T0 + 20_000)
    scene.do("o", c.Decline(at_ms=kit.T0 + 1, rider_id="r", number=1))
    scene.offer("o", "r", deadline_ms=kit.T0 + 50_000)
    assert scene.asks(kit.T0 + 30_000) == []
    (asked,) = scene.asks(kit.T0 + 50_001)
    assert asked[1].number == 2


def test_an_order_expires_at_its_moment_and_is_asked_again(kit, scene):
    order = scene.place("o")
    due = order.expires_at_ms
    assert ask_times(scene, c.Expire, due - 3000, due) == []
    assert scene.asks(due) == [("o", c.Expire(at_ms=due))]
    pauses = (1, 2, 4, 8, 10, 10)  # ever longer, up to ten seconds
    later = [due + 1000 * seconds for seconds in accumulate(pauses)]
    assert ask_times(scene, c.Expire, due + 1000, later[-1] + 1000) == later
    scene.do("o", c.Expire(at_ms=later[-1] + 1000))
    assert ask_times(scene, c.Expire, later[-1] + 1000, later[-1] + 60_000) == []
    assert scene.dispatcher.wake_at() is None


def test_an_order_given_back_after_its_expiry_expires_too(kit, scene):
    """Its timer was over while a rider had it."""
    scene.rider("r")
    due = scene.place("o").expires_at_ms
    scene.give("o", "r")
    assert ask_times(scene, c.Expire, due - 1000, due + 60_000) == []
    scene.do("o", c.DropOut(at_ms=due + 60_000, rider_id="r", number=1))
    asked = ask_times(scene, c.Expire, due + 60_000, due + 61_000)
    assert asked == [due + 60_000]


@pytest.mark.parametrize("state", ["offered", "accepted"])
def test_an_order_that_a_rider_had_at_a_restart_expires_too(kit, scene, state):
    scene.rider("r")
    due = scene.place("o").expires_at_ms
    (scene.give if state == "accepted" else scene.offer)("o", "r")
    scene.dispatcher = scene.restarted()
    end = (
        c.DropOut(at_ms=kit.T0 + 1, rider_id="r", number=1)
        if state == "accepted"
        else c.Decline(at_ms=kit.T0 + 1, rider_id="r", number=1)
    )
    scene.do("o", end)
    assert ask_times(scene, c.Expire, due, due + 1000) == [due]


@pytest.mark.parametrize("how", ["timed_out", "declined"])
def test_an_order_whose_offer_ends_after_its_expiry_expires_at_once(kit, scene, how):
    """And is offered to nobody in between."""
    scene.rider("r")
    due = scene.place("o").expires_at_ms
    scene.offer("o", "r", deadline_ms=due + 7_000)
    assert ask_times(scene, c.Expire, due - 1000, due + 7_000) == []
    over = due + 7_001
    end = {
        "timed_out": c.TimeOut(at_ms=over, number=1),
        "declined": c.Decline(at_ms=over, rider_id="r", number=1),
    }
    scene.do("o", end[how])
    assert scene.dispatcher.counts()["orders_waiting"] == 0
    assert scene.dispatcher.wake_at() <= over
    assert scene.asks(over) == [("o", c.Expire(at_ms=over))]
    assert ask_times(scene, c.Expire, over + 1, over + 999) == []


def test_an_order_that_has_expired_waits_for_nobody(kit, scene):
    """However long the store takes to say so."""
    scene.rider("r")
    due = scene.place("o").expires_at_ms
    scene.dispatcher.tick(due)
    scene.dispatcher.tick(due + 60_000)
    effects = scene.dispatcher.outbox()
    assert not [effect for effect in effects if isinstance(effect, Decide)]
    assert scene.dispatcher.counts()["orders_waiting"] == 0


def test_an_offer_in_flight_at_the_expiry_that_is_dropped_expires_the_order_at_once(kit, scene):
    in_flight(kit, scene)
    due = scene.orders["o"].expires_at_ms
    assert scene.asks(due) == []
    scene.dispatcher.receive(PlanWritten(at_ms=kit.T0, dropped=(("o", "busy"),)))
    assert scene.dispatcher.counts()["orders_waiting"] == 0
    assert scene.asks(due + 500) == [("o", c.Expire(at_ms=due + 500))]


def test_an_earlier_expiry_is_asked_before_the_repeated_one(kit, scene):
    """Somebody else's offer came after the first ask, and ends before the next."""
    scene.rider("r")
    order = scene.place("o")
    due = order.expires_at_ms
    assert scene.asks(due) == [("o", c.Expire(at_ms=due))]
    scene.offer("o", "r", deadline_ms=due + 1_000)
    scene.do("o", c.TimeOut(at_ms=due + 1_001, number=1))
    once = [due + seconds * 1000 for seconds in (2, 3, 5, 9)]
    assert ask_times(scene, c.Expire, due + 2_000, due + 11_000) == once


def test_many_attempts_ask_for_one_expiry(kit, scene):
    scene.rider("r")
    due = scene.place("o").expires_at_ms
    for number in range(1, 6):
        scene.give("o", "r")
        scene.do("o", c.DropOut(at_ms=kit.T0, rider_id="r", number=number))
    assert ask_times(scene, c.Expire, due, due + 1000) == [due]


def test_a_scheduled_order_opens_at_its_moment(kit, scene):
    opens = kit.T0 + 7 * kit.MINUTE
    order = scene.place("o", open_at_ms=opens)
    assert kit.view(scene.dispatcher)["waiting"] == set()
    assert scene.dispatcher.wake_at() == opens
    assert scene.asks(opens - 1) == []
    assert scene.asks(opens) == [("o", c.Open(at_ms=opens))]
    assert scene.asks(opens + REPEAT_MS) == [("o", c.Open(at_ms=opens + REPEAT_MS))]
    scene.do("o", c.Open(at_ms=opens))
    assert kit.view(scene.dispatcher)["waiting"] == {"o"}
    assert ask_times(scene, c.Open, opens, opens + 60_000) == []
    assert ask_times(scene, c.Expire, order.expires_at_ms, order.expires_at_ms + 1) != []


def test_a_scheduled_order_that_is_cancelled_does_not_open(kit, scene):
    scene.place("o", open_at_ms=kit.T0 + 5000)
    scene.do("o", c.Cancel(at_ms=kit.T0, by=Party.CUSTOMER))
    assert scene.asks(kit.T0 + 5000) == []
    assert scene.dispatcher.wake_at() is None


def test_a_done_order_completes_after_the_time_to_object(kit, scene):
    scene.rider("r")
    scene.place("o")
    scene.give("o", "r")
    for stop in (0, 1):
        scene.serve("o", stop, kit.T0 + 1000)
    due = kit.T0 + 1000 + scene.policy.complete_after_ms
    assert scene.asks(due - 1) == []
    assert scene.asks(due) == [("o", c.Complete(at_ms=due))]
    assert scene.asks(due + REPEAT_MS) == [("o", c.Complete(at_ms=due + REPEAT_MS))]
    scene.do("o", c.Complete(at_ms=due + REPEAT_MS))
    assert ask_times(scene, c.Complete, due, due + 60_000) == []
    assert scene.dispatcher.wake_at() is None


# --- when to come back -------------------------------------------------------------------------


def test_wake_at(kit, scene):
    assert scene.dispatcher.wake_at() is None
    scene.rider("r")
    assert scene.dispatcher.wake_at() is None, "a rider alone is nothing to wait for"
    order = scene.place("o")
    assert scene.dispatcher.wake_at() <= kit.T0, "an order waits: a round is due at once"
    scene.dispatcher.tick(kit.T0 + 1)
    (effect,) = scene.dispatcher.outbox()
    assert scene.dispatcher.wake_at() == order.expires_at_ms, "a round is being decided"
    plan = decide(effect.snapshot, scene.policy)
    scene.dispatcher.receive(Decided(plan=plan))
    scene.dispatcher.outbox()
    assert scene.dispatcher.wake_at() == order.expires_at_ms, "its only order is in flight"
    scene.dispatcher.receive(PlanWritten(at_ms=kit.T0, dropped=(("o", "x"),)))
    assert scene.dispatcher.wake_at() == kit.T0 + 2000, "rounds fall on whole ticks"


def test_a_tick_before_the_next_round_decides_nothing(kit, scene):
    scene.place("o")
    scene.asks(kit.T0 + 1)
    for early in (2, 1000, 1999):
        scene.dispatcher.tick(kit.T0 + early)
        assert scene.dispatcher.outbox() == []
    scene.dispatcher.tick(kit.T0 + 2000)
    assert len(scene.dispatcher.outbox()) == 1


# --- fixes -------------------------------------------------------------------------------------


def fixes(kit, *rows):
    """(rider id, x, y, at_ms) rows as a batch."""
    lat, lon = kit.PLANE.lat_lon(*np.array([r[1:3] for r in rows], float).reshape(-1, 2).T)
    at_ms = np.array([r[3] for r in rows], np.int64)
    return Fixes(rider_id=tuple(r[0] for r in rows), lat=lat, lon=lon, at_ms=at_ms)


def where(scene, rider_id):
    return round(scene.column("x", rider_id)), round(scene.column("y", rider_id))


def test_fixes_end_in_the_same_place_in_any_order(kit, scene):
    """Late, shuffled, doubled, in batches of any size: only newer ones move a rider."""
    rng = np.random.default_rng(0)
    for rider in ("a", "b"):
        scene.rider(rider)
    rows = [(r, 10 * i, 20 * i, 1000 + i) for r in ("a", "b") for i in range(20)]
    for _ in range(20):
        scene.dispatcher.columns.riders["fix_ms"][:] = 0
        order = rng.permutation(np.repeat(np.arange(len(rows)), 2))
        for batch in np.array_split(order, int(rng.integers(1, 9))):
            scene.dispatcher.receive(fixes(kit, *[rows[i] for i in batch]))
        assert where(scene, "a") == where(scene, "b") == (190, 380)
        assert scene.column("fix_ms", "a") == 1019


def test_a_late_fix_does_not_move_a_rider(kit, scene):
    scene.rider("r")
    scene.dispatcher.receive(fixes(kit, ("r", 500, 0, kit.T0 + 100)))
    scene.dispatcher.receive(fixes(kit, ("r", 5000, 0, kit.T0 + 99)))
    assert where(scene, "r") == (500, 0)
    scene.dispatcher.receive(fixes(kit, ("r", 5000, 0, kit.T0 + 101)))
    assert where(scene, "r") == (5000, 0)


def test_fixes_of_a_fleet_are_those_of_its_riders(kit):
    """A fleet is looked up once; riders who come later are found all the same."""
    one, two = kit.Scene(), kit.Scene()
    fleet = tuple(f"r{i}" for i in range(30))
    rng = np.random.default_rng(4)
    for turn, comes in enumerate(rng.permutation(30)):
        for scene in (one, two):
            scene.rider(f"r{comes}")
        which = np.sort(rng.choice(30, int(rng.integers(1, 30)), replace=False))
        rows = [(fleet[i], *rng.uniform(-9, 9, 2), kit.T0 + int(rng.integers(9))) for i in which]
        batch = fixes(kit, *rows)
        one.dispatcher.receive(batch)
        two.dispatcher.receive(structs.replace(batch, rider_id=fleet, which=which))
        assert one.column("fix_ms", f"r{comes}") <= kit.T0 + 8
        for name in ("x", "y", "fix_ms"):
            column, same = (s.dispatcher.columns.riders[name] for s in (one, two))
            assert column[: turn + 1].tolist() == same[: turn + 1].tolist()
    assert len(set(column[:30].tolist())) > 3


def test_fixes_of_strangers_and_empty_batches_are_left_alone(kit, scene):
    scene.rider("r")
    scene.dispatcher.receive(
        fixes(kit, ("who", 1, 1, kit.T0), ("r", 70, 0, kit.T0), ("who", 2, 2, kit.T0))
    )
    assert where(scene, "r") == (70, 0)
    scene.dispatcher.receive(fixes(kit))
    scene.dispatcher.receive(fixes(kit, ("who", 1, 1, kit.T0 + 9)))
    assert where(scene, "r") == (70, 0)


def test_what_a_phone_recorded_before_the_shift_or_an_arrival_moves_nobody(kit, scene):
    scene.rider("r")
    scene.dispatcher.receive(fixes(kit, ("r", 70, 0, kit.T0 - CLOCK_SLACK_MS - 1)))
    assert where(scene, "r") == (0, 0)
    scene.dispatcher.receive(fixes(kit, ("r", 60, 0, kit.T0 - CLOCK_SLACK_MS)))
    assert where(scene, "r") == (60, 0), "a clock may be a little behind"
    scene.place("o", (500, 0))
    scene.give("o", "r", route=[("o", 0), ("o", 1)])
    slow = kit.T0 - 5  # his phone's clock
    scene.do("o", c.Arrive(at_ms=kit.T0 + 90, rider_id="r", stop=0, device_ms=slow))
    scene.dispatcher.receive(fixes(kit, ("r", 70, 0, slow - 1)))
    assert where(scene, "r") == (500, 0)
    scene.dispatcher.receive(fixes(kit, ("r", 510, 0, slow + 1)))
    assert where(scene, "r") == (510, 0)


def test_a_batch_with_no_point_in_it_changes_nothing(kit, scene):
    """It is the sender's fault and raises; columns that hold NaN would stop every round."""
    scene.rider("r")
    bad = fixes(kit, ("r", 70, 0, kit.T0))
    bad.lat[0] = np.nan
    with pytest.raises(InvalidValue):
        scene.dispatcher.receive(bad)
    scene.snapshot().check()
    assert where(scene, "r") == (0, 0)


def test_a_driving_rider_is_as_free_as_his_fix_is_old(kit):
    """Without diversion the first stop is locked: time runs from where he was last seen."""
    scene = kit.Scene(Policy(diversion=False))
    scene.rider("drives", 0, 0)
    scene.rider("idle", 0, 0)
    scene.place("o", (900, 0))
    scene.give("o", "drives")
    scene.step(c.Head, "o", 0, kit.T0 + 1000)
    scene.dispatcher.receive(
        fixes(kit, ("drives", 300, 0, kit.T0 + 5000), ("idle", 300, 0, kit.T0 + 5000))
    )
    free = scene.snapshot(kit.T0 + 9000).riders.free_ms.tolist()
    assert free == [kit.T0 + 5000, kit.T0 + 9000]
    early = scene.snapshot(kit.T0 + 4000).riders.free_ms.tolist()
    assert early == [kit.T0 + 4000, kit.T0 + 4000], "a phone's clock may be ahead"


def test_a_travel_model_without_a_law_is_refused(kit):
    class Roads:
        law = None

    with pytest.raises(InvalidValue, match="travel"):
        Dispatcher("toy", kit.PLANE, Roads(), Policy())


def test_counts(kit, scene):
    scene.rider("r")
    for order_id in ("a", "b"):
        scene.place(order_id)
    scene.give("a", "r")
    assert scene.dispatcher.counts() == {
        "orders_live": 2,
        "orders_waiting": 1,
        "riders_on_shift": 1,
    }


def test_an_empty_start(kit, scene):
    scene.dispatcher.receive(Known(orders=(), riders=()))
    assert scene.dispatcher.wake_at() is None
    assert scene.dispatcher.outbox() == []


def test_a_told_route_names_stops_that_others_serve(kit, scene):
    """An offer tells the route of a moment that has passed: what is not his is not put in."""
    scene.rider("r")
    scene.rider("s")
    for order_id in ("a", "b", "c"):
        scene.place(order_id)
    scene.give("a", "s")
    scene.give("b", "r")
    scene.serve("b", 0, kit.T0 + 1)
    told = [("b", 0), ("a", 0), ("c", 0), ("who", 0), ("b", 1), ("c", 1), ("c", 1)]
    scene.offer("c", "r", route=told)
    assert scene.route("r") == [("c", 0), ("b", 1), ("c", 1)]
    assert scene.route("s") == [("a", 0), ("a", 1)]
    assert scene.orders["b"].stops[0].state is StopState.DONE
    assert RouteStop(order_id="a", stop=0) in scene.orders["c"].assignment.route


def test_events_of_an_order_that_is_over_change_nothing_when_they_come_again(kit, scene):
    scene.rider("ann")
    scene.place("o")
    scene.offer("o", "ann")
    scene.do("o", c.Decline(at_ms=kit.T0 + 1, rider_id="ann", number=1))
    scene.do("o", c.Cancel(at_ms=kit.T0 + 2, by=Party.CUSTOMER))
    for upto in range(len(scene.events) + 1):
        for event in scene.events[:upto]:
            scene.dispatcher.receive(event)
        assert scene.dispatcher.counts() == {
            "orders_live": 0, "orders_waiting": 0, "riders_on_shift": 1,
        }  # fmt: skip
        scene.dispatcher.tick(kit.T0 + 9_000 + upto)
        assert scene.dispatcher.outbox() == []
