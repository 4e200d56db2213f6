"""The referee passes what is right and reports every kind of wrong plan."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from dispatch import commands as c
from dispatch.engine import decide
from dispatch.model import RouteStop, Stop, StopKind
from dispatch.plan import Plan, Wait, WaitReason
from dispatch.policy import Policy
from dispatch.referee import check_plan
from geo.travel import Manhattan

ROOT = Path(__file__).resolve().parents[2]

CITIES = [
    {"windows": 0.5, "skilled": 0.3, "visits": 0.2},
    {"ride_max_ms": 15 * 60_000, "deviate": 0.3, "capacity": (2,)},
    {"accept": 0.5, "decline": 0.4, "drop_out": 0.2, "lag_ms": 900, "decide_ms": 400},
]
POLICIES = {
    "shipped": Policy(tick_ms=10_000, complete_after_ms=600_000),
    "strict": Policy(
        tick_ms=15_000, complete_after_ms=600_000, route_stops_max=6, diversion=False,
        one_merchant_a_bundle=True, bundles_in_sequence=True, commit_ahead_ms=120_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("city", range(len(CITIES)))
def test_hundreds_of_rounds_pass(kit, city, policy):
    seen = []
    toy = kit.Toy(
        10 + city, POLICIES[policy], orders=50, minutes=40, **CITIES[city],
        on_round=lambda snapshot, plan: seen.append((snapshot, plan)),
    ).run()  # fmt: skip
    assert not toy.violations
    assert toy.rounds > 150
    offers = [o for _, plan in seen for o in plan.offers]
    assert len(offers) > 25
    assert len({len(o.route) for o in offers}) > 2, "routes of several lengths"


# --- one good plan, wronged in every way -------------------------------------------------------


class Good:
    """Two riders, one under way with a locked stop and goods; three orders that are offered."""

    def __init__(self, kit, **policy):
        self.policy = Policy(**policy)
        scene = self.scene = kit.Scene(self.policy)
        scene.rider("idle", 0, 500, skills=("ice",), capacity=(2,))
        scene.rider("busy", 0, 0, capacity=(3,))
        scene.place("aboard", (0, 0), (2500, 0))
        scene.give("aboard", "busy")
        scene.serve("aboard", 0, kit.T0)
        scene.place("next", (800, 0), (2600, 100), load=(2,))
        route = [("next", 0), ("aboard", 1), ("next", 1)]
        scene.give("next", "busy", route=route)
        scene.step(c.Arrive, "next", 0, kit.T0 + 1000)
        scene.place("cold", (50, 500), skills=("ice",))
        scene.place("far", (2600, 200), (3000, 0))
        scene.place("more", (60, 500), (900, 600))
        scene.place("wet", (0, 100), skills=("swim",))
        self.snapshot, self.plan = scene.decide(kit.T0 + 2000)
        self.by_order = {o.order_id: o for o in self.plan.offers}
        who = {o.order_id: o.rider_id for o in self.plan.offers}
        assert who == {"cold": "idle", "far": "busy", "more": "idle"}
        assert [w.order_id for w in self.plan.waits] == ["wet"]
        assert self.snapshot.riders.locked.tolist() == [0, 1]

    def problems(self, snapshot=None, plan=None, policy=None):
        return check_plan(snapshot or self.snapshot, plan or self.plan, policy or self.policy)

    def with_offer(self, order_id, /, **fields):
        changed = structs.replace(self.by_order[order_id], **fields)
        offers = tuple(changed if o.order_id == order_id else o for o in self.plan.offers)
        return structs.replace(self.plan, offers=offers)

    def with_route(self, rider_id, route):
        """All offers of the rider tell the route, given as text: `far/0 far/1`."""
        told = tuple(
            RouteStop(order_id=o, stop=int(s)) for o, _, s in (x.partition("/") for x in route)
        )
        offers = tuple(
            structs.replace(o, route=told) if o.rider_id == rider_id else o
            for o in self.plan.offers
        )
        return structs.replace(self.plan, offers=offers)

    def route(self, order_id):
        return [f"{s.order_id}/{s.stop}" for s in self.by_order[order_id].route]

    def with_column(self, table, column, row, value):
        part = getattr(self.snapshot, table)
        changed = getattr(part, column).copy()
        changed[row] = value
        return replace(self.snapshot, **{table: replace(part, **{column: changed})})

    def row(self, table, name):
        return getattr(self.snapshot, table).id.index(name)

    def stop(self, order_id, index):
        return self.scene.dispatcher.columns.stop_row(order_id, index)


@pytest.fixture
def good(kit):
    made = Good(kit)
    assert made.problems() == []
    return made


def lost_order(g):
    return {"plan": structs.replace(g.plan, offers=g.plan.offers[:-1])}


def lost_wait(g):
    return {"plan": structs.replace(g.plan, waits=())}


def offered_twice(g):
    return {"plan": structs.replace(g.plan, offers=(*g.plan.offers, g.plan.offers[0]))}


def offered_and_waiting(g):
    wait = Wait(order_id="cold", reason=WaitReason.ON_PURPOSE)
    return {"plan": structs.replace(g.plan, waits=(*g.plan.waits, wait))}


def invented_wait(g):
    wait = Wait(order_id="nobody's", reason=WaitReason.ON_PURPOSE)
    return {"plan": structs.replace(g.plan, waits=(*g.plan.waits, wait))}


def offered_though_taken(g):
    """An order that a rider has already."""
    offer = structs.replace(g.by_order["far"], order_id="next")
    return {"plan": structs.replace(g.plan, offers=(*g.plan.offers, offer))}


def unknown_order(g):
    return {"plan": g.with_offer("far", order_id="who")}


def unknown_rider(g):
    return {"plan": g.with_offer("far", rider_id="who")}


def old_version(g):
    return {"plan": g.with_offer("cold", order_version=1)}


def other_moment(g):
    return {"plan": structs.replace(g.plan, at_ms=g.plan.at_ms + 1)}


def without_skill(g):
    row = g.row("riders", "idle")
    return {"snapshot": g.with_column("riders", "skills", row, 0)}


def closed_rider(g):
    row = g.row("riders", "busy")
    return {"snapshot": g.with_column("riders", "open", row, False)}


def two_routes(g):
    return {"plan": g.with_offer("cold", route=g.by_order["cold"].route[::-1])}


def dropped_stop(g):
    route = [s for s in g.route("far") if s != "aboard/1"]
    return {"plan": g.with_route("busy", route)}


def reordered_route(g):
    """The old stops in another order, though each order's own is kept."""
    route = [s for s in g.route("far") if s != "aboard/1"]
    return {"plan": g.with_route("busy", [*route, "aboard/1"])}


def before_the_locked_stop(g):
    route = g.route("far")
    route.insert(0, route.pop(route.index("far/0")))
    return {"plan": g.with_route("busy", route)}


def dropoff_before_pickup(g):
    route = g.route("far")
    i, j = route.index("far/0"), route.index("far/1")
    route[i], route[j] = route[j], route[i]
    return {"plan": g.with_route("busy", route)}


def stop_twice(g):
    return {"plan": g.with_route("busy", [*g.route("far"), "far/1"])}


def forgotten_stop(g):
    return {"plan": g.with_route("busy", g.route("far")[:-1])}


def stop_of_another_order(g):
    """An order that is on the route but not offered."""
    return {"plan": g.with_route("busy", [*g.route("far"), "wet/0", "wet/1"])}


def stop_that_is_not(g):
    return {"plan": g.with_route("busy", [*g.route("far"), "far/2"])}


def stop_that_is_served(g):
    return {"plan": g.with_route("busy", ["aboard/0", *g.route("far")])}


def stop_of_an_order_that_is_not(g):
    return {"plan": g.with_route("busy", [*g.route("far"), "who/0"])}


def empty_route(g):
    return {"plan": g.with_route("idle", [])}


def too_many_stops(g):
    return {"policy": replace(g.policy, route_stops_max=4)}


def overload(g):
    return {"snapshot": g.with_column("riders", "capacity", g.row("riders", "busy"), 2)}


def overload_in_another_dimension(g):
    column = g.snapshot.stops.load.copy()
    column[g.stop("more", 0), 2], column[g.stop("more", 1), 2] = 1, -1
    return {"snapshot": replace(g.snapshot, stops=replace(g.snapshot.stops, load=column))}


def after_the_window(g):
    done = g.by_order["far"].done_ms
    return {"snapshot": g.with_column("stops", "latest_ms", g.stop("far", 1), done - 1)}


def after_the_window_of_another(g):
    """An order that was promised before comes too late by this plan."""
    latest = g.plan.at_ms + 1000
    return {"snapshot": g.with_column("stops", "latest_ms", g.stop("next", 1), latest)}


def after_the_shift(g):
    end = g.by_order["far"].pickup_ms - 1
    return {"snapshot": g.with_column("riders", "shift_end_ms", g.row("riders", "busy"), end)}


def rides_too_long(g):
    ride = g.by_order["more"].done_ms - g.by_order["more"].pickup_ms
    row = g.row("orders", "more")
    return {"snapshot": g.with_column("orders", "ride_max_ms", row, ride - 1)}


def wrong_pickup_moment(g):
    return {"plan": g.with_offer("more", pickup_ms=g.by_order["more"].pickup_ms + 1)}


def wrong_last_moment(g):
    return {"plan": g.with_offer("more", done_ms=g.by_order["more"].done_ms - 1)}


def faster_than_the_rider(g):
    """The moments of a rider who rides at another speed."""
    return {"snapshot": g.with_column("riders", "speed_mps", g.row("riders", "busy"), 5.9)}


def not_free_yet(g):
    row, later = g.row("riders", "idle"), g.plan.at_ms + 1
    return {"snapshot": g.with_column("riders", "free_ms", row, later)}


def two_merchants(g):
    return {"policy": replace(g.policy, one_merchant_a_bundle=True)}


WRONGS = {
    lost_order: "lost",
    lost_wait: "lost",
    offered_twice: "exactly once",
    offered_and_waiting: "exactly once",
    invented_wait: "exactly once",
    offered_though_taken: "exactly once",
    unknown_order: "not in the snapshot",
    unknown_rider: "not in the snapshot",
    old_version: "version",
    other_moment: "plan is of",
    without_skill: "lacks a skill",
    closed_rider: "not open",
    two_routes: "several routes",
    dropped_stop: "lost or put in another order",
    reordered_route: "lost or put in another order",
    before_the_locked_stop: "locked stop",
    dropoff_before_pickup: "before it is picked up",
    stop_twice: "stands twice",
    forgotten_stop: "not those of the offered",
    stop_of_another_order: "not those of the offered",
    stop_that_is_not: "does not exist",
    stop_that_is_served: "does not exist",
    stop_of_an_order_that_is_not: "does not exist",
    empty_route: "not those of the offered",
    too_many_stops: "are allowed",
    overload: "overloaded at order next",
    overload_in_another_dimension: "overloaded at order more",
    after_the_window: "order far is served after its window",
    after_the_window_of_another: "order next is served after its window",
    after_the_shift: "after the end of the shift",
    rides_too_long: "order more rides too long",
    wrong_pickup_moment: "order more is planned at other times",
    wrong_last_moment: "order more is planned at other times",
    faster_than_the_rider: "planned at other times",
    not_free_yet: "planned at other times",
    two_merchants: "two merchants",
}


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda f: f.__name__)
def test_a_wrong_plan_is_reported(good, wrong):
    problems = good.problems(**wrong(good))
    assert [p for p in problems if WRONGS[wrong] in p], problems


@pytest.mark.parametrize(
    "edge", [after_the_window, after_the_shift, rides_too_long], ids=lambda f: f.__name__
)
def test_a_limit_may_be_met_to_the_millisecond(good, edge):
    tight = edge(good)["snapshot"]
    parts = {}
    for table, column in (
        ("stops", "latest_ms"),
        ("riders", "shift_end_ms"),
        ("orders", "ride_max_ms"),
    ):
        old, new = (getattr(getattr(s, table), column) for s in (good.snapshot, tight))
        parts[table] = replace(
            getattr(tight, table), **{column: np.where(old == new, new, new + 1)}
        )
    assert good.problems(snapshot=replace(tight, **parts)) == []


def in_sequence(kit, second_at, **policy):
    """A rider who hands `one` over, then picks `two` up while `three` is still on board."""
    scene = kit.Scene(Policy(**policy))
    scene.rider("r", 0, 0)
    for i, order_id in enumerate(("one", "three")):
        scene.place(order_id, (0, 0), (300 + 600 * i, 0), pickup={"place_id": "m"})
        route = [("one", 0), ("three", 0), ("one", 1), ("three", 1)][: 2 + 2 * i]
        scene.give(order_id, "r", route=route if i else [("one", 0), ("one", 1)])
    scene.place("two", second_at, (1200, 0), pickup={"place_id": "n"})
    return scene.decide(kit.T0 + 1)


def test_a_bundle_within_a_bundle(kit):
    """Legal as such, refused where bundles are to follow one another."""
    snapshot, plan = in_sequence(kit, (600, 0))
    assert [f"{s.order_id}/{s.stop}" for s in plan.offers[0].route] == [
        "one/0", "three/0", "one/1", "two/0", "three/1", "two/1",
    ]  # fmt: skip
    assert not check_plan(snapshot, plan, Policy())
    strict = Policy(bundles_in_sequence=True)
    assert "a bundle begins before" in " ".join(check_plan(snapshot, plan, strict))
    snapshot, plan = in_sequence(kit, (600, 0), bundles_in_sequence=True)
    assert [s.order_id for s in plan.offers[0].route[-2:]] == ["two", "two"]
    assert not check_plan(snapshot, plan, strict)


def test_visits_of_an_order_keep_their_order(kit, scene):
    """There is nothing to carry, still the second visit does not come first."""
    scene.rider("r")
    visits = tuple(Stop(kind=StopKind.VISIT, place=kit.place(200 * i, 0)) for i in (1, 2))
    scene.place("o", stops=visits)
    snapshot, plan = scene.decide()
    (offer,) = plan.offers
    assert not check_plan(snapshot, plan, scene.policy)
    swapped = structs.replace(offer, route=offer.route[::-1])
    problems = check_plan(snapshot, structs.replace(plan, offers=(swapped,)), scene.policy)
    assert [p for p in problems if "stand in another order" in p]


def test_one_door_is_approached_once(kit, scene):
    scene.rider("r", 0, 0)
    for order_id in ("a", "b"):
        scene.place(order_id, (0, 0), pickup={"place_id": "m"})
    snapshot, plan = scene.decide()
    first = {o.order_id: o.pickup_ms for o in plan.offers}
    assert first == {"a": kit.T0 + 30_000, "b": kit.T0 + 30_000 + 0}
    assert not check_plan(snapshot, plan, scene.policy)
    apart = snapshot.stops.place.copy()
    apart[snapshot.orders.first_stop[1]] = 7
    other = replace(snapshot, stops=replace(snapshot.stops, place=apart))
    assert check_plan(other, plan, scene.policy)


def test_the_metric_and_the_quantum_count(kit):
    scene = kit.Scene(travel=Manhattan(quantum_ms=60_000))
    scene.rider("r", 0, 0)
    scene.place("o", (600, 800), (1200, 1600))
    snapshot, plan = scene.decide()
    assert not check_plan(snapshot, plan, scene.policy)
    for law in (replace(snapshot.law, metric=0), replace(snapshot.law, quantum_ms=1)):
        assert check_plan(replace(snapshot, law=law), plan, scene.policy)


def test_any_single_mutation_of_any_plan_is_reported(kit):
    """Random plans of a toy city; whatever is changed in one is noticed."""
    seen = []
    kit.Toy(5, orders=40, minutes=40, on_round=lambda s, p: seen.append((s, p))).run()
    policy = Policy(tick_ms=10_000)
    rng, kinds = np.random.default_rng(5), Counter()
    for snapshot, plan in seen:
        if not plan.offers:
            continue
        n = int(rng.integers(len(plan.offers)))
        offer = plan.offers[n]
        route = list(offer.route)
        i, j = (k for k, s in enumerate(route) if s.order_id == offer.order_id)
        swapped = [*route]
        swapped[i], swapped[j] = route[j], route[i]
        wrongs = {
            "lost": None,
            "version": structs.replace(offer, order_version=offer.order_version + 1),
            "early": structs.replace(offer, pickup_ms=offer.pickup_ms - 1),
            "late": structs.replace(offer, done_ms=offer.done_ms + 1),
            "short": structs.replace(offer, route=tuple(route[:i] + route[i + 1 :])),
            "doubled": structs.replace(offer, route=(*route, route[i])),
            "swapped": structs.replace(offer, route=tuple(swapped)),
        }
        for name, wrong in wrongs.items():
            offers = [
                structs.replace(o, route=wrong.route)
                if wrong and o.rider_id == offer.rider_id
                else o
                for o in plan.offers
            ]
            offers[n : n + 1] = [wrong] if wrong else []
            assert check_plan(snapshot, structs.replace(plan, offers=tuple(offers)), policy), name
            kinds[name] += 1
    assert min(kinds.values()) > 20


def test_an_empty_plan_of_an_empty_city(scene):
    snapshot = scene.snapshot(5)
    assert check_plan(snapshot, Plan(at_ms=5, solver="x", offers=(), waits=()), scene.policy) == []
    assert decide(snapshot, scene.policy).offers == ()


def test_the_referee_has_not_learnt_from_the_player():
    """Neither directly nor through others: a fresh process loads no solver with it."""
    script = (
        "import sys, dispatch.referee\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('dispatch', 'numba')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = [m for m in done.stdout.split() if m.startswith("dispatch")]
    assert set(loaded) == {
        "dispatch", "dispatch.model", "dispatch.plan", "dispatch.policy", "dispatch.referee",
        "dispatch.snapshot",
    }  # fmt: skip
