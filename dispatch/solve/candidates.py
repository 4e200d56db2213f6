"""Which riders are tried for which order: the nearest eligible ones by H3 cells.

A rider counts where he is and where his route ends, so that one about to finish nearby is found.
"""

from __future__ import annotations

import numpy as np

from dispatch.snapshot import B1, I4, Snapshot
from dispatch.solve.terms import Pairs
from geo.index import CellIndex


def eligible_riders(snapshot: Snapshot, route_stops_max: int) -> I4:
    """Rows of the riders that may be given anything: open, on shift, with room on the route."""
    riders = snapshot.riders
    able = riders.open & (riders.shift_end_ms > snapshot.at_ms)
    return np.flatnonzero(able & (riders.route_len < route_stops_max)).astype(np.int32)


def skilled(snapshot: Snapshot, orders: I4, riders: I4) -> B1 | None:
    """(orders, riders): the rider has every skill of the order; None when all have all of them."""
    need, have = snapshot.orders.skills[orders], snapshot.riders.skills[riders]
    if not (need & ~np.bitwise_and.reduce(have)).any():
        return None
    able: B1 = (have[None, :] & need[:, None]) == need[:, None]
    return able


def nearest_pairs(snapshot: Snapshot, orders: I4, riders: I4, k: int) -> Pairs:
    """Up to `k` of `riders` for each of `orders` (rows), nearest to the order's first stop."""
    columns, stops = snapshot.riders, snapshot.stops
    if not len(orders) or not len(riders):
        return Pairs.of(np.empty(0, np.int32), np.empty(0, np.int32))
    busy = riders[columns.route_len[riders] > 0]
    ends = columns.route[busy, columns.route_len[busy] - 1]
    index = CellIndex(
        np.concatenate([columns.cell[riders], stops.cell[ends]]),
        np.concatenate([columns.x[riders], stops.x[ends]]),
        np.concatenate([columns.y[riders], stops.y[ends]]),
    )
    who = np.concatenate([riders, busy])
    first = snapshot.orders.first_stop[orders]
    indptr, rows = index.nearest_many(
        stops.cell[first], stops.x[first], stops.y[first], k, skilled(snapshot, orders, who)
    )
    order = np.repeat(orders, np.diff(indptr)).astype(np.int64)
    both = np.unique(order * len(columns.x) + who[rows])
    width = np.int64(len(columns.x))
    return Pairs.of((both // width).astype(np.int32), (both % width).astype(np.int32))
