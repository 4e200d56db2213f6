"""The sans-I/O loop around decide: events, fixes and time in, effects out; imports no I/O.

A driver (live or simulated) hands over what happened with `receive`, the time with `tick`, and
carries out what `outbox` gives: decide on a snapshot, write a plan, ask a command of an order.
`wake_at` says when the next `tick` is due.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from dispatch.columns import AT_STOP, CLOCK_SLACK_MS, DRIVING, FREE, Columns, pairs_of
from dispatch.commands import Command, Complete, Expire, Offer, Open, TimeOut
from dispatch.events import (
    Accepted,
    Arrived,
    Completed,
    Event,
    Heading,
    Offered,
    Opened,
    Placed,
    ReturnAdded,
    RiderEvent,
    Scheduled,
    StopDone,
    StopFailed,
    WentOnShift,
)
from dispatch.lifecycle import ORDER, STOP
from dispatch.model import (
    AssignmentState,
    Matching,
    Order,
    OrderState,
    Rider,
    RouteStop,
    StopKind,
    StopState,
)
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.snapshot import F8, I8, Snapshot
from dispatch.transitions import evolve, stops_ahead
from geo.cells import cells_of
from geo.distance import Plane
from geo.errors import InvalidValue
from geo.travel import TravelModel

REPEAT_MS = 10_000
OVER_KEPT = 10_000
"""So many orders that are over are known by name: an event that comes again changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The live orders and the riders on shift when a dispatcher starts."""

    orders: tuple[Order, ...]
    riders: tuple[Rider, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixes:
    """A batch of positions, one row a fix: WGS-84 degrees and device time in ms."""

    rider_id: tuple[str, ...]
    lat: F8
    lon: F8
    at_ms: I8


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The plan that answers a `Decide`."""

    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWritten:
    """The plan of `at_ms` stands in the store, but for the orders in `dropped`: (id, code)."""

    at_ms: int
    dropped: tuple[tuple[str, str], ...] = ()


Message = Known | Fixes | Decided | PlanWritten | Event | RiderEvent


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decide:
    """Effect: run `engine.decide` on this snapshot and give the plan back as `Decided`."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class WritePlan:
    """Effect: apply these offers, each on its own, and answer with `PlanWritten`."""

    plan: Plan
    offers: tuple[tuple[str, Offer], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Effect: apply the command to the order; a refusal changes nothing and needs no answer."""

    order_id: str
    command: Command


Effect = Decide | WritePlan | Ask


class Dispatcher:
    """One city's loop. Feed it every event of the city in order; it holds no clock and no socket.

    A plan in flight keeps its orders and riders out of later rounds until their events arrive or
    `PlanWritten` says that they were dropped. Timers (offers that end, orders that open, expire or
    complete) become `Ask` effects, repeated every REPEAT_MS for as long as they are not answered.
    """

    def __init__(self, city: str, plane: Plane, travel: TravelModel, policy: Policy) -> None:
        if travel.law is None:
            raise InvalidValue("travel", travel, "a travel model with a closed form")
        self.city, self.policy = city, policy
        self.columns = Columns(plane, travel.law, policy.route_stops_max)
        self._orders: dict[str, Order] = {}
        self._declined: dict[str, set[str]] = {}
        self._pending: Counter[str] = Counter()  # rider id -> offers he has not answered
        self._on_shift: set[str] = set()
        self._rider_seq: dict[str, int] = {}
        self._in_flight: dict[str, str] = {}  # order id -> rider id of a plan being written
        self._deciding = False
        self._timers: list[tuple[int, int, str, Command]] = []
        self._timer_number = 0
        self._next_round = 0
        self._waiting: set[str] = set()
        self._done: set[str] = set()
        self._expiring: set[str] = set()  # orders with a timer that expires them
        self._over: dict[str, None] = {}  # the latest orders that are done or have ended
        self._outbox: list[Effect] = []

    # --- in ---

    def receive(self, message: Message) -> None:
        """Takes what happened. An event that is already known (by `seq`) changes nothing."""
        if isinstance(message, Event):
            self._on_event(message)
        elif isinstance(message, Fixes):
            self._on_fixes(message)
        elif isinstance(message, RiderEvent):
            self._on_rider_event(message)
        elif isinstance(message, Decided):
            self._on_decided(message.plan)
        elif isinstance(message, PlanWritten):
            self._on_written(message)
        else:
            self._on_known(message)

    def tick(self, now_ms: int) -> None:
        """Asks what is due, and starts a round when one is due and an order waits."""
        while self._timers and self._timers[0][0] <= now_ms:
            _, _, order_id, command = heappop(self._timers)
            if self._still_due(order_id, command):
                self._outbox.append(Ask(order_id=order_id, command=replace(command, at_ms=now_ms)))
                self._at(now_ms + REPEAT_MS, order_id, command)
            elif isinstance(command, Expire):
                self._expiring.discard(order_id)
        if now_ms >= self._next_round and self._waiting and not self._deciding:
            tick = self.policy.tick_ms
            self._next_round = (now_ms // tick + 1) * tick
            self._deciding = True
            declined = pairs_of(self._declined, self.columns)
            self._outbox.append(Decide(snapshot=self.columns.snapshot(now_ms, declined)))

    def outbox(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self._outbox = self._outbox, []
        return effects

    def wake_at(self) -> int | None:
        """When the next `tick` is due; None while there is nothing to wait for."""
        due = [self._timers[0][0]] if self._timers else []
        if self._waiting and not self._deciding:
            due.append(self._next_round)
        return min(due, default=None)

    def counts(self) -> dict[str, int]:
        """For a status line: orders and riders by what they are doing."""
        return {
            "orders_live": len(self._orders),
            "orders_waiting": len(self._waiting),
            "riders_on_shift": len(self._on_shift),
        }

    # --- messages ---

    def _on_known(self, known: Known) -> None:
        for rider in known.riders:
            self._rider_seq[rider.id] = rider.version
            self._start_shift(rider, free_ms=0)
        held: dict[str, list[Order]] = {}
        for order in known.orders:
            if order.state is OrderState.DONE:
                self._complete_later(order.id, order.stops[-1].done_at_ms or 0)
                continue
            self._orders[order.id] = order
            self.columns.add_order(order)
            self._wait(order.id, _waits(order))
            self._arm(order)
            if order.declined_by:
                self._declined[order.id] = set(order.declined_by)
            if order.assignment is not None:
                held.setdefault(order.assignment.rider_id, []).append(order)
        for rider_id, orders in held.items():
            self._resume(rider_id, orders)
        for rider in known.riders:
            self._reopen(rider.id)

    def _arm(self, order: Order) -> None:
        """The timer that the order's state asks for."""
        live = order.assignment
        if order.state is OrderState.SCHEDULED:
            self._at(order.open_at_ms or 0, order.id, Open(at_ms=0))
        elif live is not None and live.state is AssignmentState.OFFERED:
            self._at(live.deadline_ms + 1, order.id, TimeOut(at_ms=0, number=live.number))
        elif order.state is OrderState.OPEN and order.id not in self._expiring:
            self._expiring.add(order.id)
            self._at(order.expires_at_ms, order.id, Expire(at_ms=0))

    def _resume(self, rider_id: str, orders: list[Order]) -> None:
        """The rider's route and load from the orders that he holds: as last told, then the rest."""
        row = self.columns.rider(rider_id)
        attempts = [o.assignment for o in orders if o.assignment is not None]
        last = max(attempts, key=lambda a: (a.offered_at_ms, len(a.route)))
        self._adopt(rider_id, last.route, {o.id for o in orders})
        for order in orders:
            self._adopt_rest(row, order)
            self._load_done_stops(row, order)
        self._reported_first(row, orders, last.offered_at_ms)
        stops = [s for o in orders for s in o.stops]
        moments = [max(s.headed_at_ms or 0, s.arrived_at_ms or 0) for s in stops]
        moments += [s.done_at_ms + s.leave_ms for s in stops if s.done_at_ms is not None]
        self.columns.riders["free_ms"][row] = max(moments)
        self._pending[rider_id] = sum(a.state is AssignmentState.OFFERED for a in attempts)
        self._relock(rider_id)

    def _adopt_rest(self, row: int, order: Order) -> None:
        """Stops that the last offer did not tell of: a return is next, others come at the end."""
        route = self.columns.route(row)
        rest = [
            self.columns.stop_row(order.id, i)
            for i, s in enumerate(order.stops)
            if not STOP.ended(s.state)
        ]
        rest = [s for s in rest if s not in route]
        self.columns.set_route(row, rest + route if order.returning else route + rest)

    def _reported_first(self, row: int, orders: list[Order], told_ms: int) -> None:
        """What the rider has done since he was told his route: his latest report comes first."""
        reports: list[tuple[int, int]] = []
        for order in orders:
            failed_ms = max((s.done_at_ms or 0 for s in order.stops), default=0)
            for i, stop in enumerate(order.stops):
                at = self.columns.stop_row(order.id, i)
                if stop.state is StopState.ARRIVED:
                    reports.append((stop.arrived_at_ms or 0, at))
                elif stop.state is StopState.HEADING and (stop.headed_at_ms or 0) > told_ms:
                    reports.append((stop.headed_at_ms or 0, at))
                elif stop.state is StopState.PLANNED and order.returning and failed_ms > told_ms:
                    reports.append((failed_ms, at))
        first = [at for _, at in sorted(reports, reverse=True)]
        rest = [s for s in self.columns.route(row) if s not in first]
        self.columns.set_route(row, first + rest)

    def _load_done_stops(self, row: int, order: Order) -> None:
        for stop in order.stops:
            if stop.state is StopState.DONE:
                self.columns.add_load(row, stop.load)
                if stop.kind is StopKind.PICKUP:
                    self._limit_ride(order, stop.done_at_ms or 0)

    def _on_fixes(self, fixes: Fixes) -> None:
        """Newer ones only: a phone may deliver late what it recorded long ago."""
        known, columns = self.columns.rider_row, self.columns.riders
        row = np.array([known.get(r, -1) for r in fixes.rider_id], np.int64)
        newest = np.argsort(fixes.at_ms, kind="stable")
        newest = newest[row[newest] >= 0]
        newest = newest[fixes.at_ms[newest] >= columns["fix_ms"][row[newest]]]
        if not len(newest):
            return
        row, at_ms = row[newest], fixes.at_ms[newest]
        lat, lon = fixes.lat[newest], fixes.lon[newest]
        # First what may refuse a point, so that a refused batch changes nothing.
        columns["cell"][row] = cells_of(lat, lon)
        columns["x"][row], columns["y"][row] = self.columns.plane.xy(lat, lon)
        columns["fix_ms"][row] = at_ms
        driving = columns["locked"][row] == DRIVING
        columns["free_ms"][row[driving]] = at_ms[driving]

    def _on_rider_event(self, event: RiderEvent) -> None:
        if event.seq <= self._rider_seq.get(event.rider_id, 0):
            return
        self._rider_seq[event.rider_id] = event.seq
        if isinstance(event.fact, WentOnShift):
            self._start_shift(event.fact.rider, event.at_ms)
        else:
            self._on_shift.discard(event.rider_id)
        self._reopen(event.rider_id)

    def _start_shift(self, rider: Rider, free_ms: int) -> None:
        self._on_shift.add(rider.id)
        self.columns.set_rider(rider, free_ms)

    def _on_decided(self, plan: Plan) -> None:
        self._deciding = False
        offers = []
        for planned in plan.offers:
            order = self._orders.get(planned.order_id)
            if order is None or planned.order_id not in self._waiting:
                continue
            if planned.rider_id not in self._on_shift:
                continue
            self._in_flight[planned.order_id] = planned.rider_id
            self._wait(planned.order_id, False)
            self._pending[planned.rider_id] += 1
            self._reopen(planned.rider_id)
            command = Offer(
                at_ms=plan.at_ms,
                rider_id=planned.rider_id,
                deadline_ms=plan.at_ms + self.policy.offer_ms,
                route=planned.route,
                order_version=planned.order_version,
            )
            offers.append((planned.order_id, command))
        if offers:
            self._outbox.append(WritePlan(plan=plan, offers=tuple(offers)))

    def _on_written(self, written: PlanWritten) -> None:
        for order_id, _ in written.dropped:
            self._landed(order_id)
            order = self._orders.get(order_id)
            if order is not None:
                self._wait(order_id, _waits(order))

    def _landed(self, order_id: str) -> None:
        """The plan's offer of this order was written, dropped or overtaken."""
        rider_id = self._in_flight.pop(order_id, None)
        if rider_id is not None:
            self._pending[rider_id] -= 1
            self._reopen(rider_id)

    # --- order events ---

    def _on_event(self, event: Event) -> None:
        fact = event.fact
        if isinstance(fact, Placed):
            if event.order_id not in self._orders and event.order_id not in self._over:
                placed = self._orders[event.order_id] = evolve(fact.order, event)
                self.columns.add_order(placed)
            return
        if isinstance(fact, Completed):
            self._done.discard(event.order_id)
            return
        before = self._orders.get(event.order_id)
        if before is None or event.seq <= before.version:
            return
        self._landed(event.order_id)
        order = self._orders[event.order_id] = evolve(before, event)
        self.columns.set_progress(order)
        self._wait(order.id, _waits(order))
        self._follow(before, order, event)
        if ORDER.ended(order.state) or order.state is OrderState.DONE:
            self._forget(order, event.at_ms)

    def _follow(self, before: Order, order: Order, event: Event) -> None:
        fact = event.fact
        if isinstance(fact, Scheduled | Opened):
            self._arm(order)
        elif isinstance(fact, Offered):
            self._on_offered(order, fact)
        elif isinstance(fact, Accepted):
            self._answered(fact.rider_id)
        elif isinstance(fact, Heading | Arrived | StopDone | StopFailed | ReturnAdded):
            self._on_stop(order, fact, event.at_ms)
        elif before.assignment is not None and order.assignment is None:
            self._on_attempt_over(before, order)

    def _on_offered(self, order: Order, fact: Offered) -> None:
        self.columns.rider(fact.rider_id)
        self._pending[fact.rider_id] += 1
        if order.matching is Matching.HALL:
            self._append(fact.rider_id, order.id)
        else:
            self._adopt(fact.rider_id, fact.route, {order.id})
        self._relock(fact.rider_id)
        self._reopen(fact.rider_id)
        self._arm(order)

    def _on_attempt_over(self, before: Order, order: Order) -> None:
        """Declined, timed out, withdrawn, dropped, or the order has ended."""
        assert before.assignment is not None
        rider_id = before.assignment.rider_id
        row = self.columns.rider_row[rider_id]
        theirs = self.columns.rows_of(order.id)
        self.columns.set_route(row, [s for s in self.columns.route(row) if s not in theirs])
        for stop in before.stops:
            if stop.state is StopState.DONE:
                self.columns.add_load(row, stop.load, sign=-1)
        for index, stop in enumerate(order.stops):
            self.columns.set_stop(order, index, stop)
        if order.declined_by:
            self._declined[order.id] = set(order.declined_by)
        self._arm(order)
        if before.assignment.state is AssignmentState.OFFERED:
            self._answered(rider_id)
        self._relock(rider_id)

    def _on_stop(
        self,
        order: Order,
        fact: Heading | Arrived | StopDone | StopFailed | ReturnAdded,
        at_ms: int,
    ) -> None:
        columns, row = self.columns, self.columns.rider_row[fact.rider_id]
        riders, route = columns.riders, columns.route(row)
        if isinstance(fact, ReturnAdded):
            index = len(order.stops) - 1
            columns.set_stop(order, index, fact.stop)
            theirs = columns.rows_of(order.id)
            rest = [s for s in route if s not in theirs]
            here = 1 if riders["locked"][row] else 0
            columns.set_route(row, [*rest[:here], columns.stop_row(order.id, index), *rest[here:]])
            self._relock(fact.rider_id)
            return
        stop, at = order.stops[fact.stop], columns.stop_row(order.id, fact.stop)
        rest = [s for s in route if s != at]
        if isinstance(fact, Heading):
            columns.set_route(row, [at, *rest])
            riders["free_ms"][row] = max(int(riders["free_ms"][row]), at_ms)
        elif isinstance(fact, Arrived):
            columns.set_route(row, [at, *rest])
            columns.set_stop(order, fact.stop, stop)
            seen_ms = at_ms - CLOCK_SLACK_MS if fact.device_ms is None else fact.device_ms
            columns.move_rider(row, stop.place.lat, stop.place.lon, seen_ms)
            riders["free_ms"][row] = at_ms
        else:
            columns.set_route(row, rest)
            riders["free_ms"][row] = at_ms + stop.leave_ms
            if isinstance(fact, StopDone):
                columns.add_load(row, stop.load)
                if stop.kind is StopKind.PICKUP:
                    columns.recent.append(columns.plane.xy(stop.place.lat, stop.place.lon))
                    self._limit_ride(order, at_ms)
        self._relock(fact.rider_id)

    def _limit_ride(self, order: Order, picked_ms: int) -> None:
        """What is on board has a moment until which the rider must be at its door."""
        ahead = order.stops[-1]
        if order.ride_max_ms is None or order.returning or ahead.state is StopState.ARRIVED:
            return
        row = int(self.columns.orders["first_stop"][self.columns.order_row[order.id]])
        latest = self.columns.stops["latest_ms"]
        latest[row] = min(int(latest[row]), picked_ms + order.ride_max_ms)

    # --- helpers ---

    def _adopt(self, rider_id: str, told: tuple[RouteStop, ...], own: set[str]) -> None:
        """The rider's route as told: stops of `own` orders are put in, others only kept."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        current = columns.route(row)
        held = set(current)
        wanted: list[int] = []
        for stop in told:
            order = self._orders.get(stop.order_id)
            if order is None or STOP.ended(order.stops[stop.stop].state):
                continue
            at = columns.stop_row(stop.order_id, stop.stop)
            if at not in wanted and (at in held or stop.order_id in own):
                wanted.append(at)
        if columns.riders["locked"][row]:
            wanted = current[:1] + [s for s in wanted if s != current[0]]
        columns.set_route(row, wanted + [s for s in current if s not in wanted])

    def _append(self, rider_id: str, order_id: str) -> None:
        """A claimed order comes last: who told its route did not see what the rider does now."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        own = [columns.stop_row(order_id, s.stop) for s in stops_ahead(self._orders[order_id])]
        columns.set_route(row, [*columns.route(row), *own])

    def _relock(self, rider_id: str) -> None:
        """Nothing goes before the stop where the rider stands or, without diversion, drives to."""
        columns, row = self.columns, self.columns.rider_row[rider_id]
        route = columns.route(row)
        lock = FREE
        if route:
            order = self._orders[columns.order_ids[int(columns.stops["order"][route[0]])]]
            state = order.stops[route[0] - columns.stop_row(order.id, 0)].state
            if state is StopState.ARRIVED:
                lock = AT_STOP
            elif state is StopState.HEADING and not self.policy.diversion:
                lock = DRIVING
        columns.riders["locked"][row] = lock

    def _answered(self, rider_id: str) -> None:
        self._pending[rider_id] -= 1
        self._reopen(rider_id)

    def _reopen(self, rider_id: str) -> None:
        row = self.columns.rider_row.get(rider_id)
        if row is not None:
            open_ = rider_id in self._on_shift and self._pending[rider_id] <= 0
            self.columns.riders["open"][row] = open_

    def _wait(self, order_id: str, waiting: bool) -> None:
        if waiting:
            self._waiting.add(order_id)
        else:
            self._waiting.discard(order_id)
        self.columns.set_waiting(order_id, waiting)

    def _forget(self, order: Order, at_ms: int) -> None:
        self._waiting.discard(order.id)
        del self._orders[order.id]
        self._declined.pop(order.id, None)
        self.columns.drop_order(order.id)
        self._over[order.id] = None
        if len(self._over) > OVER_KEPT:
            del self._over[next(iter(self._over))]
        if order.state is OrderState.DONE:
            self._complete_later(order.id, at_ms)

    def _complete_later(self, order_id: str, at_ms: int) -> None:
        self._done.add(order_id)
        self._at(at_ms + self.policy.complete_after_ms, order_id, Complete(at_ms=0))

    def _at(self, due_ms: int, order_id: str, command: Command) -> None:
        self._timer_number += 1
        heappush(self._timers, (due_ms, self._timer_number, order_id, command))

    def _still_due(self, order_id: str, command: Command) -> bool:
        order = self._orders.get(order_id)
        if isinstance(command, Complete):
            return order_id in self._done
        if order is None:
            return False
        if isinstance(command, Open):
            return order.state is OrderState.SCHEDULED
        if isinstance(command, TimeOut):
            live = order.assignment
            return (
                live is not None
                and live.number == command.number
                and live.state is AssignmentState.OFFERED
            )
        return order.state is OrderState.OPEN


def _waits(order: Order) -> bool:
    """For a rider, and for the rounds to find him: who grabs it from the hall comes by himself."""
    free = order.state is OrderState.OPEN and order.assignment is None
    return free and order.matching is Matching.DISPATCH
