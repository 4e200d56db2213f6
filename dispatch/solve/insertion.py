"""Exact insertion of an order into a live route, compiled; may import numpy and geo's compiler.

A route is driven stop by stop: ride, approach, act at the earliest allowed moment, leave. Stops of
one kind in a row at one door share the approach. The cheapest way to put an order's one or two
stops into a route is found by trying every pair of positions after the locked stops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import F8, I4, I8, NEVER, Snapshot
from dispatch.solve.terms import Pairs, Terms
from geo.arcs import arc_ms
from geo.compiled import compiled

# Columns of the packed stop facts.
EARLIEST, LATEST, APPROACH, LEAVE, PLACE, KIND, ORDER = range(7)
_PICKUP, _DROPOFF = 0, 1
# Columns of the packed rules.
METRIC, QUANTUM, RIDE_WEIGHT, WAIT_WEIGHT, ONE_MERCHANT, IN_SEQUENCE, ROUTE_MAX = range(7)

INFEASIBLE = NEVER


@compiled(
    "int64(int32[::1], int64, float64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " float64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1],"
    " int64[::1], int64[::1], int64, int64[::1], int64[::1])"
)
def drive(  # noqa: C901 - one rule of the closed list a branch
    route: I4,
    length: int,
    where: F8,
    when: I8,
    on_board: I8,
    capacity: I8,
    load: I8,
    places: F8,
    facts: I8,
    loads: I8,
    due_ms: I8,
    slope: I8,
    end_value: I8,
    ride_max_ms: I8,
    rules: I8,
    bound: int,
    act_ms: I8,
    leave_by_ms: I8,
) -> int:
    """Points of driving the first `length` stops of `route`, or INFEASIBLE.

    `where` is x, y, ms per metre; `when` is free_ms, shift_end_ms, orders on board at the start;
    `load` is scratch. Stops early once the points reach `bound`. Writes when each stop is acted
    at, and the latest moment to leave for it without losing time there.
    """
    dims = on_board.shape[0]
    for d in range(dims):
        load[d] = on_board[d]
    x, y, ms_per_m = where[0], where[1], where[2]
    now, shift_end, carried = when[0], when[1], when[2]
    points = 0
    previous = -1
    handing_over = carried > 0
    for k in range(length):
        s = route[k]
        kind = facts[s, KIND]
        same_door = (
            previous >= 0
            and facts[previous, KIND] == kind
            and facts[previous, PLACE] == facts[s, PLACE]
            and facts[s, PLACE] >= 0
        )
        if same_door:
            ready = act_ms[k - 1]
            act = max(ready, facts[s, EARLIEST])
            leave_by_ms[k] = leave_by_ms[k - 1]
        else:
            ride = arc_ms(x, y, places[s, 0], places[s, 1], rules[METRIC], ms_per_m, rules[QUANTUM])
            ready = now + ride + facts[s, APPROACH]
            act = max(ready, facts[s, EARLIEST])
            leave_by_ms[k] = act - facts[s, APPROACH] - ride
            points += ride * rules[RIDE_WEIGHT]
        points += (act - ready) * rules[WAIT_WEIGHT]
        act_ms[k] = act
        if act > facts[s, LATEST]:
            return INFEASIBLE
        if kind == _DROPOFF:
            handing_over = True
            carried -= 1
        else:
            if act > shift_end:
                return INFEASIBLE
            if kind == _PICKUP:
                if carried == 0:
                    handing_over = False
                elif (rules[IN_SEQUENCE] and handing_over) or (
                    rules[ONE_MERCHANT] and not same_door
                ):
                    return INFEASIBLE
                carried += 1
        for d in range(dims):
            load[d] += loads[s, d]
            if load[d] > capacity[d]:
                return INFEASIBLE
        for h in range(due_ms.shape[1]):
            late = act - due_ms[s, h]
            if late > 0:
                points += late * slope[s, h]
        if kind == _DROPOFF and ride_max_ms[facts[s, ORDER]] < INFEASIBLE:
            for j in range(k):
                if facts[route[j], ORDER] == facts[s, ORDER]:
                    ride_ms = act - act_ms[j]
                    if ride_ms > ride_max_ms[facts[s, ORDER]]:
                        return INFEASIBLE
        if points >= bound:
            return INFEASIBLE
        x, y = places[s, 0], places[s, 1]
        now = act + facts[s, LEAVE]
        previous = s
    if length > 0:
        points += end_value[route[length - 1]]
    return points


@compiled(
    "void(int32[::1], int32[::1], int64[::1], int64[::1], int32[:, ::1], int32[::1], int32[::1],"
    " float64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1],"
    " float64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[::1],"
    " int64[::1], int64[::1], int64[:, ::1])"
)
def _insert_all(
    pair_order: I4,
    pair_rider: I4,
    first_stop: I8,
    stop_count: I8,
    routes: I4,
    route_len: I4,
    locked: I4,
    where: F8,
    when: I8,
    on_board: I8,
    capacity: I8,
    base: I8,
    places: F8,
    facts: I8,
    loads: I8,
    due_ms: I8,
    slope: I8,
    end_value: I8,
    ride_max_ms: I8,
    rules: I8,
    out: I8,
) -> None:
    """For each pair: out[p] = added points, first position, last position."""
    widest = routes.shape[1] + 2
    trial = np.empty(widest, np.int32)
    act_ms = np.empty(widest, np.int64)
    leave_by_ms = np.empty(widest, np.int64)
    load = np.empty(loads.shape[1], np.int64)
    for p in range(pair_order.shape[0]):
        o, r = pair_order[p], pair_rider[p]
        n, a = route_len[r], first_stop[o]
        two = stop_count[o] == 2
        length = n + stop_count[o]
        best, best_i, best_j = INFEASIBLE, -1, -1
        if base[r] < INFEASIBLE and length <= rules[ROUTE_MAX]:
            for i in range(locked[r], n + 1):
                for j in range(i, n + 1 if two else i + 1):
                    # The first stop goes before old stop i, the last before old stop j.
                    m = 0
                    for k in range(n + 1):
                        if k == i:
                            trial[m] = a
                            m += 1
                        if two and k == j:
                            trial[m] = a + 1
                            m += 1
                        if k < n:
                            trial[m] = routes[r, k]
                            m += 1
                    points = drive(
                        trial, length, where[r], when[r], on_board[r], capacity[r], load,
                        places, facts, loads, due_ms, slope, end_value, ride_max_ms, rules,
                        best, act_ms, leave_by_ms,
                    )  # fmt: skip
                    if points < best:
                        best, best_i, best_j = points, i, j
        out[p, 0] = best - base[r] if best < INFEASIBLE else INFEASIBLE
        out[p, 1] = best_i
        out[p, 2] = best_j


@dataclass(slots=True, eq=False)
class Routes:
    """The riders' routes while a round puts orders into them, beside the packed columns.

    `stops` (r, m) and `length` (r,) change with `put`; everything else is the snapshot's.
    """

    snapshot: Snapshot
    terms: Terms
    stops: I4
    length: I4
    locked: I4
    _where: F8
    _when: I8
    _load: I8
    _capacity: I8
    _places: F8
    _facts: I8
    _loads: I8
    _rules: I8
    _first_stop: I8
    _stop_count: I8
    _ride_max: I8

    @classmethod
    def of(cls, snapshot: Snapshot, terms: Terms, policy: Policy) -> Routes:
        riders, stops, orders = snapshot.riders, snapshot.stops, snapshot.orders
        law = snapshot.law
        width = max(policy.route_stops_max, riders.route.shape[1])
        routes = np.full((len(riders.x), width), -1, np.int32)
        routes[:, : riders.route.shape[1]] = riders.route
        ms_per_m = 1000.0 * law.detour / riders.speed_mps
        used = np.arange(riders.route.shape[1])[None, :] < riders.route_len[:, None]
        kinds = np.full(used.shape, -1)
        kinds[used] = stops.kind[riders.route[used]]
        carried = (kinds == _DROPOFF).sum(axis=1) - (kinds == _PICKUP).sum(axis=1)
        facts = [
            stops.earliest_ms,
            stops.latest_ms,
            stops.approach_ms,
            stops.leave_ms,
            stops.place,
            stops.kind,
            stops.order,
        ]
        rules = [
            law.metric,
            law.quantum_ms,
            policy.ride_weight,
            policy.wait_weight,
            policy.one_merchant_a_bundle,
            policy.bundles_in_sequence,
            policy.route_stops_max,
        ]
        return cls(
            snapshot,
            terms,
            routes,
            riders.route_len.astype(np.int32),
            riders.locked.astype(np.int32),
            np.column_stack([riders.x, riders.y, ms_per_m]),
            np.column_stack([riders.free_ms, riders.shift_end_ms, carried]).astype(np.int64),
            riders.load.astype(np.int64),
            riders.capacity.astype(np.int64),
            np.column_stack([stops.x, stops.y]),
            np.stack([np.asarray(f, np.int64) for f in facts], axis=1),
            stops.load.astype(np.int64),
            np.array(rules, np.int64),
            orders.first_stop.astype(np.int64),
            orders.stop_count.astype(np.int64),
            orders.ride_max_ms.astype(np.int64),
        )

    def drive(self, rider: int, route: I4 | None = None) -> tuple[int, I8, I8]:
        """Points of the rider's route (or another one for him), the moments at which he acts at
        its stops, and the latest moments to leave for them without losing time there."""
        if route is None:
            route = self.stops[rider, : self.length[rider]]
        act_ms = np.empty(len(route), np.int64)
        leave_by_ms = np.empty(len(route), np.int64)
        points = drive(
            np.ascontiguousarray(route, np.int32), len(route), self._where[rider],
            self._when[rider], self._load[rider], self._capacity[rider],
            np.empty(self._loads.shape[1], np.int64), self._places, self._facts, self._loads,
            self.terms.due_ms, self.terms.slope, self.terms.end_value, self._ride_max,
            self._rules, INFEASIBLE, act_ms, leave_by_ms,
        )  # fmt: skip
        return points, act_ms, leave_by_ms

    def insertions(self, pairs: Pairs) -> tuple[I8, I4]:
        """Added points (p,) of each pair, `extra` included, INFEASIBLE where there is no way or
        the pair is forbidden; and the positions (p, 2) of its first and last stop."""
        base = np.zeros(len(self.length), np.int64)
        for rider in np.unique(pairs.rider):
            base[rider] = self.drive(int(rider))[0]
        out = np.empty((len(pairs.order), 3), np.int64)
        _insert_all(
            pairs.order, pairs.rider, self._first_stop, self._stop_count, self.stops, self.length,
            self.locked, self._where, self._when, self._load, self._capacity, base, self._places,
            self._facts, self._loads, self.terms.due_ms, self.terms.slope, self.terms.end_value,
            self._ride_max, self._rules, out,
        )  # fmt: skip
        never = pairs.forbidden | (out[:, 0] >= INFEASIBLE)
        cost = np.where(never, INFEASIBLE, out[:, 0] + pairs.extra)
        return cost, out[:, 1:].astype(np.int32)

    def put(self, order: int, rider: int, first: int, last: int) -> None:
        """Put the order's stops before the old stops `first` and `last` of the rider's route."""
        old = self.stops[rider, : self.length[rider]].tolist()
        stop = int(self._first_stop[order])
        if self._stop_count[order] == 2:
            old.insert(last, stop + 1)
        old.insert(first, stop)
        self.stops[rider, : len(old)] = old
        self.length[rider] = len(old)
