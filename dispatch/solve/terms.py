"""The columns of cost that features fill and kernels read; imports numpy and the snapshot.

This is the closed list of what a route can cost or forbid, in thousandths of a cost point:

- the rider under way and the rider waiting, per ms (`ride_weight`, `wait_weight`);
- lateness at a stop, piecewise linear: `slope` per ms beyond `due_ms`, two hinges a stop;
- the value of ending at a stop (`end_value`);
- one additive and one forbidding column per (order, rider), in `Pairs`;
- hard rules: windows, loads, precedence, ride-time limit, shift end, locked stops, one merchant
  a bundle, bundles in sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import B1, I4, I8, NEVER, Snapshot

HINGES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Per stop row: `due_ms` and `slope` are (s, HINGES), `end_value` is (s,)."""

    due_ms: I8
    slope: I8
    end_value: I8

    @classmethod
    def blank(cls, snapshot: Snapshot) -> Terms:
        s = len(snapshot.stops.x)
        return cls(
            np.full((s, HINGES), NEVER, np.int64),
            np.zeros((s, HINGES), np.int64),
            np.zeros(s, np.int64),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Candidates: order row and rider row, sorted by both; `extra` is added to the cost of the
    pair, a `forbidden` pair is never made."""

    order: I4
    rider: I4
    extra: I8
    forbidden: B1

    @classmethod
    def of(cls, order: I4, rider: I4) -> Pairs:
        return cls(order, rider, np.zeros(len(order), np.int64), np.zeros(len(order), np.bool_))


def waiting_cost(snapshot: Snapshot, policy: Policy) -> I8:
    """(n,) points for leaving an order over this round: as if it were done `unassigned_ms` on."""
    then = snapshot.at_ms + policy.unassigned_ms
    late = np.maximum(0, then - snapshot.orders.promise_ms)
    cost: I8 = (then - snapshot.orders.placed_ms) * policy.door_weight + late * policy.late_weight
    return cost
