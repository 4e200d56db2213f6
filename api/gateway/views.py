"""Orders and routes in a client's coordinate system; may import dispatch and geo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from api import messages as m
from dispatch import events as e
from dispatch.codes import codes_of
from dispatch.lifecycle import STOP
from dispatch.model import Assignment, AssignmentState, Order, OrderState, RouteStop
from geo.datum import System, from_wgs84

AddressOf = Callable[[Order, int], str]
"""The address of an order's stop, empty for who has not accepted the order."""


def no_address(order: Order, stop: int) -> str:
    """Of one who is told none."""
    return ""


_SERVED = (OrderState.ASSIGNED, OrderState.UNDER_WAY)
# Why an attempt is over, by fact. One that was served to its end needs no word.
_OVER = {
    e.Declined: "declined",
    e.TimedOut: "timed_out",
    e.Withdrawn: "withdrawn",
    e.Dropped: "dropped",
    e.Cancelled: "cancelled",
    e.Failed: "failed",
}


def rider_serving(order: Order) -> str | None:
    """The rider who has accepted the order and has not ended it."""
    live = order.assignment
    if live is None or live.state is AssignmentState.OFFERED or order.state not in _SERVED:
        return None
    return live.rider_id


def offered_to(order: Order) -> Assignment | None:
    """The attempt whose rider has not answered yet."""
    live = order.assignment
    return live if live is not None and live.state is AssignmentState.OFFERED else None


def order_view(order: Order, system: System) -> m.Order:
    """The order as customers and operators see it."""
    stops = []
    for stop in order.stops:
        lat, lon = from_wgs84(stop.place.lat, stop.place.lon, system)
        stops.append(m.StopView(kind=stop.kind, lat=lat, lon=lon, state=stop.state))
    return m.Order(
        order_id=order.id,
        version=order.version,
        state=order.state,
        code=codes_of(order)["wechat"],
        rider_id=rider_serving(order),
        promise_to_ms=order.promise_to_ms,
        stops=stops,
    )


def offer_view(
    order: Order, others: Iterable[Order], system: System, address_of: AddressOf = no_address
) -> m.Offer:
    """The offer of an order that is offered; `others` are what the rider has accepted.

    Its own stops come without addresses: they are for who has accepted it.
    """
    live = order.assignment
    assert live is not None
    known = {o.id: o for o in (*others, order)}
    own = [RouteStop(order_id=order.id, stop=i) for i in range(len(order.stops))]
    return m.Offer(
        order_id=order.id,
        number=live.number,
        deadline_ms=live.deadline_ms,
        price_fen=order.price_fen,
        stops=_stop_views(own, known, system, address_of),
        route=_stop_views(_remaining(live.route, known), known, system, address_of),
    )


def route_view(
    rider_id: str, orders: Iterable[Order], system: System, address_of: AddressOf = no_address
) -> m.Route:
    """What the rider has still to serve, in order.

    The order is that of the newest route he has accepted; stops that it does not name come behind,
    order by order.
    """
    known = {o.id: o for o in orders if rider_serving(o) == rider_id}
    plans = [o.assignment for o in known.values() if o.assignment is not None]
    newest = max(plans, key=lambda a: (a.offered_at_ms, len(a.route)), default=None)
    route = newest.route if newest is not None else ()
    return m.Route(stops=_stop_views(_remaining(route, known), known, system, address_of))


def over_of(order_id: str, before: Order | None, fact: e.Fact) -> tuple[str, m.OfferOver] | None:
    """(rider, word) when the fact takes an attempt from its rider before it is finished."""
    live = before.assignment if before is not None else None
    reason = _OVER.get(type(fact))
    if live is None or reason is None:
        return None
    return live.rider_id, m.OfferOver(order_id=order_id, number=live.number, reason=reason)


def _remaining(route: Iterable[RouteStop], known: Mapping[str, Order]) -> list[RouteStop]:
    """The stops of the known orders that are not ended: those of the route first, in its order."""
    left = {
        RouteStop(order_id=order_id, stop=i)
        for order_id, order in known.items()
        for i, stop in enumerate(order.stops)
        if not STOP.ended(stop.state)
    }
    first = [stop for stop in dict.fromkeys(route) if stop in left]
    rest = left.difference(first)
    return [*first, *sorted(rest, key=lambda s: (s.order_id, s.stop))]


def _stop_views(
    stops: Iterable[RouteStop],
    known: Mapping[str, Order],
    system: System,
    address_of: AddressOf,
) -> list[m.RouteStopView]:
    views = []
    for at in stops:
        stop = known[at.order_id].stops[at.stop]
        lat, lon = from_wgs84(stop.place.lat, stop.place.lon, system)
        views.append(
            m.RouteStopView(
                order_id=at.order_id,
                stop=at.stop,
                kind=stop.kind,
                lat=lat,
                lon=lon,
                earliest_ms=stop.earliest_ms,
                state=stop.state,
                text=address_of(known[at.order_id], at.stop),
            )
        )
    return views
