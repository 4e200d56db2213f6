"""What goes out to riders and to who follows an order: offers, routes, orders, positions.

May import the store, the mirror and the views. Each message is encoded once for all who get it in
the same form; no client is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from api import messages as m
from api.auth import Role
from api.cancelling import end_if_cancelled
from api.capacity import Budget
from api.gateway.addresses import Addresses
from api.gateway.audience import Audience, Fan
from api.gateway.city_map import CityMap
from api.gateway.mirror import Mirror
from api.gateway.views import (
    offer_view,
    offered_to,
    order_view,
    over_of,
    rider_serving,
    route_view,
)
from api.messages import FixRow
from api.pool import Frame, FrameRow, Live
from api.store import UNAVAILABLE, Store
from api.traces import on_order
from dispatch import events as e
from dispatch.model import Matching, Order, Rider
from dispatch.transitions import evolve
from geo.datum import System, from_wgs84
from geo.errors import Overloaded

if TYPE_CHECKING:
    from api.gateway.connection import Connection


class Publisher:
    """Turns what happens in the city into frames in outboxes."""

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        audience: Audience,
        city_map: CityMap,
        reads: Budget,
    ) -> None:
        self._store, self._mirror, self._reads = store, mirror, reads
        self._audience, self._map = audience, city_map
        self._stale: set[str] = set()
        self._addresses = Addresses(store)

    # --- what happens -------------------------------------------------------------------------

    def load(self, orders: Iterable[Order], riders: Iterable[Rider]) -> None:
        """Start from the store's state, and tell everyone who is connected already."""
        self._mirror.load(orders, riders)
        for rider_id, connection in self._audience.riders():
            self._tell_rider(connection, rider_id, self._mirror.orders_of(rider_id))
        for connection in list(self._audience.everyone):
            for order_id in self._audience.watched_by(connection):
                order = self._mirror.order(order_id)
                if order is not None:
                    self._show(connection, order)
        self._map.load()

    async def take(self, event: e.Event | e.RiderEvent) -> None:
        """One event of the feed. Raises what the store raises."""
        if isinstance(event, e.RiderEvent):
            self._take_rider(event)
            return
        before = self._mirror.order(event.order_id)
        after: Order | None
        if isinstance(event.fact, e.Placed):
            after = evolve(event.fact.order, event) if before is None else None
        elif before is not None:
            if event.seq <= before.version:
                return
            after = (
                evolve(before, event)
                if event.seq == before.version + 1
                else await self._store.order(event.order_id)
            )
        elif self._audience.watchers(event.order_id):
            after = await self._store.order(event.order_id)
        else:
            after = None  # it ended before this gateway looked
        if after is not None:
            # Before anything changes: what raises here is taken again.
            await self._read_addresses(after)
            self._mirror.put(after)
            self._tell(before, after, event.fact)

    def take_frame(self, frame: Frame) -> None:
        """Positions of riders, from any gateway."""
        self._move(frame.rows)

    def take_rows(self, rows: Iterable[FixRow]) -> None:
        """Positions of this gateway's riders that Redis could not take."""
        self._move(FrameRow(r.rider_id, r.seq, r.at_ms, r.lat, r.lon, r.heading_deg) for r in rows)

    def _move(self, rows: Iterable[FrameRow]) -> None:
        for row in rows:
            if not self._mirror.move(row.rider_id, row):
                continue
            self._map.rider_changed(row.rider_id)
            for order in self._mirror.orders_of(row.rider_id):
                self._tell_position(order, self._audience.watchers(order.id))

    def place(self, riders: Iterable[Live]) -> None:
        """Positions as the pool has them."""
        for live in riders:
            if live.in_pool:
                self._mirror.move(live.rider_id, live)

    def stale(self, what: Literal["orders", "positions"], on: bool) -> None:
        """Say to who watches, once, that these do not come now, or come again."""
        if on == (what in self._stale):
            return
        self._stale ^= {what}
        for connection in list(self._audience.everyone):
            claims = connection.session.claims
            if claims is not None and claims.role is not Role.RIDER:
                connection.tell(self._staleness())

    def tell_stale(self, connection: Connection) -> None:
        """The same to one who has just come, if there is anything to say."""
        if self._stale:
            connection.tell(self._staleness())

    def _staleness(self) -> m.Stale:
        return m.Stale(what=sorted(self._stale))

    # --- what a client asks -------------------------------------------------------------------

    async def greet(self, connection: Connection, rider_id: str) -> None:
        """A rider's live offers and his route, from the store.

        In its place the mirror's, which the feed corrects, where too many read the store; and
        where it does not answer, in which case it raises what the store raised.
        """
        connection.route = None
        try:
            async with self._reads.share():
                orders = await self._store.orders_of_rider(rider_id)
                await self._addresses.fetch(orders)
        except UNAVAILABLE as error:
            end_if_cancelled()
            self._tell_rider(connection, rider_id, self._mirror.orders_of(rider_id))
            if not isinstance(error, Overloaded):
                raise
            return
        self._tell_rider(connection, rider_id, orders)

    async def watch(self, connection: Connection, orders: tuple[str, ...]) -> None:
        """Let the connection follow these orders as far as it may see them; shows each now."""
        seen: list[Order] = []
        for i, order_id in enumerate(orders):
            order, code = self._mirror.order(order_id), "not_found"
            if order is None:
                try:
                    async with self._reads.share():
                        order = await self._store.order(order_id)
                except UNAVAILABLE:
                    end_if_cancelled()
                    code = "unavailable"
            if order is None or not connection.session.may_see(order):
                connection.tell(_not_shown(i, order_id, code if order is None else "forbidden"))
                continue
            seen.append(order)
        self._audience.watch(connection, tuple(order.id for order in seen))
        for order in seen:
            self._show(connection, self._mirror.order(order.id) or order)

    # --- to riders and customers --------------------------------------------------------------

    def _take_rider(self, event: e.RiderEvent) -> None:
        known = self._mirror.riders.get(event.rider_id)
        if known is not None and event.seq <= known.version:
            return
        if isinstance(event.fact, e.WentOnShift):
            self._mirror.riders[event.rider_id] = event.fact.rider
            self._map.rider_changed(event.rider_id)
        elif known is not None:
            self._map.rider_left(known)
            self._mirror.leave(event.rider_id)

    def _tell(self, before: Order | None, after: Order, fact: e.Fact) -> None:
        """Everyone whom this fact of the order concerns."""
        self._map.order_changed(after)
        concerned = {o.assignment.rider_id for o in (before, after) if o and o.assignment}
        for rider_id in concerned:
            self._map.rider_changed(rider_id)
        over = over_of(after.id, before, fact)
        if over is not None and (connection := self._audience.rider(over[0])) is not None:
            connection.tell(over[1])
        for rider_id in sorted(concerned):
            connection = self._audience.rider(rider_id)
            if connection is None:
                continue
            orders = self._mirror.orders_of(rider_id)
            if isinstance(fact, e.Offered) and after.matching is Matching.DISPATCH:
                self._tell_offer(connection, after, orders)
            self._tell_route(connection, rider_id, orders)
        watchers = self._audience.watchers(after.id)
        if watchers:
            fan = Fan(lambda system: order_view(after, system))
            for connection in watchers:
                connection.push(fan.frame(connection.view))
                if rider_serving(after) is None:
                    connection.forget(_position_key(after.id))
            if before is None or rider_serving(before) != rider_serving(after):
                self._tell_position(after, watchers)

    async def _read_addresses(self, after: Order) -> None:
        """Those of the routes that this order changes, as far as their riders are here."""
        if rider_serving(after) is None:
            self._addresses.forget(after.id)
        for order in (self._mirror.order(after.id), after):
            live = order.assignment if order is not None else None
            if live is not None and self._audience.rider(live.rider_id) is not None:
                await self._addresses.fetch([*self._mirror.orders_of(live.rider_id), after])

    def _tell_rider(self, connection: Connection, rider_id: str, orders: list[Order]) -> None:
        for order in orders:
            if offered_to(order) is not None:
                self._tell_offer(connection, order, orders)
        self._tell_route(connection, rider_id, orders)

    def _tell_offer(self, connection: Connection, order: Order, orders: list[Order]) -> None:
        offer = offer_view(order, orders, connection.view.system, self._addresses.text)
        rider_id = connection.rider_id or ""
        with on_order("offer_told", order.id, rider=rider_id, number=offer.number):
            connection.tell(offer)

    def _tell_route(self, connection: Connection, rider_id: str, orders: list[Order]) -> None:
        route = route_view(rider_id, orders, connection.view.system, self._addresses.text)
        if route != connection.route:
            connection.route = route
            connection.tell(route)

    def _show(self, connection: Connection, order: Order) -> None:
        connection.tell(order_view(order, connection.view.system))
        self._tell_position(order, (connection,))

    def _tell_position(self, order: Order, connections: Iterable[Connection]) -> None:
        rider_id = rider_serving(order)
        spot = None if rider_id is None else self._mirror.spot(rider_id)
        if rider_id is None or spot is None:
            return

        def view(system: System) -> m.Position:
            lat, lon = from_wgs84(spot.lat, spot.lon, system)
            return m.Position(
                order_id=order.id,
                rider_id=rider_id,
                lat=lat,
                lon=lon,
                at_ms=spot.at_ms,
                heading_deg=spot.heading_deg,
            )

        fan = Fan(view)
        for connection in connections:
            connection.push_latest(_position_key(order.id), fan.frame(connection.view))


_EXPECTED = {
    "not_found": "an order that exists",
    "forbidden": "an order of your own",
    "unavailable": "an order that can be read now: watch it again in some seconds",
}


def _not_shown(i: int, order_id: str, code: str) -> m.Error:
    field, expected = f"orders[{i}]", _EXPECTED[code]
    message = f"{field}: {order_id!r} is not {expected}"
    return m.Error(code=code, field=field, value=order_id, expected=expected, message=message)


def _position_key(order_id: str) -> str:
    return f"position {order_id}"
