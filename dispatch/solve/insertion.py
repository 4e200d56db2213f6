"""Exact insertion of orders into live routes, compiled; may import numpy and geo's compiler.

The cheapest way to put an order's one or two stops into a route is found by trying every pair of
positions after the locked stops. What all trials share is driven once: the route as it is, by
rider, and the rides between its stops and the new ones, by pair. A trial then drives only from the
first new stop on, and no further than until he is back on his old times.
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
    POINTS,
    READY,
    RIDE,
    START,
    STOP,
    acting,
    bundles_hold,
    drive,
    in_time,
    same_door,
)
from geo.arcs import arc_ms
from geo.compiled import compiled

_DROPOFF = int(DROPOFF)


@compiled("boolean(int64[:, ::1], int64[:, ::1], int64, int64, int64[::1], int64)")
def _too_long(stops: I8, driven: I8, k: int, first: int, acts: I8, act: int) -> bool:
    """Old stop k, acted at `act`, ends a ride that took too long; what comes before old stop
    `first` is as it was, later moments stand in `acts`."""
    start = driven[k, START]
    if start < 0:
        return False
    began = driven[start, ACT] if start < first else acts[start]
    return act - began > stops[driven[k, STOP], RIDE_MAX]


@compiled(
    "int64(int64[:, ::1], int64[:, ::1], int64, int64, int64, int64, int64, int64[::1], int64,"
    " int64, int64, int64, boolean)"
)
def _rest(
    stops: I8,
    driven: I8,
    length: int,
    k: int,
    first: int,
    delay: int,
    points: int,
    acts: I8,
    best: int,
    shift_end: int,
    wait_weight: int,
    base: int,
    limited: bool,
) -> int:
    """Points of the whole route when old stop k - 1 is acted at by `delay` later than before and
    costs `points` so far; INFEASIBLE when a rule breaks or it comes to no less than `best`."""
    for m in range(k, length):
        if delay == 0 and not limited:
            return points + base - driven[m - 1, POINTS]
        s = driven[m, STOP]
        ready = driven[m, READY] + delay
        act = max(ready, stops[s, EARLIEST])
        if not in_time(stops, s, act, shift_end):
            return INFEASIBLE
        if limited:
            if _too_long(stops, driven, m, first, acts, act):
                return INFEASIBLE
            acts[m] = act
        points += driven[m, RIDE] + acting(stops, s, ready, act, wait_weight)
        if points >= best:
            return INFEASIBLE
        delay = act - driven[m, ACT]
    return points + stops[driven[length - 1, STOP], END]


@compiled(
    "int64(int64, boolean, int32[::1], int64, int64, int64, float64[::1], int64[::1],"
    " int64[:, ::1], float64[:, ::1], int64[::1], int64[:, ::1], boolean, int64[:, ::1],"
    " boolean[:, ::1], int64[::1], int32[::1])"
)
def _cheapest(  # noqa: C901 - one search: positions of the first stop, of the last, and the rest
    new: int,
    two: bool,
    route: I4,
    length: int,
    locked: int,
    base: int,
    start: F8,
    rider: I8,
    stops: I8,
    places: F8,
    rules: I8,
    driven: I8,
    limited: bool,
    rides: I8,
    fits: B1,
    acts: I8,
    position: I4,
) -> int:
    """Points of the cheapest route with stop `new`, and the next one if there are two, or
    INFEASIBLE; the first of equals in the order of positions, which go into `position`.

    `rides`, `fits` and `acts` are scratch. Point k of the route is where old stop k - 1 is.
    """
    dims = stops.shape[1] - LOAD
    ride_weight, wait_weight, shift_end = rules[RIDE_WEIGHT], rules[WAIT_WEIGHT], rider[SHIFT_END]
    last = new + 1 if two else new
    for k in range(locked, length + 1):
        x, y = start[0], start[1]
        if k > 0:
            x, y = places[driven[k - 1, STOP], 0], places[driven[k - 1, STOP], 1]
        for n in range(last - new + 1):
            rides[n, k] = arc_ms(
                x, y, places[new + n, 0], places[new + n, 1], rules[METRIC], start[2],
                rules[QUANTUM],
            )  # fmt: skip
    # After old stop k - 1: with the first new stop's load there is room; with both; and for both
    # as well after each later stop.
    for k in range(length, locked - 1, -1):
        fits[0, k] = fits[1, k] = True
        fits[2, k] = k == length or (fits[2, k + 1] and fits[1, k + 1])
        for d in range(dims):
            if k:
                room = driven[k - 1, DRIVEN + d]
            else:
                room = rider[CARRIES + dims + d] - rider[CARRIES + d]
            room -= stops[new, LOAD + d]
            fits[0, k] &= room >= 0
            if two:
                room -= stops[last, LOAD + d]
            fits[1, k] &= room >= 0
    across = np.int64(0)
    if two:
        across = arc_ms(
            places[new, 0], places[new, 1], places[last, 0], places[last, 1], rules[METRIC],
            start[2], rules[QUANTUM],
        )  # fmt: skip

    best = np.int64(INFEASIBLE)
    for i in range(locked, length + 1):
        if not fits[0, i]:
            continue
        # The first new stop, after old stop i - 1.
        points, now = np.int64(0), rider[FREE]
        if i > 0:
            points = driven[i - 1, POINTS]
            now = driven[i - 1, ACT] + stops[driven[i - 1, STOP], LEAVE]
        if i > 0 and same_door(stops, driven[i - 1, STOP], new):
            ready = driven[i - 1, ACT]
        else:
            ready = now + rides[0, i] + stops[new, APPROACH]
            points += rides[0, i] * ride_weight
        begun = max(ready, stops[new, EARLIEST])
        if not in_time(stops, new, begun, shift_end):
            continue
        points += acting(stops, new, ready, begun, wait_weight)
        before, act = new, begun  # the stop before the next one, and when he acts there
        for j in range(i, length + 1):
            if points >= best:
                break
            # The last new stop, after old stop j - 1 or the first one.
            total, by, done = points, before, act
            good = fits[2, j] and fits[1, j]
            if two and good:
                if same_door(stops, before, last):
                    ready = act
                else:
                    ride = across if j == i else rides[1, j]
                    ready = act + stops[before, LEAVE] + ride + stops[last, APPROACH]
                    total += ride * ride_weight
                by, done = last, max(ready, stops[last, EARLIEST])
                good = in_time(stops, last, done, shift_end) and not (
                    stops[last, KIND] == _DROPOFF and done - begun > stops[last, RIDE_MAX]
                )
                total += acting(stops, last, ready, done, wait_weight)
            if good and total < best:
                if j == length:
                    total += stops[last, END]
                else:
                    # Old stop j comes next, and the rest after it.
                    s = driven[j, STOP]
                    if same_door(stops, by, s):
                        ready = done
                    else:
                        ride = rides[last - new, j + 1]
                        ready = done + stops[by, LEAVE] + ride + stops[s, APPROACH]
                        total += ride * ride_weight
                    done = max(ready, stops[s, EARLIEST])
                    total += acting(stops, s, ready, done, wait_weight)
                    if in_time(stops, s, done, shift_end) and not (
                        limited and _too_long(stops, driven, j, i, acts, done)
                    ):
                        acts[j] = done
                        total = _rest(
                            stops, driven, length, j + 1, i, done - driven[j, ACT], total, acts,
                            best, shift_end, wait_weight, base, limited,
                        )  # fmt: skip
                    else:
                        total = INFEASIBLE
                if total < best and (
                    not (rules[ONE_MERCHANT] or rules[IN_SEQUENCE])
                    or bundles_hold(
                        stops, route, length, rider[HELD], new, i, j if two else -1, rules
                    )
                ):
                    best = total
                    position[0], position[1] = i, j
            if not two or j == length or not fits[0, j + 1]:
                break
            # On to old stop j with the first new stop's load on board.
            s = driven[j, STOP]
            if j > i:
                ready = driven[j, READY] + act - driven[j - 1, ACT]
                points += driven[j, RIDE]
            elif same_door(stops, new, s):
                ready = act
            else:
                ready = act + stops[new, LEAVE] + rides[0, j + 1] + stops[s, APPROACH]
                points += rides[0, j + 1] * ride_weight
            before, act = s, max(ready, stops[s, EARLIEST])
            if not in_time(stops, s, act, shift_end) or (
                limited and _too_long(stops, driven, j, i, acts, act)
            ):
                break
            acts[j] = act
            points += acting(stops, s, ready, act, wait_weight)
    return best


@compiled(
    "void(int32[::1], int32[::1], int64[::1], boolean[::1], int64[::1], int32[:, ::1],"
    " boolean[::1], int32[::1], Array(int32, 1, 'C', True), Array(int8, 1, 'C', True),"
    " int32[:, ::1], int32[::1], Array(int32, 1, 'C', True), float64[:, ::1], int64[:, ::1],"
    " int64[:, ::1], float64[:, ::1], int64[::1], int64[::1])"
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
    # Pairs by rider, so that his route is driven once.
    first = np.zeros(changed.size + 1, np.int32)
    for p in range(pair_order.size):
        if given_to[pair_order[p]] >= 0:
            cost[p] = INFEASIBLE
        elif changed[pair_rider[p]] and not forbidden[p]:
            first[pair_rider[p] + 1] += 1
    for r in range(changed.size):
        first[r + 1] += first[r]
    asked = np.empty(first[-1], np.int32)
    at = first[:-1].copy()
    for p in range(pair_order.size):
        r = pair_rider[p]
        if changed[r] and not forbidden[p] and given_to[pair_order[p]] < 0:
            asked[at[r]] = p
            at[r] += 1

    width = routes.shape[1]
    driven = np.empty((width, DRIVEN + stops.shape[1] - LOAD), np.int64)
    rides, acts = np.empty((2, width + 1), np.int64), np.empty(width, np.int64)
    fits = np.empty((3, width + 1), np.bool_)
    for r in range(changed.size):
        changed[r] = False
        if first[r] == first[r + 1]:
            continue
        length = np.int64(route_len[r])
        base = drive(
            routes[r], length, starts[r], riders[r], stops, places, rules, driven
        )
        limited = False
        for k in range(length):
            limited |= driven[k, START] >= 0
        for e in range(first[r], first[r + 1]):
            p = asked[e]
            o = pair_order[p]
            points = np.int64(INFEASIBLE)
            if base < INFEASIBLE and length + stop_count[o] <= rules[ROUTE_MAX]:
                points = _cheapest(
                    np.int64(first_stop[o]), stop_count[o] == 2, routes[r], length,
                    np.int64(locked[r]), base, starts[r], riders[r], stops, places, rules, driven,
                    limited, rides, fits, acts, positions[p],
                )  # fmt: skip
            if points < INFEASIBLE:
                cost[p] = points - base + extra[p]
                least[o] = min(least[o], cost[p])
            else:
                cost[p] = INFEASIBLE
                positions[p, 0] = positions[p, 1] = -1
