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
from dispatch.snapshot import I4, I8, Snapshot
from dispatch.solve.candidates import eligible_riders, nearest_pairs
from dispatch.solve.matching import match, match_greedily
from dispatch.solve.reasons import REASONS, reasons_of
from dispatch.solve.routes import Due, Routes
from dispatch.solve.soundness import is_sound
from dispatch.solve.terms import Scope, Terms, waiting_cost

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
    if not is_sound(snapshot):
        snapshot.check()
    waiting = np.flatnonzero(snapshot.orders.waiting).astype(np.int32)
    riders = eligible_riders(snapshot, policy.route_stops_max)
    pairs = nearest_pairs(snapshot, waiting, riders, policy.candidates)
    for fill in _PAIR_FEATURES:
        fill.fill(pairs, snapshot, policy)
    terms = Terms.blank(snapshot, Scope.of(snapshot, waiting, pairs.rider))
    for feature in _TERM_FEATURES:
        feature.fill(terms, snapshot, policy)
    routes = Routes.of(snapshot, terms, policy)
    dummy = waiting_cost(snapshot, policy)

    matched = 0
    for turn in range(policy.passes_max):
        cost, _ = routes.insertions(pairs)
        choose = match if solver == MATCHING else match_greedily
        chosen, points = choose(pairs, cost, dummy)
        matched = points if turn == 0 else matched
        if not len(chosen):
            break
        routes.put(pairs, chosen)

    given = np.unique(routes.given_to[waiting])
    given = given[given >= 0]
    due = routes.due(given, snapshot.at_ms + policy.commit_ahead_ms)
    return Plan(
        at_ms=snapshot.at_ms,
        solver=solver,
        offers=_offers(snapshot, waiting[due.offered[waiting]], given, due, routes),
        waits=_waits(snapshot, waiting[~due.offered[waiting]], routes, dummy),
        matched=matched,
    )


def no_plan(snapshot: Snapshot) -> Plan:
    """Everybody waits: what stands in for a plan that could not be made."""
    waiting = np.flatnonzero(snapshot.orders.waiting)
    waits = tuple(Wait(order_id=snapshot.orders.id[o], reason=WaitReason.NO_PLAN) for o in waiting)
    return Plan(at_ms=snapshot.at_ms, solver=NONE, offers=(), waits=waits)


def _offers(
    snapshot: Snapshot, offered: I4, given: I4, due: Due, routes: Routes
) -> tuple[PlannedOffer, ...]:
    """The offers of orders (rows), each with its rider's route as it is told him."""
    orders, riders = snapshot.orders, snapshot.riders
    told: dict[int, tuple[RouteStop, ...]] = {}
    for g in np.flatnonzero(due.length).tolist():
        route = due.routes[g, : due.length[g]]
        whose = snapshot.stops.order[route]
        index = route - orders.first_stop[whose] + orders.first_index[whose]
        told[int(given[g])] = tuple(
            RouteStop(order_id=orders.id[order], stop=stop)
            for order, stop in zip(whose.tolist(), index.tolist(), strict=True)
        )
    offers = []
    for order in offered.tolist():
        rider = int(routes.given_to[order])
        offers.append(
            PlannedOffer(
                order_id=orders.id[order],
                order_version=int(orders.version[order]),
                rider_id=riders.id[rider],
                route=told[rider],
                pickup_ms=int(due.first_ms[order]),
                done_ms=int(due.last_ms[order]),
                cost=int(routes.paid[order]),
                stale=bool(riders.stale[rider]),
            )
        )
    return tuple(offers)


def _waits(snapshot: Snapshot, left: I4, routes: Routes, dummy: I8) -> tuple[Wait, ...]:
    reasons = reasons_of(snapshot, left, routes, dummy)
    return tuple(
        Wait(order_id=snapshot.orders.id[order], reason=REASONS[reason])
        for order, reason in zip(left.tolist(), reasons.tolist(), strict=True)
    )
