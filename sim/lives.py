"""What became of every order, from its placing to its end, from events alone; uses numpy.

Recorded and simulated days are read by the same book, so that two ways of dispatching the same
orders can be compared order by order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from dispatch import events as e
from dispatch.lifecycle import ORDER
from dispatch.model import AssignmentState, Order, OrderState
from dispatch.transitions import evolve

MINUTE_MS = 60_000


@dataclass(slots=True, kw_only=True)
class Life:
    """One order. The moments are ms UTC, those of the attempt that served it, None before they
    come; `first_ms` is when it was offered first. `others` counts the stops of other orders that
    its rider reached while it was on board; `bundled` says that it shared his box."""

    order: Order
    placed_ms: int
    first_ms: int | None = None
    offered_ms: int | None = None
    accepted_ms: int | None = None
    headed_ms: int | None = None
    arrived_ms: int | None = None
    picked_ms: int | None = None
    at_door_ms: int | None = None
    done_ms: int | None = None
    ended_ms: int | None = None
    state: OrderState = OrderState.OPEN
    rider_id: str = ""
    offers: int = 0
    declined: int = 0
    timed_out: int = 0
    others: int = 0
    bundled: bool = False

    @property
    def click_to_door_ms(self) -> int | None:
        """From placing to hand-over; None for what was not delivered."""
        return None if self.done_ms is None else self.done_ms - self.placed_ms


@dataclass(slots=True)
class Lives:
    """The orders of a cohort: those adopted and those placed before `until_ms`."""

    until_ms: int
    by_id: dict[str, Life] = field(default_factory=dict)
    _orders: dict[str, Order] = field(default_factory=dict)
    _on_board: dict[str, set[str]] = field(default_factory=dict)

    def adopt(self, order: Order) -> None:
        """An order that is under way already, as it stands."""
        live, first = order.assignment, order.stops[0]
        life = Life(order=order, placed_ms=order.created_at_ms, state=order.state)
        life.offers = order.attempts
        if live is not None:
            life.first_ms = life.offered_ms = live.offered_at_ms
            if live.state is not AssignmentState.OFFERED:
                life.rider_id = live.rider_id
                life.accepted_ms = live.accepted_at_ms or live.offered_at_ms
                life.headed_ms = first.headed_at_ms
                life.arrived_ms, life.picked_ms = first.arrived_at_ms, first.done_at_ms
                life.at_door_ms = order.stops[-1].arrived_at_ms
        elif order.attempts:
            life.first_ms = order.created_at_ms
        self.by_id[order.id], self._orders[order.id] = life, order
        if life.picked_ms is not None and len(order.stops) > 1:
            self._load(life)

    def add(self, event: e.Event | e.RiderEvent) -> None:
        """One more event; those of riders and of orders outside the cohort change nothing."""
        if isinstance(event, e.RiderEvent):
            return
        fact, name = event.fact, event.order_id
        if isinstance(fact, e.Placed):
            if event.at_ms < self.until_ms and name not in self._orders:
                self._orders[name] = evolve(fact.order, event)
                self.by_id[name] = Life(order=fact.order, placed_ms=fact.order.created_at_ms)
            return
        before = self._orders.get(name)
        if before is None or event.seq <= before.version:
            return
        after = self._orders[name] = evolve(before, event)
        life = self.by_id[name]
        life.state = after.state
        self._take(life, fact, event.at_ms)
        if ORDER.ended(after.state) or after.state is OrderState.DONE:
            self._unload(life)
            del self._orders[name]

    def _take(self, life: Life, fact: e.Fact, at_ms: int) -> None:
        if isinstance(fact, e.Offered):
            life.offers += 1
            life.offered_ms = at_ms
            life.first_ms = at_ms if life.first_ms is None else life.first_ms
        elif isinstance(fact, e.Accepted):
            life.accepted_ms, life.rider_id = at_ms, fact.rider_id
            life.headed_ms = life.arrived_ms = None
        elif isinstance(fact, e.Declined):
            life.declined += 1
        elif isinstance(fact, e.TimedOut):
            life.timed_out += 1
        elif isinstance(fact, e.Finished):
            life.done_ms = life.ended_ms = at_ms
        elif isinstance(fact, e.Cancelled | e.Expired | e.Returned | e.Failed):
            life.ended_ms = at_ms
        else:
            self._move(life, fact, at_ms)

    def _move(self, life: Life, fact: e.Fact, at_ms: int) -> None:
        """The rider sets out, arrives, or is done at a stop."""
        if isinstance(fact, e.Heading) and fact.stop == 0:
            life.headed_ms = at_ms
        elif isinstance(fact, e.Arrived):
            self._arrived(life, fact, at_ms)
        elif isinstance(fact, e.StopDone) and fact.stop == 0:
            life.picked_ms = at_ms
            if len(life.order.stops) > 1:
                self._load(life)

    def _arrived(self, life: Life, fact: e.Arrived, at_ms: int) -> None:
        if fact.stop == 0:
            life.arrived_ms = at_ms
        if fact.stop == len(life.order.stops) - 1:
            life.at_door_ms = at_ms
        for name in self._on_board.get(fact.rider_id, ()):
            if name != life.order.id:
                self.by_id[name].others += 1

    def _load(self, life: Life) -> None:
        board = self._on_board.setdefault(life.rider_id, set())
        board.add(life.order.id)
        if len(board) > 1:
            for name in board:
                self.by_id[name].bundled = True

    def _unload(self, life: Life) -> None:
        self._on_board.get(life.rider_id, set()).discard(life.order.id)


def snapshot_at(lives: Mapping[str, Life], at_ms: int) -> list[Life]:
    """The lives as they stood at an instant: what came later is forgotten."""
    cut = []
    for life in lives.values():
        if life.placed_ms >= at_ms:
            continue
        known = {f.name: getattr(life, f.name) for f in fields(Life)}
        for name in _MOMENTS:
            if known[name] is not None and known[name] >= at_ms:
                known[name] = None
        if life.ended_ms is not None and life.ended_ms >= at_ms:
            known["state"] = OrderState.OPEN
        cut.append(Life(**known))
    return cut


def lives_kpis(lives: Iterable[Life]) -> dict[str, int | float | None]:
    """The figures of a cohort, under the names of `sim.kpi`; None with nothing to measure."""
    every = list(lives)
    done = [life for life in every if life.done_ms is not None]
    door = np.array([life.done_ms - life.placed_ms for life in done if life.done_ms], np.float64)
    door /= MINUTE_MS
    late = [max(0, (x.done_ms or 0) - x.order.promise_to_ms) / MINUTE_MS for x in done]
    states = [life.state for life in every]
    taken = [life for life in every if life.accepted_ms is not None]
    match = [((x.accepted_ms or 0) - x.placed_ms) / MINUTE_MS for x in taken]
    return {
        "orders": len(every),
        "orders_delivered": len(done),
        "orders_expired": states.count(OrderState.EXPIRED),
        "orders_cancelled_customer": states.count(OrderState.CANCELLED_CUSTOMER),
        "orders_cancelled_merchant": states.count(OrderState.CANCELLED_MERCHANT),
        "orders_live": sum(life.ended_ms is None for life in every),
        "on_time_share": _mean([float(minutes <= 0.0) for minutes in late]),
        "click_to_door_mean_min": _mean(door),
        "click_to_door_p50_min": float(np.percentile(door, 50)) if len(door) else None,
        "click_to_door_p95_min": float(np.percentile(door, 95)) if len(door) else None,
        "match_mean_min": _mean(match),
        "lateness_mean_min": _mean(late),
        "bundled_share": _mean([float(life.bundled) for life in done]),
        "offers_made": sum(life.offers for life in every),
        "offers_declined": sum(life.declined for life in every),
        "offers_timed_out": sum(life.timed_out for life in every),
    }


def _mean(values: Iterable[float] | np.ndarray) -> float | None:
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), np.float64)
    return float(array.mean()) if len(array) else None


_MOMENTS = (
    "first_ms", "offered_ms", "accepted_ms", "headed_ms", "arrived_ms", "picked_ms", "at_door_ms",
    "done_ms", "ended_ms",
)  # fmt: skip
