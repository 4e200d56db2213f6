"""Why an order is left waiting, as a number for each; may import numpy and geo's compiler."""

from __future__ import annotations

import numpy as np

from dispatch.plan import WaitReason
from dispatch.snapshot import B1, I1, I4, I8, Snapshot
from dispatch.solve.board import INFEASIBLE
from dispatch.solve.routes import Routes
from geo.compiled import compiled

REASONS = (
    WaitReason.ON_PURPOSE,
    WaitReason.NO_RIDER_ON_SHIFT,
    WaitReason.NO_RIDER_WITH_SKILLS,
    WaitReason.RIDERS_TAKEN,
    WaitReason.NO_FEASIBLE_ROUTE,
    WaitReason.TOO_DEAR,
)
_ON_PURPOSE, _NOBODY, _NO_SKILLS, _TAKEN, _NO_ROUTE, _TOO_DEAR = range(len(REASONS))


def reasons_of(snapshot: Snapshot, orders: I4, routes: Routes, dummy: I8) -> I1:
    """int8 rows of REASONS, why each of `orders` would wait; `dummy` as in `match`."""
    riders, out = snapshot.riders, np.empty(len(orders), np.int8)
    present = riders.on_shift & (riders.shift_end_ms > snapshot.at_ms)
    rows = np.flatnonzero(present).astype(np.int32)
    _reasons(
        orders, rows, riders.open, riders.skills, snapshot.orders.skills, routes.given_to,
        routes.least, dummy, out,
    )  # fmt: skip
    return out


@compiled(
    "void(int32[::1], int32[::1], Array(boolean, 1, 'C', True), Array(int64, 1, 'C', True),"
    " Array(int64, 1, 'C', True), int32[::1], int64[::1], int64[::1], int8[::1])"
)
def _reasons(
    orders: I4,
    riders: I4,
    open_: B1,
    have: I8,
    need: I8,
    given_to: I4,
    least: I8,
    dummy: I8,
    out: I1,
) -> None:
    for i in range(orders.size):
        o = orders[i]
        if given_to[o] >= 0:
            out[i] = _ON_PURPOSE
            continue
        able = free = False
        for r in riders:
            if have[r] & need[o] == need[o]:
                able = True
                if open_[r]:
                    free = True
                    break
        if not riders.size:
            out[i] = _NOBODY
        elif not able:
            out[i] = _NO_SKILLS
        elif not free:
            out[i] = _TAKEN
        elif least[o] >= INFEASIBLE:
            out[i] = _NO_ROUTE
        elif least[o] >= dummy[o]:
            out[i] = _TOO_DEAR
        else:
            out[i] = _TAKEN
