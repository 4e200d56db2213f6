"""Goods that are ready get cold: every ms between ready and picked up."""

from __future__ import annotations

from dispatch.policy import Policy
from dispatch.snapshot import I1, I4, I8, NEVER, PICKUP, Snapshot
from dispatch.solve.terms import Terms
from geo.compiled import columns, compiled


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """The first hinge of each pickup that comes before another stop of its order."""
    stops = snapshot.stops
    _fill(
        terms.scope.stops, stops.kind, stops.order, snapshot.orders.stop_count, stops.earliest_ms,
        policy.fresh_weight, terms.due_ms, terms.slope,
    )  # fmt: skip


@compiled(
    f"void(int32[::1], {columns('int8', 'int32', 'int8', 'int64')}, int64, int64[:, ::1],"
    " int64[:, ::1])"
)
def _fill(
    rows: I4,
    kind: I1,
    order: I4,
    stop_count: I1,
    earliest_ms: I8,
    weight: int,
    due_ms: I8,
    slope: I8,
) -> None:
    for s in rows:
        if kind[s] == PICKUP and stop_count[order[s]] > 1:
            ready = earliest_ms[s]
            due_ms[s, 0], slope[s, 0] = ready if ready > 0 else NEVER, weight
