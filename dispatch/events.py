"""What happened to an order or a rider; imports the model only.

An event is an envelope with one fact. The wire form of a fact is its fields under its class
name in snake case (`kind_of`), which `FACTS` maps back to the class.
"""

from __future__ import annotations

import re

from dispatch.model import Order, Party, Rider, RouteStop, Stop, Value


class Placed(Value, frozen=True, kw_only=True):
    """The order as it was confirmed; every later fact changes this value."""

    order: Order


class Scheduled(Value, frozen=True, kw_only=True):
    open_at_ms: int


class Opened(Value, frozen=True, kw_only=True):
    pass


class Offered(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str
    deadline_ms: int
    route: tuple[RouteStop, ...]


class Accepted(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str


class Declined(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str
    reason: str


class TimedOut(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str


class Withdrawn(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str
    reason: str


class Dropped(Value, frozen=True, kw_only=True):
    number: int
    rider_id: str
    reason: str


class Heading(Value, frozen=True, kw_only=True):
    rider_id: str
    stop: int
    device_ms: int | None = None


class Arrived(Value, frozen=True, kw_only=True):
    rider_id: str
    stop: int
    device_ms: int | None = None


class StopDone(Value, frozen=True, kw_only=True):
    rider_id: str
    stop: int
    device_ms: int | None = None


class StopFailed(Value, frozen=True, kw_only=True):
    rider_id: str
    stop: int
    reason: str
    device_ms: int | None = None


class ReturnAdded(Value, frozen=True, kw_only=True):
    """The goods go back: one more stop, at the end of the order's."""

    rider_id: str
    stop: Stop


class Finished(Value, frozen=True, kw_only=True):
    """Every stop is done; the order is `done` and its assignment `finished`."""

    number: int
    rider_id: str


class Completed(Value, frozen=True, kw_only=True):
    pass


class Cancelled(Value, frozen=True, kw_only=True):
    by: Party
    reason: str
    rider_id: str


class Expired(Value, frozen=True, kw_only=True):
    pass


class Returned(Value, frozen=True, kw_only=True):
    rider_id: str


class Failed(Value, frozen=True, kw_only=True):
    rider_id: str
    reason: str


Fact = (
    Placed
    | Scheduled
    | Opened
    | Offered
    | Accepted
    | Declined
    | TimedOut
    | Withdrawn
    | Dropped
    | Heading
    | Arrived
    | StopDone
    | StopFailed
    | ReturnAdded
    | Finished
    | Completed
    | Cancelled
    | Expired
    | Returned
    | Failed
)


class WentOnShift(Value, frozen=True, kw_only=True):
    """The rider as he started: place, capacity, skills, end of shift."""

    rider: Rider


class WentOffShift(Value, frozen=True, kw_only=True):
    pass


RiderFact = WentOnShift | WentOffShift


class Event(Value, frozen=True):
    """The `seq`-th event of an order, gap-free from 1."""

    order_id: str
    seq: int
    at_ms: int
    fact: Fact


class RiderEvent(Value, frozen=True):
    """The `seq`-th event of a rider, gap-free from 1."""

    rider_id: str
    seq: int
    at_ms: int
    fact: RiderFact


def kind_of(fact: Fact | RiderFact | type) -> str:
    """`StopDone(...)` -> `"stop_done"`."""
    name = fact.__name__ if isinstance(fact, type) else type(fact).__name__
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


FACTS: dict[str, type] = {kind_of(c): c for c in (*Fact.__args__, *RiderFact.__args__)}
