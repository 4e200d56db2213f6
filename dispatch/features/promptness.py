"""The customer's time: every ms from placement to the last stop, dearer beyond the promise."""

from __future__ import annotations

from dispatch.policy import Policy
from dispatch.snapshot import I1, I4, I8, Snapshot
from dispatch.solve.terms import Terms
from geo.compiled import columns, compiled


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """Both hinges of each order's last stop: from its placement, and from its promise."""
    orders = snapshot.orders
    _fill(
        terms.scope.stops, snapshot.stops.order, orders.first_stop, orders.stop_count,
        orders.placed_ms, orders.promise_ms, policy.door_weight, policy.late_weight,
        terms.due_ms, terms.slope,
    )  # fmt: skip


@compiled(
    f"void(int32[::1], {columns('int32', 'int32', 'int8', 'int64', 'int64')}, int64, int64,"
    " int64[:, ::1], int64[:, ::1])"
)
def _fill(
    rows: I4,
    order: I4,
    first_stop: I4,
    stop_count: I1,
    placed_ms: I8,
    promise_ms: I8,
    door_weight: int,
    late_weight: int,
    due_ms: I8,
    slope: I8,
) -> None:
    for s in rows:
        o = order[s]
        if s == first_stop[o] + stop_count[o] - 1:
            due_ms[s, 0], slope[s, 0] = placed_ms[o], door_weight
            due_ms[s, 1], slope[s, 1] = promise_ms[o], late_weight
