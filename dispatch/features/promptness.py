"""The customer's time: every ms from placement to the last stop, dearer beyond the promise."""

from __future__ import annotations

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Terms


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """Both hinges of each order's last stop: from its placement, and from its promise."""
    orders, rows = snapshot.orders, terms.scope.stops
    order = snapshot.stops.order[rows]
    last = rows == orders.first_stop[order] + orders.stop_count[order] - 1
    rows, order = rows[last], order[last]
    terms.due_ms[rows, 0] = orders.placed_ms[order]
    terms.slope[rows, 0] = policy.door_weight
    terms.due_ms[rows, 1] = orders.promise_ms[order]
    terms.slope[rows, 1] = policy.late_weight
