"""Exact insertion of orders into live routes, compiled; may import numpy and geo's compiler.

The cheapest way to put an order's one or two stops into a route is found by trying every pair of
positions after the locked stops. What all trials share is driven once: the route as it is, by
rider, and the rides between its stops and the new ones, by pair. A trial then drives only from the
first new stop on, and no further than until he is back on his old times.

In the parts below, i and j are the old stops that the first and the last new stop go before;
`driven` is the route as it is (see `driving`); `acts` holds when old stops are acted at in a trial,
from stop i on.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import B1, DROPOFF, F8, I1, I4, I8
from dispatch.solve.board import (
    APPROACH,
    CARRIES,
    EARLIEST,
    END,
    FREE,
    HELD,
    IN_SEQUENCE,
    INFEASIBLE,
    KIND,
    LEAVE,
    LOAD,
    METRIC,
    ONE_MERCHANT,
    QUANTUM,
    RIDE_MAX,
    RIDE_WEIGHT,
    ROUTE_MAX,
    SHIFT_END,
    WAIT_WEIGHT,
)
from dispatch.solve.driving import (
    ACT,
    DRIVEN,
    LEAST,
    POINTS,
    READY,
    RIDE,
    SLOPES,
    START,
    STOP,
    WAITS,
    acting,
    bundles_hold,
    drive,
    in_time,
    same_door,
)
from geo.arcs import arc_ms
from geo.compiled import columns, compiled, core, inlined

_DROPOFF = int(DROPOFF)
# Rows of `fits`: after an old stop there is room for the first new stop's load; for both; for both
# after each later stop as well.
_FIRST, _BOTH, _LATER = range(3)


@inlined
def _measure(
    new: int,
    last: int,
    length: int,
    locked: int,
    start: F8,
    stops: I8,
    places: F8,
    rules: I8,
    driven: I8,
    rides: I8,
) -> None:
    """Fills `rides`: ms between new stop 0 or 1 and old stop k - 1, where k = 0 is his place; and
    in row 2 between the new ones. A ride takes as long there as back."""
    for k in range(locked, length + 1):
        x, y = start[0], start[1]
        if k > 0:
            x, y = places[driven[k - 1, STOP], 0], places[driven[k - 1, STOP], 1]
        for n in range(last - new + 1):
            rides[n, k] = arc_ms(
                x, y, places[new + n, 0], places[new + n, 1], rules[METRIC], start[2],
                rules[QUANTUM],
            )  # fmt: skip
    rides[2, 0] = arc_ms(
        places[new, 0], places[new, 1], places[last, 0], places[last, 1], rules[METRIC], start[2],
        rules[QUANTUM],
    )  # fmt: skip


@inlined
def _weigh(
    new: int, last: int, length: int, locked: int, rider: I8, stops: I8, driven: I8, fits: B1
) -> None:
    """Fills `fits`, by k as in `_measure`."""
    dims = stops.shape[1] - LOAD
    for k in range(length, locked - 1, -1):
        first = both = True
        for d in range(dims):
            if k:
                room = driven[k - 1, DRIVEN + d]
            else:
                room = rider[CARRIES + dims + d] - rider[CARRIES + d]
            room -= stops[new, LOAD + d]
            first &= room >= 0
            both &= room >= (stops[last, LOAD + d] if last > new else 0)
        fits[_FIRST, k], fits[_BOTH, k] = first, both
        fits[_LATER, k] = k == length or (fits[_LATER, k + 1] and fits[_BOTH, k + 1])


@inlined
def _reach(stops: I8, before: int, act: int, s: int, ride: int) -> tuple[int, int]:
    """When he can act at stop `s` after one where he acts at `act`, and the ride that it takes."""
    if same_door(stops, before, s):
        return act, 0
    return act + stops[before, LEAVE] + ride + stops[s, APPROACH], ride


@inlined
def _too_long(stops: I8, driven: I8, k: int, i: int, acts: I8, act: int) -> bool:
    """Old stop k, acted at `act`, ends a ride that took too long."""
    begin = driven[k, START]
    if begin < 0:
        return False
    began = driven[begin, ACT] if begin < i else acts[begin]
    return bool(act - began > stops[driven[k, STOP], RIDE_MAX])


@inlined
def _rest(
    k: int,
    length: int,
    i: int,
    delay: int,
    points: int,
    base: int,
    best: int,
    limited: bool,
    rider: I8,
    stops: I8,
    rules: I8,
    driven: I8,
    acts: I8,
) -> int:
    """Points of the whole route when old stop k - 1 is acted at by `delay` later than before, at
    `points` so far; INFEASIBLE when a rule breaks or it comes to no less than `best`."""
    for m in range(k, length):
        if delay == 0 and not limited:
            return int(points + base - driven[m - 1, POINTS])
        # A delay shrinks by what he would have waited, and what is late gets later by the rest.
        if delay > 0:
            late = max(0, delay - driven[m, WAITS])
            if points + driven[m, LEAST] + late * driven[m, SLOPES] >= best:
                return INFEASIBLE
        s = driven[m, STOP]
        ready = driven[m, READY] + delay
        act = max(ready, stops[s, EARLIEST])
        if not in_time(stops, s, act, rider[SHIFT_END]):
            return INFEASIBLE
        if limited:
            if _too_long(stops, driven, m, i, acts, act):
                return INFEASIBLE
            acts[m] = act
        points += driven[m, RIDE] + acting(stops, s, ready, act, rules[WAIT_WEIGHT])
        delay = act - driven[m, ACT]
    return int(points + stops[driven[length - 1, STOP], END])


@inlined
def _from_last(
    new: int,
    last: int,
    i: int,
    j: int,
    length: int,
    before: int,
    act: int,
    begun: int,
    points: int,
    base: int,
    best: int,
    limited: bool,
    rider: I8,
    stops: I8,
    rules: I8,
    driven: I8,
    rides: I8,
    acts: I8,
) -> int:
    """Points of the whole route, or INFEASIBLE, when the last new stop goes before old stop j and
    he acts at the stop before it at `act`, at `points` so far."""
    if last > new:
        ready, ride = _reach(stops, before, act, last, rides[2, 0] if j == i else rides[1, j])
        before, act = last, max(ready, stops[last, EARLIEST])
        points += ride * rules[RIDE_WEIGHT] + acting(stops, last, ready, act, rules[WAIT_WEIGHT])
        if points >= best or not in_time(stops, last, act, rider[SHIFT_END]):
            return INFEASIBLE
        if stops[last, KIND] == _DROPOFF and act - begun > stops[last, RIDE_MAX]:
            return INFEASIBLE
    if j == length:
        return int(points + stops[last, END])
    s = driven[j, STOP]
    ready, ride = _reach(stops, before, act, s, rides[last - new, j + 1])
    act = max(ready, stops[s, EARLIEST])
    points += ride * rules[RIDE_WEIGHT] + acting(stops, s, ready, act, rules[WAIT_WEIGHT])
    if not in_time(stops, s, act, rider[SHIFT_END]):
        return INFEASIBLE
    if limited:
        if _too_long(stops, driven, j, i, acts, act):
            return INFEASIBLE
        acts[j] = act
    return _rest(
        j + 1, length, i, act - driven[j, ACT], points, base, best, limited, rider, stops, rules,
        driven, acts,
    )  # fmt: skip


@inlined
def _from_first(  # noqa: C901 - one search over the positions of the last stop
    new: int,
    last: int,
    i: int,
    route: I4,
    length: int,
    base: int,
    best: int,
    limited: bool,
    rider: I8,
    stops: I8,
    rules: I8,
    driven: I8,
    rides: I8,
    fits: B1,
    acts: I8,
    position: I4,
) -> int:
    """The fewest points, if fewer than `best`, with the first new stop before old stop i."""
    points, ready, ride = 0, rider[FREE] + rides[0, i] + stops[new, APPROACH], rides[0, i]
    if i > 0:
        ready, ride = _reach(stops, driven[i - 1, STOP], driven[i - 1, ACT], new, rides[0, i])
        points = driven[i - 1, POINTS]
    begun = max(ready, stops[new, EARLIEST])
    points += ride * rules[RIDE_WEIGHT] + acting(stops, new, ready, begun, rules[WAIT_WEIGHT])
    if not in_time(stops, new, begun, rider[SHIFT_END]):
        return best
    before, act = new, begun  # the stop before the next one, and when he acts there
    for j in range(i, length + 1):
        if points >= best:
            break
        if fits[_BOTH, j] and fits[_LATER, j]:
            total = _from_last(
                new, last, i, j, length, before, act, begun, points, base, best, limited, rider,
                stops, rules, driven, rides, acts,
            )  # fmt: skip
            if total < best and (
                not (rules[ONE_MERCHANT] or rules[IN_SEQUENCE])
                or bundles_hold(
                    stops, route, length, rider[HELD], new, i, j if last > new else -1, rules
                )
            ):
                best = total
                position[0], position[1] = i, j
        if last == new or j == length or not fits[_FIRST, j + 1]:
            break
        # On to old stop j with the first new stop's load on board.
        s = driven[j, STOP]
        if j == i:
            ready, ride = _reach(stops, new, act, s, rides[0, j + 1])
            points += ride * rules[RIDE_WEIGHT]
        else:
            ready = driven[j, READY] + act - driven[j - 1, ACT]
            points += driven[j, RIDE]
        before, act = s, max(ready, stops[s, EARLIEST])
        points += acting(stops, s, ready, act, rules[WAIT_WEIGHT])
        if not in_time(stops, s, act, rider[SHIFT_END]):
            break
        if limited:
            if _too_long(stops, driven, j, i, acts, act):
                break
            acts[j] = act
    return best


@inlined
def _of_rider(length: int, driven: I8) -> bool:
    """A ride on the route has a limit."""
    limited = False
    for k in range(length):
        limited |= driven[k, START] >= 0
    return limited


@core(
    "void(int32[::1], int32[::1], int32[::1], int64[::1], int64[::1], int32[:, ::1],"
    f" {columns('int32', 'int8')}, int32[:, ::1], int32[::1], {columns('int32')},"
    " float64[:, ::1], int64[:, ::1], int64[:, ::1], float64[:, ::1], int64[::1], int64[::1],"
    " int64[:, ::1], int64[:, ::1], boolean[:, ::1], int64[::1])"
)
def _price_by_rider(
    first: I4,
    asked: I4,
    pair_order: I4,
    extra: I8,
    cost: I8,
    positions: I4,
    first_stop: I4,
    stop_count: I1,
    routes: I4,
    route_len: I4,
    locked: I4,
    starts: F8,
    riders: I8,
    stops: I8,
    places: F8,
    rules: I8,
    least: I8,
    driven: I8,
    rides: I8,
    fits: B1,
    acts: I8,
) -> None:
    """Prices the pairs `asked[first[r]:first[r + 1]]` of each rider r."""
    for r in range(route_len.size):
        if first[r] == first[r + 1]:
            continue
        route, length, rider = routes[r], int(route_len[r]), riders[r]
        base = drive(route, length, starts[r], rider, stops, places, rules, driven)
        limited = base < INFEASIBLE and _of_rider(length, driven)
        for e in range(first[r], first[r + 1]):
            p = asked[e]
            o = pair_order[p]
            new = int(first_stop[o])
            last = new + 1 if stop_count[o] == 2 else new
            best = INFEASIBLE
            if base < INFEASIBLE and length + stop_count[o] <= rules[ROUTE_MAX]:
                begin = int(locked[r])
                _measure(new, last, length, begin, starts[r], stops, places, rules, driven, rides)
                _weigh(new, last, length, begin, rider, stops, driven, fits)
                # What comes last is tried first, for a bound; of equals the first one stands.
                for turn in range(begin - 1, length + 1):
                    i = turn if turn >= begin else length
                    if fits[_FIRST, i]:
                        best = _from_first(
                            new, last, i, route, length, base, best, limited, rider, stops, rules,
                            driven, rides, fits, acts, positions[p],
                        )  # fmt: skip
                    if turn < begin and best < INFEASIBLE:
                        best += 1
            cost[p] = best - base + extra[p] if best < INFEASIBLE else INFEASIBLE
            least[o] = min(least[o], cost[p])


@core(
    "void(int32[::1], int32[::1], boolean[::1], int64[::1], boolean[::1], int32[::1],"
    " int32[::1], int32[::1])"
)
def _sort_by_rider(
    pair_order: I4,
    pair_rider: I4,
    forbidden: B1,
    cost: I8,
    changed: B1,
    given_to: I4,
    first: I4,
    asked: I4,
) -> None:
    """The pairs to price by rider, so that his route is driven once: those of rider r stand in
    `asked` from `first[r + 1]` to the next."""
    for p in range(pair_order.size):
        if given_to[pair_order[p]] >= 0 or forbidden[p]:
            cost[p] = INFEASIBLE
        elif changed[pair_rider[p]]:
            first[pair_rider[p] + 1] += 1
    for r in range(first.size - 1):
        first[r + 1] += first[r]
    for p in range(pair_order.size - 1, -1, -1):
        r = pair_rider[p]
        if changed[r] and given_to[pair_order[p]] < 0 and not forbidden[p]:
            first[r + 1] -= 1
            asked[first[r + 1]] = p
    changed[:] = False


@compiled(
    "void(int32[::1], int32[::1], int64[::1], boolean[::1], int64[::1], int32[:, ::1],"
    f" boolean[::1], int32[::1], {columns('int32', 'int8')}, int32[:, ::1], int32[::1],"
    f" {columns('int32')}, float64[:, ::1], int64[:, ::1], int64[:, ::1], float64[:, ::1],"
    " int64[::1], int64[::1])"
)
def price(
    pair_order: I4,
    pair_rider: I4,
    extra: I8,
    forbidden: B1,
    cost: I8,
    positions: I4,
    changed: B1,
    given_to: I4,
    first_stop: I4,
    stop_count: I1,
    routes: I4,
    route_len: I4,
    locked: I4,
    starts: F8,
    riders: I8,
    stops: I8,
    places: F8,
    rules: I8,
    least: I8,
) -> None:
    """Prices the pairs of riders whose route has `changed`; the others' prices stand.

    An order that is `given_to` somebody (-1: nobody) has no price any more. `least` is lowered to
    the cheapest price that each order has ever had.
    """
    first = np.zeros(changed.size + 2, np.int32)
    asked = np.empty(pair_order.size, np.int32)
    _sort_by_rider(pair_order, pair_rider, forbidden, cost, changed, given_to, first, asked)
    width, dims = routes.shape[1], stops.shape[1] - LOAD
    _price_by_rider(
        first[1:], asked, pair_order, extra, cost, positions, first_stop, stop_count, routes,
        route_len, locked, starts, riders, stops, places, rules, least,
        np.empty((width, DRIVEN + dims), np.int64), np.empty((3, width + 1), np.int64),
        np.empty((3, width + 1), np.bool_), np.empty(width, np.int64),
    )  # fmt: skip
