"""What a dispatcher is told and what it asks for; imports the values only."""

from __future__ import annotations

from dispatch.commands import Command, Offer
from dispatch.events import Event, RiderEvent
from dispatch.model import Order, Rider, Value
from dispatch.plan import Plan
from dispatch.snapshot import F8, I8, Snapshot


class Known(Value, frozen=True, kw_only=True):
    """The live orders and the riders on shift when a dispatcher starts."""

    orders: tuple[Order, ...]
    riders: tuple[Rider, ...]


class Fixes(Value, frozen=True, kw_only=True, eq=False):
    """A batch of positions, one row a fix: WGS-84 degrees and device time in ms.

    `rider_id` names whose fix each is. Where `which` is given, `rider_id` is a whole fleet, the
    same tuple from batch to batch, and `which` the places in it, each at most once.
    """

    rider_id: tuple[str, ...]
    lat: F8
    lon: F8
    at_ms: I8
    which: I8 | None = None


class Decided(Value, frozen=True, kw_only=True):
    """The plan that answers a `Decide`."""

    plan: Plan


class PlanWritten(Value, frozen=True, kw_only=True):
    """The plan of `at_ms` stands in the store, but for the orders in `dropped`: (id, code)."""

    at_ms: int
    dropped: tuple[tuple[str, str], ...] = ()


Message = Known | Fixes | Decided | PlanWritten | Event | RiderEvent


class Decide(Value, frozen=True, kw_only=True, eq=False):
    """Effect: run `engine.decide` on this snapshot and give the plan back as `Decided`."""

    snapshot: Snapshot


class WritePlan(Value, frozen=True, kw_only=True):
    """Effect: apply these offers, each on its own, and answer with `PlanWritten`."""

    plan: Plan
    offers: tuple[tuple[str, Offer], ...]


class Ask(Value, frozen=True, kw_only=True):
    """Effect: apply the command to the order; a refusal changes nothing and needs no answer."""

    order_id: str
    command: Command


Effect = Decide | WritePlan | Ask
