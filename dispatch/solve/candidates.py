"""Which riders are tried for which order: the nearest eligible ones, in one compiled call.

A rider counts where he is and where his route ends, so that one about to finish nearby is found.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import F8, I4, I8, Snapshot
from dispatch.solve.terms import Pairs
from geo.compiled import compiled, core
from geo.index import nearest_rows


def eligible_riders(snapshot: Snapshot, route_stops_max: int) -> I4:
    """Rows of the riders that may be given anything: open, on shift, with room on the route."""
    riders = snapshot.riders
    able = riders.open & (riders.shift_end_ms > snapshot.at_ms)
    return np.flatnonzero(able & (riders.route_len < route_stops_max)).astype(np.int32)


@core("int64(int32[::1], int32[:, ::1], int32[::1], int32[::1], int32[::1], int32[::1])")
def _distinct(orders: I4, rows: I4, found: I4, who: I4, order: I4, rider: I4) -> int:
    """Each pair of an order and the rider of one of its points once, sorted by both."""
    size = 0
    for q in range(orders.size):
        first = size
        for i in range(found[q]):
            r = who[rows[q, i]]
            at = size
            while at > first and rider[at - 1] > r:
                at -= 1
            if at > first and rider[at - 1] == r:
                continue
            for k in range(size, at, -1):
                rider[k] = rider[k - 1]
            rider[at], order[size] = r, orders[q]
            size += 1
    return size


@compiled(
    "UniTuple(int32[::1], 2)(int32[::1], float64[::1], float64[::1], int64[::1], int32[::1],"
    " float64[::1], float64[::1], int64[::1], int64)"
)
def _pairs(
    orders: I4, x: F8, y: F8, need: I8, who: I4, px: F8, py: F8, have: I8, k: int
) -> tuple[I4, I4]:
    """(order row, rider row) of the orders' nearest points, which are those of riders `who`."""
    rows, found = np.empty((orders.size, k), np.int32), np.empty(orders.size, np.int32)
    nearest_rows(x, y, need, px, py, have, False, rows, found)
    order, rider = np.empty(found.sum(), np.int32), np.empty(found.sum(), np.int32)
    size = _distinct(orders, rows, found, who, order, rider)
    return order[:size].copy(), rider[:size].copy()


def nearest_pairs(snapshot: Snapshot, orders: I4, riders: I4, k: int) -> Pairs:
    """Up to `k` points of `riders` for each of `orders` (rows), nearest to the order's first stop.

    Equally near ones: places before ends of routes, then by row. Only riders with all skills of the
    order count.
    """
    if not len(orders) or not len(riders):
        return Pairs.of(np.empty(0, np.int32), np.empty(0, np.int32))
    columns, stops = snapshot.riders, snapshot.stops
    ends = riders[columns.route_len[riders] > 0]
    last = columns.route[ends, columns.route_len[ends] - 1]
    who = np.concatenate([riders, ends])
    x = np.concatenate([columns.x[riders], stops.x[last]])
    y = np.concatenate([columns.y[riders], stops.y[last]])
    first = snapshot.orders.first_stop[orders]
    order, rider = _pairs(
        orders, stops.x[first], stops.y[first], snapshot.orders.skills[orders],
        who, x, y, columns.skills[who], min(k, len(who)),
    )  # fmt: skip
    return Pairs.of(order, rider)
