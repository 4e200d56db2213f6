"""Whether a snapshot keeps its own rules, in one compiled look; may import geo's compiler.

`Snapshot.check` has the same rules in words and names the row that breaks one.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from dispatch.snapshot import B1, F8, I1, I4, Orders, Riders, Snapshot, Stops
from geo.compiled import compiled

_TABLES = [
    (name, [f.name for f in fields(kind)])
    for name, kind in (("stops", Stops), ("orders", Orders), ("riders", Riders))
]
_I4, _I1, _F8, _B1 = (f"Array({t}, 1, 'C', True)" for t in ("int32", "int8", "float64", "boolean"))


def is_sound(snapshot: Snapshot) -> bool:
    """False when `snapshot.check()` would raise."""
    for name, columns in _TABLES:
        table = getattr(snapshot, name)
        if len({len(getattr(table, column)) for column in columns}) > 1:
            return False
    stops, orders, riders = snapshot.stops, snapshot.orders, snapshot.riders
    return bool(
        _is_sound(
            stops.x, stops.y, stops.order, orders.first_stop, orders.stop_count, orders.waiting,
            riders.x, riders.y, riders.speed_mps, riders.route, riders.route_len, riders.locked,
        )  # fmt: skip
    )


@compiled(
    f"boolean({_F8}, {_F8}, {_I4}, {_I4}, {_I1}, {_B1}, {_F8}, {_F8}, {_F8},"
    f" Array(int32, 2, 'C', True), {_I4}, {_I4})"
)
def _is_sound(  # noqa: C901 - a list of rules, one after the other
    x: F8,
    y: F8,
    order: I4,
    first_stop: I4,
    stop_count: I1,
    waiting: B1,
    rider_x: F8,
    rider_y: F8,
    speed_mps: F8,
    route: I4,
    route_len: I4,
    locked: I4,
) -> bool:
    for s in range(x.size):
        if not (np.isfinite(x[s]) and np.isfinite(y[s]) and 0 <= order[s] < waiting.size):
            return False
    seen = np.zeros(x.size, np.bool_)
    for r in range(rider_x.size):
        if not (np.isfinite(rider_x[r]) and np.isfinite(rider_y[r]) and speed_mps[r] > 0):
            return False
        if route_len[r] > route.shape[1] or not 0 <= locked[r] <= route_len[r]:
            return False
        for k in range(route_len[r]):
            s = route[r, k]
            if not 0 <= s < x.size or seen[s]:
                return False
            seen[s] = True
    for o in range(waiting.size):
        first, count = first_stop[o], stop_count[o]
        if count != 0 and not 0 <= first <= x.size - count:
            return False
        if waiting[o]:
            if not 1 <= count <= 2:
                return False
            for s in range(first, first + count):
                if order[s] != o or seen[s]:
                    return False
    return True
