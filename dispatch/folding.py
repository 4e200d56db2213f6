"""The order or the rider after an event, by pure functions; imports the tables and values.

Each fact changes the order in one copy, whose version is the event's `seq`. The life cycles' moves
are looked up in their tables' rows, which raise IllegalMove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from msgspec.structs import replace

from dispatch import events as e
from dispatch.lifecycle import ASSIGNMENT, ORDER, STOP
from dispatch.model import Assignment, Order, OrderState, Rider, RiderState, Stop

_OPEN, _ASSIGNED = OrderState.OPEN, OrderState.ASSIGNED
_SCHEDULE, _OPENED, _ACCEPT = ORDER.by("schedule"), ORDER.by("open"), ORDER.by("accept")
_START, _FINISH, _COMPLETE = ORDER.by("start"), ORDER.by("finish"), ORDER.by("complete")
_RELEASE = ORDER.by("release")
_ACCEPT_ATTEMPT, _START_ATTEMPT = ASSIGNMENT.by("accept"), ASSIGNMENT.by("start")
_HEAD, _ARRIVE, _FINISH_STOP = STOP.by("head"), STOP.by("arrive"), STOP.by("finish")
_FAIL_STOP, _RELEASE_STOP, _SKIP = STOP.by("fail"), STOP.by("release"), STOP.by("skip")


def fold(order: Order, events: Iterable[e.Event]) -> Order:
    """The order after the events."""
    return reduce(evolve, events, order)


def evolve(order: Order, event: e.Event) -> Order:
    """The order after one event. Raises IllegalMove when the tables have no such transition."""
    fact = event.fact
    return _EVOLVE[type(fact)](order, fact, event.at_ms, event.seq)


def evolve_rider(rider: Rider, event: e.RiderEvent) -> Rider:
    """The rider after one event."""
    if isinstance(event.fact, e.WentOnShift):
        return event.fact.rider
    return replace(rider, state=RiderState.OFF, version=event.seq)


def _evolve_placed(order: Order, fact: e.Placed, at_ms: int, seq: int) -> Order:
    return replace(fact.order, version=seq)


def _evolve_scheduled(order: Order, fact: e.Scheduled, at_ms: int, seq: int) -> Order:
    state = _SCHEDULE[order.state]
    return replace(order, state=state, open_at_ms=fact.open_at_ms, version=seq)


def _evolve_opened(order: Order, fact: e.Opened, at_ms: int, seq: int) -> Order:
    return replace(order, state=_OPENED[order.state], version=seq)


def _evolve_offered(order: Order, fact: e.Offered, at_ms: int, seq: int) -> Order:
    attempt = Assignment(
        number=fact.number,
        rider_id=fact.rider_id,
        state=ASSIGNMENT.first,
        offered_at_ms=at_ms,
        deadline_ms=fact.deadline_ms,
        route=fact.route,
    )
    return replace(order, assignment=attempt, attempts=fact.number, version=seq)


def _evolve_accepted(order: Order, fact: e.Accepted, at_ms: int, seq: int) -> Order:
    live = _attempt(order)
    state, accepted = _ACCEPT[order.state], _ACCEPT_ATTEMPT[live.state]
    live = replace(live, state=accepted, accepted_at_ms=at_ms)
    return replace(order, state=state, assignment=live, version=seq)


def _evolve_heading(order: Order, fact: e.Heading, at_ms: int, seq: int) -> Order:
    stop = order.stops[fact.stop]
    headed = replace(stop, state=_HEAD[stop.state], headed_at_ms=at_ms)
    stops = _with(order.stops, fact.stop, headed)
    if order.state is not _ASSIGNED:
        return replace(order, stops=stops, version=seq)
    live = _attempt(order)
    live = replace(live, state=_START_ATTEMPT[live.state])
    return replace(order, state=_START[_ASSIGNED], stops=stops, assignment=live, version=seq)


def _evolve_arrived(order: Order, fact: e.Arrived, at_ms: int, seq: int) -> Order:
    stop = order.stops[fact.stop]
    arrived = replace(stop, state=_ARRIVE[stop.state], arrived_at_ms=at_ms)
    return replace(order, stops=_with(order.stops, fact.stop, arrived), version=seq)


def _evolve_stop_done(order: Order, fact: e.StopDone, at_ms: int, seq: int) -> Order:
    stop = order.stops[fact.stop]
    done = replace(stop, state=_FINISH_STOP[stop.state], done_at_ms=at_ms)
    return replace(order, stops=_with(order.stops, fact.stop, done), version=seq)


def _evolve_stop_failed(order: Order, fact: e.StopFailed, at_ms: int, seq: int) -> Order:
    stop = order.stops[fact.stop]
    failed = replace(stop, state=_FAIL_STOP[stop.state], done_at_ms=at_ms)
    return replace(order, stops=_with(order.stops, fact.stop, failed), version=seq)


def _evolve_return_added(order: Order, fact: e.ReturnAdded, at_ms: int, seq: int) -> Order:
    stops = (*_skipped(order.stops), fact.stop)
    return replace(order, stops=stops, returning=True, version=seq)


def _evolve_finished(order: Order, fact: e.Finished, at_ms: int, seq: int) -> Order:
    state, live = _FINISH[order.state], _left(_attempt(order), "finish")
    return replace(order, state=state, assignment=live, version=seq)


def _evolve_completed(order: Order, fact: e.Completed, at_ms: int, seq: int) -> Order:
    return replace(order, state=_COMPLETE[order.state], version=seq)


def _given_back(move: str) -> _Evolve:
    """The attempt ends by `move` and the order is open again, its untouched stops planned."""

    def evolve_given_back(order: Order, fact: e.Fact, at_ms: int, seq: int) -> Order:
        live = _attempt(order)
        state, stops, declined_by = order.state, order.stops, order.declined_by
        after = _left(live, move)
        if move != "withdraw" and live.rider_id not in declined_by:
            declined_by = (*declined_by, live.rider_id)
        if state is not _OPEN:
            state, stops = _RELEASE[state], tuple(map(_released, stops))
        return replace(
            order, state=state, stops=stops, assignment=after, declined_by=declined_by, version=seq
        )

    return evolve_given_back


def _ended(order: Order, move: str, attempt: str, seq: int, reason: str = "") -> Order:
    """The order ends by `move`; a live attempt ends by `attempt`, untouched stops are skipped."""
    live = order.assignment
    if live is not None:
        live = _left(live, attempt)
    return replace(
        order,
        state=ORDER.move(order.state, move),
        stops=_skipped(order.stops),
        assignment=live,
        ended_reason=reason,
        version=seq,
    )


def _attempt(order: Order) -> Assignment:
    live = order.assignment
    assert live is not None
    return live


def _left(live: Assignment, move: str) -> Assignment | None:
    """The attempt after the move: none when that is its end."""
    state = ASSIGNMENT.move(live.state, move)
    return None if ASSIGNMENT.ended(state) else replace(live, state=state)


def _with(stops: tuple[Stop, ...], index: int, stop: Stop) -> tuple[Stop, ...]:
    changed = list(stops)
    changed[index] = stop
    return tuple(changed)


def _released(stop: Stop) -> Stop:
    if stop.state not in _RELEASE_STOP:
        return stop
    state = _RELEASE_STOP[stop.state]
    return replace(stop, state=state, headed_at_ms=None, arrived_at_ms=None)


def _skipped(stops: tuple[Stop, ...]) -> tuple[Stop, ...]:
    return tuple([replace(s, state=_SKIP[s.state]) if s.state in _SKIP else s for s in stops])


_Evolve = Callable[[Order, Any, int, int], Order]
_EVOLVE: dict[type, _Evolve] = {
    e.Placed: _evolve_placed,
    e.Scheduled: _evolve_scheduled,
    e.Opened: _evolve_opened,
    e.Offered: _evolve_offered,
    e.Accepted: _evolve_accepted,
    e.Declined: _given_back("decline"),
    e.TimedOut: _given_back("time_out"),
    e.Withdrawn: _given_back("withdraw"),
    e.Dropped: _given_back("drop"),
    e.Heading: _evolve_heading,
    e.Arrived: _evolve_arrived,
    e.StopDone: _evolve_stop_done,
    e.StopFailed: _evolve_stop_failed,
    e.ReturnAdded: _evolve_return_added,
    e.Finished: _evolve_finished,
    e.Completed: _evolve_completed,
    e.Cancelled: lambda order, fact, at_ms, seq: _ended(
        order, f"cancel_{fact.by}", "withdraw", seq, fact.reason
    ),
    e.Expired: lambda order, fact, at_ms, seq: _ended(order, "expire", "withdraw", seq),
    e.Returned: lambda order, fact, at_ms, seq: _ended(order, "return", "finish", seq),
    e.Failed: lambda order, fact, at_ms, seq: _ended(order, "fail", "finish", seq, fact.reason),
}
