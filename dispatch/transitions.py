"""Every change of an order or a rider, decided by pure functions; imports the tables and values.

`apply` says what happens (events) or why not (a refusal); `evolve` (in `folding`) folds one event
into the order. Whoever receives a command runs both, live on a locked row and in simulation on its
world.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from msgspec.structs import replace

from dispatch import commands as c
from dispatch import events as e
from dispatch.folding import evolve, evolve_rider, fold
from dispatch.lifecycle import ORDER, STOP
from dispatch.model import (
    LOAD_DIMENSIONS,
    Assignment,
    AssignmentState,
    Matching,
    Order,
    OrderState,
    Party,
    Rider,
    RiderState,
    RouteStop,
    Stop,
    StopKind,
    StopState,
    Value,
)

__all__ = [
    "Refusal",
    "apply",
    "apply_rider",
    "evolve",
    "evolve_rider",
    "fold",
    "has_goods",
    "next_stop",
    "stops_ahead",
]

RETURN_APPROACH_MS = 60_000
RETURN_LEAVE_MS = 60_000
# A member that is looked up in its class costs five times as much as one that is at hand.
_OPEN, _OFFERED = OrderState.OPEN, AssignmentState.OFFERED
_PLANNED, _HEADING, _ARRIVED = StopState.PLANNED, StopState.HEADING, StopState.ARRIVED
_HEADS, _ARRIVES, _ACTS = (_PLANNED,), (_PLANNED, _HEADING), (_ARRIVED,)
_DISPATCH = Matching.DISPATCH
_STOP_ENDS = STOP.ends
_PARCEL = {StopKind.PICKUP: 1, StopKind.DROPOFF: -1, StopKind.VISIT: 0}


class Refusal(Value, frozen=True):
    """The command changes nothing. `code` is for programs, `message` for people."""

    code: str
    message: str


Events = tuple[e.Event, ...]


def apply(order: Order, command: c.Command) -> Events | Refusal:
    """The events of `command` on `order`, in order, or the reason why nothing happens.

    Never raises for a command that came too late or from the wrong rider: that is a Refusal.
    """
    facts = _RULES[type(command)](order, command)
    if isinstance(facts, Refusal):
        return facts
    name, seq, at_ms = order.id, order.version + 1, command.at_ms
    if len(facts) == 1:
        return (e.Event(name, seq, at_ms, facts[0]),)
    return tuple([e.Event(name, n, at_ms, fact) for n, fact in enumerate(facts, seq)])


def has_goods(order: Order) -> bool:
    """What was picked up is not all handed over. A stop without a load counts as one parcel."""
    if order.state is not OrderState.UNDER_WAY:
        return False
    done = [s for s in order.stops if s.state is StopState.DONE]
    parcels = sum(_PARCEL[s.kind] for s in done if not any(s.load))
    return parcels > 0 or any(n > 0 for n in _on_board(order))


def next_stop(order: Order) -> int | None:
    """Index of the first stop that is neither done, skipped nor failed."""
    for i, stop in enumerate(order.stops):
        if stop.state not in _STOP_ENDS:
            return i
    return None


def stops_ahead(order: Order) -> tuple[RouteStop, ...]:
    """The order's stops that are still to be served, in order."""
    return tuple(
        RouteStop(order_id=order.id, stop=i)
        for i, s in enumerate(order.stops)
        if s.state not in _STOP_ENDS
    )


# --- apply: what happens, by command ---------------------------------------------------------

Facts = tuple[e.Fact, ...] | Refusal


def _no(order: Order, code: str, message: str) -> Refusal:
    return Refusal(code, f"order {order.id} is {order.state}: {message}")


def _confirm(order: Order, command: c.Confirm) -> Facts:
    if order.state is not OrderState.QUOTED:
        return _no(order, "already_placed", "only a quoted order can be placed")
    placed = e.Placed(order=order)
    if command.open_at_ms is not None and command.open_at_ms > command.at_ms:
        return (placed, e.Scheduled(open_at_ms=command.open_at_ms))
    return (placed, e.Opened())


def _open(order: Order, command: c.Open) -> Facts:
    if order.state is not OrderState.SCHEDULED:
        return _no(order, "not_scheduled", "only a scheduled order can be opened")
    return (e.Opened(),)


def _offer(order: Order, command: c.Offer) -> Facts:
    if order.version != command.order_version:
        return _no(
            order,
            "order_moved",
            f"the round saw version {command.order_version}, it is at {order.version}",
        )
    if order.state is not _OPEN:
        return _no(order, "not_open", "only an open order can be offered")
    if order.matching is not _DISPATCH:
        return _no(order, "in_hall", "riders claim it from the hall")
    if order.assignment is not None:
        return _no(order, "already_offered", f"offered to {order.assignment.rider_id}")
    if command.at_ms >= order.expires_at_ms:
        return _no(order, "expired", f"it expired at {order.expires_at_ms}")
    return (
        e.Offered(
            number=order.attempts + 1,
            rider_id=command.rider_id,
            deadline_ms=command.deadline_ms,
            route=command.route,
        ),
    )


def _claim(order: Order, command: c.Claim) -> Facts:
    """Offered and accepted at once, so that whoever reads events knows nothing new."""
    if order.matching is not Matching.HALL:
        return _no(order, "not_in_hall", "the dispatcher offers it")
    if order.state is not _OPEN or order.assignment is not None:
        if order.attempts and not ORDER.ended(order.state):
            return _no(order, "already_taken", "it has a rider")
        return _no(order, "not_open", "only an open order can be claimed")
    if command.at_ms >= order.expires_at_ms:
        return _no(order, "expired", f"it expired at {order.expires_at_ms}")
    if command.rider_id in order.declined_by:
        return _no(order, "given_back", f"rider {command.rider_id} has given it back")
    number, who = order.attempts + 1, command.rider_id
    offered = e.Offered(
        number=number,
        rider_id=who,
        deadline_ms=command.at_ms,
        route=command.route or stops_ahead(order),
    )
    return (offered, e.Accepted(number=number, rider_id=who))


def _live(order: Order, number: int, rider_id: str | None = None) -> Assignment | Refusal:
    live = order.assignment
    if live is None or live.number != number:
        return _no(order, "stale_assignment", f"attempt {number} is not the live one")
    if rider_id is not None and live.rider_id != rider_id:
        return _no(order, "not_your_order", f"attempt {number} is not rider {rider_id}'s")
    return live


def _accept(order: Order, command: c.Accept) -> Facts:
    live = _live(order, command.number, command.rider_id)
    if isinstance(live, Refusal):
        return live
    if live.state is not _OFFERED:
        return _no(order, "already_accepted", f"attempt {live.number} is {live.state}")
    if command.at_ms > live.deadline_ms:
        return _no(order, "offer_over", f"the offer ended at {live.deadline_ms}")
    return (e.Accepted(number=live.number, rider_id=live.rider_id),)


def _decline(order: Order, command: c.Decline) -> Facts:
    live = _live(order, command.number, command.rider_id)
    if isinstance(live, Refusal):
        return live
    if live.state is not _OFFERED:
        return _no(order, "already_accepted", "an accepted order is given back, not declined")
    return (e.Declined(number=live.number, rider_id=live.rider_id, reason=command.reason),)


def _time_out(order: Order, command: c.TimeOut) -> Facts:
    live = _live(order, command.number)
    if isinstance(live, Refusal):
        return live
    if live.state is not _OFFERED:
        return _no(order, "already_accepted", f"attempt {live.number} is {live.state}")
    if command.at_ms <= live.deadline_ms:
        return _no(order, "offer_still_open", f"the offer ends at {live.deadline_ms}")
    return (e.TimedOut(number=live.number, rider_id=live.rider_id),)


def _withdraw(order: Order, command: c.Withdraw) -> Facts:
    live = _live(order, command.number)
    if isinstance(live, Refusal):
        return live
    if has_goods(order):
        return _no(order, "goods_on_board", "the rider has the goods")
    return (e.Withdrawn(number=live.number, rider_id=live.rider_id, reason=command.reason),)


def _drop_out(order: Order, command: c.DropOut) -> Facts:
    live = _live(order, command.number, command.rider_id)
    if isinstance(live, Refusal):
        return live
    if live.state is _OFFERED:
        return _no(order, "not_accepted", "an offer is declined, not given back")
    if has_goods(order):
        return _no(order, "goods_on_board", "bring the goods back: report the stop as failed")
    return (e.Dropped(number=live.number, rider_id=live.rider_id, reason=command.reason),)


def _on_stop(
    order: Order, rider_id: str, index: int, wanted: tuple[StopState, ...]
) -> Refusal | None:
    live = order.assignment
    if live is None or live.rider_id != rider_id or live.state is _OFFERED:
        return _no(order, "not_your_order", f"rider {rider_id} has not accepted it")
    if not 0 <= index < len(order.stops):
        return _no(order, "no_such_stop", f"stop {index}: the order has {len(order.stops)}")
    state = order.stops[index].state
    if state not in wanted:
        return _no(order, "wrong_stop_state", f"stop {index} is {state}")
    for before in order.stops[:index]:
        if before.state not in _STOP_ENDS:
            return _no(order, "wrong_stop", f"stop {next_stop(order)} comes before stop {index}")
    return None


def _head(order: Order, command: c.Head) -> Facts:
    wrong = _on_stop(order, command.rider_id, command.stop, _HEADS)
    return wrong or (
        e.Heading(rider_id=command.rider_id, stop=command.stop, device_ms=command.device_ms),
    )


def _arrive(order: Order, command: c.Arrive) -> Facts:
    wrong = _on_stop(order, command.rider_id, command.stop, _ARRIVES)
    if wrong:
        return wrong
    who, stop, device = command.rider_id, command.stop, command.device_ms
    arrived = e.Arrived(rider_id=who, stop=stop, device_ms=device)
    if order.stops[stop].state is _PLANNED:
        return (e.Heading(rider_id=who, stop=stop, device_ms=device), arrived)
    return (arrived,)


def _finish_stop(order: Order, command: c.FinishStop) -> Facts:
    wrong = _on_stop(order, command.rider_id, command.stop, _ACTS)
    if wrong:
        return wrong
    who = command.rider_id
    done = e.StopDone(rider_id=who, stop=command.stop, device_ms=command.device_ms)
    if command.stop < len(order.stops) - 1:
        return (done,)
    if order.returning:
        return (done, e.Returned(rider_id=who))
    assert order.assignment is not None
    return (done, e.Finished(number=order.assignment.number, rider_id=who))


def _fail_stop(order: Order, command: c.FailStop) -> Facts:
    wrong = _on_stop(order, command.rider_id, command.stop, _ACTS)
    if wrong:
        return wrong
    who = command.rider_id
    failed = e.StopFailed(
        rider_id=who, stop=command.stop, reason=command.reason, device_ms=command.device_ms
    )
    if not has_goods(order) or order.returning:
        return (failed, e.Failed(rider_id=who, reason=command.reason))
    origin = next(s for s in order.stops if s.kind is StopKind.PICKUP)
    back = Stop(
        kind=StopKind.DROPOFF,
        place=origin.place,
        place_id=origin.place_id,
        approach_ms=RETURN_APPROACH_MS,
        leave_ms=RETURN_LEAVE_MS,
        load=tuple(-n for n in _on_board(order)),
    )
    return (failed, e.ReturnAdded(rider_id=who, stop=back))


def _on_board(order: Order) -> tuple[int, ...]:
    """What the done stops have put on board and not taken off, by load dimension."""
    done = [s.load for s in order.stops if s.state is StopState.DONE]
    return tuple(sum(column) for column in zip_longest(*done, fillvalue=0))


def _cancel(order: Order, command: c.Cancel) -> Facts:
    if not ORDER.can(order.state, f"cancel_{command.by}"):
        return _no(order, "not_cancellable", f"a {command.by} cannot cancel it now")
    rider_id = order.assignment.rider_id if order.assignment else ""
    if not has_goods(order):
        return (e.Cancelled(by=command.by, reason=command.reason, rider_id=rider_id),)
    if command.by is not Party.SYSTEM:
        return _no(order, "goods_on_board", "the rider has the goods: they are brought back")
    return (e.Failed(rider_id=rider_id, reason=command.reason or "cancelled_with_goods"),)


def _expire(order: Order, command: c.Expire) -> Facts:
    if not ORDER.can(order.state, "expire") or order.assignment is not None:
        return _no(order, "not_open", "only an open order without an offer expires")
    if command.at_ms < order.expires_at_ms:
        return _no(order, "not_yet", f"it expires at {order.expires_at_ms}")
    return (e.Expired(),)


def _complete(order: Order, command: c.Complete) -> Facts:
    if not ORDER.can(order.state, "complete"):
        return _no(order, "not_done", "only a done order is completed")
    return (e.Completed(),)


_RULES: dict[type, Callable[[Order, Any], Facts]] = {
    c.Confirm: _confirm,
    c.Open: _open,
    c.Offer: _offer,
    c.Claim: _claim,
    c.Accept: _accept,
    c.Decline: _decline,
    c.TimeOut: _time_out,
    c.Withdraw: _withdraw,
    c.DropOut: _drop_out,
    c.Head: _head,
    c.Arrive: _arrive,
    c.FinishStop: _finish_stop,
    c.FailStop: _fail_stop,
    c.Cancel: _cancel,
    c.Expire: _expire,
    c.Complete: _complete,
}


# --- riders -----------------------------------------------------------------------------------


def apply_rider(
    rider: Rider, command: c.RiderCommand, live_orders: int = 0
) -> tuple[e.RiderEvent, ...] | Refusal:
    """The events of a rider's command. `live_orders` counts what he has accepted and not ended."""
    fact: e.RiderFact
    if isinstance(command, c.GoOnShift):
        if rider.state is RiderState.ON:
            return Refusal("already_on_shift", f"rider {rider.id} is on shift")
        if command.shift_end_ms <= command.at_ms:
            return Refusal("shift_over", f"the shift ended at {command.shift_end_ms}")
        if len(rider.capacity) > LOAD_DIMENSIONS:
            return Refusal(
                "capacity", f"{len(rider.capacity)} dimensions, {LOAD_DIMENSIONS} are known"
            )
        started = replace(
            rider,
            state=RiderState.ON,
            shift_end_ms=command.shift_end_ms,
            place=command.place,
            version=rider.version + 1,
        )
        fact = e.WentOnShift(rider=started)
    else:
        if rider.state is RiderState.OFF:
            return Refusal("not_on_shift", f"rider {rider.id} is off shift")
        if live_orders:
            return Refusal("has_orders", f"rider {rider.id} still has {live_orders} orders")
        fact = e.WentOffShift()
    return (e.RiderEvent(rider.id, rider.version + 1, command.at_ms, fact),)
