"""The customer's time: every ms from placement to the last stop, dearer beyond the promise."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Terms


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """Both hinges of each order's last stop: from its placement, and from its promise."""
    orders = snapshot.orders
    live = np.flatnonzero(orders.stop_count > 0)
    last = orders.first_stop[live] + orders.stop_count[live] - 1
    terms.due_ms[last, 0] = orders.placed_ms[live]
    terms.slope[last, 0] = policy.door_weight
    terms.due_ms[last, 1] = orders.promise_ms[live]
    terms.slope[last, 1] = policy.late_weight
