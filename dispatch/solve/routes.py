"""The riders' routes while a round puts orders into them; may import numpy and geo's compiler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import B1, F8, I1, I4, I8, Snapshot
from dispatch.solve.board import INFEASIBLE, LOAD, ORDER, Board
from dispatch.solve.driving import ACT, DRIVEN, LEAVE_BY, drive
from dispatch.solve.insertion import price
from dispatch.solve.terms import Pairs, Terms
from geo.compiled import compiled


@dataclass(slots=True, eq=False)
class Routes:
    """`stops` (r, m) and `length` (r,) change as orders are put in; `given_to` (n,) is the rider
    whom an order was put to, -1 for none, `paid` (n,) the points that it cost, and `least` (n,) the
    fewest that it ever would have. Rows outside the terms' scope must not be asked for."""

    snapshot: Snapshot
    board: Board
    stops: I4
    length: I4
    given_to: I4
    paid: I8
    least: I8
    _changed: B1

    @classmethod
    def of(cls, snapshot: Snapshot, terms: Terms, policy: Policy) -> Routes:
        riders, n = snapshot.riders, len(snapshot.orders.id)
        width = max(policy.route_stops_max, riders.route.shape[1])
        routes = np.full((len(riders.x), width), -1, np.int32)
        routes[:, : riders.route.shape[1]] = riders.route
        return cls(
            snapshot,
            Board.of(snapshot, terms, policy),
            routes,
            riders.route_len.copy(),
            np.full(n, -1, np.int32),
            np.zeros(n, np.int64),
            np.full(n, INFEASIBLE, np.int64),
            np.ones(len(riders.x), np.bool_),
        )

    def drive(self, rider: int, route: I4 | None = None) -> tuple[int, I8, I8]:
        """Points of the rider's route (or another one for him), the moments at which he acts at
        its stops, and the latest moments to leave for them without losing time there."""
        if route is None:
            route = self.stops[rider, : self.length[rider]]
        board = self.board
        driven = np.empty((len(route), DRIVEN + board.stops.shape[1] - LOAD), np.int64)
        points = drive(
            np.ascontiguousarray(route, np.int32), len(route), board.starts[rider],
            board.riders[rider], board.stops, board.places, board.rules, driven,
        )  # fmt: skip
        return points, driven[:, ACT].copy(), driven[:, LEAVE_BY].copy()

    def insertions(self, pairs: Pairs) -> tuple[I8, I4]:
        """Prices the pairs whose rider's route has changed since the last call, at first all.

        Gives the pairs' columns `cost`, added points with `extra`, INFEASIBLE where there is no
        way, the pair is forbidden or the order is given; and `positions`.
        """
        orders, board = self.snapshot.orders, self.board
        price(
            pairs.order, pairs.rider, pairs.extra, pairs.forbidden, pairs.cost, pairs.positions,
            self._changed, self.given_to, orders.first_stop, orders.stop_count, self.stops,
            self.length, self.snapshot.riders.locked, board.starts, board.riders, board.stops,
            board.places, board.rules, self.least,
        )  # fmt: skip
        return pairs.cost, pairs.positions

    def put(self, pairs: Pairs, chosen: I8) -> None:
        """Gives the chosen pairs' orders to their riders, at the positions that were priced."""
        orders = self.snapshot.orders
        _put(
            chosen, pairs.order, pairs.rider, pairs.cost, pairs.positions, orders.first_stop,
            orders.stop_count, self.stops, self.length, self.given_to, self.paid, self._changed,
        )  # fmt: skip

    def due(self, riders: I4, horizon_ms: int) -> Due:
        """What of the orders given to `riders` has to be left for by `horizon_ms`."""
        g, n = len(riders), len(self.given_to)
        due = Due(
            np.empty((g, self.stops.shape[1]), np.int32), np.zeros(g, np.int32),
            np.zeros(n, np.bool_), np.empty(n, np.int64), np.empty(n, np.int64),
        )  # fmt: skip
        board = self.board
        _due(
            riders, horizon_ms, self.snapshot.orders.first_stop, self.stops, self.length,
            self.given_to, board.starts, board.riders, board.stops, board.places, board.rules,
            due.routes, due.length, due.offered, due.first_ms, due.last_ms,
        )  # fmt: skip
        return due


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """Routes (g, m) of riders without what can still wait, as long as `length` says, 0 for who is
    told nothing; and by order row whether it is `offered`, and when its first and last stop are
    acted at."""

    routes: I4
    length: I4
    offered: B1
    first_ms: I8
    last_ms: I8


@compiled(
    "void(int64[::1], int32[::1], int32[::1], int64[::1], int32[:, ::1],"
    " Array(int32, 1, 'C', True), Array(int8, 1, 'C', True), int32[:, ::1], int32[::1],"
    " int32[::1], int64[::1], boolean[::1])"
)
def _put(
    chosen: I8,
    pair_order: I4,
    pair_rider: I4,
    cost: I8,
    positions: I4,
    first_stop: I4,
    stop_count: I1,
    routes: I4,
    route_len: I4,
    given_to: I4,
    paid: I8,
    changed: B1,
) -> None:
    for p in chosen:
        o, r = pair_order[p], pair_rider[p]
        route, new = routes[r], first_stop[o]
        last = 1 if stop_count[o] == 2 else 0
        # From the end on, so that nothing is overwritten.
        for k in range(route_len[r], -1, -1):
            if k < route_len[r]:
                route[k + (k >= positions[p, 0]) + (last and k >= positions[p, 1])] = route[k]
            if last and k == positions[p, 1]:
                route[k + 1] = new + 1
            if k == positions[p, 0]:
                route[k] = new
                break
        route_len[r] += 1 + last
        given_to[o], paid[o] = r, cost[p]
        changed[r] = True


@compiled(
    "void(int32[::1], int64, Array(int32, 1, 'C', True), int32[:, ::1], int32[::1], int32[::1],"
    " float64[:, ::1], int64[:, ::1], int64[:, ::1], float64[:, ::1], int64[::1],"
    " int32[:, ::1], int32[::1], boolean[::1], int64[::1], int64[::1])"
)
def _due(
    riders: I4,
    horizon_ms: int,
    first_stop: I4,
    routes: I4,
    route_len: I4,
    given_to: I4,
    starts: F8,
    facts: I8,
    stops: I8,
    places: F8,
    rules: I8,
    kept: I4,
    kept_len: I4,
    offered: B1,
    first_ms: I8,
    last_ms: I8,
) -> None:
    driven = np.empty((routes.shape[1], DRIVEN + stops.shape[1] - LOAD), np.int64)
    for g in range(riders.size):
        r = riders[g]
        drive(routes[r], int(route_len[r]), starts[r], facts[r], stops, places, rules, driven)
        now = 0
        for k in range(route_len[r]):
            s = routes[r, k]
            o = stops[s, ORDER]
            if given_to[o] == r and s == first_stop[o] and driven[k, LEAVE_BY] <= horizon_ms:
                offered[o] = True
                now += 1
        size = 0
        for k in range(route_len[r]):
            o = stops[routes[r, k], ORDER]
            if given_to[o] != r or offered[o]:
                kept[g, size] = routes[r, k]
                size += 1
        points = drive(kept[g], size, starts[r], facts[r], stops, places, rules, driven)
        good = now > 0 and points < INFEASIBLE
        if good:
            kept_len[g] = size
        for k in range(size):
            s = kept[g, k]
            o = stops[s, ORDER]
            if given_to[o] == r:
                offered[o] = good
                if s == first_stop[o]:
                    first_ms[o] = driven[k, ACT]
                last_ms[o] = driven[k, ACT]
