"""The dispatcher's working columns: rows for orders, stops and riders, kept from event to event.

A round must not pay for what has not changed, so orders and riders are rows that events update in
place and a snapshot is a copy of the columns. May import numpy, geo and the values.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import repeat

import numpy as np

from dispatch.lifecycle import STOP
from dispatch.messages import Fixes
from dispatch.model import LOAD_DIMENSIONS, Order, Rider, Stop, StopKind, StopState
from dispatch.snapshot import (
    DROPOFF,
    I4,
    I8,
    NEVER,
    PICKUP,
    VISIT,
    Ids,
    Orders,
    Riders,
    Snapshot,
    Stops,
)
from dispatch.tables import Places, Recent, Table
from geo.distance import Plane
from geo.errors import InvalidValue
from geo.travel import TravelLaw

RECENT_PICKUPS = 60
CLOCK_SLACK_MS = 120_000  # how far a phone's clock may be behind before its fixes are lost
SKILLS_MAX = 62  # what an int64 column has bits for, but for one that no rider has
NOBODY_HAS = 1 << SKILLS_MAX
# Values of the working column `locked`.
FREE, AT_STOP, DRIVING = 0, 1, 2
_KINDS = {StopKind.PICKUP: PICKUP, StopKind.DROPOFF: DROPOFF, StopKind.VISIT: VISIT}
_ARRIVED, _STOP_ENDS = StopState.ARRIVED, STOP.ends


def padded(load: tuple[int, ...], field: str) -> tuple[int, ...]:
    """A load in LOAD_DIMENSIONS numbers; raises InvalidValue when it has more."""
    if len(load) > LOAD_DIMENSIONS:
        raise InvalidValue(field, load, f"at most {LOAD_DIMENSIONS} load dimensions")
    return (*load, *(0,) * (LOAD_DIMENSIONS - len(load)))


class Columns:
    """Everything a snapshot shows, as rows; the dispatcher says what happens to them."""

    def __init__(self, plane: Plane, law: TravelLaw, route_stops_max: int) -> None:
        self.plane, self.law = plane, law
        i8, i4, f8 = np.int64, np.int32, np.float64
        dims = (LOAD_DIMENSIONS,)
        self.stops = Table(
            x=(f8, 0.0, ()), y=(f8, 0.0, ()), earliest_ms=(i8, 0, ()),
            latest_ms=(i8, NEVER, ()), approach_ms=(i8, 0, ()), leave_ms=(i8, 0, ()),
            load=(i4, 0, dims), place=(i4, -1, ()), kind=(np.int8, VISIT, ()), order=(i4, 0, ()),
        )  # fmt: skip
        self.orders = Table(
            version=(i4, 0, ()), first_stop=(i4, 0, ()), first_index=(np.int8, 0, ()),
            stop_count=(np.int8, 0, ()), placed_ms=(i8, 0, ()), promise_ms=(i8, NEVER, ()),
            ride_max_ms=(i8, NEVER, ()), skills=(i8, 0, ()), waiting=(np.bool_, False, ()),
        )  # fmt: skip
        self.riders = Table(
            x=(f8, 0.0, ()), y=(f8, 0.0, ()), free_ms=(i8, 0, ()),
            shift_end_ms=(i8, 0, ()), speed_mps=(f8, 1.0, ()), capacity=(i4, 0, dims),
            load=(i4, 0, dims), skills=(i8, 0, ()), fix_ms=(i8, 0, ()),
            route=(i4, -1, (route_stops_max,)), route_len=(i4, 0, ()), locked=(i4, 0, ()),
            open=(np.bool_, False, ()), on_shift=(np.bool_, False, ()),
        )  # fmt: skip
        self.order_ids: list[str] = []
        self.rider_ids: list[str] = []
        self.order_row: dict[str, int] = {}
        self.rider_row: dict[str, int] = {}
        self.stop_at: dict[int, tuple[str, int]] = {}  # of a stop row in use: order, index
        self.recent = Recent(RECENT_PICKUPS)
        self._base: list[int] = []  # of an order row: its first stop row
        self._size: list[int] = []  # of an order row: how many stop rows it owns
        self._routes: list[list[int]] = []  # of a rider row: what `route` says; never changed
        self._free_orders: list[int] = []
        self._free_stops: defaultdict[int, list[int]] = defaultdict(list)
        self._skills: dict[str, int] = {}
        self._places = Places()
        self._declined: dict[str, tuple[str, ...]] = {}
        # What snapshots share until it changes.
        self._told_orders: tuple[str, ...] | None = None
        self._told_riders: Ids | None = None
        self._told_declined: I4 | None = None
        self._fleet: tuple[tuple[str, ...], int, I8] = ((), 0, np.empty(0, np.int64))

    # --- orders ---

    def add_order(self, order: Order) -> None:
        """Rows for the order and its stops, with one more for a return."""
        size = len(order.stops) + 1
        free = self._free_stops[size]
        base = free.pop() if free else self.stops.add(size)
        if self._free_orders:
            row = self._free_orders.pop()
            self.order_ids[row], self._base[row], self._size[row] = order.id, base, size
        else:
            row = self.orders.add()
            self.order_ids.append(order.id)
            self._base.append(base)
            self._size.append(size)
        self.order_row[order.id] = row
        self._told_orders = None
        cells = self.orders.cells
        cells["placed_ms"][row] = order.created_at_ms
        cells["promise_ms"][row] = order.promise_to_ms
        cells["ride_max_ms"][row] = NEVER if order.ride_max_ms is None else order.ride_max_ms
        cells["skills"][row] = self._bits(order.tenant, order.skills, beyond=NOBODY_HAS)
        cells["waiting"][row] = False
        cells["version"][row] = order.version
        for index, stop in enumerate(order.stops):
            self.add_stop(order, index, stop)
        self.set_progress(order)

    def add_stop(self, order: Order, index: int, stop: Stop) -> None:
        """The stop's row, whatever it held before."""
        order_row = self.order_row[order.id]
        row, cells, place = self._base[order_row] + index, self.stops.cells, stop.place
        self.stop_at[row] = order.id, index
        cells["x"][row], cells["y"][row] = self._xy(place.lat, place.lon)
        cells["leave_ms"][row] = stop.leave_ms
        load, at = cells["load"], LOAD_DIMENSIONS * row
        for d, n in enumerate(padded(stop.load, f"order {order.id} stops[{index}].load")):
            load[at + d] = n
        cells["place"][row] = self._places.at(row, stop.place_id)
        cells["kind"][row] = _KINDS[stop.kind]
        cells["order"][row] = order_row
        self.set_times(row, stop)

    def set_times(self, row: int, stop: Stop) -> None:
        """When the stop is served, as its state has it; who has arrived approaches no more."""
        cells = self.stops.cells
        earliest, approach = stop.earliest_ms or 0, stop.approach_ms
        if stop.state is _ARRIVED and stop.arrived_at_ms is not None:
            earliest, approach = max(earliest, stop.arrived_at_ms + approach), 0
        cells["earliest_ms"][row], cells["approach_ms"][row] = earliest, approach
        cells["latest_ms"][row] = NEVER if stop.latest_ms is None else stop.latest_ms

    def set_progress(self, order: Order) -> None:
        """Which of the order's stops are still to be served."""
        row, stops, cells = self.order_row[order.id], order.stops, self.orders.cells
        ahead = [i for i, stop in enumerate(stops) if stop.state not in _STOP_ENDS]
        first = ahead[0] if ahead else len(stops)
        cells["first_index"][row] = first
        cells["first_stop"][row] = self._base[row] + first
        cells["stop_count"][row] = len(ahead)

    def pass_stop(self, order: Order, index: int) -> None:
        """The stop was the next one, and is over."""
        row, cells = self.order_row[order.id], self.orders.cells
        cells["first_index"][row] = index + 1
        cells["first_stop"][row] = self._base[row] + index + 1
        cells["stop_count"][row] = len(order.stops) - index - 1

    def set_declined(self, order: Order) -> None:
        """Who is not to be asked for the order lightly."""
        self._declined[order.id] = order.declined_by
        self._tell_declined(order.id)

    def drop_order(self, order_id: str) -> None:
        """Gives the order's rows back; its stops must be on no route any more."""
        if self._declined.pop(order_id, None) is not None:
            self._tell_declined(order_id)
        row = self.order_row.pop(order_id)
        cells = self.orders.cells
        cells["waiting"][row], cells["stop_count"][row] = False, 0
        self._free_orders.append(row)
        base, size = self._base[row], self._size[row]
        for stop in range(base, base + size):
            self._places.at(stop, "")
        self._free_stops[size].append(base)

    def stop_row(self, order_id: str, index: int) -> int:
        return self._base[self.order_row[order_id]] + index

    def rows_of(self, order_id: str) -> range:
        row = self.order_row[order_id]
        return range(self._base[row], self._base[row] + self._size[row])

    # --- riders ---

    def rider(self, rider_id: str) -> int:
        """The rider's row: a blank one, closed to orders, if he has not been on shift before."""
        row = self.rider_row.get(rider_id)
        if row is None:
            row = self.rider_row[rider_id] = self.riders.add()
            self.rider_ids.append(rider_id)
            self._routes.append([])
            self._told_riders = self._told_declined = None
        return row

    def set_rider(self, rider: Rider, free_ms: int) -> None:
        """The rider's row as he starts his shift at his place."""
        row, cells = self.rider(rider.id), self.riders.cells
        if rider.place is not None:
            x, y = self._xy(rider.place.lat, rider.place.lon)
            self.move_rider(row, x, y, free_ms - CLOCK_SLACK_MS)
        cells["free_ms"][row] = free_ms
        cells["shift_end_ms"][row] = rider.shift_end_ms
        cells["speed_mps"][row] = rider.speed_mps
        self.riders["capacity"][row] = padded(rider.capacity, f"rider {rider.id} capacity")
        cells["skills"][row] = self._bits(rider.tenant, rider.skills)

    def set_on_shift(self, rider_id: str, on: bool) -> None:
        self.riders.cells["on_shift"][self.rider_row[rider_id]] = on

    def move_rider(self, row: int, x: float, y: float, at_ms: int) -> None:
        """He is there at `at_ms`, by his phone's clock as far as it is known; what the phone
        recorded before does not move him any more."""
        cells = self.riders.cells
        cells["x"][row], cells["y"][row] = x, y
        fix_ms = cells["fix_ms"]
        if at_ms > fix_ms[row]:
            fix_ms[row] = at_ms

    def move_riders(self, fixes: Fixes) -> None:
        """Only newer ones: a phone may deliver late what it recorded long ago.

        Raises InvalidValue for a point that is none, and has changed nothing then.
        """
        if fixes.which is None:
            row = self._rows_of(fixes.rider_id)
        else:
            row = self._rows_in_fleet(fixes.rider_id, fixes.which)
        lat, lon, at_ms, column = fixes.lat, fixes.lon, fixes.at_ms, self.riders
        newer = row >= 0
        newer &= at_ms >= column["fix_ms"][row]
        if np.count_nonzero(newer) < len(row):
            row, lat, lon, at_ms = row[newer], lat[newer], lon[newer], at_ms[newer]
        if not len(row):
            return
        x, y = self.plane.xy(lat, lon)
        if np.count_nonzero(np.isfinite(x + y)) < len(row):
            raise InvalidValue("fixes", "NaN or infinity", "finite degrees")
        if fixes.which is None and (at_ms[1:] < at_ms[:-1]).any():
            # Of a rider's fixes the newest is written last.
            by_time = np.argsort(at_ms, kind="stable")
            row, x, y, at_ms = row[by_time], x[by_time], y[by_time], at_ms[by_time]
        column["x"][row], column["y"][row], column["fix_ms"][row] = x, y, at_ms
        driving = column["locked"][row] == DRIVING
        if np.count_nonzero(driving):
            column["free_ms"][row[driving]] = at_ms[driving]

    def _rows_of(self, rider_id: tuple[str, ...]) -> I8:
        known = map(self.rider_row.get, rider_id, repeat(-1))
        return np.fromiter(known, np.int64, len(rider_id))

    def _rows_in_fleet(self, rider_id: tuple[str, ...], which: I8) -> I8:
        """The rows of a fleet are looked up once, and again when there are riders more."""
        fleet, riders, rows = self._fleet
        if fleet is not rider_id or riders != len(self.rider_row):
            rows = self._rows_of(rider_id)
            self._fleet = rider_id, len(self.rider_row), rows
        found: I8 = rows[which]
        return found

    def route(self, row: int) -> list[int]:
        """The stop rows that the rider still has to serve, in order; not to be changed."""
        return self._routes[row]

    def set_route(self, row: int, route: list[int]) -> None:
        """Takes the list over."""
        before = self._routes[row]
        if route == before:
            return
        self._routes[row] = route
        width = self.riders["route"].shape[1]
        if len(route) > width:
            self.riders.widen("route", len(route))
            width = len(route)
        cells, at = self.riders.cells, width * row
        column = cells["route"]
        for k, stop in enumerate(route, at):
            column[k] = stop
        for k in range(at + len(route), at + len(before)):
            column[k] = -1
        cells["route_len"][row] = len(route)

    def put_first(self, row: int, stop: int) -> None:
        """The stop comes before what else is on the rider's route."""
        route = self._routes[row]
        if not route or route[0] != stop:
            self.set_route(row, [stop, *(s for s in route if s != stop)])

    def add_load(self, row: int, load: tuple[int, ...], sign: int = 1) -> None:
        """What a stop that has a row changes on board."""
        column, at = self.riders.cells["load"], LOAD_DIMENSIONS * row
        for d, n in enumerate(load, at):
            if n:
                column[d] += sign * n

    # --- the view ---

    def snapshot(self, at_ms: int, stale_after_ms: int = NEVER, shared: bool = False) -> Snapshot:
        """A copy of the columns as a round sees them at `at_ms`.

        A rider who is not driving to a locked stop can act now at the earliest. One whose phone
        has told no place for longer than `stale_after_ms` is `stale`. A `shared` snapshot is good
        until the columns are written next: it shows them instead of copies.
        """
        tables = self.stops, self.orders, self.riders
        stops, orders, riders = [t.views() if shared else t.copies() for t in tables]
        locked, free = riders["locked"], riders["free_ms"]
        driving = locked == DRIVING
        shown = np.maximum(free, at_ms)
        if driving.any():
            shown = np.where(driving, np.minimum(free, at_ms), shown)
        riders["free_ms"], riders["locked"] = shown, np.minimum(locked, 1)
        riders["stale"] = riders.pop("fix_ms") < at_ms - stale_after_ms
        for name in ("free_ms", "locked", "stale"):
            riders[name].flags.writeable = False
        if self._told_orders is None:
            self._told_orders = tuple(self.order_ids)
        if self._told_riders is None:
            self._told_riders = Ids(self.rider_ids)
        if self._told_declined is None:
            self._told_declined = self._declined_pairs()
        self._told_declined.flags.writeable = False
        return Snapshot(
            at_ms=at_ms,
            law=self.law,
            stops=Stops(**stops),
            orders=Orders(id=self._told_orders, **orders),
            riders=Riders(id=self._told_riders, **riders),
            declined=self._told_declined,
            recent=self.recent.view() if shared else self.recent.copy(),
        )

    def _xy(self, lat: float, lon: float) -> tuple[float, float]:
        x, y = self.plane.xy(lat, lon)
        if not math.isfinite(x + y):
            raise InvalidValue("point", (lat, lon), "finite degrees")
        return x, y

    def _declined_pairs(self) -> I4:
        """(order row, rider row) of every rider who has turned a live order down, in no order."""
        pairs = [pair for order_id in self._declined for pair in self._declined_of(order_id)]
        return np.array(pairs, np.int32).reshape(-1, 2)

    def _declined_of(self, order_id: str) -> list[tuple[int, int]]:
        """A rider who has no row yet may get one."""
        row, known = self.order_row[order_id], self.rider_row
        return [(row, known[r]) for r in self._declined.get(order_id, ()) if r in known]

    def _tell_declined(self, order_id: str) -> None:
        """Brings what snapshots share up to date, in a copy: there may be hundreds of pairs."""
        told = self._told_declined
        if told is not None:
            own = np.array(self._declined_of(order_id), np.int32).reshape(-1, 2)
            others = told[:, 0] != self.order_row[order_id]
            self._told_declined = np.concatenate((told[others], own))

    def _bits(self, tenant: str, skills: tuple[str, ...], beyond: int = 0) -> int:
        """One bit a skill; each skill past the first SKILLS_MAX that a city names is `beyond`.

        To be of the tenant is a skill too: a rider serves his own tenant's orders only.
        """
        bits = 0
        for name in (f"tenant {tenant}", *skills):
            if name not in self._skills and len(self._skills) < SKILLS_MAX:
                self._skills[name] = len(self._skills)
            bits |= 1 << self._skills[name] if name in self._skills else beyond
        return bits
