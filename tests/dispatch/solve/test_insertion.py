"""Exact insertion against brute force in plain Python, rule by rule."""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dispatch.policy import Policy
from dispatch.snapshot import DROPOFF, NEVER, PICKUP, VISIT, Orders, Riders, Snapshot, Stops
from dispatch.solve.board import INFEASIBLE
from dispatch.solve.routes import Routes
from dispatch.solve.terms import HINGES, Pairs, Scope, Terms
from geo.travel import EUCLID, MANHATTAN, TravelLaw

RULES = (
    "windows", "load", "shift", "ride_max", "same_door", "one_merchant", "in_sequence", "locked",
    "hinges", "end_value", "ride_weight", "wait_weight", "quantum", "metric", "room", "leave",
    "approach",
)  # fmt: skip


def coin(rng, share):
    return bool(rng.random() < share)


def any_instance(seed):
    """A small random snapshot, terms and policy; two riders, two waiting orders.

    Rows of orders and stops beyond those in use belong to nobody, as in a dispatcher's columns.
    """
    rng = np.random.default_rng(seed)
    quantum = int(rng.choice([1, 1000, 60_000]))
    law = TravelLaw(int(rng.choice([EUCLID, MANHATTAN])), float(rng.choice([1.0, 1.3])), quantum)
    kinds, owner, first, count = [], [], [], []
    routes = []
    aboard = []  # orders whose pickup is done
    for _ in range(2):
        route = []
        for _ in range(int(rng.integers(0, 3))):
            order, at = len(first), len(kinds)
            shape = int(rng.integers(3))
            first.append(at)
            if shape == 0:  # on board
                kinds += [DROPOFF]
                aboard.append(order)
            else:
                kinds += [PICKUP, DROPOFF] if shape == 1 else [VISIT]
            count.append(len(kinds) - at)
            owner += [order] * count[-1]
            places = sorted(rng.integers(0, len(route) + 1, count[-1]), reverse=True)
            for k, where in zip(reversed(range(count[-1])), places, strict=True):
                route.insert(int(where), at + k)
        routes.append(route)
    waiting = []
    for _ in range(2):
        waiting.append(len(first))
        first.append(len(kinds))
        new = [PICKUP, DROPOFF] if coin(rng, 0.8) else [VISIT]
        kinds += new
        count.append(len(new))
        owner += [waiting[-1]] * len(new)
    s, n = len(kinds), len(first)
    size = rng.integers(0, 3, (n, 3))
    load = np.zeros((s, 3), np.int32)
    for row, (kind, order) in enumerate(zip(kinds, owner, strict=True)):
        load[row] = {PICKUP: 1, DROPOFF: -1, VISIT: 0}[kind] * size[order]
    on_board = np.array(
        [[size[o] for o in aboard if first[o] in route] for route in routes], object
    )
    start = np.array([np.sum(x, axis=0) if len(x) else np.zeros(3) for x in on_board], np.int64)
    x, y = rng.integers(-3000, 3000, (2, s)).astype(float)
    door = rng.integers(-1, 2, s).astype(np.int32)
    for row in np.flatnonzero(door >= 0):  # one door is one place
        x[row], y[row] = 500.0 * door[row], -700.0
    earliest = np.where(rng.random(s) < 0.5, rng.integers(0, 1_500_000, s), 0)
    latest = np.where(rng.random(s) < 0.2, rng.integers(300_000, 4_000_000, s), NEVER)
    width = 8
    table = np.full((2, width), -1, np.int32)
    for row, route in enumerate(routes):
        table[row, : len(route)] = route
    length = np.array([len(r) for r in routes], np.int32)
    snapshot = Snapshot(
        at_ms=0,
        law=law,
        stops=Stops(
            x=x, y=y, earliest_ms=earliest.astype(np.int64),
            latest_ms=latest.astype(np.int64), load=load, place=door,
            approach_ms=rng.integers(0, 200_000, s), leave_ms=rng.integers(0, 200_000, s),
            kind=np.array(kinds, np.int8), order=np.array(owner, np.int32),
        ),
        orders=Orders(
            id=tuple(f"o{i}" for i in range(n)), version=np.zeros(n, np.int32),
            first_stop=np.array(first, np.int32), first_index=np.zeros(n, np.int8),
            stop_count=np.array(count, np.int8), placed_ms=np.zeros(n, np.int64),
            promise_ms=np.full(n, NEVER), skills=np.zeros(n, np.int64),
            ride_max_ms=np.where(rng.random(n) < 0.3, rng.integers(100_000, 1_500_000, n), NEVER),
            waiting=np.isin(np.arange(n), waiting),
        ),
        riders=Riders(
            id=("a", "b"), x=rng.integers(-3000, 3000, 2).astype(float),
            y=rng.integers(-3000, 3000, 2).astype(float),
            free_ms=rng.integers(0, 600_000, 2), speed_mps=rng.choice([3.0, 5.0, 7.7], 2),
            shift_end_ms=rng.choice([1_200_000, 3_000_000, NEVER], 2), load=start.astype(np.int32),
            capacity=np.maximum(start, rng.integers(1, 8, (2, 3))).astype(np.int32),
            skills=np.zeros(2, np.int64), route=table, route_len=length,
            locked=np.minimum(length, rng.integers(0, 3, 2)).astype(np.int32),
            open=np.ones(2, np.bool_),
            on_shift=np.ones(2, np.bool_),
            stale=np.zeros(2, np.bool_),
        ),
        declined=np.empty((0, 2), np.int32),
        recent=np.empty((0, 2)),
    )  # fmt: skip
    snapshot.check()
    terms = Terms(
        Scope.whole(snapshot),
        rng.integers(0, 2_000_000, (s, HINGES)),
        rng.integers(0, 4000, (s, HINGES)) * (rng.random((s, HINGES)) < 0.6),
        rng.integers(0, 500_000_000, s) * coin(rng, 0.5),
    )
    policy = Policy(
        ride_weight=int(rng.choice([0, 300])), wait_weight=int(rng.choice([0, 100])),
        route_stops_max=int(rng.integers(3, 9)), one_merchant_a_bundle=coin(rng, 0.3),
        bundles_in_sequence=coin(rng, 0.3),
    )  # fmt: skip
    order, rider = np.repeat(waiting, 2).astype(np.int32), np.array([0, 1] * 2, np.int32)
    pairs = Pairs(order, rider, rng.integers(0, 10_000, 4), rng.random(4) < 0.1)
    return SimpleNamespace(snapshot=snapshot, terms=terms, policy=policy, pairs=pairs)


def by_hand(it, rider, route, without=()):  # noqa: C901 - a list of rules
    """(points, moments) of driving `route`, or (None, None) where a rule forbids it.

    `without` names rules to leave out, which shows that the instances exercise them.
    """
    st, od, rd, pol = it.snapshot.stops, it.snapshot.orders, it.snapshot.riders, it.policy
    law = it.snapshot.law
    ms_per_m = 1000.0 * law.detour / float(rd.speed_mps[rider])
    x, y, now = float(rd.x[rider]), float(rd.y[rider]), int(rd.free_ms[rider])
    load = [int(v) for v in rd.load[rider]]
    carried = {int(st.order[s]) for s in route if st.kind[s] == DROPOFF} - {
        int(st.order[s]) for s in route if st.kind[s] == PICKUP
    }
    delivering = bool(carried)
    points, moments, picked, last = 0, [], {}, None
    for s in map(int, route):
        kind, order = int(st.kind[s]), int(st.order[s])
        same = (
            last is not None
            and "same_door" not in without
            and st.place[s] != -1
            and st.place[s] == st.place[last]
            and kind == st.kind[last]
        )
        if same:
            ready = moments[-1]
        else:
            dx, dy = abs(float(st.x[s]) - x), abs(float(st.y[s]) - y)
            straight = law.metric == EUCLID or "metric" in without
            metres = math.hypot(dx, dy) if straight else dx + dy
            quantum = 1 if "quantum" in without else law.quantum_ms
            ride = math.ceil(round(metres * ms_per_m / quantum, 9)) * quantum
            ready = now + ride + ("approach" not in without) * int(st.approach_ms[s])
            points += ride * pol.ride_weight * ("ride_weight" not in without)
        act = max(ready, int(st.earliest_ms[s]))
        points += (act - ready) * pol.wait_weight * ("wait_weight" not in without)
        if act > st.latest_ms[s] and "windows" not in without:
            return None, None
        if kind == DROPOFF:
            rode = act - picked.get(order, act)
            if rode > od.ride_max_ms[order] and "ride_max" not in without:
                return None, None
            carried.discard(order)
            delivering = True
        else:
            if act > rd.shift_end_ms[rider] and "shift" not in without:
                return None, None
        if kind == PICKUP:
            if not carried:
                delivering = False
            elif (pol.bundles_in_sequence and delivering and "in_sequence" not in without) or (
                pol.one_merchant_a_bundle and not same and "one_merchant" not in without
            ):
                return None, None
            carried.add(order)
            picked[order] = act
        load = [a + int(b) for a, b in zip(load, st.load[s], strict=True)]
        over = any(a > b for a, b in zip(load, rd.capacity[rider], strict=True))
        if over and "load" not in without:
            return None, None
        if "hinges" not in without:
            for due, slope in zip(it.terms.due_ms[s], it.terms.slope[s], strict=True):
                points += max(0, act - int(due)) * int(slope)
        moments.append(act)
        x, y = float(st.x[s]), float(st.y[s])
        now, last = act + ("leave" not in without) * int(st.leave_ms[s]), s
    if last is not None and "end_value" not in without:
        points += int(it.terms.end_value[last])
    return points, moments


def with_order(it, rider, order, i, j):
    """The rider's route with the order's first stop before old stop i, its last before old j."""
    rd, od = it.snapshot.riders, it.snapshot.orders
    route = rd.route[rider, : rd.route_len[rider]].tolist()
    a, two = int(od.first_stop[order]), od.stop_count[order] == 2
    new = route[:i] + [a] + ([*route[i:j], a + 1, *route[j:]] if two else route[i:])
    return new, two


def cheapest(it, rider, order, without=()):
    """(added points, i, j), the first in order of positions among equals; None without a way."""
    rd = it.snapshot.riders
    n = int(rd.route_len[rider])
    base, _ = by_hand(it, rider, rd.route[rider, :n], without)
    best = None
    if base is None:
        return None
    for i in range(0 if "locked" in without else int(rd.locked[rider]), n + 1):
        for j in range(i, n + 1):
            route, two = with_order(it, rider, order, i, j)
            if not two and j != i:
                continue
            if len(route) > it.policy.route_stops_max and "room" not in without:
                continue
            points, _ = by_hand(it, rider, route, without)
            if points is not None and (best is None or points - base < best[0]):
                best = (points - base, i, j)
    return best


INSTANCES = 500


@pytest.fixture(scope="module")
def solved():
    """Every instance with what the kernel says of its pairs."""
    found = []
    for seed in range(INSTANCES):
        it = any_instance(seed)
        routes = Routes.of(it.snapshot, it.terms, it.policy)
        cost, positions = routes.insertions(it.pairs)
        found.append((it, routes, cost, positions))
    return found


def rows(it):
    return enumerate(zip(it.pairs.order.tolist(), it.pairs.rider.tolist(), strict=True))


def test_the_cheapest_insertion_is_that_of_brute_force(solved):
    ways = nowhere = 0
    for seed, (it, _, cost, positions) in enumerate(solved):
        for p, (order, rider) in rows(it):
            best = None if it.pairs.forbidden[p] else cheapest(it, rider, order)
            if best is None:
                assert cost[p] == INFEASIBLE, (seed, p)
                nowhere += 1
                continue
            assert cost[p] == best[0] + it.pairs.extra[p], (seed, p)
            assert tuple(positions[p]) == best[1:], (seed, p)
            ways += 1
    assert min(ways, nowhere) > INSTANCES / 2, "both outcomes are common"


@pytest.mark.parametrize("rule", RULES)
def test_the_instances_exercise_every_rule(solved, rule):
    """Without the rule, brute force says something else at least here and there."""
    other = 0
    for it, _, _, _ in solved[:300]:
        for _, (order, rider) in rows(it):
            other += cheapest(it, rider, order) != cheapest(it, rider, order, without=(rule,))
    assert other >= 3


def test_the_positions_reproduce_the_cost_and_the_moments(solved):
    for it, routes, cost, positions in solved:
        riders = it.snapshot.riders
        for p, (order, rider) in rows(it):
            if cost[p] == INFEASIBLE:
                continue
            i, j = positions[p].tolist()
            assert riders.locked[rider] <= i <= j <= riders.route_len[rider]
            route, _ = with_order(it, rider, order, i, j)
            points, act_ms, leave_by_ms = routes.drive(rider, np.array(route, np.int32))
            base, _, _ = routes.drive(rider)
            assert points - base + it.pairs.extra[p] == cost[p]
            hand, moments = by_hand(it, rider, route)
            assert (points, act_ms.tolist()) == (hand, moments)
            assert (leave_by_ms <= act_ms).all()


def test_limits_may_be_met_to_the_millisecond(solved):
    """A window, a shift or a ride that ends just then is kept; a millisecond less is not."""
    tried = Counter()
    for it, routes, _, _ in solved[:200]:
        snap = it.snapshot
        for rider in (0, 1):
            n = int(snap.riders.route_len[rider])
            points, act_ms, _ = routes.drive(rider)
            if points == INFEASIBLE or not n:
                continue
            route = snap.riders.route[rider, :n]
            last = int(route[-1])
            order = int(snap.stops.order[last])
            limits = [("stops", "latest_ms", last, int(act_ms[-1]))]
            starts = [k for k in range(n) if snap.stops.kind[route[k]] != DROPOFF]
            if starts:
                limits.append(("riders", "shift_end_ms", rider, int(act_ms[starts[-1]])))
            if snap.orders.stop_count[order] == 2 and last != snap.orders.first_stop[order]:
                start = int(np.flatnonzero(route == snap.orders.first_stop[order])[0])
                limits.append(("orders", "ride_max_ms", order, int(act_ms[-1] - act_ms[start])))
            for table, column, row, value in limits:
                for less in (0, 1):
                    changed = getattr(getattr(snap, table), column).copy()
                    changed[row] = value - less
                    part = replace(getattr(snap, table), **{column: changed})
                    tight = Routes.of(replace(snap, **{table: part}), it.terms, it.policy)
                    assert (tight.drive(rider)[0] == points) == (less == 0), (table, column)
                tried[column] += 1
    assert min(tried.values()) > 10
    assert len(tried) == 3


def test_put_makes_the_route_that_was_priced(solved):
    for it, _, cost, positions in solved[:200]:
        routes = Routes.of(it.snapshot, it.terms, it.policy)
        for p, (order, rider) in rows(it):
            if cost[p] == INFEASIBLE or routes.length[rider] != it.snapshot.riders.route_len[rider]:
                continue
            i, j = positions[p].tolist()
            expected, _ = with_order(it, rider, order, i, j)
            routes.put(it.pairs, np.array([p]))
            assert routes.stops[rider, : routes.length[rider]].tolist() == expected
        assert it.snapshot.riders.route_len.max() <= routes.stops.shape[1]


def test_leaving_at_the_last_moment_loses_nothing(solved):
    """A rider who leaves for a first stop at `leave_by_ms` acts there as early as one at once."""
    tried = 0
    for it, routes, _, _ in solved:
        for rider in (0, 1):
            points, act_ms, leave_by_ms = routes.drive(rider)
            free = int(it.snapshot.riders.free_ms[rider])
            if points >= INFEASIBLE or not len(act_ms) or leave_by_ms[0] <= free:
                continue
            moved = [it.snapshot.riders.free_ms.copy() for _ in range(2)]
            moved[0][rider], moved[1][rider] = leave_by_ms[0], leave_by_ms[0] + 60_001
            for n, free_ms in enumerate(moved):
                later = replace(it.snapshot, riders=replace(it.snapshot.riders, free_ms=free_ms))
                again = Routes.of(later, it.terms, replace(it.policy, wait_weight=0)).drive(rider)
                assert (again[1][0] == act_ms[0]) == (n == 0)
            tried += 1
    assert tried > 50


def test_a_route_that_already_breaks_a_rule_takes_nothing(solved):
    broken = 0
    for it, routes, cost, _ in solved:
        for p, (_, rider) in rows(it):
            if routes.drive(rider)[0] == INFEASIBLE:
                assert cost[p] == INFEASIBLE
                broken += 1
    assert broken


def test_no_stops_at_all():
    it = any_instance(1)
    none = {
        name: getattr(it.snapshot.stops, name)[:0]
        for name in it.snapshot.stops.__dataclass_fields__
    }
    orders = {
        name: getattr(it.snapshot.orders, name)[:0]
        for name in it.snapshot.orders.__dataclass_fields__
    }
    riders = replace(
        it.snapshot.riders, route=np.full((2, 8), -1, np.int32), route_len=np.zeros(2, np.int32),
        locked=np.zeros(2, np.int32),
    )  # fmt: skip
    empty = replace(it.snapshot, stops=Stops(**none), orders=Orders(**orders), riders=riders)
    routes = Routes.of(empty, Terms.blank(empty), it.policy)
    assert routes.drive(0)[0] == 0
    cost, positions = routes.insertions(Pairs.of(np.empty(0, np.int32), np.empty(0, np.int32)))
    assert (cost.shape, positions.shape) == ((0,), (0, 2))
