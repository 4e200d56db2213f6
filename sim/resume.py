"""From a recorded moment to a run of the simulator: orders, riders and facts; uses numpy.

Orders and shifts that came later come again at their times, and who cancelled cancels again. What
riders did is not repeated: their minds go on from where they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from dispatch import commands as c
from dispatch.dispatcher import Dispatcher, Known
from dispatch.model import AssignmentState, Order, Place, Rider, RiderState, RouteStop, StopState
from dispatch.policy import Policy
from dispatch.registry import OrderForm
from geo.distance import Plane
from sim.city import I8
from sim.crew import Member
from sim.customers import CustomerMind
from sim.day import Day
from sim.demand import OrderRequest
from sim.habits import Habits
from sim.recorded import Arrival, Ending, Moment, Shift
from sim.scenario import (
    CityKnobs,
    MerchantKnobs,
    OrderKnobs,
    Scenario,
    TravelKnobs,
)
from sim.world import World

DRAIN_S = 4 * 3_600
"""So long after the last order a run ends at the latest."""

Fact = Callable[[World, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The city of a recording: its name, its centre in degrees, its travel model."""

    name: str
    lat: float
    lon: float
    travel: TravelKnobs

    @property
    def plane(self) -> Plane:
        return Plane(self.lat, self.lon)


class Resumed:
    """A moment made ready for any number of runs: `day` and `since` for `sim.run.simulate`."""

    def __init__(self, moment: Moment, where: Where, habits: Habits, policy: Policy) -> None:
        self._moment, self._plane = moment, where.plane
        self._pace = 1.0 / habits.ride_factor
        self.scenario = _scenario(moment, where, habits, policy)
        shifts: dict[str, list[Shift]] = {}
        for shift in moment.shifts:
            shifts.setdefault(shift.rider.id, []).append(shift)
        crew = [self._member(theirs[0]) for _, theirs in sorted(shifts.items())]
        crew += [self._gone(rider_id) for rider_id in _asked(moment) if rider_id not in shifts]
        self.day = Day(scenario=self.scenario, demand=_Arrivals(moment), crew=tuple(crew))
        on = (theirs[0] for _, theirs in sorted(shifts.items()))
        self._riders = [
            replace(shift.rider, place=self._seen_place(shift.rider))
            for shift in on
            if shift.at_ms < moment.at_ms
        ]
        self._routes = self._told_routes(where, policy)
        again = [self._again(s) for theirs in shifts.values() for s in theirs[1:]]
        cancels = [_cancelling(name, ending) for name, ending in moment.cancels.items()]
        self.facts: list[tuple[int, Fact]] = sorted(again + cancels, key=lambda fact: fact[0])

    def enter(self, world: World) -> None:
        """Puts the moment into a world that has just started."""
        now_ms = self._moment.at_ms
        live: dict[str, list[Order]] = {}
        for order in self._moment.orders:
            world.adopt(order, CustomerMind(_request(order, order.created_at_ms, self._moment)))
            if order.assignment is not None:
                live.setdefault(order.assignment.rider_id, []).append(order)
        for rider in self._riders:
            orders = live.get(rider.id, [])
            route = self._routes.get(rider.id, [])
            world.resume(rider, self._seen(rider), _since_ms(orders, route), route, now_ms)
        for order in self._moment.orders:
            if _is_asked(order):
                world.offer_again(order, now_ms)

    # --- riders ---

    def _told_routes(self, where: Where, policy: Policy) -> dict[str, list[RouteStop]]:
        """What each rider has accepted, in the order in which a dispatcher that starts has it."""
        travel = where.travel.build()
        dispatcher = Dispatcher(where.name, where.plane, travel, policy)
        dispatcher.receive(Known(orders=self._moment.orders, riders=tuple(self._riders)))
        columns = dispatcher.columns
        asked = {order.id for order in self._moment.orders if _is_asked(order)}
        routes = {}
        for rider in self._riders:
            stops = []
            for row in columns.route(columns.rider_row[rider.id]):
                order_id = columns.order_ids[int(columns.stops["order"][row])]
                if order_id not in asked:
                    at = row - columns.stop_row(order_id, 0)
                    stops.append(RouteStop(order_id=order_id, stop=int(at)))
            routes[rider.id] = stops
        return routes

    def _seen(self, rider: Rider) -> tuple[float, float, int]:
        """Metres, and when: by his last fix, or where his shift began."""
        lat, lon, at_ms = self._moment.seen.get(rider.id, (0.0, 0.0, 0))
        if at_ms == 0:
            place = rider.place or Place(lat=self._plane.lat0, lon=self._plane.lon0)
            lat, lon, at_ms = place.lat, place.lon, self._moment.at_ms
        x, y = self._plane.xy(lat, lon)
        return float(x), float(y), at_ms

    def _seen_place(self, rider: Rider) -> Place | None:
        seen = self._moment.seen.get(rider.id)
        return rider.place if seen is None else Place(lat=seen[0], lon=seen[1])

    def _member(self, shift: Shift) -> Member:
        """Who is on shift already starts at once; `World.resume` says how he is under way."""
        rider, now_ms = shift.rider, self._moment.at_ms
        place = rider.place or Place(lat=self._plane.lat0, lon=self._plane.lon0)
        x, y = self._plane.xy(place.lat, place.lon)
        end_ms = rider.shift_end_ms
        if shift.off_ms is not None:
            end_ms = min(end_ms, shift.off_ms)
        return Member(
            rider=replace(rider, state=RiderState.OFF, version=rider.version - 1),
            x=float(x),
            y=float(y),
            place=place,
            shift_start_ms=max(shift.at_ms, now_ms),
            shift_end_ms=end_ms,
            pace=self._pace,
        )

    def _gone(self, rider_id: str) -> Member:
        """Off shift, though he has an offer that he never answered."""
        now_ms = self._moment.at_ms
        nobody = Rider(id=rider_id, city=self.scenario.city.name)
        here = Place(lat=self._plane.lat0, lon=self._plane.lon0)
        return Member(
            rider=nobody, x=0.0, y=0.0, place=here, shift_start_ms=now_ms, shift_end_ms=now_ms
        )

    def _again(self, shift: Shift) -> tuple[int, Fact]:
        member = self._member(shift)

        def comes_again(world: World, now_ms: int) -> None:
            world.next_shift(member)

        return member.shift_start_ms, comes_again


class _Arrivals:
    """The orders that came after the moment, as requests by time."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment
        came = [max(arrival.at_ms, moment.at_ms) for arrival in moment.arrivals]
        self.at_ms: I8 = np.array(came, np.int64)

    def __len__(self) -> int:
        return len(self.at_ms)

    def request(self, i: int) -> OrderRequest:
        arrival: Arrival = self._moment.arrivals[i]
        return _request(arrival.order, int(self.at_ms[i]), self._moment)

    def tips(self) -> dict[str, int]:
        """Nobody wrote down what riders were given."""
        return {}


def _request(order: Order, at_ms: int, moment: Moment) -> OrderRequest:
    """Nobody's patience is in it: recorded cancellations are facts."""
    told_ms = order.stops[0].earliest_ms or at_ms
    return OrderRequest(
        order_id=order.id,
        at_ms=at_ms,
        job_type=order.job_type,
        form=OrderForm(customer_id=order.customer_id, stops=()),
        ready_ms=moment.ready_ms.get(order.id, told_ms),
        cancel_at_ms=None,
        given=order,
    )


def _is_asked(order: Order) -> bool:
    live = order.assignment
    return live is not None and live.state is AssignmentState.OFFERED


def _asked(moment: Moment) -> list[str]:
    return sorted({o.assignment.rider_id for o in moment.orders if o.assignment is not None})


def _since_ms(orders: list[Order], route: list[RouteStop]) -> int:
    """When the rider arrived where he stands, or may leave from the stop he was done with last."""
    if not route:
        return 0
    first = next(o for o in orders if o.id == route[0].order_id).stops[route[0].stop]
    if first.state is StopState.ARRIVED:
        return first.arrived_at_ms or 0
    if first.state is StopState.HEADING:
        return 0
    stops = [stop for order in orders for stop in order.stops]
    return max(((s.done_at_ms or 0) for s in stops if s.state is StopState.DONE), default=0)


def _cancelling(order_id: str, ending: Ending) -> tuple[int, Fact]:
    def cancels(world: World, now_ms: int) -> None:
        world.ask(order_id, c.Cancel(at_ms=now_ms, by=ending.by, reason=ending.reason))

    return ending.at_ms, cancels


def _scenario(moment: Moment, where: Where, habits: Habits, policy: Policy) -> Scenario:
    """What a run asks of a scenario; the shape of the town and the demand are the recording's."""
    last_s = max(1, -(-(moment.until_ms - moment.at_ms) // 1000))
    return Scenario(
        name=where.name,
        city=CityKnobs(name=where.name, lat=where.lat, lon=where.lon, radius_m=1.0, hot_spots=1),
        start_ms=moment.at_ms,
        duration_s=last_s,
        horizon_s=last_s + DRAIN_S,
        orders=OrderKnobs(count=max(1, len(moment.arrivals))),
        riders=habits.riders,
        merchants=MerchantKnobs(count=1),
        jobs={"delivery": 1.0},
        travel=where.travel,
        policy=policy,
        decide_ms=habits.decide_ms,
        write_ms=habits.write_ms,
    )
