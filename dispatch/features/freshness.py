"""Goods that are ready get cold: every ms between ready and picked up."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import NEVER, PICKUP, Snapshot
from dispatch.solve.terms import Terms


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """The first hinge of each pickup that comes before another stop of its order."""
    stops, orders, rows = snapshot.stops, snapshot.orders, terms.scope.stops
    rows = rows[(stops.kind[rows] == PICKUP) & (orders.stop_count[stops.order[rows]] > 1)]
    ready = stops.earliest_ms[rows]
    terms.due_ms[rows, 0] = np.where(ready > 0, ready, NEVER)
    terms.slope[rows, 0] = policy.fresh_weight
