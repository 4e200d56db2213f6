"""One rider's route, driven stop by stop, compiled; may import numpy and geo's compiler.

Ride, approach, act at the earliest allowed moment, leave. Stops of one kind in a row at one door
share the approach. Here stands what a route costs and what forbids it; `insertion` searches.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import DROPOFF, F8, I4, I8, PICKUP
from dispatch.solve.board import (
    APPROACH,
    CARRIES,
    DUE,
    DUE_2,
    EARLIEST,
    END,
    FREE,
    HELD,
    IN_SEQUENCE,
    INFEASIBLE,
    KIND,
    LATEST,
    LEAVE,
    LOAD,
    METRIC,
    ONE_MERCHANT,
    ORDER,
    PLACE,
    QUANTUM,
    RIDE_MAX,
    RIDE_WEIGHT,
    SHIFT_END,
    SLOPE,
    SLOPE_2,
    WAIT_WEIGHT,
)
from geo.arcs import arc_ms
from geo.compiled import compiled

# Columns of a driven route, a row a stop: its row in the snapshot; when he can act, and acts; the
# last moment to leave for it without losing time there; points of the ride to it, and of the route
# up to it; where in the route its order begins, for a ride that has a limit, else -1.
STOP, READY, ACT, LEAVE_BY, RIDE, POINTS, START = range(7)
DRIVEN = 7

_PICKUP, _DROPOFF = int(PICKUP), int(DROPOFF)


@compiled("boolean(int64[:, ::1], int64, int64)")
def same_door(stops: I8, before: int, after: int) -> bool:
    """The second stop needs no approach of its own after the first."""
    return (
        stops[before, PLACE] == stops[after, PLACE]
        and stops[after, PLACE] >= 0
        and stops[before, KIND] == stops[after, KIND]
    )


@compiled("int64(int64[:, ::1], int64, int64, int64, int64)")
def acting(stops: I8, s: int, ready: int, act: int, wait_weight: int) -> int:
    """Points of waiting at a stop and of being late there."""
    points = (act - ready) * wait_weight
    if act > stops[s, DUE]:
        points += (act - stops[s, DUE]) * stops[s, SLOPE]
    if act > stops[s, DUE_2]:
        points += (act - stops[s, DUE_2]) * stops[s, SLOPE_2]
    return points


@compiled("boolean(int64[:, ::1], int64, int64, int64)")
def in_time(stops: I8, s: int, act: int, shift_end: int) -> bool:
    """The stop's window and the rider's shift allow to act then."""
    return act <= stops[s, LATEST] and (act <= shift_end or stops[s, KIND] == _DROPOFF)


@compiled("boolean(int64[:, ::1], int32[::1], int64, int64, int64, int64, int64, int64[::1])")
def bundles_hold(
    stops: I8, route: I4, length: int, held: int, new: int, i: int, j: int, rules: I8
) -> bool:
    """The rules of bundles allow the route with stop `new` before its stop i and, unless j is
    negative, the next one before its stop j; a negative i is the route as it is."""
    total = length + (i >= 0) + (j >= 0)
    handing_over = held > 0
    before = -1
    for m in range(total):
        if i >= 0 and m == i:
            s = new
        elif j >= 0 and m == j + 1:
            s = new + 1
        else:
            s = np.int64(route[m - (0 <= i < m) - (0 <= j < m - 1)])
        if stops[s, KIND] == _DROPOFF:
            handing_over = True
            held -= 1
        elif stops[s, KIND] == _PICKUP:
            if held == 0:
                handing_over = False
            elif (rules[IN_SEQUENCE] and handing_over) or (
                rules[ONE_MERCHANT] and not (before >= 0 and same_door(stops, before, s))
            ):
                return False
            held += 1
        before = s
    return True


@compiled(
    "int64(int32[::1], int64, float64[::1], int64[::1], int64[:, ::1], float64[:, ::1],"
    " int64[::1], int64[:, ::1])"
)
def drive(
    route: I4, length: int, start: F8, rider: I8, stops: I8, places: F8, rules: I8, driven: I8
) -> int:
    """Points of the first `length` stops of `route`, or INFEASIBLE.

    `start` and `rider` are the rider's rows of the board. Fills `driven`, a row a stop: the columns
    above, then by load dimension what more he could take after it.
    """
    dims = stops.shape[1] - LOAD
    x, y, now = start[0], start[1], rider[FREE]
    points = 0
    for k in range(length):
        s = np.int64(route[k])
        if k > 0 and same_door(stops, np.int64(route[k - 1]), s):
            ready, ride = driven[k - 1, ACT], np.int64(0)
            act = max(ready, stops[s, EARLIEST])
            driven[k, LEAVE_BY] = driven[k - 1, LEAVE_BY]
        else:
            ride = arc_ms(
                x, y, places[s, 0], places[s, 1], rules[METRIC], start[2], rules[QUANTUM]
            )
            ready = now + ride + stops[s, APPROACH]
            act = max(ready, stops[s, EARLIEST])
            driven[k, LEAVE_BY] = act - stops[s, APPROACH] - ride
        if not in_time(stops, s, act, rider[SHIFT_END]):
            return INFEASIBLE
        for d in range(dims):
            room = driven[k - 1, DRIVEN + d] if k else rider[CARRIES + dims + d] - rider[CARRIES + d]
            driven[k, DRIVEN + d] = room - stops[s, LOAD + d]
            if driven[k, DRIVEN + d] < 0:
                return INFEASIBLE
        driven[k, START] = -1
        if stops[s, KIND] == _DROPOFF and stops[s, RIDE_MAX] < INFEASIBLE:
            for j in range(k):
                if stops[route[j], ORDER] == stops[s, ORDER]:
                    driven[k, START] = j
                    if act - driven[j, ACT] > stops[s, RIDE_MAX]:
                        return INFEASIBLE
                    break
        driven[k, RIDE] = ride * rules[RIDE_WEIGHT]
        points += driven[k, RIDE] + acting(stops, s, ready, act, rules[WAIT_WEIGHT])
        driven[k, STOP], driven[k, READY], driven[k, ACT], driven[k, POINTS] = s, ready, act, points
        x, y, now = places[s, 0], places[s, 1], act + stops[s, LEAVE]
    if (rules[ONE_MERCHANT] or rules[IN_SEQUENCE]) and not bundles_hold(
        stops, route, length, rider[HELD], 0, -1, -1, rules
    ):
        return INFEASIBLE
    if length > 0:
        points += stops[route[length - 1], END]
    return points
