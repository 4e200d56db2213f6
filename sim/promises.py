"""What must hold in every run, whatever goes wrong, told from its events alone; imports dispatch.

It keeps its own short account of each order and shares nothing with who decides or dispatches.
"""

from __future__ import annotations

from dataclasses import dataclass

from dispatch import events as e

SLACK_MS = 300_000
"""How late a timer may be at the end of a run: a dispatcher may be away for a while."""

_GIVEN_BACK = (e.Declined, e.TimedOut, e.Withdrawn, e.Dropped)
_ENDS = (e.Cancelled, e.Expired, e.Returned, e.Failed, e.Completed)


@dataclass(slots=True)
class _Account:
    expires_at_ms: int
    seq: int = 0
    holder: str = ""
    accepted: bool = False
    deadline_ms: int = 0
    free_since_ms: int = 0
    served: bool = False
    ended: bool = False


class Promises:
    """Takes every event of a run; `broken` are the first promises that were not kept."""

    def __init__(self, keep: int = 20) -> None:
        self._orders: dict[str, _Account] = {}
        self._rider_seq: dict[str, int] = {}
        self._on_shift: set[str] = set()
        self._keep = keep
        self.broken: list[str] = []

    def add(self, event: e.Event | e.RiderEvent) -> None:
        """One more event, in order."""
        if isinstance(event, e.RiderEvent):
            self._rider(event)
            return
        fact = event.fact
        if isinstance(fact, e.Placed):
            self._hold(event.order_id not in self._orders, event.order_id, "is placed twice")
            self._orders[event.order_id] = _Account(fact.order.expires_at_ms)
        order = self._orders[event.order_id]
        gap_free = event.seq == order.seq + 1
        self._hold(gap_free, event.order_id, f"goes from version {order.seq} to {event.seq}")
        self._hold(not order.ended, event.order_id, f"has ended and gets {type(fact).__name__}")
        order.seq = event.seq
        self._take(event.order_id, order, fact, event.at_ms)

    def end(self, end_ms: int) -> list[str]:
        """Looks at what is left at the end of the run, and gives all that was broken."""
        for order_id, order in self._orders.items():
            if order.ended or order.served:
                continue
            due_ms = order.deadline_ms if order.holder else order.expires_at_ms
            forgotten = end_ms > due_ms + SLACK_MS and not order.accepted
            what = (
                "an offer that is long over" if order.holder else "no rider, long past its expiry"
            )
            self._hold(not forgotten, order_id, f"is left with {what}")
            lost = order.accepted and order.holder not in self._on_shift
            self._hold(not lost, order_id, f"is left with {order.holder}, who is off shift")
        return self.broken

    def _take(self, order_id: str, order: _Account, fact: e.Fact, at_ms: int) -> None:
        if isinstance(fact, e.Offered):
            in_time = at_ms < order.expires_at_ms
            self._hold(in_time, order_id, f"is offered to {fact.rider_id} after its expiry")
            self._hold(not order.holder, order_id, f"is {order.holder}'s and {fact.rider_id}'s")
            order.holder, order.deadline_ms = fact.rider_id, fact.deadline_ms
        elif isinstance(fact, e.Accepted):
            theirs = order.holder == fact.rider_id and not order.accepted
            self._hold(theirs, order_id, f"is accepted by {fact.rider_id}, not {order.holder}")
            order.accepted = True
        elif isinstance(fact, _GIVEN_BACK):
            theirs = order.holder == fact.rider_id
            self._hold(theirs, order_id, f"is given back by {fact.rider_id}, not {order.holder}")
            order.holder, order.accepted, order.free_since_ms = "", False, at_ms
        elif isinstance(fact, e.Heading | e.Arrived | e.StopDone | e.StopFailed):
            theirs = order.accepted and order.holder == fact.rider_id
            self._hold(theirs, order_id, f"is served by {fact.rider_id}, not {order.holder}")
        elif isinstance(fact, e.Finished):
            order.served = True
        elif isinstance(fact, _ENDS):
            order.ended = True
            due_ms = max(order.expires_at_ms, order.free_since_ms)
            in_time = not isinstance(fact, e.Expired) or at_ms <= due_ms + SLACK_MS
            self._hold(in_time, order_id, "expires long after it could have")

    def _rider(self, event: e.RiderEvent) -> None:
        seq = self._rider_seq.get(event.rider_id, 0)
        self._hold(event.seq == seq + 1, event.rider_id, f"goes from {seq} to {event.seq}")
        self._rider_seq[event.rider_id] = event.seq
        if isinstance(event.fact, e.WentOnShift):
            self._on_shift.add(event.rider_id)
        else:
            self._on_shift.discard(event.rider_id)

    def _hold(self, true: bool, who: str, what: str) -> None:
        if not true and len(self.broken) < self._keep:
            self.broken.append(f"{who} {what}")
