"""What riders carry and drive next, kept in the columns from report to report; imports no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from dispatch.columns import AT_STOP, CLOCK_SLACK_MS, DRIVING, FREE, Columns
from dispatch.events import Arrived, Heading, ReturnAdded, StopDone, StopFailed
from dispatch.lifecycle import STOP
from dispatch.model import Order, RouteStop, StopKind, StopState
from dispatch.transitions import stops_ahead

_PICKUP, _DONE = StopKind.PICKUP, StopState.DONE
_HEADING, _ARRIVED, _STOP_ENDS = StopState.HEADING, StopState.ARRIVED, STOP.ends


class Routes:
    """The riders' routes, loads and locks. `orders` are the live ones, kept by the owner.

    Without `diversion` a rider on his way to a stop is locked to it.
    """

    def __init__(self, columns: Columns, orders: Mapping[str, Order], diversion: bool) -> None:
        self.columns, self._orders, self._diversion = columns, orders, diversion

    def adopt(self, rider_id: str, told: tuple[RouteStop, ...], own: set[str]) -> None:
        """The rider's route as told: stops of `own` orders are put in, others only kept."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        current = columns.route(row)
        wanted: list[int] = []
        for stop in told:
            order = self._orders.get(stop.order_id)
            if order is None:
                continue
            at = columns.stop_row(order.id, stop.stop)
            mine = order.id in own and order.stops[stop.stop].state not in _STOP_ENDS
            if (mine or at in current) and at not in wanted:
                wanted.append(at)
        if columns.riders.cells["locked"][row]:
            wanted = current[:1] + [s for s in wanted if s != current[0]]
        columns.set_route(row, wanted + [s for s in current if s not in wanted])
        self.relock(row)

    def append(self, rider_id: str, order: Order) -> None:
        """A claimed order comes last: who told its route did not see what the rider does now."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        own = [columns.stop_row(order.id, s.stop) for s in stops_ahead(order)]
        columns.set_route(row, [*columns.route(row), *own])
        self.relock(row)

    def heading(self, order: Order, fact: Heading, at_ms: int) -> None:
        """The rider has set out for a stop of the order; here and below as it is after the fact."""
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        columns.put_first(row, columns.stop_row(order.id, fact.stop))
        free_ms = columns.riders.cells["free_ms"]
        free_ms[row] = max(free_ms[row], at_ms)
        columns.riders.cells["locked"][row] = FREE if self._diversion else DRIVING

    def arrived(self, order: Order, fact: Arrived, at_ms: int) -> None:
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        at, stops = columns.stop_row(order.id, fact.stop), columns.stops.cells
        columns.put_first(row, at)
        columns.set_times(at, order.stops[fact.stop])
        seen_ms = at_ms - CLOCK_SLACK_MS if fact.device_ms is None else fact.device_ms
        columns.move_rider(row, stops["x"][at], stops["y"][at], seen_ms)
        columns.riders.cells["free_ms"][row] = at_ms
        columns.riders.cells["locked"][row] = AT_STOP

    def done(self, order: Order, fact: StopDone, at_ms: int) -> None:
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        stop, at = order.stops[fact.stop], columns.stop_row(order.id, fact.stop)
        self._leave(row, at, at_ms + stop.leave_ms)
        columns.pass_stop(order, fact.stop)
        columns.add_load(row, stop.load)
        if stop.kind is _PICKUP:
            columns.recent.add(columns.stops.cells["x"][at], columns.stops.cells["y"][at])
            self.limit_ride(order, at_ms)
        self.relock(row)

    def failed(self, order: Order, fact: StopFailed, at_ms: int) -> None:
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        stop, at = order.stops[fact.stop], columns.stop_row(order.id, fact.stop)
        self._leave(row, at, at_ms + stop.leave_ms)
        columns.pass_stop(order, fact.stop)
        self.relock(row)

    def returns(self, order: Order, fact: ReturnAdded, at_ms: int) -> None:
        """The stop where the goods go back is next, unless the rider is bound to another first."""
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        index = len(order.stops) - 1
        columns.add_stop(order, index, fact.stop)
        columns.set_progress(order)
        theirs = columns.rows_of(order.id)
        rest = [s for s in columns.route(row) if s not in theirs]
        here = 1 if columns.riders.cells["locked"][row] else 0
        columns.set_route(row, [*rest[:here], theirs[index], *rest[here:]])
        self.relock(row)

    def _leave(self, row: int, stop: int, free_ms: int) -> None:
        route = self.columns.route(row)
        if route and route[0] == stop:
            self.columns.set_route(row, route[1:])
        elif stop in route:
            self.columns.set_route(row, [s for s in route if s != stop])
        self.columns.riders.cells["free_ms"][row] = free_ms

    def take_back(self, before: Order, rider_id: str) -> None:
        """The rider holds the order no longer: off his route, and what he had of it off his load.

        His lock is left as it was: the rows of the order are the caller's to change first.
        """
        row = self.columns.rider_row[rider_id]
        theirs = self.columns.rows_of(before.id)
        self.columns.set_route(row, [s for s in self.columns.route(row) if s not in theirs])
        for stop in before.stops:
            if stop.state is _DONE:
                self.columns.add_load(row, stop.load, sign=-1)

    def limit_ride(self, order: Order, picked_ms: int) -> None:
        """What is on board has a moment until which the rider must be at its door."""
        if order.ride_max_ms is None or order.returning or order.stops[-1].state is _ARRIVED:
            return
        columns = self.columns
        row = columns.orders.cells["first_stop"][columns.order_row[order.id]]
        latest_ms = columns.stops.cells["latest_ms"]
        latest_ms[row] = min(latest_ms[row], picked_ms + order.ride_max_ms)

    def relock(self, row: int) -> None:
        """Nothing goes before the stop where the rider stands or, without diversion, drives to."""
        columns = self.columns
        route = columns.route(row)
        lock = FREE
        if route:
            order_id, index = columns.stop_at[route[0]]
            state = self._orders[order_id].stops[index].state
            if state is _ARRIVED:
                lock = AT_STOP
            elif state is _HEADING and not self._diversion:
                lock = DRIVING
        columns.riders.cells["locked"][row] = lock
