"""The dispatcher's working columns: rows for orders, stops and riders, kept from event to event.

A round must not pay for what has not changed, so orders and riders are rows that events update in
place and a snapshot is a copy of the columns. May import numpy, geo and the values.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from dispatch.lifecycle import STOP
from dispatch.model import LOAD_DIMENSIONS, Order, Rider, Stop, StopKind, StopState
from dispatch.snapshot import DROPOFF, NEVER, PICKUP, VISIT, Orders, Riders, Snapshot, Stops
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


def padded(load: tuple[int, ...], field: str) -> tuple[int, ...]:
    """A load in LOAD_DIMENSIONS numbers; raises InvalidValue when it has more."""
    if len(load) > LOAD_DIMENSIONS:
        raise InvalidValue(field, load, f"at most {LOAD_DIMENSIONS} load dimensions")
    return (*load, *(0,) * (LOAD_DIMENSIONS - len(load)))


class Table:
    """Named numpy columns that grow together by doubling; `size` rows are in use."""

    def __init__(self, **columns: tuple[npt.DTypeLike, object, tuple[int, ...]]) -> None:
        self._fill = {name: value for name, (_, value, _) in columns.items()}
        self._data = {
            name: np.full((64, *shape), value, dtype)
            for name, (dtype, value, shape) in columns.items()
        }
        self.size = 0

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._data[name]

    def add(self, count: int = 1) -> int:
        """Takes `count` rows at the end and gives the first."""
        first = self.size
        self.size += count
        for name, column in self._data.items():
            if self.size > len(column):
                grown = np.full((2 * self.size, *column.shape[1:]), self._fill[name], column.dtype)
                grown[: len(column)] = column
                self._data[name] = grown
        return first

    def widen(self, name: str, width: int) -> None:
        """Makes room for `width` entries a row in a two-dimensional column."""
        old = self._data[name]
        wide = np.full((len(old), width), self._fill[name], old.dtype)
        wide[:, : old.shape[1]] = old
        self._data[name] = wide

    def copy(self, name: str) -> npt.NDArray[Any]:
        column = self._data[name][: self.size].copy()
        column.flags.writeable = False
        return column


class Places:
    """Numbers for the merchants' doors of the rows in use; a door that no row has loses its own."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._rows: Counter[str] = Counter()
        self._of_row: dict[int, str] = {}
        self._free: list[int] = []

    def at(self, row: int, place_id: str) -> int:
        """The row is at this door from now on; gives the door's number, -1 for none ("")."""
        before = self._of_row.get(row, "")
        if place_id == before:
            return self._number.get(place_id, -1)
        if place_id:
            if place_id not in self._number:
                self._number[place_id] = self._free.pop() if self._free else len(self._number)
            self._rows[place_id] += 1
            self._of_row[row] = place_id
        else:
            del self._of_row[row]
        if before:
            self._rows[before] -= 1
            if not self._rows[before]:
                del self._rows[before]
                self._free.append(self._number.pop(before))
        return self._number.get(place_id, -1)


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
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT_PICKUPS)
        self._base: dict[str, int] = {}  # order id -> its first stop row
        self._size: dict[str, int] = {}  # order id -> how many stop rows it owns
        self._free_orders: list[int] = []
        self._free_stops: defaultdict[int, list[int]] = defaultdict(list)
        self._skills: dict[str, int] = {}
        self._places = Places()

    # --- orders ---

    def add_order(self, order: Order) -> None:
        """Rows for the order and its stops, with one more for a return."""
        row = self._free_orders.pop() if self._free_orders else self.orders.add()
        if row == len(self.order_ids):
            self.order_ids.append(order.id)
        else:
            self.order_ids[row] = order.id
        self.order_row[order.id] = row
        size = len(order.stops) + 1
        free = self._free_stops[size]
        base = free.pop() if free else self.stops.add(size)
        self._base[order.id], self._size[order.id] = base, size
        columns = self.orders
        columns["placed_ms"][row] = order.created_at_ms
        columns["promise_ms"][row] = order.promise_to_ms
        columns["ride_max_ms"][row] = NEVER if order.ride_max_ms is None else order.ride_max_ms
        columns["skills"][row] = self._bits(order.tenant, order.skills, beyond=NOBODY_HAS)
        columns["waiting"][row] = False
        for index, stop in enumerate(order.stops):
            self.set_stop(order, index, stop)
        self.set_progress(order)

    def set_stop(self, order: Order, index: int, stop: Stop) -> None:
        """The stop's row as the order has it; who has arrived needs no approach any more."""
        row, columns = self._base[order.id] + index, self.stops
        x, y = self._xy(stop.place.lat, stop.place.lon)
        columns["x"][row], columns["y"][row] = x, y
        earliest, approach = stop.earliest_ms or 0, stop.approach_ms
        if stop.state is StopState.ARRIVED and stop.arrived_at_ms is not None:
            earliest, approach = max(earliest, stop.arrived_at_ms + approach), 0
        columns["earliest_ms"][row] = earliest
        columns["latest_ms"][row] = NEVER if stop.latest_ms is None else stop.latest_ms
        columns["approach_ms"][row], columns["leave_ms"][row] = approach, stop.leave_ms
        columns["load"][row] = padded(stop.load, f"order {order.id} stops[{index}].load")
        columns["place"][row] = self._places.at(row, stop.place_id)
        columns["kind"][row] = _KINDS[stop.kind]
        columns["order"][row] = self.order_row[order.id]

    def set_progress(self, order: Order) -> None:
        """Version, and which of the order's stops are still to be served."""
        row = self.order_row[order.id]
        open_stops = [i for i, s in enumerate(order.stops) if not STOP.ended(s.state)]
        first = open_stops[0] if open_stops else len(order.stops)
        self.orders["version"][row] = order.version
        self.orders["first_index"][row] = first
        self.orders["first_stop"][row] = self._base[order.id] + first
        self.orders["stop_count"][row] = len(open_stops)

    def set_waiting(self, order_id: str, waiting: bool) -> None:
        self.orders["waiting"][self.order_row[order_id]] = waiting

    def drop_order(self, order_id: str) -> None:
        """Gives the order's rows back; its stops must be on no route any more."""
        row = self.order_row.pop(order_id)
        self.orders["waiting"][row], self.orders["stop_count"][row] = False, 0
        self._free_orders.append(row)
        for stop in self.rows_of(order_id):
            self._places.at(stop, "")
        self._free_stops[self._size.pop(order_id)].append(self._base.pop(order_id))

    def stop_row(self, order_id: str, index: int) -> int:
        return self._base[order_id] + index

    def rows_of(self, order_id: str) -> range:
        base = self._base[order_id]
        return range(base, base + self._size[order_id])

    # --- riders ---

    def rider(self, rider_id: str) -> int:
        """The rider's row: a blank one, closed to orders, if he has not been on shift before."""
        row = self.rider_row.get(rider_id)
        if row is None:
            row = self.rider_row[rider_id] = self.riders.add()
            self.rider_ids.append(rider_id)
        return row

    def set_rider(self, rider: Rider, free_ms: int) -> None:
        """The rider's row as he starts his shift at his place."""
        row, columns = self.rider(rider.id), self.riders
        if rider.place is not None:
            self.move_rider(row, rider.place.lat, rider.place.lon, free_ms - CLOCK_SLACK_MS)
        columns["free_ms"][row] = free_ms
        columns["shift_end_ms"][row] = rider.shift_end_ms
        columns["speed_mps"][row] = rider.speed_mps
        columns["capacity"][row] = padded(rider.capacity, f"rider {rider.id} capacity")
        columns["skills"][row] = self._bits(rider.tenant, rider.skills)

    def set_on_shift(self, rider_id: str, on: bool) -> None:
        self.riders["on_shift"][self.rider_row[rider_id]] = on

    def move_rider(self, row: int, lat: float, lon: float, at_ms: int) -> None:
        """He is there at `at_ms`, by his phone's clock as far as it is known; what the phone
        recorded before does not move him any more."""
        x, y = self._xy(lat, lon)
        self.riders["x"][row], self.riders["y"][row] = x, y
        self.riders["fix_ms"][row] = max(int(self.riders["fix_ms"][row]), at_ms)

    def route(self, row: int) -> list[int]:
        """The stop rows that the rider still has to serve, in order."""
        length = int(self.riders["route_len"][row])
        return [int(s) for s in self.riders["route"][row, :length]]

    def set_route(self, row: int, stops: Iterable[int]) -> None:
        route = list(stops)
        column = self.riders["route"]
        if len(route) > column.shape[1]:
            self.riders.widen("route", len(route))
            column = self.riders["route"]
        column[row, : len(route)] = route
        column[row, len(route) :] = -1
        self.riders["route_len"][row] = len(route)

    def add_load(self, row: int, load: tuple[int, ...], sign: int = 1) -> None:
        self.riders["load"][row] += sign * np.array(padded(load, "load"), np.int32)

    # --- the view ---

    def snapshot(
        self, at_ms: int, declined: Iterable[tuple[int, int]], stale_after_ms: int = NEVER
    ) -> Snapshot:
        """A copy of the columns as a round sees them at `at_ms`.

        A rider who is not driving to a locked stop can act now at the earliest. One whose phone
        has told no place for longer than `stale_after_ms` is `stale`.
        """
        stale = self.riders["fix_ms"][: self.riders.size] < at_ms - stale_after_ms
        free = self.riders.copy("free_ms").astype(np.int64)
        driving = self.riders["locked"][: self.riders.size] == DRIVING
        free = np.where(driving, np.minimum(free, at_ms), np.maximum(free, at_ms))
        riders = {
            f.name: self.riders.copy(f.name)
            for f in fields(Riders)
            if f.name not in ("id", "free_ms", "locked", "stale")
        }
        locked = np.minimum(self.riders["locked"][: self.riders.size], 1).astype(np.int32)
        turned_down = np.array(sorted(declined), np.int32).reshape(-1, 2)
        recent = np.array(self.recent, np.float64).reshape(-1, 2)
        for column in (free, locked, stale, turned_down, recent):
            column.flags.writeable = False
        return Snapshot(
            at_ms=at_ms,
            law=self.law,
            stops=Stops(**{f.name: self.stops.copy(f.name) for f in fields(Stops)}),
            orders=Orders(
                id=tuple(self.order_ids),
                **{f.name: self.orders.copy(f.name) for f in fields(Orders) if f.name != "id"},
            ),
            riders=Riders(
                id=tuple(self.rider_ids), free_ms=free, locked=locked, stale=stale, **riders
            ),
            declined=turned_down,
            recent=recent,
        )

    def _xy(self, lat: float, lon: float) -> tuple[float, float]:
        x, y = self.plane.xy(lat, lon)
        if not math.isfinite(x + y):
            raise InvalidValue("point", (lat, lon), "finite degrees")
        return x, y

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


def pairs_of(declined: dict[str, set[str]], columns: Columns) -> Iterator[tuple[int, int]]:
    """(order row, rider row) of every rider who has turned a live order down."""
    for order_id, riders in declined.items():
        for rider_id in riders:
            if rider_id in columns.rider_row:
                yield columns.order_row[order_id], columns.rider_row[rider_id]
