"""What riders carry and drive next, kept in the columns from report to report; imports no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from dispatch.columns import AT_STOP, CLOCK_SLACK_MS, DRIVING, FREE, Columns
from dispatch.events import Arrived, Heading, ReturnAdded, StopDone, StopFailed
from dispatch.lifecycle import STOP
from dispatch.model import Order, RouteStop, StopKind, StopState
from dispatch.transitions import stops_ahead

Report = Heading | Arrived | StopDone | StopFailed | ReturnAdded


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
        held = set(current)
        wanted: list[int] = []
        for stop in told:
            order = self._orders.get(stop.order_id)
            if order is None or STOP.ended(order.stops[stop.stop].state):
                continue
            at = columns.stop_row(stop.order_id, stop.stop)
            if at not in wanted and (at in held or stop.order_id in own):
                wanted.append(at)
        if columns.riders["locked"][row]:
            wanted = current[:1] + [s for s in wanted if s != current[0]]
        columns.set_route(row, wanted + [s for s in current if s not in wanted])

    def append(self, rider_id: str, order: Order) -> None:
        """A claimed order comes last: who told its route did not see what the rider does now."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        own = [columns.stop_row(order.id, s.stop) for s in stops_ahead(order)]
        columns.set_route(row, [*columns.route(row), *own])

    def report(self, order: Order, fact: Report, at_ms: int) -> None:
        """The rider has done what `fact` says; `order` is the order after it."""
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        riders, route = columns.riders, columns.route(row)
        if isinstance(fact, ReturnAdded):
            index = len(order.stops) - 1
            columns.set_stop(order, index, fact.stop)
            theirs = columns.rows_of(order.id)
            rest = [s for s in route if s not in theirs]
            here = 1 if riders["locked"][row] else 0
            columns.set_route(row, [*rest[:here], columns.stop_row(order.id, index), *rest[here:]])
            self.relock(fact.rider_id)
            return
        stop, at = order.stops[fact.stop], columns.stop_row(order.id, fact.stop)
        rest = [s for s in route if s != at]
        if isinstance(fact, Heading):
            columns.set_route(row, [at, *rest])
            riders["free_ms"][row] = max(int(riders["free_ms"][row]), at_ms)
        elif isinstance(fact, Arrived):
            columns.set_route(row, [at, *rest])
            columns.set_stop(order, fact.stop, stop)
            seen_ms = at_ms - CLOCK_SLACK_MS if fact.device_ms is None else fact.device_ms
            columns.move_rider(row, stop.place.lat, stop.place.lon, seen_ms)
            riders["free_ms"][row] = at_ms
        else:
            columns.set_route(row, rest)
            riders["free_ms"][row] = at_ms + stop.leave_ms
            if isinstance(fact, StopDone):
                columns.add_load(row, stop.load)
                if stop.kind is StopKind.PICKUP:
                    columns.recent.append(columns.plane.xy(stop.place.lat, stop.place.lon))
                    self.limit_ride(order, at_ms)
        self.relock(fact.rider_id)

    def take_back(self, before: Order, rider_id: str) -> None:
        """The rider holds the order no longer: off his route, and what he had of it off his load.

        His lock is left as it was: the rows of the order are the caller's to change first.
        """
        row = self.columns.rider_row[rider_id]
        theirs = self.columns.rows_of(before.id)
        self.columns.set_route(row, [s for s in self.columns.route(row) if s not in theirs])
        for stop in before.stops:
            if stop.state is StopState.DONE:
                self.columns.add_load(row, stop.load, sign=-1)

    def limit_ride(self, order: Order, picked_ms: int) -> None:
        """What is on board has a moment until which the rider must be at its door."""
        ahead = order.stops[-1]
        if order.ride_max_ms is None or order.returning or ahead.state is StopState.ARRIVED:
            return
        row = int(self.columns.orders["first_stop"][self.columns.order_row[order.id]])
        latest = self.columns.stops["latest_ms"]
        latest[row] = min(int(latest[row]), picked_ms + order.ride_max_ms)

    def relock(self, rider_id: str) -> None:
        """Nothing goes before the stop where the rider stands or, without diversion, drives to."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        route = columns.route(row)
        lock = FREE
        if route:
            order = self._orders[columns.order_ids[int(columns.stops["order"][route[0]])]]
            state = order.stops[route[0] - columns.stop_row(order.id, 0)].state
            if state is StopState.ARRIVED:
                lock = AT_STOP
            elif state is StopState.HEADING and not self._diversion:
                lock = DRIVING
        columns.riders["locked"][row] = lock
