"""A rider who has turned an order down is asked again only when the others are much worse."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import I4, I8, Snapshot
from dispatch.solve.terms import Pairs
from geo.compiled import compiled


def fill(pairs: Pairs, snapshot: Snapshot, policy: Policy) -> None:
    """Adds `decline_penalty_ms` of a customer's time to each pair that was declined before."""
    points = policy.decline_penalty_ms * policy.door_weight
    _fill(pairs.order, pairs.rider, snapshot.declined, points, pairs.extra)


@compiled("void(int32[::1], int32[::1], Array(int32, 2, 'A', True), int64, int64[::1])")
def _fill(order: I4, rider: I4, declined: I4, points: int, extra: I8) -> None:
    """Each declined pair stands once, and candidates are sorted by order."""
    for d in range(declined.shape[0]):
        first = np.searchsorted(order, declined[d, 0])
        for p in range(first, order.size):
            if order[p] != declined[d, 0]:
                break
            if rider[p] == declined[d, 1]:
                extra[p] += points
