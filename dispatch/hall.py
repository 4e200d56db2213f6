"""The hall, where riders grab orders themselves: who may, and where the order goes on his route.

Pure functions; imports the values and transitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from dispatch.model import Matching, Order, OrderState, Rider, RiderState, RouteStop, StopState
from dispatch.transitions import Refusal, stops_ahead


def in_hall(order: Order, at_ms: int) -> bool:
    """Whether somebody may claim it now."""
    free = order.state is OrderState.OPEN and order.assignment is None
    return order.matching is Matching.HALL and free and at_ms < order.expires_at_ms


def suits(order: Order, rider: Rider) -> bool:
    """Of his tenant and city, within his skills, and it fits on board by itself."""
    own = (order.tenant, order.city) == (rider.tenant, rider.city)
    return own and set(order.skills) <= set(rider.skills) and _fits(order, rider.capacity)


def barred(
    order: Order, rider: Rider | None, at_ms: int, live_orders: int, orders_max: int
) -> Refusal | None:
    """Why the rider may not claim the order; None when he may. `live_orders` he serves already."""
    if rider is None or rider.state is RiderState.OFF or at_ms >= rider.shift_end_ms:
        return Refusal("not_on_shift", "only a rider on shift claims orders")
    if (order.tenant, order.city) != (rider.tenant, rider.city):
        return Refusal("foreign_order", f"rider {rider.id} is of another tenant or city")
    missing = sorted(set(order.skills) - set(rider.skills))
    if missing:
        return Refusal("lacks_skill", f"order {order.id} needs {', '.join(missing)}")
    if not _fits(order, rider.capacity):
        return Refusal("too_large", f"order {order.id} does not fit on board")
    if live_orders >= orders_max:
        text = f"rider {rider.id} serves {live_orders} orders, {orders_max} are the most"
        return Refusal("too_many_orders", text)
    return None


def route_with(order: Order, held: Sequence[Order]) -> tuple[RouteStop, ...]:
    """The rider's whole route with the order's stops last.

    `held` are the orders of his live attempts. What is before follows the newest route he was told,
    but for what he has reported since: that comes first, as it does for a dispatcher.
    """
    attempts = [o.assignment for o in held if o.assignment is not None]
    newest = max(attempts, key=lambda a: (a.offered_at_ms, len(a.route)), default=None)
    told = () if newest is None else newest.route
    ahead = {stop for o in held for stop in stops_ahead(o)}
    route = [stop for stop in dict.fromkeys(told) if stop in ahead]
    for other in held:
        rest = [stop for stop in stops_ahead(other) if stop not in route]
        route = rest + route if other.returning else route + rest
    since_ms = 0 if newest is None else newest.offered_at_ms
    begun = sorted(_begun(held, since_ms), key=lambda b: b[0], reverse=True)
    first = [stop for _, stop in begun]
    return (*first, *(s for s in route if s not in first), *stops_ahead(order))


def _begun(held: Sequence[Order], since_ms: int) -> list[tuple[int, RouteStop]]:
    """(when, stop): where the rider has arrived, or has set out for since he was told his route."""
    begun = []
    for order in held:
        for at in stops_ahead(order):
            stop = order.stops[at.stop]
            if stop.state is StopState.ARRIVED:
                begun.append((stop.arrived_at_ms or 0, at))
            elif stop.state is StopState.HEADING and (stop.headed_at_ms or 0) > since_ms:
                begun.append((stop.headed_at_ms or 0, at))
    return begun


def _fits(order: Order, capacity: tuple[int, ...]) -> bool:
    """The order alone, from its first open stop on, never holds more than the capacity."""
    on_board: tuple[int, ...] = ()
    for at in stops_ahead(order):
        load = order.stops[at.stop].load
        on_board = tuple(a + b for a, b in zip_longest(on_board, load, fillvalue=0))
        if any(have > most for have, most in zip_longest(on_board, capacity, fillvalue=0)):
            return False
    return True
