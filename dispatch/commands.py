"""What can be asked of an order or a rider; imports the model only.

Every command carries `at_ms`, the server's time. `device_ms` is the phone's own time, kept beside
it. `number` names the attempt that the sender means, so that a late answer cannot hit a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from dispatch.model import Party, Place, RouteStop


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Place a quoted order: it opens at once, or waits as scheduled until `open_at_ms`."""

    at_ms: int
    open_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Bring a scheduled order before the dispatcher."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Offer the order to a rider until `deadline_ms`; `route` is his whole route with it.

    `order_version` is the version the round saw: an order that moved since is not offered.
    """

    at_ms: int
    rider_id: str
    deadline_ms: int
    route: tuple[RouteStop, ...]
    order_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The rider grabs an open order from the hall; the first one has it.

    `route` is his whole route with it, filled in by who runs the command; empty, it is the
    order's own stops.
    """

    at_ms: int
    rider_id: str
    route: tuple[RouteStop, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    at_ms: int
    rider_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline:
    at_ms: int
    rider_id: str
    number: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOut:
    """The offer's deadline has passed."""

    at_ms: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Take the order back from its rider before he has the goods."""

    at_ms: int
    number: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOut:
    """The rider gives an accepted order back before he has the goods."""

    at_ms: int
    rider_id: str
    number: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrive:
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishStop:
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailStop:
    """The stop cannot be served. With goods on board they go back to the first pickup."""

    at_ms: int
    rider_id: str
    stop: int
    reason: str
    device_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the order. Nobody cancels what is on board: it is handed over or brought back."""

    at_ms: int
    by: Party
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """Nobody took the order until its expiry."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The customer confirms, or the time to object has passed."""

    at_ms: int


Command = (
    Confirm
    | Open
    | Offer
    | Claim
    | Accept
    | Decline
    | TimeOut
    | Withdraw
    | DropOut
    | Head
    | Arrive
    | FinishStop
    | FailStop
    | Cancel
    | Expire
    | Complete
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOnShift:
    """Start a shift at `place`, which ends at `shift_end_ms` at the latest."""

    at_ms: int
    shift_end_ms: int
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOffShift:
    at_ms: int


RiderCommand = GoOnShift | GoOffShift
