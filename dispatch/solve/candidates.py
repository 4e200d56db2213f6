"""Which riders are tried for which order: the nearest eligible ones, in one compiled call.

A rider counts where he is and where his route ends, so that one about to finish nearby is found.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import I4, I8, Snapshot
from dispatch.solve.terms import Pairs
from geo.compiled import compiled
from geo.index import nearest_rows


def eligible_riders(snapshot: Snapshot, route_stops_max: int) -> I4:
    """Rows of the riders that may be given anything: open, on shift, with room on the route."""
    riders = snapshot.riders
    able = riders.open & (riders.shift_end_ms > snapshot.at_ms)
    return np.flatnonzero(able & (riders.route_len < route_stops_max)).astype(np.int32)


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


@compiled(
    "UniTuple(int32[::1], 2)(int32[::1], float64[::1], float64[::1], int64[::1], int32[::1],"
    " float64[::1], float64[::1], int64[::1], int64)"
)
def _pairs(
    orders: I4, x: I8, y: I8, need: I8, who: I4, px: I8, py: I8, have: I8, k: int
) -> tuple[I4, I4]:
    """(order row, rider row) of the nearest points, each pair once, sorted by both."""
    m = orders.size
    rows, found = np.empty((m, k), np.int32), np.empty(m, np.int32)
    nearest_rows(x, y, need, px, py, have, rows, found)
    order, rider = np.empty(found.sum(), np.int32), np.empty(found.sum(), np.int32)
    size = 0
    for q in range(m):
        mine = np.sort(who[rows[q, : found[q]]])
        for i in range(mine.size):
            if i == 0 or mine[i] != mine[i - 1]:
                order[size], rider[size] = orders[q], mine[i]
                size += 1
    return order[:size].copy(), rider[:size].copy()
