"""A rider's route and load from what the store knows, for a dispatcher that starts; no I/O."""

from __future__ import annotations

from dispatch.columns import Columns
from dispatch.lifecycle import STOP
from dispatch.model import Order, StopKind, StopState
from dispatch.routes import Routes


def resume(routes: Routes, rider_id: str, orders: list[Order]) -> None:
    """The rider's route and load from the orders that he holds: as last told, then the rest."""
    columns = routes.columns
    row = columns.rider(rider_id)
    attempts = [o.assignment for o in orders if o.assignment is not None]
    last = max(attempts, key=lambda a: (a.offered_at_ms, len(a.route)))
    routes.adopt(rider_id, last.route, {o.id for o in orders})
    for order in orders:
        _adopt_rest(columns, row, order)
        _load_done_stops(routes, row, order)
    _reported_first(columns, row, orders, last.offered_at_ms)
    stops = [s for o in orders for s in o.stops]
    moments = [max(s.headed_at_ms or 0, s.arrived_at_ms or 0) for s in stops]
    moments += [s.done_at_ms + s.leave_ms for s in stops if s.done_at_ms is not None]
    columns.riders.cells["free_ms"][row] = max(moments)
    routes.relock(row)


def _load_done_stops(routes: Routes, row: int, order: Order) -> None:
    for stop in order.stops:
        if stop.state is StopState.DONE:
            routes.columns.add_load(row, stop.load)
            if stop.kind is StopKind.PICKUP:
                routes.limit_ride(order, stop.done_at_ms or 0)


def _adopt_rest(columns: Columns, row: int, order: Order) -> None:
    """Stops that the last offer did not tell of: a return is next, others come at the end."""
    route = columns.route(row)
    rest = [
        columns.stop_row(order.id, i) for i, s in enumerate(order.stops) if not STOP.ended(s.state)
    ]
    rest = [s for s in rest if s not in route]
    columns.set_route(row, rest + route if order.returning else route + rest)


def _reported_first(columns: Columns, row: int, orders: list[Order], told_ms: int) -> None:
    """What the rider has done since he was told his route: his latest report comes first."""
    reports: list[tuple[int, int]] = []
    for order in orders:
        failed_ms = max((s.done_at_ms or 0 for s in order.stops), default=0)
        for i, stop in enumerate(order.stops):
            at = columns.stop_row(order.id, i)
            if stop.state is StopState.ARRIVED:
                reports.append((stop.arrived_at_ms or 0, at))
            elif stop.state is StopState.HEADING and (stop.headed_at_ms or 0) > told_ms:
                reports.append((stop.headed_at_ms or 0, at))
            elif stop.state is StopState.PLANNED and order.returning and failed_ms > told_ms:
                reports.append((failed_ms, at))
    first = [at for _, at in sorted(reports, reverse=True)]
    rest = [s for s in columns.route(row) if s not in first]
    columns.set_route(row, first + rest)
