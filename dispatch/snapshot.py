"""What a round sees: read-only columns, checked once; imports numpy and geo.

Three tables (stops, orders, riders), each a set of columns of one length. A stop row belongs to
one order row; a rider's route lists the stop rows that he still has to serve. Rows that no waiting
order and no route refers to are ignored. Instants are ms UTC, `NEVER` where there is no limit;
places are metres in the city's plane.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from geo.errors import BrokenSnapshot
from geo.travel import TravelLaw

NEVER = 1 << 60
PICKUP, DROPOFF, VISIT = 0, 1, 2

I8 = npt.NDArray[np.int64]
I4 = npt.NDArray[np.int32]
I1 = npt.NDArray[np.int8]
F8 = npt.NDArray[np.float64]
B1 = npt.NDArray[np.bool_]


class Ids(tuple[str, ...]):
    """The names of a table's rows, which also find a row by its name."""

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each name; not to be changed."""
        return {name: row for row, name in enumerate(self)}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stops:
    """s rows. `load` is (s, d): the change on board by load dimension; `place` is the identity of
    a merchant's door (equal numbers are one place), -1 for none; `kind` is PICKUP, DROPOFF or
    VISIT."""

    x: F8
    y: F8
    earliest_ms: I8
    latest_ms: I8
    approach_ms: I8
    leave_ms: I8
    load: I4
    place: I4
    kind: I1
    order: I4


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Orders:
    """n rows. `first_stop` and `stop_count` name the order's stop rows that are still to serve
    (consecutive); `waiting` orders ask for a rider, the others already have one."""

    id: tuple[str, ...]
    version: I4
    first_stop: I4
    first_index: I1
    stop_count: I1
    placed_ms: I8
    promise_ms: I8
    ride_max_ms: I8
    skills: I8
    waiting: B1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Riders:
    """r rows. A rider can leave (x, y) at `free_ms`; he picks up nothing after `shift_end_ms`.

    `route` is (r, max stops) of stop rows, -1 beyond `route_len`; nothing may be put before its
    first `locked` stops. `load` and `capacity` are (r, d). `open` riders may be given orders; who
    is `on_shift` and not open is being asked. A `stale` rider is where he was last seen.
    """

    id: tuple[str, ...]
    x: F8
    y: F8
    free_ms: I8
    shift_end_ms: I8
    speed_mps: F8
    capacity: I4
    load: I4
    skills: I8
    route: I4
    route_len: I4
    locked: I4
    open: B1
    on_shift: B1
    stale: B1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Snapshot:
    """One city at `at_ms`. `declined` is (p, 2): pairs of order row and rider row that a rider has
    turned down; `recent` is (q, 2): metres of the latest pickups, for the value of an end."""

    at_ms: int
    law: TravelLaw
    stops: Stops
    orders: Orders
    riders: Riders
    declined: I4
    recent: F8

    def check(self) -> None:
        """Raises BrokenSnapshot naming the first table and row that break a rule."""
        for name in ("stops", "orders", "riders"):
            table = getattr(self, name)
            sizes = {f.name: len(getattr(table, f.name)) for f in fields(table)}
            first = next(iter(sizes.values()))
            for column, size in sizes.items():
                if size != first:
                    raise BrokenSnapshot(
                        name, size, f"column {column} has {size} rows, not {first}"
                    )
        stops, orders, riders = self.stops, self.orders, self.riders
        _hold("riders", np.isfinite(riders.x) & np.isfinite(riders.y), "x and y are finite")
        _hold("stops", np.isfinite(stops.x) & np.isfinite(stops.y), "x and y are finite")
        _hold("riders", riders.speed_mps > 0, "speed_mps is positive")
        _hold("riders", riders.route_len <= riders.route.shape[1], "route_len fits the route")
        locked = (riders.locked >= 0) & (riders.locked <= riders.route_len)
        _hold("riders", locked, "locked is within the route")
        known = (stops.order >= 0) & (stops.order < len(orders.id))
        _hold("stops", known, "order names an order row")
        width = np.arange(riders.route.shape[1])
        used = width[None, :] < riders.route_len[:, None]
        inside = (riders.route >= 0) & (riders.route < len(stops.x))
        _hold("riders", (inside | ~used).all(axis=1), "route names stop rows")
        rows = riders.route[used]
        seen = np.bincount(rows, minlength=len(stops.x)) if len(rows) else np.zeros(0, np.int64)
        _hold("stops", seen <= 1, "a stop stands in one route at most")
        waiting = np.flatnonzero(orders.waiting)
        count = orders.stop_count[waiting]
        _hold("orders", (count >= 1) & (count <= 2), "a waiting order has 1 or 2 stops", waiting)
        after = orders.first_stop + orders.stop_count
        in_table = (orders.first_stop >= 0) & (after <= len(stops.x)) | (orders.stop_count == 0)
        _hold("orders", in_table, "first_stop and stop_count name stop rows")
        for stop in (orders.first_stop[waiting], after[waiting] - 1):
            _hold("orders", stops.order[stop] == waiting, "its stops belong to it", waiting)
            if len(seen):
                _hold("orders", seen[stop] == 0, "a waiting order is on no route", waiting)


def _hold(table: str, true: Any, rule: str, rows: npt.NDArray[np.int_] | None = None) -> None:
    wrong = np.flatnonzero(~true)
    if len(wrong):
        raise BrokenSnapshot(table, int(wrong[0] if rows is None else rows[wrong[0]]), rule)
