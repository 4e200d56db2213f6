"""How riders behave and how quick the system is, measured from a recording; uses numpy.

What the simulator's minds need and a journal does not say: shares of answers, their times, service
by what is planned, speed by what is told, and how long a decision takes to stand.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dispatch import events as e
from dispatch.dispatcher import Known
from dispatch.model import Order, Place, Rider, StopKind
from dispatch.transitions import evolve
from geo.distance import Plane
from geo.travel import TravelModel
from sim.scenario import RiderKnobs, Shift

FEW = 20
"""With fewer samples than this a figure stays at its default."""
ROOT3 = 3.0**0.5  # the half width of an even spread, by its standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """`riders` for minds, `ride_factor` a ride's true time by the law's, and the system's delays.

    `samples` says on how many cases each figure stands, `defaults` which figures had too few and
    are a scenario's defaults, with those cases.
    """

    riders: RiderKnobs
    ride_factor: float
    decide_ms: int
    write_ms: int
    samples: dict[str, int]
    defaults: dict[str, int]

    @property
    def service_max(self) -> float:
        """The longest service at a stop, by what the job plans for it."""
        return self.riders.service_factor * (1.0 + self.riders.service_spread)


@dataclass(slots=True)
class HabitBook:
    """Adds up what a recording tells; `result` may be asked at any moment.

    `offer_ms` is the policy's, from which the round of an offer is known.
    """

    plane: Plane
    travel: TravelModel
    offer_ms: int
    _orders: dict[str, Order] = field(default_factory=dict)
    _riders: dict[str, Rider] = field(default_factory=dict)
    _left: dict[str, tuple[Place, str, int]] = field(default_factory=dict)  # where he was last
    _headed: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    _count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ANSWERS.values(), 0))
    _answer_ms: list[int] = field(default_factory=list)
    _service: list[float] = field(default_factory=list)
    _rides: list[tuple[int, int]] = field(default_factory=list)
    _round_ms: list[float] = field(default_factory=list)
    _stands_ms: list[int] = field(default_factory=list)
    _fix_ms: list[int] = field(default_factory=list)
    _seen_ms: dict[str, int] = field(default_factory=dict)

    # --- in ---

    def known(self, known: Known) -> None:
        """What stood in the store when a dispatcher began."""
        self._orders.update((order.id, order) for order in known.orders)
        self._riders.update((rider.id, rider) for rider in known.riders)

    def round(self, took_ms: float) -> None:
        """A round was decided."""
        self._round_ms.append(took_ms)

    def saw(self, rider_id: str, at_ms: int) -> None:
        """A fix."""
        before_ms = self._seen_ms.get(rider_id)
        if before_ms is not None and at_ms > before_ms:
            self._fix_ms.append(at_ms - before_ms)
        self._seen_ms[rider_id] = at_ms

    def event(self, event: e.Event | e.RiderEvent) -> None:
        """One more event."""
        if isinstance(event, e.RiderEvent):
            if isinstance(event.fact, e.WentOnShift):
                self._riders[event.rider_id] = event.fact.rider
            return
        fact = event.fact
        if isinstance(fact, e.Placed):
            self._orders[event.order_id] = evolve(fact.order, event)
            return
        before = self._orders.get(event.order_id)
        if before is None or event.seq <= before.version:
            return
        self._answers(before, event)
        self._moves(before, event)
        if isinstance(fact, _ENDS):
            del self._orders[event.order_id]
        else:
            self._orders[event.order_id] = evolve(before, event)

    def result(self) -> Habits:
        """The figures; those with fewer than FEW samples are the defaults of a scenario."""
        answered = sum(self._count.values())
        knobs = RiderKnobs(count=1, shifts=(Shift(start_h=0.0, hours=1.0),))
        accept, ignore = knobs.accept_share, knobs.ignore_share
        if answered >= FEW:
            accept = self._count["accepted"] / answered
            ignore = self._count["timed_out"] / answered
        factor, spread = knobs.service_factor, knobs.service_spread
        if len(self._service) >= FEW:
            factor = float(np.mean(self._service))
            spread = min(1.0, ROOT3 * float(np.std(self._service)) / max(factor, 1e-9))
        cases = {
            "accept_share": answered,
            "ignore_share": answered,
            "answer_s": len(self._answer_ms),
            "fix_s": len(self._fix_ms),
            "service_factor": len(self._service),
            "service_spread": len(self._service),
            "ride_factor": len(self._rides),
            "decide_ms": len(self._round_ms),
            "write_ms": len(self._stands_ms),
        }
        rides = np.array(self._rides, np.float64).reshape(-1, 2).sum(axis=0)
        return Habits(
            riders=RiderKnobs(
                count=1,
                shifts=knobs.shifts,
                accept_share=accept,
                ignore_share=ignore,
                answer_s=_mean_s(self._answer_ms, knobs.answer_s),
                fix_s=_median_s(self._fix_ms, knobs.fix_s),
                service_factor=factor,
                service_spread=spread,
            ),
            ride_factor=float(rides[0] / rides[1]) if len(self._rides) >= FEW else 1.0,
            decide_ms=int(np.median(self._round_ms)) if len(self._round_ms) >= FEW else 150,
            write_ms=int(np.median(self._stands_ms)) if len(self._stands_ms) >= FEW else 50,
            samples={
                "answers": answered,
                "answer_times": len(self._answer_ms),
                "services": len(self._service),
                "rides": len(self._rides),
                "rounds": len(self._round_ms),
            },
            defaults={name: count for name, count in cases.items() if count < FEW},
        )

    # --- what is measured ---

    def _answers(self, before: Order, event: e.Event) -> None:
        fact, live = event.fact, before.assignment
        if isinstance(fact, e.Offered):
            since_ms = event.at_ms - (fact.deadline_ms - self.offer_ms)
            if since_ms >= 0:
                self._stands_ms.append(since_ms)
        kind = _ANSWERS.get(type(fact))
        if kind is None or live is None:
            return
        self._count[kind] += 1
        if kind != "timed_out":
            self._answer_ms.append(event.at_ms - live.offered_at_ms)

    def _moves(self, before: Order, event: e.Event) -> None:
        """Rides from one stop to the next without a diversion, and service at doors.

        At a door nobody waits for goods, and no two orders share the approach.
        """
        fact = event.fact
        if isinstance(fact, e.Heading):
            busy = fact.rider_id in self._headed
            at = ("", -1, 0) if busy else (event.order_id, fact.stop, event.at_ms)
            self._headed[fact.rider_id] = at
        elif isinstance(fact, e.Arrived):
            self._rode(before, fact, event.at_ms)
        elif isinstance(fact, e.StopDone):
            stop = before.stops[fact.stop]
            self._left[fact.rider_id] = stop.place, event.order_id, event.at_ms
            if stop.kind is StopKind.DROPOFF and stop.approach_ms and stop.arrived_at_ms:
                self._service.append((event.at_ms - stop.arrived_at_ms) / stop.approach_ms)

    def _rode(self, before: Order, fact: e.Arrived, at_ms: int) -> None:
        order_id, stop, headed_ms = self._headed.pop(fact.rider_id, ("", -1, 0))
        left, rider = self._left.pop(fact.rider_id, None), self._riders.get(fact.rider_id)
        if (order_id, stop) != (before.id, fact.stop) or left is None or rider is None:
            return
        here, there = left[0], before.stops[stop].place
        x, y = self.plane.xy(np.array([here.lat, there.lat]), np.array([here.lon, there.lon]))
        planned = self.travel.pair_ms(x[0], y[0], x[1], y[1], rider.speed_mps)
        self._rides.append((at_ms - headed_ms, int(planned)))


_ANSWERS: dict[type, str] = {
    e.Accepted: "accepted",
    e.Declined: "declined",
    e.TimedOut: "timed_out",
}
_ENDS = (e.Finished, e.Completed, e.Cancelled, e.Expired, e.Returned, e.Failed)


def _mean_s(values_ms: list[int], default_s: float) -> float:
    return float(np.mean(values_ms)) / 1000 if len(values_ms) >= FEW else default_s


def _median_s(values_ms: list[int], default_s: float) -> float:
    return float(np.median(values_ms)) / 1000 if len(values_ms) >= FEW else default_s
