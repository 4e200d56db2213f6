"""What happened to an order or a rider; imports the model only.

An event is an envelope with one fact. The wire form of a fact is its fields under its class
name in snake case (`kind_of`), which `FACTS` maps back to the class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dispatch.model import Order, Party, Rider, RouteStop, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The order as it was confirmed; every later fact changes this value."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    open_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    number: int
    rider_id: str
    deadline_ms: int
    route: tuple[RouteStop, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    number: int
    rider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    number: int
    rider_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    number: int
    rider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    number: int
    rider_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    number: int
    rider_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopDone:
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFailed:
    rider_id: str
    stop: int
    reason: str
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAdded:
    """The goods go back: one more stop, at the end of the order's."""

    rider_id: str
    stop: Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Every stop is done; the order is `done` and its assignment `finished`."""

    number: int
    rider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    by: Party
    reason: str
    rider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    rider_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WentOnShift:
    """The rider as he started: place, capacity, skills, end of shift."""

    rider: Rider


@dataclass(frozen=True, slots=True, kw_only=True)
class WentOffShift:
    pass


RiderFact = WentOnShift | WentOffShift


@dataclass(frozen=True, slots=True)
class Event:
    """The `seq`-th event of an order, gap-free from 1."""

    order_id: str
    seq: int
    at_ms: int
    fact: Fact


@dataclass(frozen=True, slots=True)
class RiderEvent:
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
