"""A round against a slow and plain one: every plan is the same to the bit, ties included.

The reference drives every trial route from its beginning, prices every pair anew in every pass,
looks at every rider for every order, and lets scipy match. Both see the same snapshots: rounds of
toy cities with everything that happens in them, and crowds in which many things cost the same.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from dispatch.engine import GREEDY, MATCHING, decide
from dispatch.model import RouteStop
from dispatch.plan import Plan, PlannedOffer, Wait, WaitReason
from dispatch.policy import Policy
from dispatch.snapshot import DROPOFF, NEVER, PICKUP
from geo.arcs import arc_ms
from geo.travel import EUCLID, MANHATTAN, TravelLaw

TICK = {"tick_ms": 10_000, "complete_after_ms": 600_000}


class Plain:
    """The snapshot as lists, and what a route of it costs."""

    def __init__(self, snapshot, policy):
        self.snapshot, self.policy, self.law = snapshot, policy, snapshot.law
        for prefix, table in (
            ("s", snapshot.stops),
            ("o", snapshot.orders),
            ("r", snapshot.riders),
        ):
            for name in table.__dataclass_fields__:
                column = getattr(table, name)
                value = column.tolist() if isinstance(column, np.ndarray) else column
                setattr(self, f"{prefix}_{name}", value)
        self.routes = [r[:n] for r, n in zip(self.r_route, self.r_route_len, strict=True)]
        self.held = [sum((self.s_kind[s] == DROPOFF) - (self.s_kind[s] == PICKUP) for s in route)
                     for route in self.routes]  # fmt: skip

    def hinges(self, s):
        """(due, slope) of what is late at a stop."""
        o, policy = self.s_order[s], self.policy
        found = []
        if self.s_kind[s] == PICKUP and self.o_stop_count[o] > 1 and self.s_earliest_ms[s] > 0:
            found.append((self.s_earliest_ms[s], policy.fresh_weight))
        if s == self.o_first_stop[o] + self.o_stop_count[o] - 1:
            found = [(self.o_placed_ms[o], policy.door_weight)]
            found.append((self.o_promise_ms[o], policy.late_weight))
        return found

    def end_value(self, s):
        recent = self.snapshot.recent
        if not self.policy.end_weight or not len(recent):
            return 0
        dx, dy = self.s_x[s] - recent[:, 0], self.s_y[s] - recent[:, 1]
        law = self.law
        metres = np.sqrt(dx * dx + dy * dy) if law.metric == EUCLID else np.abs(dx) + np.abs(dy)
        return int(metres[None, :].mean(axis=1)[0] * law.ms_per_m(5.0) * self.policy.end_weight)

    def drive(self, r, route):
        """(points, when he acts, when he must leave), or None where a rule forbids it."""
        law, policy = self.law, self.policy
        x, y, now = self.r_x[r], self.r_y[r], self.r_free_ms[r]
        load, held = list(self.r_load[r]), self.held[r]
        handing_over = held > 0
        points, acts, leave_by, last = 0, [], [], None
        for s in route:
            kind = self.s_kind[s]
            same = (last is not None and self.s_place[s] >= 0 and kind == self.s_kind[last]
                    and self.s_place[s] == self.s_place[last])  # fmt: skip
            if same:
                ready = acts[-1]
                act = max(ready, self.s_earliest_ms[s])
                leave_by.append(leave_by[-1])
            else:
                pace = 1000.0 * law.detour / self.r_speed_mps[r]
                ride = arc_ms(x, y, self.s_x[s], self.s_y[s], law.metric, pace, law.quantum_ms)
                ready = now + ride + self.s_approach_ms[s]
                act = max(ready, self.s_earliest_ms[s])
                leave_by.append(act - self.s_approach_ms[s] - ride)
                points += ride * policy.ride_weight
            points += (act - ready) * policy.wait_weight
            if act > self.s_latest_ms[s] or (kind != DROPOFF and act > self.r_shift_end_ms[r]):
                return None
            if kind == DROPOFF:
                handing_over, held = True, held - 1
                began = [a for a, q in zip(acts, route, strict=False)
                         if self.s_order[q] == self.s_order[s]]  # fmt: skip
                if began and act - began[0] > self.o_ride_max_ms[self.s_order[s]]:
                    return None
            elif kind == PICKUP:
                if held == 0:
                    handing_over = False
                elif (policy.bundles_in_sequence and handing_over) or (
                    policy.one_merchant_a_bundle and not same
                ):
                    return None
                held += 1
            load = [a + b for a, b in zip(load, self.s_load[s], strict=True)]
            if any(a > b for a, b in zip(load, self.r_capacity[r], strict=True)):
                return None
            points += sum(max(0, act - due) * slope for due, slope in self.hinges(s))
            acts.append(act)
            x, y, now, last = self.s_x[s], self.s_y[s], act + self.s_leave_ms[s], s
        return points + (self.end_value(last) if route else 0), acts, leave_by

    def cheapest(self, o, r):
        """(added points, the route) of the first cheapest pair of positions, or None."""
        route, a = self.routes[r], self.o_first_stop[o]
        base, best = self.drive(r, route), None
        if base is None or len(route) + self.o_stop_count[o] > self.policy.route_stops_max:
            return None
        for i in range(self.r_locked[r], len(route) + 1):
            for j in range(i, len(route) + 1) if self.o_stop_count[o] == 2 else [i]:
                two = [a + 1] if self.o_stop_count[o] == 2 else []
                trial = [*route[:i], a, *route[i:j], *two, *route[j:]]
                driven = self.drive(r, trial)
                if driven is not None and (best is None or driven[0] - base[0] < best[0]):
                    best = driven[0] - base[0], trial
        return best

    def skilled(self, o, r):
        return self.r_skills[r] & self.o_skills[o] == self.o_skills[o]

    def near(self, o, riders):
        """The riders of the nearest points, where they are before where their routes end."""
        s, points = self.o_first_stop[o], []
        ends = [(r, self.s_x[self.routes[r][-1]], self.s_y[self.routes[r][-1]])
                for r in riders if self.routes[r]]  # fmt: skip
        for r, x, y in [(r, self.r_x[r], self.r_y[r]) for r in riders] + ends:
            if self.skilled(o, r):
                away = (x - self.s_x[s]) ** 2 + (y - self.s_y[s]) ** 2
                points.append((away, len(points), r))
        return sorted({r for _, _, r in sorted(points)[: self.policy.candidates]})


def match(cost, dummy):
    """{order: rider} and its points; `cost` is {(order, rider): points}."""
    orders, riders = sorted({o for o, _ in cost}), sorted({r for _, r in cost})
    if not orders:
        return {}, 0
    n, m = len(orders), len(riders)
    rows = [orders.index(o) for o, _ in cost] + list(range(n))
    columns = [riders.index(r) for _, r in cost] + list(range(m, m + n))
    points = np.array(list(cost.values()) + [dummy[o] for o in orders])
    table = coo_array(((points - points.min() + 1).astype(float), (rows, columns)), (n, m + n))
    chosen = zip(*min_weight_full_bipartite_matching(table.tocsr()), strict=True)
    chosen = {orders[i]: riders[j] for i, j in chosen if j < m}
    over = sum(dummy[o] for o in orders if o not in chosen)
    return chosen, sum(cost[pair] for pair in chosen.items()) + over


def greedily(cost, dummy):
    chosen = {}
    for (o, r), points in sorted(cost.items(), key=lambda item: item[1]):
        if points < dummy[o] and o not in chosen and r not in chosen.values():
            chosen[o] = r
    left = {o for o, _ in cost} - set(chosen)
    return chosen, sum(cost[pair] for pair in chosen.items()) + sum(dummy[o] for o in left)


def reference(snapshot, policy, solver=MATCHING):  # noqa: C901 - a round, step by step
    """What `decide` must say."""
    if solver == GREEDY:
        policy = replace(policy, candidates=min(policy.candidates, 8), passes_max=1)
    it = Plain(snapshot, policy)
    now = snapshot.at_ms
    waiting = [o for o, waits in enumerate(it.o_waiting) if waits]
    there = [r for r, end in enumerate(it.r_shift_end_ms) if it.r_on_shift[r] and end > now]
    able = [r for r in range(len(it.routes)) if it.r_open[r] and it.r_shift_end_ms[r] > now]
    able = [r for r in able if len(it.routes[r]) < policy.route_stops_max]
    then = now + policy.unassigned_ms
    dummy = {o: (then - it.o_placed_ms[o]) * policy.door_weight
             + max(0, then - it.o_promise_ms[o]) * policy.late_weight for o in waiting}  # fmt: skip
    pairs = {o: it.near(o, able) for o in waiting}
    declined = {tuple(pair) for pair in snapshot.declined.tolist()}
    given, paid, least, matched = {}, {}, dict.fromkeys(waiting, NEVER), 0
    for turn in range(policy.passes_max):
        cost, ways = {}, {}
        for o in waiting:
            for r in pairs[o] if o not in given else []:
                way = it.cheapest(o, r)
                if way is not None:
                    late_ms = policy.decline_penalty_ms * ((o, r) in declined)
                    late_ms += policy.stale_penalty_ms * it.r_stale[r]
                    cost[o, r], ways[o, r] = way[0] + late_ms * policy.door_weight, way[1]
                    least[o] = min(least[o], cost[o, r])
        chosen, points = (match if solver == MATCHING else greedily)(cost, dummy)
        matched = points if turn == 0 else matched
        if not chosen:
            break
        for o, r in chosen.items():
            given[o], paid[o], it.routes[r] = r, cost[o, r], ways[o, r]
    offers = {}
    for r in set(given.values()):
        theirs = {o for o in given if given[o] == r}
        _, _, leave_by = it.drive(r, it.routes[r])
        told = {
            o
            for o in theirs
            if leave_by[it.routes[r].index(it.o_first_stop[o])] <= now + policy.commit_ahead_ms
        }
        kept = [s for s in it.routes[r] if it.s_order[s] not in theirs - told]
        driven = it.drive(r, kept)
        for o in told if driven is not None else ():
            at = [act for act, s in zip(driven[1], kept, strict=True) if it.s_order[s] == o]
            offers[o] = PlannedOffer(
                order_id=it.o_id[o], order_version=it.o_version[o], rider_id=it.r_id[r],
                route=tuple(route_stop(it, s) for s in kept), pickup_ms=at[0], done_ms=at[-1],
                cost=paid[o], stale=it.r_stale[r],
            )  # fmt: skip
    waits = []
    for o in waiting:
        skilled = [r for r in there if it.skilled(o, r)]
        if o in offers:
            continue
        if o in given:
            reason = WaitReason.ON_PURPOSE
        elif not there:
            reason = WaitReason.NO_RIDER_ON_SHIFT
        elif not skilled:
            reason = WaitReason.NO_RIDER_WITH_SKILLS
        elif not any(it.r_open[r] for r in skilled):
            reason = WaitReason.RIDERS_TAKEN
        elif least[o] == NEVER:
            reason = WaitReason.NO_FEASIBLE_ROUTE
        else:
            reason = WaitReason.TOO_DEAR if least[o] >= dummy[o] else WaitReason.RIDERS_TAKEN
        waits.append(Wait(order_id=it.o_id[o], reason=reason))
    return Plan(
        at_ms=now, solver=solver, offers=tuple(offers[o] for o in sorted(offers)),
        waits=tuple(waits), matched=matched,
    )  # fmt: skip


def route_stop(it, s):
    o = it.s_order[s]
    return RouteStop(order_id=it.o_id[o], stop=s - it.o_first_stop[o] + it.o_first_index[o])


@dataclass
class Seen:
    """What the compared rounds had in them, so that the comparison means something."""

    rounds: int = 0
    reasons: Counter = None
    bundled: int = 0
    passes: int = 0


def same(snapshot, policy, seen=None, solver=MATCHING):
    plan, plain = decide(snapshot, policy, solver), reference(snapshot, policy, solver)
    assert plan == plain
    assert plan.digest() == plain.digest()
    if seen is not None:
        seen.rounds += 1
        seen.reasons.update(w.reason for w in plan.waits)
        seen.bundled += sum(len(o.route) > 2 for o in plan.offers)
        riders = [o.rider_id for o in plan.offers]
        seen.passes += len(riders) > len(set(riders))


WHOLE = {"cancel": 0.1, "fail": 0.1, "drop_out": 0.1, "withdraw": 0.1, "visits": 0.2,
         "skilled": 0.3, "windows": 0.2, "breaks": True}  # fmt: skip
CITIES = {
    "all that happens": (Policy(**TICK), WHOLE),
    "ends, few candidates": (Policy(**TICK, candidates=3, end_weight=200), WHOLE),
    "rules of bundles": (
        Policy(**TICK, one_merchant_a_bundle=True, bundles_in_sequence=True), {"riders": 4},
    ),
    "one rule": (Policy(**TICK, bundles_in_sequence=True), {"riders": 4}),
    "rides with a limit": (Policy(**TICK), {"riders": 3, "ride_max_ms": 900_000}),
    "long routes, two passes": (
        Policy(**TICK, route_stops_max=12, passes_max=2), {"riders": 3, "capacity": (9,)},
    ),
    "dear": (Policy(**TICK, unassigned_ms=1_500_000, stale_penalty_ms=60_000), {"decline": 0.3}),
}  # fmt: skip


@pytest.mark.parametrize("name", CITIES)
def test_rounds_of_a_city_are_decided_as_plainly(kit, name):
    policy, town = CITIES[name]
    seen = Seen(reasons=Counter())
    rounds = []
    kit.Toy(5, policy, orders=40, minutes=25, on_round=lambda s, p: rounds.append(s), **town).run()
    rounds.sort(key=lambda s: -int(s.orders.waiting.sum()))
    for i, snapshot in enumerate(rounds[:12] + rounds[12::9]):
        same(snapshot, policy, seen)
        if i % 4 == 0:
            same(snapshot, policy, None, GREEDY)
            law = TravelLaw(MANHATTAN, 1.0, 60_000)
            same(replace(snapshot, law=law), policy)
    assert seen.rounds > 15
    assert seen.bundled
    assert len(seen.reasons) > 1


@pytest.mark.parametrize("seed", range(6))
def test_where_many_cost_the_same(kit, seed):
    """Few places, equal riders, equal orders: which of the cheapest plans it is, is settled too."""
    rng = np.random.default_rng(seed)
    policy = Policy(passes_max=1 + seed % 4, candidates=6 + seed, door_weight=1 + seed)
    scene = kit.Scene(policy)
    spot = lambda: tuple(500.0 * rng.integers(0, 3, 2))  # noqa: E731
    for i in range(8):
        scene.rider(f"r{i}", *spot(), capacity=(3,))
    for i in range(14):
        scene.place(f"o{i}", spot(), spot(), pickup={"place_id": f"m{rng.integers(3)}"})
        if i < 4:
            scene.give(f"o{i}", f"r{rng.integers(8)}")
    seen = Seen(reasons=Counter())
    same(scene.snapshot(), policy, seen)
    same(scene.snapshot(), policy, None, GREEDY)
    assert seen.bundled


def test_a_ride_with_a_limit_may_get_too_long_by_beginning_earlier(kit, scene):
    """He shares the new order's short approach and picks up earlier, waits at the next stop as
    before, and ends the ride as before: it is longer, although nothing behind it has moved."""
    door = {"place_id": "m"}
    scene.rider("r", 0, 0)
    ready = {"earliest_ms": kit.T0 + 20 * kit.MINUTE}
    scene.place("waits", (500, 0), (3000, 0), pickup=ready)
    scene.place("long", (0, 0), (1000, 0), pickup=door | {"approach_ms": 200_000},
                ride_max_ms=20 * kit.MINUTE)  # fmt: skip
    route = [("long", 0), ("waits", 0), ("long", 1), ("waits", 1)]
    scene.give("waits", "r")
    scene.give("long", "r", route=route)
    scene.place("new", (0, 0), (480, 0), pickup=door | {"approach_ms": 0})
    same(scene.snapshot(), scene.policy)
    for extra_ms in range(-400_000, 400_000, 20_000):
        tight = scene.snapshot().orders.ride_max_ms.copy()
        tight[scene.dispatcher.columns.order_row["long"]] = 20 * kit.MINUTE + extra_ms
        snapshot = scene.snapshot()
        same(replace(snapshot, orders=replace(snapshot.orders, ride_max_ms=tight)), scene.policy)
