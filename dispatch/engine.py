"""One round: `decide(snapshot, policy) -> Plan`, a pure function; imports solve and features.

Features fill columns, candidates pair orders with riders, exact insertion prices each pair, a
matching chooses; what is left over is tried again on the routes as they have become. An order whose
rider need not leave yet is left waiting on purpose: a later round may know better.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dispatch.features import declines, ends, freshness, promptness, staleness
from dispatch.model import RouteStop
from dispatch.plan import Plan, PlannedOffer, Wait, WaitReason
from dispatch.policy import Policy
from dispatch.snapshot import B1, I4, Snapshot
from dispatch.solve.candidates import eligible_riders, nearest_pairs
from dispatch.solve.insertion import INFEASIBLE, Routes
from dispatch.solve.matching import match, match_greedily
from dispatch.solve.terms import Pairs, Terms, waiting_cost

_TERM_FEATURES = (promptness, freshness, ends)
_PAIR_FEATURES = (declines, staleness)
MATCHING, GREEDY, NONE = "matching", "greedy", "none"
GREEDY_CANDIDATES = 8


def decide(snapshot: Snapshot, policy: Policy, solver: str = MATCHING) -> Plan:
    """The offers of this round and the reason of every order left waiting.

    `solver` is MATCHING, or GREEDY for a process that cannot wait: one pass over few candidates.
    Raises BrokenSnapshot, naming the row, for a snapshot that breaks its own rules.
    """
    if solver == GREEDY:
        few = min(policy.candidates, GREEDY_CANDIDATES)
        policy = replace(policy, candidates=few, passes_max=1)
    snapshot.check()
    terms = Terms.blank(snapshot)
    for feature in _TERM_FEATURES:
        feature.fill(terms, snapshot, policy)
    routes = Routes.of(snapshot, terms, policy)
    riders = eligible_riders(snapshot, policy.route_stops_max)
    waiting = np.flatnonzero(snapshot.orders.waiting).astype(np.int32)
    dummy = waiting_cost(snapshot, policy)
    pairs = nearest_pairs(snapshot, waiting, riders, policy.candidates)
    for fill in _PAIR_FEATURES:
        fill.fill(pairs, snapshot, policy)

    given: dict[int, tuple[int, int]] = {}  # order row -> rider row, points
    feasible = np.zeros(len(snapshot.orders.id), np.bool_)
    worth = np.zeros(len(snapshot.orders.id), np.bool_)
    matched = 0
    for turn in range(policy.passes_max):
        cost, positions = routes.insertions(pairs)
        feasible[pairs.order[cost < INFEASIBLE]] = True
        worth[pairs.order[cost < dummy[pairs.order]]] = True
        choose = match if solver == MATCHING else match_greedily
        chosen, points = choose(pairs, cost, dummy)
        matched = points if turn == 0 else matched
        for p in chosen.tolist():
            order, rider = int(pairs.order[p]), int(pairs.rider[p])
            routes.put(order, rider, int(positions[p, 0]), int(positions[p, 1]))
            given[order] = (rider, int(cost[p]))
        left = ~np.isin(pairs.order, np.array(list(given), np.int32))
        if not len(chosen) or not left.any():
            break
        pairs = Pairs(*(column[left] for column in _columns(pairs)))

    offers = _offers(snapshot, policy, routes, given)
    offered = {o.order_id for o in offers}
    waits = _waits(snapshot, waiting, given, feasible, worth, offered)
    return Plan(
        at_ms=snapshot.at_ms,
        solver=solver,
        offers=offers,
        waits=waits,
        matched=matched,
    )


def no_plan(snapshot: Snapshot) -> Plan:
    """Everybody waits: what stands in for a plan that could not be made."""
    waiting = np.flatnonzero(snapshot.orders.waiting)
    waits = tuple(Wait(order_id=snapshot.orders.id[o], reason=WaitReason.NO_PLAN) for o in waiting)
    return Plan(at_ms=snapshot.at_ms, solver=NONE, offers=(), waits=waits)


def _columns(pairs: Pairs) -> tuple[np.ndarray, ...]:
    return pairs.order, pairs.rider, pairs.extra, pairs.forbidden


def _offers(
    snapshot: Snapshot, policy: Policy, routes: Routes, given: dict[int, tuple[int, int]]
) -> tuple[PlannedOffer, ...]:
    """What must be offered now, on routes without what can still wait."""
    orders, stops = snapshot.orders, snapshot.stops
    horizon = snapshot.at_ms + policy.commit_ahead_ms
    by_rider: dict[int, list[int]] = {}
    for order, (rider, _) in given.items():
        by_rider.setdefault(rider, []).append(order)
    offers: dict[int, PlannedOffer] = {}
    for rider, theirs in by_rider.items():
        route = routes.stops[rider, : routes.length[rider]]
        _, _, leave_by = routes.drive(rider)
        now = {o for o in theirs if leave_by[_first(route, int(orders.first_stop[o]))] <= horizon}
        kept = _without(route, stops.order, set(theirs) - now)
        points, act, _ = routes.drive(rider, kept)
        if not now or points >= INFEASIBLE:
            continue
        told = tuple(_route_stop(snapshot, int(s)) for s in kept)
        for order in now:
            at = [int(act[k]) for k in range(len(kept)) if stops.order[kept[k]] == order]
            offers[order] = PlannedOffer(
                order_id=orders.id[order],
                order_version=int(orders.version[order]),
                rider_id=snapshot.riders.id[rider],
                route=told,
                pickup_ms=at[0],
                done_ms=at[-1],
                cost=given[order][1],
                stale=bool(snapshot.riders.stale[rider]),
            )
    return tuple(offers[o] for o in sorted(offers))


def _first(route: I4, stop: int) -> int:
    return int(np.flatnonzero(route == stop)[0])


def _without(route: I4, order_of: I4, dropped: set[int]) -> I4:
    return np.array([s for s in route if int(order_of[s]) not in dropped], np.int32)


def _route_stop(snapshot: Snapshot, stop: int) -> RouteStop:
    orders = snapshot.orders
    order = int(snapshot.stops.order[stop])
    index = stop - int(orders.first_stop[order]) + int(orders.first_index[order])
    return RouteStop(order_id=orders.id[order], stop=index)


def _waits(
    snapshot: Snapshot,
    waiting: I4,
    given: dict[int, tuple[int, int]],
    feasible: B1,
    worth: B1,
    offered: set[str],
) -> tuple[Wait, ...]:
    columns = snapshot.riders
    present = columns.on_shift & (columns.shift_end_ms > snapshot.at_ms)
    riders = np.flatnonzero(present).astype(np.int32)
    some_able = _any_skilled(snapshot, waiting, riders)
    some_free = _any_skilled(snapshot, waiting, riders[columns.open[riders]])
    waits = []
    for row, order in enumerate(waiting.tolist()):
        if snapshot.orders.id[order] in offered:
            continue
        if order in given:
            reason = WaitReason.ON_PURPOSE
        elif not len(riders):
            reason = WaitReason.NO_RIDER_ON_SHIFT
        elif not some_able[row]:
            reason = WaitReason.NO_RIDER_WITH_SKILLS
        elif not some_free[row]:
            reason = WaitReason.RIDERS_TAKEN
        elif not feasible[order]:
            reason = WaitReason.NO_FEASIBLE_ROUTE
        elif not worth[order]:
            reason = WaitReason.TOO_DEAR
        else:
            reason = WaitReason.RIDERS_TAKEN
        waits.append(Wait(order_id=snapshot.orders.id[order], reason=reason))
    return tuple(waits)


def _any_skilled(snapshot: Snapshot, orders: I4, riders: I4) -> list[bool]:
    """Of each order: one of the riders has its skills."""
    if not len(riders):
        return [False] * len(orders)
    able = skilled(snapshot, orders, riders)
    return [True] * len(orders) if able is None else [bool(a.any()) for a in able]


def skilled(snapshot: Snapshot, orders: I4, riders: I4) -> B1 | None:
    need, have = snapshot.orders.skills[orders], snapshot.riders.skills[riders]
    if not (need & ~np.bitwise_and.reduce(have)).any():
        return None
    able: B1 = (have[None, :] & need[:, None]) == need[:, None]
    return able
