"""A city's figures from its events alone; uses numpy, the values of dispatch and geo.

Live and simulated days are measured by the same function: nothing here asks who made the events.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dispatch import events as e
from dispatch.model import Order, Place, StopKind
from geo.distance import Plane
from geo.travel import TravelModel
from sim.tally import INCOME_SHARE, PARTS, Kpis, Tally, figures

_PICKUP = StopKind.PICKUP


@dataclass(slots=True)
class _Job:
    """What is remembered of an order until it ends."""

    order: Order
    accepted_ms: int = 0
    accepted_times: int = 0
    at_pickup_ms: int = 0
    picked_up_ms: int = 0
    at_door_ms: int = 0
    rider_id: str = ""
    bundled: bool = False


@dataclass(slots=True)
class _Rider:
    place: Place | None = None
    on_since_ms: int | None = None
    online_ms: int = 0
    busy_since_ms: int = 0
    busy_ms: int = 0
    held: int = 0
    on_board: set[str] = field(default_factory=set)
    income_fen: float = 0.0
    tips_fen: float = 0.0


class KpiBook:
    """Adds up events one by one, in the order of their time; `result` may be asked at any moment.

    An event of an order that was placed, or a rider who came on shift, before the book began is
    left out. Ridden metres are those from each place where a rider reported to the next (shift
    start, arrivals); a detour after a diversion is not in them. `tips` are what riders are given
    for the orders that they deliver, fen by order id: no event tells.
    """

    def __init__(
        self, plane: Plane, travel: TravelModel, tips: Mapping[str, int] | None = None
    ) -> None:
        self._plane, self._travel, self._tips = plane, travel, tips or {}
        self._jobs: dict[str, _Job] = {}
        self._riders: dict[str, _Rider] = {}
        self._count: Counter[str] = Counter()
        self._parts = array("q")  # PARTS an order delivered
        self._late_ms = array("q")
        self._legs = array("d")  # from and to in degrees, and whether with nothing on board

    def add(self, event: e.Event | e.RiderEvent) -> None:
        """One more event."""
        fact = event.fact
        take = _TAKE.get(type(fact))
        if take is not None:
            assert isinstance(event, e.Event)
            job = self._jobs.get(event.order_id)
            if job is not None:
                take(self, job, fact, event.at_ms)
        elif isinstance(fact, e.Placed):
            self._jobs[fact.order.id] = _Job(fact.order)
            self._count["created"] += 1
        elif isinstance(event, e.RiderEvent):
            self._add_rider(event)

    def result(
        self,
        until_ms: int,
        round_ms: ArrayLike = (),
        refused_plans: int = 0,
        income_share: float = INCOME_SHARE,
    ) -> Kpis:
        """The figures up to `until_ms`; None where there is nothing to measure.

        `round_ms` are the lengths of the rounds and `refused_plans` what the referee refused: the
        driver's own, since events do not tell.
        """
        return figures(self.tally(until_ms), round_ms, refused_plans, income_share)

    def tally(self, until_ms: int) -> Tally:
        """What the figures are made of, up to `until_ms`; the book may go on after it."""
        riders = self._riders.values()
        online_ms, busy_ms = [], []
        for rider in riders:
            since = until_ms if rider.on_since_ms is None else rider.on_since_ms
            online_ms.append(rider.online_ms + until_ms - since)
            busy_ms.append(rider.busy_ms + (until_ms - rider.busy_since_ms if rider.held else 0))
        metres, empty = self._metres()
        return Tally(
            counts=Counter(self._count),
            live=len(self._jobs),
            parts_ms=np.array(self._parts, np.int64).reshape(-1, len(PARTS)),
            late_ms=np.array(self._late_ms, np.int64),
            online_ms=np.array(online_ms, np.int64),
            busy_ms=np.array(busy_ms, np.int64),
            income_fen=np.array([rider.income_fen for rider in riders], np.float64),
            tips_fen=np.array([rider.tips_fen for rider in riders], np.float64),
            metres=float(metres.sum()),
            empty_metres=float(metres[empty].sum()),
        )

    def _metres(self) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array(self._legs, np.float64).reshape(-1, 5)
        x1, y1 = self._plane.xy(rows[:, 0], rows[:, 1])
        x2, y2 = self._plane.xy(rows[:, 2], rows[:, 3])
        return self._travel.metres(x1, y1, x2, y2), rows[:, 4] > 0

    # --- riders ---

    def _add_rider(self, event: e.RiderEvent) -> None:
        rider = self._riders.setdefault(event.rider_id, _Rider())
        if isinstance(event.fact, e.WentOnShift):
            rider.on_since_ms, rider.place = event.at_ms, event.fact.rider.place
        elif rider.on_since_ms is not None:
            rider.online_ms += event.at_ms - rider.on_since_ms
            rider.on_since_ms = None

    def _hold(self, job: _Job, rider_id: str, at_ms: int) -> None:
        rider = self._riders.get(rider_id)
        job.rider_id = rider_id
        if rider is not None:
            if rider.held == 0:
                rider.busy_since_ms = at_ms
            rider.held += 1

    def _let_go(self, job: _Job, at_ms: int) -> None:
        """The order is no longer its rider's."""
        rider = self._riders.get(job.rider_id)
        job.rider_id = ""
        if rider is not None:
            rider.on_board.discard(job.order.id)
            rider.held -= 1
            if rider.held == 0:
                rider.busy_ms += at_ms - rider.busy_since_ms

    # --- orders, by fact ---

    def _offered(self, job: _Job, fact: e.Offered, at_ms: int) -> None:
        self._count["offers_made"] += 1

    def _declined(self, job: _Job, fact: e.Declined, at_ms: int) -> None:
        self._count["offers_declined"] += 1

    def _timed_out(self, job: _Job, fact: e.TimedOut, at_ms: int) -> None:
        self._count["offers_timed_out"] += 1

    def _accepted(self, job: _Job, fact: e.Accepted, at_ms: int) -> None:
        self._count["offers_accepted"] += 1
        job.accepted_ms = at_ms
        job.accepted_times += 1
        if job.accepted_times == 2:
            self._count["reassigned"] += 1
        self._hold(job, fact.rider_id, at_ms)

    def _given_back(self, job: _Job, fact: e.Withdrawn | e.Dropped, at_ms: int) -> None:
        if job.rider_id:
            self._let_go(job, at_ms)
        job.bundled = False

    def _arrived(self, job: _Job, fact: e.Arrived, at_ms: int) -> None:
        order, stop = job.order, fact.stop
        rider = self._riders.get(fact.rider_id)
        if stop < len(order.stops):
            if stop == 0:
                job.at_pickup_ms = at_ms
            if stop == len(order.stops) - 1:
                job.at_door_ms = at_ms
            there = order.stops[stop].place
        else:  # a return: back to where it came from
            there = order.stops[0].place
        if rider is not None:
            if rider.place is not None:
                here = rider.place
                empty = not rider.on_board
                self._legs.extend((here.lat, here.lon, there.lat, there.lon, empty))
            rider.place = there

    def _stop_done(self, job: _Job, fact: e.StopDone, at_ms: int) -> None:
        order, rider = job.order, self._riders.get(fact.rider_id)
        if fact.stop == 0:
            job.picked_up_ms = at_ms
        last = fact.stop >= len(order.stops) - 1
        if rider is None or last or order.stops[fact.stop].kind is not _PICKUP:
            return
        rider.on_board.add(order.id)
        if len(rider.on_board) > 1:
            for other in rider.on_board:
                self._jobs[other].bundled = True

    def _finished(self, job: _Job, fact: e.Finished, at_ms: int) -> None:
        order = job.order
        picked_up_ms, at_door_ms = job.picked_up_ms, job.at_door_ms
        if len(order.stops) == 1:  # a visit: where he goes is the door, nothing is picked up
            picked_up_ms = at_door_ms = job.at_pickup_ms
        self._parts.extend(
            (
                job.accepted_ms - order.created_at_ms,
                job.at_pickup_ms - job.accepted_ms,
                picked_up_ms - job.at_pickup_ms,
                at_door_ms - picked_up_ms,
                at_ms - at_door_ms,
            )
        )
        self._late_ms.append(max(0, at_ms - order.promise_to_ms))
        self._count["bundled"] += job.bundled
        rider = self._riders.get(fact.rider_id)
        if rider is not None:
            rider.income_fen += order.price_fen
            rider.tips_fen += self._tips.get(order.id, 0)
        self._ended(job, at_ms)

    def _cancelled(self, job: _Job, fact: e.Cancelled, at_ms: int) -> None:
        self._count[f"cancelled_{fact.by}"] += 1
        self._ended(job, at_ms)

    def _expired(self, job: _Job, fact: e.Expired, at_ms: int) -> None:
        self._count["expired"] += 1
        self._ended(job, at_ms)

    def _returned(self, job: _Job, fact: e.Returned, at_ms: int) -> None:
        self._count["returned"] += 1
        self._ended(job, at_ms)

    def _failed(self, job: _Job, fact: e.Failed, at_ms: int) -> None:
        self._count["failed"] += 1
        self._ended(job, at_ms)

    def _ended(self, job: _Job, at_ms: int) -> None:
        if job.rider_id:
            self._let_go(job, at_ms)
        del self._jobs[job.order.id]


_TAKE: dict[type, Callable[[KpiBook, _Job, Any, int], None]] = {
    e.Offered: KpiBook._offered,
    e.Accepted: KpiBook._accepted,
    e.Declined: KpiBook._declined,
    e.TimedOut: KpiBook._timed_out,
    e.Withdrawn: KpiBook._given_back,
    e.Dropped: KpiBook._given_back,
    e.Arrived: KpiBook._arrived,
    e.StopDone: KpiBook._stop_done,
    e.Finished: KpiBook._finished,
    e.Cancelled: KpiBook._cancelled,
    e.Expired: KpiBook._expired,
    e.Returned: KpiBook._returned,
    e.Failed: KpiBook._failed,
}


def kpis(
    events: Iterable[e.Event | e.RiderEvent],
    *,
    plane: Plane,
    travel: TravelModel,
    until_ms: int,
    round_ms: Sequence[float] = (),
    refused_plans: int = 0,
    income_share: float = INCOME_SHARE,
) -> Kpis:
    """`KpiBook` over a whole log: events in the order of their time."""
    book = KpiBook(plane, travel)
    for event in events:
        book.add(event)
    return book.result(until_ms, round_ms, refused_plans, income_share)
