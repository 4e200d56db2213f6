"""The columns of cost that features fill and kernels read; imports numpy and the snapshot.

This is the closed list of what a route can cost or forbid, in thousandths of a cost point:

- the rider under way and the rider waiting, per ms (`ride_weight`, `wait_weight`);
- lateness at a stop, piecewise linear: `slope` per ms beyond `due_ms`, two hinges a stop;
- the value of ending at a stop (`end_value`);
- one additive and one forbidding column per (order, rider), in `Pairs`;
- hard rules: windows, loads, precedence, ride-time limit, shift end, locked stops, one merchant
  a bundle, bundles in sequence.

No slope, weight or end value is negative: a route costs at least what its beginning does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import B1, I4, I8, NEVER, Snapshot

HINGES = 2


@dataclass(slots=True, eq=False)
class Pairs:
    """Candidates: order row and rider row, sorted by both; `extra` is added to the cost of the
    pair, a `forbidden` pair is never made.

    Exact insertion fills in `cost`, NEVER where there is no way, and `positions` (p, 2): the old
    stops of the route that the order's first and last stop go before.
    """

    order: I4
    rider: I4
    extra: I8
    forbidden: B1
    cost: I8 = field(init=False)
    positions: I4 = field(init=False)

    def __post_init__(self) -> None:
        self.cost = np.full(len(self.order), NEVER, np.int64)
        self.positions = np.full((len(self.order), 2), -1, np.int32)

    @classmethod
    def of(cls, order: I4, rider: I4) -> Pairs:
        return cls(order, rider, np.zeros(len(order), np.int64), np.zeros(len(order), np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What a round looks at: rows of riders who may be given something, and rows of the stops that
    are on their routes or belong to orders that wait. Other rows of its columns are not filled."""

    riders: I4
    stops: I4

    @classmethod
    def of(cls, snapshot: Snapshot, orders: I4, riders: I4) -> Scope:
        """`orders` to give to `riders` (rows; may repeat)."""
        columns, table = snapshot.riders, snapshot.orders
        seen = np.zeros(len(columns.x), np.bool_)
        seen[riders] = True
        rows = np.flatnonzero(seen).astype(np.int32)
        places = np.arange(columns.route.shape[1]) < columns.route_len[rows][:, None]
        first = table.first_stop[orders]
        second = first[table.stop_count[orders] == 2] + 1
        return cls(rows, np.concatenate([columns.route[rows][places], first, second]))

    @classmethod
    def whole(cls, snapshot: Snapshot) -> Scope:
        """Every row there is."""
        riders, stops = len(snapshot.riders.x), len(snapshot.stops.x)
        return cls(np.arange(riders, dtype=np.int32), np.arange(stops, dtype=np.int32))


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Per stop row: `due_ms` and `slope` are (s, HINGES), `end_value` is (s,); features fill the
    rows of `scope.stops`."""

    scope: Scope
    due_ms: I8
    slope: I8
    end_value: I8

    @classmethod
    def blank(cls, snapshot: Snapshot, scope: Scope | None = None) -> Terms:
        """No term costs anything yet."""
        s = len(snapshot.stops.x)
        if scope is None:
            scope = Scope.whole(snapshot)
        due_ms, slope = np.empty((s, HINGES), np.int64), np.empty((s, HINGES), np.int64)
        end_value = np.empty(s, np.int64)
        due_ms[scope.stops], slope[scope.stops], end_value[scope.stops] = NEVER, 0, 0
        return cls(scope, due_ms, slope, end_value)


def waiting_cost(snapshot: Snapshot, policy: Policy) -> I8:
    """(n,) points for leaving an order over this round: as if it were done `unassigned_ms` on."""
    then = snapshot.at_ms + policy.unassigned_ms
    late = np.maximum(0, then - snapshot.orders.promise_ms)
    cost: I8 = (then - snapshot.orders.placed_ms) * policy.door_weight + late * policy.late_weight
    return cost
