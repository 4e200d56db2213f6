"""The sans-I/O loop around decide: events, fixes and time in, effects out; imports no I/O.

A driver (live or simulated) hands over what happened with `receive`, the time with `tick`, and
carries out what `outbox` gives: decide on a snapshot, write a plan, ask a command of an order.
`wake_at` says when the next `tick` is due.
"""

from __future__ import annotations

from dataclasses import dataclass

from dispatch.commands import Command, Offer
from dispatch.events import Event, RiderEvent
from dispatch.model import Order, Rider
from dispatch.plan import Plan
from dispatch.snapshot import F8, I8, Snapshot


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
