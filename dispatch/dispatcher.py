"""The sans-I/O loop around decide: events, fixes and time in, effects out; imports no I/O.

A driver (live or simulated) hands over what happened with `receive`, the time with `tick`, and
carries out what `outbox` gives: decide on a snapshot, write a plan, ask a command of an order.
`wake_at` says when the next `tick` is due.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from msgspec.structs import replace

from dispatch.columns import Columns
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
from dispatch.lifecycle import ORDER
from dispatch.messages import (
    Ask,
    Decide,
    Decided,
    Effect,
    Fixes,
    Known,
    Message,
    PlanWritten,
    WritePlan,
)
from dispatch.model import AssignmentState, Matching, Order, OrderState, Rider
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.restart import resume
from dispatch.routes import Routes
from dispatch.timers import REPEAT_MS, Timers, longer
from dispatch.transitions import evolve
from geo.distance import Plane
from geo.errors import InvalidValue
from geo.travel import TravelModel

__all__ = [
    "Ask",
    "Decide",
    "Decided",
    "Dispatcher",
    "Effect",
    "Fixes",
    "Known",
    "Message",
    "PlanWritten",
    "WritePlan",
]

REST_MS, REST_MAX_MS = 10_000, 300_000
UNWRITABLE = "unwritable"  # a dropped offer's reason: the store can write none of this order
ENDED_MAX = 10_000  # ended orders that are remembered, so that nothing repeated revives one
# A member that is looked up in its class costs five times as much as one that is at hand.
_OPEN, _DONE, _OFFERED = OrderState.OPEN, OrderState.DONE, AssignmentState.OFFERED
_DISPATCH = Matching.DISPATCH
_OVER = ORDER.ends | {_DONE}
# Dated when they are asked.
_COMPLETE, _EXPIRE = Complete(at_ms=0), Expire(at_ms=0)


class Dispatcher:
    """One city's loop. Feed it every event of the city in order; it holds no clock and no socket.

    A plan in flight keeps its orders and riders out of later rounds until their events arrive or
    `PlanWritten` says that they were dropped. Timers (offers that end, orders that open, expire or
    complete) become `Ask` effects, repeated for as long as they are not answered. An order waits
    for a rider until it expires; what expires while a rider is asked is asked to expire as soon as
    that is over. One whose offers are `UNWRITABLE` is left out of rounds for ever longer, up to
    REST_MAX_MS, so that it takes no rider from the others. One that is to be served later is left
    out until a rider `look_ahead_ms` away would have to be told of it (`policy.commit_ahead_ms`
    before he leaves): until then a round could only put it off once more.

    Who decides before it hands over anything else says so by `shares`: its snapshots then show the
    columns themselves, not copies of them.
    """

    def __init__(
        self, city: str, plane: Plane, travel: TravelModel, policy: Policy, *, shares: bool = False
    ) -> None:
        if travel.law is None:
            raise InvalidValue("travel", travel, "a travel model with a closed form")
        self.city, self.policy, self._shares = city, policy, shares
        self.columns = Columns(plane, travel.law, policy.route_stops_max)
        self._orders: dict[str, Order] = {}
        self._routes = Routes(self.columns, self._orders, policy.diversion)
        self._pending: dict[str, int] = {}  # rider id -> offers he has not answered
        self._on_shift: set[str] = set()
        self._rider_seq: dict[str, int] = {}
        self._in_flight: dict[str, str] = {}  # order id -> rider id of a plan being written
        self._deciding = False
        self._timers = Timers()
        self._next_round = 0
        self._now_ms = 0  # of the last tick
        self._waiting: set[str] = set()
        self._done: set[str] = set()
        self._ended: OrderedDict[str, None] = OrderedDict()  # the latest, oldest first
        self._expiring: dict[str, int] = {}  # when the timer that expires the order is due
        self._resting: dict[str, tuple[int, int]] = {}  # unwritable: for how long, until when
        self._early: list[tuple[int, str]] = []  # heap: (when it is to be looked at, order id)
        self.effects: list[Effect] = []  # since the last `outbox`
        # What a fact changes beyond the order itself; the others end an attempt, or the order.
        self._follows: dict[type, Callable[[Order, Any, int], None]] = {
            Scheduled: self._on_opened,
            Opened: self._on_opened,
            Offered: self._on_offered,
            Accepted: self._on_accepted,
            Heading: self._routes.heading,
            Arrived: self._routes.arrived,
            StopDone: self._routes.done,
            StopFailed: self._routes.failed,
            ReturnAdded: self._routes.returns,
        }

    # --- in ---

    def receive(self, message: Message) -> None:
        """Takes what happened. An event that is already known (by `seq`) changes nothing."""
        _TAKES[type(message)](self, message)

    def tick(self, now_ms: int, look: Callable[[int], Fixes | None] | None = None) -> None:
        """Asks what is due, and starts a round when one is due and an order waits.

        Fixes matter to rounds alone: a driver that can tell where everybody is now may do so when
        a round starts, by `look`, instead of sending them along.
        """
        self._now_ms = now_ms
        timers = self._timers
        while timers.next_ms is not None and timers.next_ms <= now_ms:
            due_ms, order_id, command, pause_ms = timers.pop()
            if isinstance(command, Expire):
                self._expire(order_id, due_ms, pause_ms)
            elif self._still_due(order_id, command):
                self.effects.append(Ask(order_id=order_id, command=replace(command, at_ms=now_ms)))
                timers.set(now_ms + pause_ms, order_id, command, longer(pause_ms))
        timers.skip(self._is_over)  # most offers are answered: nobody need come back for those
        if self._resting:
            self._wake(now_ms)
        while self._early and self._early[0][0] <= now_ms:
            order = self._orders.get(heappop(self._early)[1])
            if order is not None and order.id not in self._in_flight:
                self._wait(order.id, self._waits(order))
        if now_ms >= self._next_round and self._waiting and not self._deciding:
            tick = self.policy.tick_ms
            self._next_round = (now_ms // tick + 1) * tick
            self._deciding = True
            fixes = look(now_ms) if look is not None else None
            if fixes is not None:
                self.columns.move_riders(fixes)
            snapshot = self.columns.snapshot(now_ms, self.policy.stale_after_ms, self._shares)
            self.effects.insert(0, Decide(snapshot=snapshot))  # before what would change it

    def outbox(self) -> list[Effect]:
        """The effects since the last call, in order."""
        effects, self.effects = self.effects, []
        return effects

    def wake_at(self) -> int | None:
        """When the next `tick` is due; None while there is nothing to wait for."""
        due_ms = self._timers.next_ms
        if self._waiting and not self._deciding and (due_ms is None or self._next_round < due_ms):
            due_ms = self._next_round
        if self._early and (due_ms is None or self._early[0][0] < due_ms):
            due_ms = self._early[0][0]
        if self._resting:
            rested = [until_ms for _, until_ms in self._resting.values() if until_ms > self._now_ms]
            due_ms = min(rested if due_ms is None else [due_ms, *rested], default=None)
        return due_ms

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
            self._wait(order.id, self._waits(order))
            self._arm(order)
            if order.declined_by:
                self.columns.set_declined(order)
            if order.assignment is not None:
                held.setdefault(order.assignment.rider_id, []).append(order)
        for rider_id, orders in held.items():
            resume(self._routes, rider_id, orders)
            live = [o.assignment for o in orders if o.assignment is not None]
            self._pending[rider_id] = sum(a.state is AssignmentState.OFFERED for a in live)
        for rider in known.riders:
            self._reopen(rider.id)

    def _arm(self, order: Order) -> None:
        """The timer that the order's state asks for."""
        live = order.assignment
        if order.state is OrderState.SCHEDULED:
            self._timers.set(order.open_at_ms or 0, order.id, Open(at_ms=0))
        elif live is not None and live.state is _OFFERED:
            self._timers.set(live.deadline_ms + 1, order.id, TimeOut(at_ms=0, number=live.number))
        elif order.state is _OPEN:
            self._expire_at(order.expires_at_ms, order.id)

    def _expire_at(self, due_ms: int, order_id: str, pause_ms: int = REPEAT_MS) -> None:
        """One timer an order: of two the earlier one, the other is left to come to nothing."""
        if due_ms < self._expiring.get(order_id, due_ms + 1):
            self._expiring[order_id] = due_ms
            self._timers.set(due_ms, order_id, _EXPIRE, pause_ms)

    def _expire(self, order_id: str, due_ms: int, pause_ms: int) -> None:
        """Ends the search. A rider who is asked may still accept: it is armed again after him."""
        if self._expiring.get(order_id) != due_ms:
            return
        del self._expiring[order_id]
        order = self._orders.get(order_id)
        if order is None or not _is_free(order) or order_id in self._in_flight:
            return
        self._wait(order_id, False)
        self.effects.append(Ask(order_id=order_id, command=Expire(at_ms=self._now_ms)))
        self._expire_at(self._now_ms + pause_ms, order_id, longer(pause_ms))

    def _on_rider_event(self, event: RiderEvent) -> None:
        if event.seq <= self._rider_seq.get(event.rider_id, 0):
            return
        self._rider_seq[event.rider_id] = event.seq
        if isinstance(event.fact, WentOnShift):
            self._start_shift(event.fact.rider, event.at_ms)
        else:
            self._on_shift.discard(event.rider_id)
            if event.rider_id in self.columns.rider_row:
                self.columns.set_on_shift(event.rider_id, False)
        self._reopen(event.rider_id)

    def _start_shift(self, rider: Rider, free_ms: int) -> None:
        self._on_shift.add(rider.id)
        self.columns.set_rider(rider, free_ms)
        self.columns.set_on_shift(rider.id, True)

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
            self._asked(planned.rider_id)
            command = Offer(
                at_ms=plan.at_ms,
                rider_id=planned.rider_id,
                deadline_ms=plan.at_ms + self.policy.offer_ms,
                route=planned.route,
                order_version=planned.order_version,
            )
            offers.append((planned.order_id, command))
        if offers:
            self.effects.append(WritePlan(plan=plan, offers=tuple(offers)))

    def _on_written(self, written: PlanWritten) -> None:
        for order_id, reason in written.dropped:
            self._landed(order_id)
            order = self._orders.get(order_id)
            if order is not None:
                if reason == UNWRITABLE:
                    self._rest(order_id)
                self._wait(order_id, self._waits(order))
                self._arm(order)

    def _rest(self, order_id: str) -> None:
        before_ms, _ = self._resting.get(order_id, (0, 0))
        pause_ms = min(2 * before_ms or REST_MS, REST_MAX_MS)
        self._resting[order_id] = pause_ms, self._now_ms + pause_ms

    def _wake(self, now_ms: int) -> None:
        """Tries the orders again that have rested."""
        for order_id, (_, until_ms) in self._resting.items():
            if until_ms <= now_ms and order_id not in self._in_flight:
                self._wait(order_id, self._waits(self._orders[order_id]))

    def _landed(self, order_id: str) -> None:
        """The plan's offer of this order was written, dropped or overtaken."""
        rider_id = self._in_flight.pop(order_id, None)
        if rider_id is not None:
            self._answered(rider_id)

    # --- order events ---

    def follow(self, event: Event, after: Order | None = None) -> None:
        """As `receive`, for a driver that has the order as it is right `after` the event; else the
        event is folded once more."""
        order_id, fact = event.order_id, type(event.fact)
        before = self._orders.get(order_id)
        if before is None or fact is Completed:
            self._on_first_or_last(event, after)
            return
        if event.seq <= before.version:
            return
        if order_id in self._in_flight:
            self._landed(order_id)
        if self._resting:
            self._resting.pop(order_id, None)
        order = self._orders[order_id] = evolve(before, event) if after is None else after
        columns = self.columns
        columns.orders.cells["version"][columns.order_row[order_id]] = order.version
        waits = order.state is _OPEN and self._waits(order)
        if waits is not (order_id in self._waiting):
            self._wait(order_id, waits)
        follow = self._follows.get(fact)
        if follow is not None:
            follow(order, event.fact, event.at_ms)
        elif before.assignment is not None and order.assignment is None:
            self._on_attempt_over(before, order)
        if order.state in _OVER:
            self._forget(order, event.at_ms)

    def _on_first_or_last(self, event: Event, after: Order | None) -> None:
        order_id, fact = event.order_id, event.fact
        if isinstance(fact, Completed):
            self._done.discard(order_id)
            self._end(order_id)
        elif isinstance(fact, Placed) and not self._has_seen(order_id):
            order = self._orders[order_id] = evolve(fact.order, event) if after is None else after
            self.columns.add_order(order)

    def _has_seen(self, order_id: str) -> bool:
        return order_id in self._orders or order_id in self._done or order_id in self._ended

    def _on_opened(self, order: Order, fact: Scheduled | Opened, at_ms: int) -> None:
        self._arm(order)

    def _on_accepted(self, order: Order, fact: Accepted, at_ms: int) -> None:
        self._answered(fact.rider_id)

    def _on_offered(self, order: Order, fact: Offered, at_ms: int) -> None:
        self.columns.rider(fact.rider_id)
        if order.matching is _DISPATCH:
            self._routes.adopt(fact.rider_id, fact.route, {order.id})
        else:
            self._routes.append(fact.rider_id, order)
        self._asked(fact.rider_id)
        self._arm(order)

    def _on_attempt_over(self, before: Order, order: Order) -> None:
        """Declined, timed out, withdrawn, dropped, or the order has ended."""
        assert before.assignment is not None
        rider_id, columns = before.assignment.rider_id, self.columns
        self._routes.take_back(before, rider_id)
        if order.state not in _OVER:
            for row, stop in zip(columns.rows_of(order.id), order.stops, strict=False):
                columns.set_times(row, stop)
            if order.declined_by:
                columns.set_declined(order)
            self._arm(order)
        if before.assignment.state is _OFFERED:
            self._answered(rider_id)
        self._routes.relock(columns.rider_row[rider_id])

    # --- helpers ---

    def _asked(self, rider_id: str) -> None:
        self._pending[rider_id] = self._pending.get(rider_id, 0) + 1
        self._reopen(rider_id)

    def _answered(self, rider_id: str) -> None:
        self._pending[rider_id] = self._pending.get(rider_id, 0) - 1
        self._reopen(rider_id)

    def _reopen(self, rider_id: str) -> None:
        row = self.columns.rider_row.get(rider_id)
        if row is not None:
            open_ = rider_id in self._on_shift and self._pending.get(rider_id, 0) <= 0
            self.columns.riders.cells["open"][row] = open_

    def _waits(self, order: Order) -> bool:
        """For the rounds to find a rider: who grabs it from the hall comes by himself."""
        if not _is_free(order) or order.matching is not _DISPATCH:
            return False
        rests = order.id in self._resting and self._now_ms < self._resting[order.id][1]
        return self._now_ms < order.expires_at_ms and not rests and not self._is_early(order)

    def _is_early(self, order: Order) -> bool:
        """Then it comes back when it is no longer."""
        first = order.stops[0]
        if first.earliest_ms is None:
            return False
        ahead_ms = self.policy.commit_ahead_ms + self.policy.look_ahead_ms
        look_ms = first.earliest_ms - first.approach_ms - ahead_ms
        if look_ms <= self._now_ms:
            return False
        heappush(self._early, (look_ms, order.id))
        return True

    def _wait(self, order_id: str, waiting: bool) -> None:
        if waiting:
            self._waiting.add(order_id)
        else:
            self._waiting.discard(order_id)
        columns = self.columns
        columns.orders.cells["waiting"][columns.order_row[order_id]] = waiting

    def _forget(self, order: Order, at_ms: int) -> None:
        self._waiting.discard(order.id)
        self._expiring.pop(order.id, None)
        del self._orders[order.id]
        self.columns.drop_order(order.id)
        if order.state is _DONE:
            self._complete_later(order.id, at_ms)
        else:
            self._end(order.id)

    def _end(self, order_id: str) -> None:
        self._ended[order_id] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def _complete_later(self, order_id: str, at_ms: int) -> None:
        self._done.add(order_id)
        self._timers.set(at_ms + self.policy.complete_after_ms, order_id, _COMPLETE)

    def _is_over(self, due_ms: int, order_id: str, command: Command) -> bool:
        """The timer would come to nothing."""
        if isinstance(command, Expire):
            return self._expiring.get(order_id) != due_ms
        return not self._still_due(order_id, command)

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
            return live is not None and live.number == command.number and live.state is _OFFERED
        return False


def _is_free(order: Order) -> bool:
    """For a rider to take."""
    return order.state is _OPEN and order.assignment is None


_TAKES: dict[type, Callable[[Dispatcher, Any], None]] = {
    Event: Dispatcher.follow,
    RiderEvent: Dispatcher._on_rider_event,
    Fixes: lambda self, fixes: self.columns.move_riders(fixes),
    Decided: lambda self, decided: self._on_decided(decided.plan),
    PlanWritten: Dispatcher._on_written,
    Known: Dispatcher._on_known,
}
