"""The value of where a route ends: the mean ride from there to the city's recent pickups."""

from __future__ import annotations

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.solve.terms import Terms
from geo.travel import EUCLID

TYPICAL_SPEED_MPS = 5.0


def fill(terms: Terms, snapshot: Snapshot, policy: Policy) -> None:
    """`end_value` of the stops, in points; nothing where no pickup is recent."""
    recent = snapshot.recent
    if not policy.end_weight or not len(recent):
        return
    rows = terms.scope.stops
    dx = snapshot.stops.x[rows, None] - recent[None, :, 0]
    dy = snapshot.stops.y[rows, None] - recent[None, :, 1]
    law = snapshot.law
    metres = np.sqrt(dx * dx + dy * dy) if law.metric == EUCLID else np.abs(dx) + np.abs(dy)
    ride_ms = metres.mean(axis=1) * law.ms_per_m(TYPICAL_SPEED_MPS)
    terms.end_value[rows] = (ride_ms * policy.end_weight).astype(np.int64)
