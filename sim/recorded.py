"""A recorded city at an instant, and what came of it after; imports the values of dispatch.

`Recorded` is told what a recording holds, in order: what was known, what happened, where riders
were seen. Up to `at_ms` it folds this into a state; what comes later is kept as facts that no
dispatch changes (who asked, who came on shift, who cancelled) and as events to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from dispatch import events as e
from dispatch.dispatcher import Known
from dispatch.lifecycle import ORDER
from dispatch.model import (
    Matching,
    Order,
    OrderState,
    Party,
    Rider,
    RiderState,
    Stop,
    StopState,
)
from dispatch.transitions import evolve, evolve_rider

SLACK_MS = 1_000
"""What is done so shortly after the told moment was ready by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An order as it was when it was placed, at `at_ms`."""

    at_ms: int
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A rider who came on shift at `at_ms`; he went off at `off_ms`, or had not by the end."""

    at_ms: int
    rider: Rider
    off_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Who cancelled an order, and when."""

    at_ms: int
    by: Party
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A city at `at_ms`: its live orders, who is on shift, where riders were seen last (degrees
    and when), and the facts of the time until `until_ms` (`end_ms`: the recording's own end).

    `ready_ms` is when goods were truly ready, as far as it showed; `hall` counts the orders left
    out because riders grab them from the hall.
    """

    at_ms: int
    until_ms: int
    end_ms: int
    orders: tuple[Order, ...]
    shifts: tuple[Shift, ...]
    seen: Mapping[str, tuple[float, float, int]]
    arrivals: tuple[Arrival, ...]
    cancels: Mapping[str, Ending]
    ready_ms: Mapping[str, int]
    events: tuple[e.Event | e.RiderEvent, ...]
    hall: int


@dataclass(frozen=True, slots=True)
class _Counter:
    """A rider at a merchant's: when the goods should be ready, his coming and leaving."""

    told_ms: int
    arrived_ms: int
    done_ms: int
    planned_ms: int

    def waited(self, service_max: float) -> bool:
        """For the goods, since nothing else takes him so long."""
        served_ms = self.arrived_ms + int(self.planned_ms * service_max)
        return self.done_ms > max(self.told_ms, served_ms) + SLACK_MS


@dataclass(slots=True)
class Recorded:
    """Takes a recording in, in its order; `moment` gives what it came to.

    `offer_ms` is the policy's: an offer that a round before `at_ms` had decided stands in the
    state, though it may have been written a moment later.
    """

    at_ms: int
    offer_ms: int
    _orders: dict[str, Order] = field(default_factory=dict)
    _after: dict[str, Order] = field(default_factory=dict)  # as they stood at the instant
    _riders: dict[str, Rider] = field(default_factory=dict)
    _came_ms: dict[str, int] = field(default_factory=dict)
    _shifts: list[Shift] = field(default_factory=list)
    _seen: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    _arrivals: dict[str, Arrival] = field(default_factory=dict)
    _cancels: dict[str, Ending] = field(default_factory=dict)
    _counters: dict[str, _Counter] = field(default_factory=dict)
    _events: list[e.Event | e.RiderEvent] = field(default_factory=list)
    _passed: bool = False
    _end_ms: int = 0
    _hall: list[int] = field(default_factory=list)

    # --- in ---

    def known(self, known: Known, now_ms: int) -> None:
        """What stood in the store when a dispatcher began. What ended before stands nowhere."""
        self._go_on(now_ms)
        self._end_ms = max(self._end_ms, now_ms)
        for order in known.orders:
            before = self._orders.get(order.id)
            if before is None and self._passed and order.created_at_ms >= self.at_ms:
                self._arrive(order.created_at_ms, _as_placed(order))
            if before is None or before.version < order.version:
                self._orders[order.id] = order
                self._at_counter(order)
            if order.assignment is not None and not self._passed:
                for stop in order.stops:
                    at, here = stop.arrived_at_ms, stop.place
                    self.saw(order.assignment.rider_id, here.lat, here.lon, at or 0)
        self._riders_known(known.riders, now_ms)

    def _riders_known(self, riders: tuple[Rider, ...], now_ms: int) -> None:
        """Who came on shift or went off it while nobody recorded did so by now."""
        on = {rider.id for rider in riders}
        for name, rider in self._riders.items():
            if rider.state is RiderState.ON and name not in on:
                self._riders[name] = replace(rider, state=RiderState.OFF)
                self._end_shift(name, now_ms)
        for rider in riders:
            before = self._riders.get(rider.id)
            if before is None or before.state is not RiderState.ON:
                self._came_ms[rider.id] = now_ms
                if self._passed:
                    self._shifts.append(Shift(at_ms=now_ms, rider=rider))
            self._riders[rider.id] = rider
            if rider.place is not None:
                self.saw(rider.id, rider.place.lat, rider.place.lon, self._came_ms[rider.id])

    def saw(self, rider_id: str, lat: float, lon: float, at_ms: int) -> None:
        """Where a rider was, by his phone or where he arrived; the latest before the instant."""
        if at_ms <= self.at_ms and at_ms >= self._seen.get(rider_id, (0.0, 0.0, 0))[2]:
            self._seen[rider_id] = lat, lon, at_ms

    def event(self, event: e.Event | e.RiderEvent) -> None:
        """One more event."""
        self._go_on(event.at_ms)
        self._end_ms = max(self._end_ms, event.at_ms)
        if isinstance(event, e.RiderEvent):
            self._rider_event(event)
        else:
            self._order_event(event)

    def moment(self, service_max: float, until_ms: int | None = None) -> Moment:
        """The state at the instant, and the facts after it, until then or the recording's end.

        Who stood at a counter for longer than `service_max` times what the job plans for it has
        waited for the goods: they were ready when he left. Of the others it is only known that
        they were ready by then, and taken that they were when they should have been.
        """
        self._go_on(self.at_ms)
        end_ms = max(self._end_ms, self.at_ms) + 1
        until_ms = end_ms if until_ms is None else min(until_ms, end_ms)
        live = [o for o in self._after.values() if not _over(o)]
        hall = {o.id for o in live if o.matching is Matching.HALL and o.assignment is None}
        cut = [a for a in self._arrivals.values() if a.at_ms < until_ms]
        cut.sort(key=lambda a: a.at_ms)
        return Moment(
            at_ms=self.at_ms,
            until_ms=until_ms,
            end_ms=end_ms,
            orders=tuple(o for o in live if o.id not in hall),
            shifts=tuple(self._shifts),
            seen=self._seen,
            arrivals=tuple(cut),
            cancels=self._cancels,
            ready_ms={
                name: at.done_ms for name, at in self._counters.items() if at.waited(service_max)
            },
            events=tuple(self._events),
            hall=sum(at_ms < until_ms for at_ms in self._hall) + len(hall),
        )

    # --- folding ---

    def _go_on(self, now_ms: int) -> None:
        """Past the instant: what stands now is the state."""
        if self._passed or now_ms < self.at_ms:
            return
        self._passed = True
        self._after = dict(self._orders)
        self._shifts = [
            Shift(at_ms=self._came_ms.get(r.id, self.at_ms), rider=r)
            for r in self._riders.values()
            if r.state is RiderState.ON
        ]

    def _rider_event(self, event: e.RiderEvent) -> None:
        rider = self._riders.get(event.rider_id)
        if rider is not None and event.seq <= rider.version:
            return
        if isinstance(event.fact, e.WentOnShift):
            rider = event.fact.rider
            self._came_ms[rider.id] = event.at_ms
            if rider.place is not None:
                self.saw(rider.id, rider.place.lat, rider.place.lon, event.at_ms)
            if self._passed:
                self._shifts.append(Shift(at_ms=event.at_ms, rider=rider))
        elif rider is not None:
            rider = evolve_rider(rider, event)
            self._end_shift(rider.id, event.at_ms)
        if rider is not None:
            self._riders[rider.id] = rider
        if self._passed:
            self._events.append(event)

    def _end_shift(self, rider_id: str, at_ms: int) -> None:
        self._shifts = [
            Shift(at_ms=s.at_ms, rider=s.rider, off_ms=at_ms)
            if s.rider.id == rider_id and s.off_ms is None
            else s
            for s in self._shifts
        ]

    def _order_event(self, event: e.Event) -> None:
        fact = event.fact
        if isinstance(fact, e.Placed):
            if event.order_id in self._orders:
                return
            if self._passed:
                self._arrive(event.at_ms, fact.order)
            self._orders[event.order_id] = evolve(fact.order, event)
        else:
            before = self._orders.get(event.order_id)
            if before is None or event.seq <= before.version:
                return
            self._orders[event.order_id] = evolve(before, event)
            self._learn(before, event)
        if not self._passed:
            if ORDER.ended(self._orders[event.order_id].state):
                del self._orders[event.order_id]
            return
        if self._was_in_flight(event):
            self._after[event.order_id] = self._orders[event.order_id]
        else:
            self._events.append(event)

    def _was_in_flight(self, event: e.Event) -> bool:
        """An offer that was decided before the instant, and is the next that happened to it."""
        fact, order = event.fact, self._after.get(event.order_id)
        if not isinstance(fact, e.Offered) or order is None or event.seq != order.version + 1:
            return False
        return fact.deadline_ms - self.offer_ms < self.at_ms

    def _learn(self, before: Order, event: e.Event) -> None:
        fact = event.fact
        if isinstance(fact, e.Arrived) and not self._passed:
            place = before.stops[fact.stop].place
            self.saw(fact.rider_id, place.lat, place.lon, event.at_ms)
        if isinstance(fact, e.Scheduled) and before.id in self._arrivals:
            known = self._arrivals[before.id]
            placed = replace(known.order, open_at_ms=fact.open_at_ms)
            self._arrivals[before.id] = Arrival(at_ms=known.at_ms, order=placed)
        elif isinstance(fact, e.Cancelled) and self._passed:
            at_ms = max(event.at_ms, self.at_ms)
            self._cancels[before.id] = Ending(at_ms=at_ms, by=fact.by, reason=fact.reason)
        elif isinstance(fact, e.StopDone) and fact.stop == 0:
            self._at_counter(self._orders[event.order_id])

    def _at_counter(self, order: Order) -> None:
        stop = order.stops[0]
        if stop.state is StopState.DONE and stop.arrived_at_ms and stop.done_at_ms:
            told_ms = stop.earliest_ms or order.created_at_ms
            self._counters[order.id] = _Counter(
                told_ms, stop.arrived_at_ms, stop.done_at_ms, stop.approach_ms
            )

    def _arrive(self, at_ms: int, order: Order) -> None:
        if order.matching is Matching.HALL:
            self._hall.append(at_ms)
        else:
            self._arrivals[order.id] = Arrival(at_ms=at_ms, order=order)


def _over(order: Order) -> bool:
    return ORDER.ended(order.state) or order.state is OrderState.DONE


def _as_placed(order: Order) -> Order:
    """The order as it was before anything happened to it."""
    stops = [_untouched(s) for s in order.stops[: len(order.stops) - order.returning]]
    return replace(
        order,
        state=OrderState.QUOTED,
        stops=tuple(stops),
        version=0,
        attempts=0,
        assignment=None,
        declined_by=(),
        returning=False,
        ended_reason="",
    )


def _untouched(stop: Stop) -> Stop:
    return replace(
        stop, state=StopState.PLANNED, headed_at_ms=None, arrived_at_ms=None, done_at_ms=None
    )
