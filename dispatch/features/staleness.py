"""A rider who has been silent may be elsewhere by now; a policy may let that cost something."""

from __future__ import annotations

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Pairs


def fill(pairs: Pairs, snapshot: Snapshot, policy: Policy) -> None:
    """Adds `stale_penalty_ms` of a customer's time to each pair with a stale rider."""
    if policy.stale_penalty_ms:
        stale = snapshot.riders.stale[pairs.rider]
        pairs.extra[stale] += policy.stale_penalty_ms * policy.door_weight
