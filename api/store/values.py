"""What goes into and comes out of the store beside the engine's own values; imports dispatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dispatch.events import Event, RiderEvent
from dispatch.model import Order, Rider
from dispatch.transitions import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """One request of one client: the same key with the same body is the same request."""

    client_id: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The order as it was first answered; `replayed` when this request changed nothing."""

    order: Order
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did: the order after it, its events, or the refusal that changed nothing.

    `replayed` when the same action id was seen before: then this is the first outcome again, the
    order as it was after it.
    """

    order: Order
    events: tuple[Event, ...] = ()
    refusal: Refusal | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RiderOutcome:
    """As `Outcome`, for a rider's command."""

    rider: Rider
    events: tuple[RiderEvent, ...] = ()
    refusal: Refusal | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Why this rider: what a round wrote about its offer of an order. `body` is any JSON."""

    order_id: str
    round_at_ms: int
    body: Mapping[str, object]


class Written(NamedTuple):
    """What stands of a plan, and (order id, code) of what does not."""

    committed: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Positioned:
    """An event at its global position; `prev_position` is the one before it in the same city.

    `prev_position` is 0 for the first event of a city.
    """

    position: int
    prev_position: int
    city: str
    event: Event | RiderEvent


class CityState(NamedTuple):
    """What a dispatcher starts from, see `Store.load_city`."""

    position: int
    orders: tuple[Order, ...]
    riders: tuple[Rider, ...]
