"""A rider who has turned an order down is asked again only when the others are much worse."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Pairs


def fill(pairs: Pairs, snapshot: Snapshot, policy: Policy) -> None:
    """Adds `decline_penalty_ms` of a customer's time to each pair that was declined before."""
    declined = snapshot.declined
    if not len(declined) or not len(pairs.order):
        return
    width = np.int64(len(snapshot.riders.x))
    key = pairs.order * width + pairs.rider  # ascending, as pairs are
    asked = np.unique(declined[:, 0] * width + declined[:, 1])
    at = np.minimum(np.searchsorted(key, asked), len(key) - 1)
    pairs.extra[at[key[at] == asked]] += policy.decline_penalty_ms * policy.door_weight
