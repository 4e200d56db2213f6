"""A rider who has turned an order down is asked again only when the others are much worse."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Pairs


def fill(pairs: Pairs, snapshot: Snapshot, policy: Policy) -> None:
    """Adds `decline_penalty_ms` of a customer's time to each pair that was declined before."""
    if not len(snapshot.declined):
        return
    width = np.int64(len(snapshot.riders.x))
    asked = snapshot.declined[:, 0] * width + snapshot.declined[:, 1]
    key = pairs.order * width + pairs.rider
    pairs.extra[np.isin(key, asked)] += policy.decline_penalty_ms * policy.door_weight
