"""Couriers who obey: a benchmark day's orders and couriers, changed by `apply` alone.

A courier takes every offer, waits where he is, leaves when he has a route and is free, and takes
all orders of one restaurant that his route begins with at one moment: when he has been there for
half of the service time and the last of them is ready. May import dispatch, geo and sim.clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from dispatch import commands as c
from dispatch import events as e
from dispatch.model import Order, Place, Rider, RiderState, RouteStop, Stop, StopKind
from dispatch.transitions import Refusal, apply, apply_rider, evolve_rider, fold
from geo.arcs import arc_ms
from geo.distance import Plane
from geo.travel import StraightLine
from sim.clock import EventQueue
from sim.mdrp.instance import ON_LOCATION, Instance, MdrpCourier, MdrpOrder, Spot
from sim.mdrp.solution import MINUTE_MS, Bundle, Delivery, Move, Solution

CITY = "mdrp"
# Midnight of the day, ms UTC: any day serves, since the files have minutes only.
MIDNIGHT_MS = 1_514_764_800_000
# At the equator the plane is a plain scale, and the way through degrees and back moves a point by
# less than 1e-8 m: too little to change a ceiling (geo.travel says how much is forgiven).
PLANE = Plane(0.0, 0.0)
TRAVEL = StraightLine(detour=1.0, quantum_ms=MINUTE_MS)
CAPACITY = 1_000
# What happens at one moment, in this order.
ACT, PLACE, ROUND, LEAVE = range(4)

Due = Callable[[int], None]


@dataclass(slots=True)
class _Courier:
    """He is `at` a place, "0" where his shift began; `busy` from a departure to the end of the
    service that follows; `held` are his orders until they are dropped off."""

    row: MdrpCourier
    rider: Rider
    at: Spot
    route: list[RouteStop] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    busy: bool = False


class Couriers:
    """The day's world. `publish` gets every event at once, in order; `queue` holds what is due."""

    def __init__(
        self,
        instance: Instance,
        queue: EventQueue[Due],
        publish: Callable[[e.Event | e.RiderEvent], None],
    ) -> None:
        self._instance, self._queue, self._publish = instance, queue, publish
        self._ms_per_m = TRAVEL.law.ms_per_m(instance.metres_per_min / 60.0)
        self._rows = {o.id: o for o in instance.orders}
        self._orders: dict[str, Order] = {}
        self._couriers = {row.id: self._courier(row) for row in instance.couriers}
        self._bundles: list[Bundle] = []
        self._deliveries: dict[str, Delivery] = {}
        self._moves: list[Move] = []
        self._last_off_ms = max(at_ms(row.off_min) for row in instance.couriers)
        for row in instance.couriers:
            queue.schedule(at_ms(row.on_min), partial(self._begin_shift, row.id), ACT)
            queue.schedule(at_ms(row.off_min), partial(self._end_shift, row.id), ACT)
        for order in instance.orders:
            queue.schedule(at_ms(order.placed_min), partial(self._place, order), PLACE)

    @property
    def placed(self) -> int:
        return len(self._orders)

    @property
    def delivered(self) -> int:
        return len(self._deliveries)

    def solution(self) -> Solution:
        """What has happened; the orders of a bundle in the order of their drop-offs."""
        done = self._deliveries
        return Solution(
            bundles=tuple(
                replace(b, orders=tuple(sorted(b.orders, key=lambda o: done[o].dropoff_ms)))
                for b in self._bundles
            ),
            deliveries=tuple(done.values()),
            moves=tuple(self._moves),
        )

    def ask(self, order_id: str, command: c.Command) -> Refusal | None:
        """Applies a command; the refusal when it changes nothing. An offer is taken at once."""
        answer = apply(self._orders[order_id], command)
        if isinstance(answer, Refusal):
            return answer
        self._orders[order_id] = fold(self._orders[order_id], answer)
        for event in answer:
            self._publish(event)
            if isinstance(event.fact, e.Offered):
                self._accept(order_id, event.fact, event.at_ms)
        return None

    # --- orders and shifts ---

    def _place(self, row: MdrpOrder, now_ms: int) -> None:
        instance, shop = self._instance, self._instance.restaurants[row.restaurant]
        half_pickup, half_dropoff = (n * MINUTE_MS // 2 for n in self._services())
        pickup = Stop(
            kind=StopKind.PICKUP,
            place=_place_of(shop),
            place_id=shop.id,
            earliest_ms=at_ms(row.ready_min),
            approach_ms=half_pickup,
            leave_ms=half_pickup,
            load=(1,),
        )
        dropoff = Stop(
            kind=StopKind.DROPOFF,
            place=_place_of(row),
            approach_ms=half_dropoff,
            leave_ms=half_dropoff,
            load=(-1,),
        )
        self._orders[row.id] = Order(
            id=row.id,
            city=CITY,
            job_type="delivery",
            customer_id=row.id,
            merchant_id=shop.id,
            stops=(pickup, dropoff),
            created_at_ms=now_ms,
            promise_from_ms=now_ms,
            promise_to_ms=now_ms + instance.target_min * MINUTE_MS,
            # Nobody gives up before the last shift has ended.
            expires_at_ms=max(now_ms, self._last_off_ms) + MINUTE_MS,
            price_fen=0,
        )
        self._do(row.id, c.Confirm(at_ms=now_ms))

    def _services(self) -> tuple[int, int]:
        return self._instance.pickup_min, self._instance.dropoff_min

    def _courier(self, row: MdrpCourier) -> _Courier:
        rider = Rider(
            id=row.id,
            city=CITY,
            speed_mps=self._instance.metres_per_min / 60.0,
            capacity=(CAPACITY,),
        )
        return _Courier(row, rider, Spot(id=ON_LOCATION, x=row.x, y=row.y))

    def _begin_shift(self, courier_id: str, now_ms: int) -> None:
        courier = self._couriers[courier_id]
        end_ms, place = at_ms(courier.row.off_min), _place_of(courier.row)
        self._do_rider(courier, c.GoOnShift(at_ms=now_ms, shift_end_ms=end_ms, place=place))

    def _end_shift(self, courier_id: str, now_ms: int) -> None:
        """He goes when his shift is over and all that he has is delivered."""
        courier = self._couriers[courier_id]
        over = now_ms >= at_ms(courier.row.off_min)
        if over and not courier.held and courier.rider.state is RiderState.ON:
            self._do_rider(courier, c.GoOffShift(at_ms=now_ms))

    # --- couriers ---

    def _accept(self, order_id: str, offer: e.Offered, now_ms: int) -> None:
        courier = self._couriers[offer.rider_id]
        self._do(order_id, c.Accept(at_ms=now_ms, rider_id=offer.rider_id, number=offer.number))
        courier.held.add(order_id)
        courier.route = [stop for stop in offer.route if stop.order_id in courier.held]
        if not courier.busy:
            self._queue.schedule(now_ms, partial(self._leave, courier), LEAVE)

    def _leave(self, courier: _Courier, now_ms: int) -> None:
        """He is free: if he has a route he leaves for its first stop."""
        if courier.busy or not courier.route:
            return
        courier.busy = True
        first = courier.route[0]
        row = self._rows[first.order_id]
        there = self._instance.restaurants[row.restaurant] if first.stop == 0 else row
        here, law = courier.at, TRAVEL.law
        ride_ms = arc_ms(
            here.x, here.y, there.x, there.y, law.metric, self._ms_per_m, law.quantum_ms
        )
        self._moves.append(
            Move(
                courier=courier.row.id,
                leave_ms=now_ms - MIDNIGHT_MS,
                ride_ms=ride_ms,
                origin=here.id,
                destination=there.id,
            )
        )
        self._report(c.Head, first, courier, now_ms)
        self._queue.schedule(now_ms + ride_ms, partial(self._arrive, courier, there), ACT)

    def _arrive(self, courier: _Courier, there: Spot, now_ms: int) -> None:
        courier.at = there
        first = courier.route[0]
        self._report(c.Arrive, first, courier, now_ms)
        act = self._pick_up if first.stop == 0 else self._drop_off
        self._queue.schedule(now_ms + self._stop(first).approach_ms, partial(act, courier), ACT)

    def _pick_up(self, courier: _Courier, now_ms: int) -> None:
        """All that his route begins with here, or another try when the last of it is ready."""
        bundle = self._bundle(courier)
        ready_ms = max(self._stop(stop).earliest_ms or 0 for stop in bundle)
        if ready_ms > now_ms:
            self._queue.schedule(ready_ms, partial(self._pick_up, courier), ACT)
            return
        pickup_ms = now_ms - MIDNIGHT_MS
        taken = tuple(stop.order_id for stop in bundle)
        self._bundles.append(Bundle(courier=courier.row.id, pickup_ms=pickup_ms, orders=taken))
        for n, stop in enumerate(bundle):
            if n:
                self._report(c.Arrive, stop, courier, now_ms)
            self._finish(courier, stop, now_ms)
        self._stay(courier, bundle[-1], now_ms)

    def _drop_off(self, courier: _Courier, now_ms: int) -> None:
        stop = courier.route[0]
        order = self._orders[stop.order_id]
        picked_ms = order.stops[0].done_at_ms
        assert order.assignment is not None
        assert picked_ms is not None
        self._deliveries[order.id] = Delivery(
            order=order.id,
            courier=courier.row.id,
            told_ms=order.assignment.offered_at_ms - MIDNIGHT_MS,
            pickup_ms=picked_ms - MIDNIGHT_MS,
            dropoff_ms=now_ms - MIDNIGHT_MS,
        )
        courier.held.remove(stop.order_id)
        self._finish(courier, stop, now_ms)
        self._stay(courier, stop, now_ms)
        self._end_shift(courier.row.id, now_ms)

    def _bundle(self, courier: _Courier) -> list[RouteStop]:
        bundle = []
        for stop in courier.route:
            if stop.stop != 0 or self._rows[stop.order_id].restaurant != courier.at.id:
                break
            bundle.append(stop)
        return bundle

    def _finish(self, courier: _Courier, stop: RouteStop, now_ms: int) -> None:
        courier.route.remove(stop)
        self._report(c.FinishStop, stop, courier, now_ms)

    def _stay(self, courier: _Courier, stop: RouteStop, now_ms: int) -> None:
        """The second half of the service."""
        leave_ms = self._stop(stop).leave_ms
        self._queue.schedule(now_ms + leave_ms, partial(self._free, courier), LEAVE)

    def _free(self, courier: _Courier, now_ms: int) -> None:
        courier.busy = False
        self._leave(courier, now_ms)

    # --- commands ---

    def _stop(self, at: RouteStop) -> Stop:
        return self._orders[at.order_id].stops[at.stop]

    def _report(
        self,
        report: type[c.Head] | type[c.Arrive] | type[c.FinishStop],
        stop: RouteStop,
        courier: _Courier,
        now_ms: int,
    ) -> None:
        self._do(stop.order_id, report(at_ms=now_ms, rider_id=courier.rider.id, stop=stop.stop))

    def _do(self, order_id: str, command: c.Command) -> None:
        """A command that the rules of this world never refuse."""
        refusal = self.ask(order_id, command)
        assert refusal is None, refusal

    def _do_rider(self, courier: _Courier, command: c.RiderCommand) -> None:
        answer = apply_rider(courier.rider, command, len(courier.held))
        assert not isinstance(answer, Refusal), answer
        for event in answer:
            courier.rider = evolve_rider(courier.rider, event)
            self._publish(event)


def at_ms(minute: int) -> int:
    """A minute of the day as an instant."""
    return MIDNIGHT_MS + minute * MINUTE_MS


def _place_of(spot: Spot) -> Place:
    lat, lon = PLANE.lat_lon(spot.x, spot.y)
    return Place(lat=lat, lon=lon)
