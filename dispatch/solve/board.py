"""The snapshot's facts side by side, as kernels read them: a row of numbers a stop and a rider.

May import numpy and the snapshot. Only the rows of the terms' scope are filled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.policy import Policy
from dispatch.snapshot import DROPOFF, F8, I1, I4, I8, NEVER, PICKUP, Snapshot
from dispatch.solve.terms import Terms
from geo.compiled import compiled

# Columns of `Board.stops`; a load dimension each follows from LOAD on.
EARLIEST, LATEST, APPROACH, LEAVE, PLACE, KIND, ORDER, RIDE_MAX = range(8)
DUE, SLOPE, DUE_2, SLOPE_2, END, LOAD = range(8, 14)
# Columns of `Board.riders`; load and capacity by dimension follow from CARRIES on.
FREE, SHIFT_END, HELD, CARRIES = range(4)
# Entries of `Board.rules`.
METRIC, QUANTUM, RIDE_WEIGHT, WAIT_WEIGHT, ONE_MERCHANT, IN_SEQUENCE, ROUTE_MAX = range(7)

INFEASIBLE = NEVER
_PICKUP, _DROPOFF = int(PICKUP), int(DROPOFF)


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """`stops` (s, LOAD + d) and `riders` (r, CARRIES + 2 d) of int64; `places` (s, 2) metres;
    `starts` (r, 3): metres, and ms a metre; `rules`. HELD counts orders that are on board."""

    stops: I8
    places: F8
    riders: I8
    starts: F8
    rules: I8

    @classmethod
    def of(cls, snapshot: Snapshot, terms: Terms, policy: Policy) -> Board:
        stops, orders, riders, law = snapshot.stops, snapshot.orders, snapshot.riders, snapshot.law
        s, r, d = len(stops.x), len(riders.x), stops.load.shape[1]
        board = cls(
            np.empty((s, LOAD + d), np.int64),
            np.empty((s, 2)),
            np.empty((r, CARRIES + 2 * d), np.int64),
            np.empty((r, 3)),
            np.array(
                [
                    law.metric,
                    law.quantum_ms,
                    policy.ride_weight,
                    policy.wait_weight,
                    policy.one_merchant_a_bundle,
                    policy.bundles_in_sequence,
                    policy.route_stops_max,
                ],
                np.int64,
            ),
        )
        _fill_stops(
            terms.scope.stops, stops.x, stops.y, stops.earliest_ms, stops.latest_ms,
            stops.approach_ms, stops.leave_ms, stops.place, stops.kind, stops.order, stops.load,
            orders.ride_max_ms, terms.due_ms, terms.slope, terms.end_value, board.stops,
            board.places,
        )  # fmt: skip
        _fill_riders(
            terms.scope.riders, riders.x, riders.y, riders.speed_mps, 1000.0 * law.detour,
            riders.free_ms, riders.shift_end_ms, riders.load, riders.capacity, riders.route,
            riders.route_len, stops.kind, board.riders, board.starts,
        )  # fmt: skip
        return board


# Columns of a snapshot, which may be read-only.
_I8, _I4, _I1, _F8 = (f"Array({t}, 1, 'C', True)" for t in ("int64", "int32", "int8", "float64"))
_I4_2 = "Array(int32, 2, 'C', True)"


@compiled(
    f"void(int32[::1], {_F8}, {_F8}, {_I8}, {_I8}, {_I8}, {_I8}, {_I4}, {_I1}, {_I4}, {_I4_2},"
    f" {_I8}, int64[:, ::1], int64[:, ::1], int64[::1], int64[:, ::1], float64[:, ::1])"
)
def _fill_stops(
    rows: I4,
    x: F8,
    y: F8,
    earliest_ms: I8,
    latest_ms: I8,
    approach_ms: I8,
    leave_ms: I8,
    place: I4,
    kind: I1,
    order: I4,
    load: I4,
    ride_max_ms: I8,
    due_ms: I8,
    slope: I8,
    end_value: I8,
    out: I8,
    places: F8,
) -> None:
    for s in rows:
        places[s, 0], places[s, 1] = x[s], y[s]
        out[s, EARLIEST], out[s, LATEST] = earliest_ms[s], latest_ms[s]
        out[s, APPROACH], out[s, LEAVE] = approach_ms[s], leave_ms[s]
        out[s, PLACE], out[s, KIND], out[s, ORDER] = place[s], kind[s], order[s]
        out[s, RIDE_MAX] = ride_max_ms[order[s]]
        out[s, DUE], out[s, SLOPE] = due_ms[s, 0], slope[s, 0]
        out[s, DUE_2], out[s, SLOPE_2] = due_ms[s, 1], slope[s, 1]
        out[s, END] = end_value[s]
        for d in range(load.shape[1]):
            out[s, LOAD + d] = load[s, d]


@compiled(
    f"void(int32[::1], {_F8}, {_F8}, {_F8}, float64, {_I8}, {_I8}, {_I4_2}, {_I4_2}, {_I4_2},"
    f" {_I4}, {_I1}, int64[:, ::1], float64[:, ::1])"
)
def _fill_riders(
    rows: I4,
    x: F8,
    y: F8,
    speed_mps: F8,
    ms_per_m: float,
    free_ms: I8,
    shift_end_ms: I8,
    load: I4,
    capacity: I4,
    route: I4,
    route_len: I4,
    kind: I1,
    out: I8,
    starts: F8,
) -> None:
    dims = load.shape[1]
    for r in rows:
        starts[r, 0], starts[r, 1], starts[r, 2] = x[r], y[r], ms_per_m / speed_mps[r]
        out[r, FREE], out[r, SHIFT_END] = free_ms[r], shift_end_ms[r]
        held = 0
        for k in range(route_len[r]):
            held += (kind[route[r, k]] == _DROPOFF) - (kind[route[r, k]] == _PICKUP)
        out[r, HELD] = held
        for d in range(dims):
            out[r, CARRIES + d], out[r, CARRIES + dims + d] = load[r, d], capacity[r, d]
