"""What can be asked of an order or a rider; imports the model only.

Every command carries `at_ms`, the server's time. `device_ms` is the phone's own time, kept beside
it. `number` names the attempt that the sender means, so that a late answer cannot hit a later one.
"""

from __future__ import annotations

from dispatch.model import Party, Place, RouteStop, Value


class Confirm(Value, frozen=True, kw_only=True):
    """Place a quoted order: it opens at once, or waits as scheduled until `open_at_ms`."""

    at_ms: int
    open_at_ms: int | None = None


class Open(Value, frozen=True, kw_only=True):
    """Bring a scheduled order before the dispatcher."""

    at_ms: int


class Offer(Value, frozen=True, kw_only=True):
    """Offer the order to a rider until `deadline_ms`; `route` is his whole route with it.

    `order_version` is the version the round saw: an order that moved since is not offered.
    """

    at_ms: int
    rider_id: str
    deadline_ms: int
    route: tuple[RouteStop, ...]
    order_version: int


class Claim(Value, frozen=True, kw_only=True):
    """The rider grabs an open order from the hall; the first one has it.

    `route` is his whole route with it, filled in by who runs the command; empty, it is the
    order's own stops.
    """

    at_ms: int
    rider_id: str
    route: tuple[RouteStop, ...] = ()


class Accept(Value, frozen=True, kw_only=True):
    at_ms: int
    rider_id: str
    number: int


class Decline(Value, frozen=True, kw_only=True):
    at_ms: int
    rider_id: str
    number: int
    reason: str = ""


class TimeOut(Value, frozen=True, kw_only=True):
    """The offer's deadline has passed."""

    at_ms: int
    number: int


class Withdraw(Value, frozen=True, kw_only=True):
    """Take the order back from its rider before he has the goods."""

    at_ms: int
    number: int
    reason: str = ""


class DropOut(Value, frozen=True, kw_only=True):
    """The rider gives an accepted order back before he has the goods."""

    at_ms: int
    rider_id: str
    number: int
    reason: str = ""


class Head(Value, frozen=True, kw_only=True):
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


class Arrive(Value, frozen=True, kw_only=True):
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


class FinishStop(Value, frozen=True, kw_only=True):
    at_ms: int
    rider_id: str
    stop: int
    device_ms: int | None = None


class FailStop(Value, frozen=True, kw_only=True):
    """The stop cannot be served. With goods on board they go back to the first pickup."""

    at_ms: int
    rider_id: str
    stop: int
    reason: str
    device_ms: int | None = None


class Cancel(Value, frozen=True, kw_only=True):
    """End the order. Nobody cancels what is on board: it is handed over or brought back."""

    at_ms: int
    by: Party
    reason: str = ""


class Expire(Value, frozen=True, kw_only=True):
    """Nobody took the order until its expiry."""

    at_ms: int


class Complete(Value, frozen=True, kw_only=True):
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


class GoOnShift(Value, frozen=True, kw_only=True):
    """Start a shift at `place`, which ends at `shift_end_ms` at the latest."""

    at_ms: int
    shift_end_ms: int
    place: Place


class GoOffShift(Value, frozen=True, kw_only=True):
    at_ms: int


RiderCommand = GoOnShift | GoOffShift
