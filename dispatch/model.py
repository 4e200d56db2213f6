"""The nouns of the engine as small frozen values; imports msgspec and the standard library.

Instants are integer milliseconds UTC, durations name their unit, money is integer fen,
coordinates are WGS-84 degrees.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

LOAD_DIMENSIONS = 3  # a load or capacity has at most so many numbers


class Value(Struct, frozen=True, gc=False):
    """What the engine passes around: immutable, equal by content, made and copied in C.

    A changed copy is made by `msgspec.structs.replace`; that of dataclasses raises TypeError.
    The garbage collector does not watch values, since nothing in one leads back to it. Tables and
    settings, of which there are few, are dataclasses.
    """


class OrderState(StrEnum):
    QUOTED = "quoted"
    SCHEDULED = "scheduled"
    OPEN = "open"
    ASSIGNED = "assigned"
    UNDER_WAY = "under_way"
    DONE = "done"
    COMPLETED = "completed"
    CANCELLED_CUSTOMER = "cancelled_customer"
    CANCELLED_MERCHANT = "cancelled_merchant"
    CANCELLED_SYSTEM = "cancelled_system"
    EXPIRED = "expired"
    RETURNED = "returned"
    FAILED = "failed"


class AssignmentState(StrEnum):
    OFFERED = "offered"
    ACCEPTED = "accepted"
    ACTIVE = "active"
    FINISHED = "finished"
    DECLINED = "declined"
    TIMED_OUT = "timed_out"
    WITHDRAWN = "withdrawn"
    DROPPED = "dropped"


class StopState(StrEnum):
    PLANNED = "planned"
    HEADING = "heading"
    ARRIVED = "arrived"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class StopKind(StrEnum):
    PICKUP = "pickup"
    DROPOFF = "dropoff"
    VISIT = "visit"


class Matching(StrEnum):
    """How an order finds its rider: rounds offer it, or riders grab it from the hall."""

    DISPATCH = "dispatch"
    HALL = "hall"


class Party(StrEnum):
    CUSTOMER = "customer"
    MERCHANT = "merchant"
    RIDER = "rider"
    SYSTEM = "system"


class Place(Value, frozen=True, kw_only=True):
    """A point in WGS-84 degrees; `system` is the coordinate system it was given in."""

    lat: float
    lon: float
    system: str = "wgs84"
    text: str = ""


class Stop(Value, frozen=True, kw_only=True):
    """One visit of a rider for an order.

    On arrival the rider needs `approach_ms` until he can act; he acts at
    `max(earliest_ms, arrival + approach_ms)` and leaves `leave_ms` later. `load` is the change
    on board at the stop, by load dimension (parcels, grams, litres).
    """

    kind: StopKind
    place: Place
    place_id: str = ""
    earliest_ms: int | None = None
    latest_ms: int | None = None
    approach_ms: int = 0
    leave_ms: int = 0
    load: tuple[int, ...] = (0,)
    state: StopState = StopState.PLANNED
    headed_at_ms: int | None = None
    arrived_at_ms: int | None = None
    done_at_ms: int | None = None


class RouteStop(Value, frozen=True, kw_only=True):
    """A stop on a rider's route: the order and the index of the stop in it."""

    order_id: str
    stop: int


class Assignment(Value, frozen=True, kw_only=True):
    """The `number`-th attempt to have an order served; at most one is live."""

    number: int
    rider_id: str
    state: AssignmentState
    offered_at_ms: int
    deadline_ms: int
    route: tuple[RouteStop, ...]
    accepted_at_ms: int | None = None


class Order(Value, frozen=True, kw_only=True):
    """One job. `version` is the number of events so far, hence the `seq` of the last one.

    `promise_to_ms` is the end of the window told to the customer, fixed when the order was placed.
    A scheduled order opens at `open_at_ms`. `matching` is how it finds a rider. `attempts` counts
    the assignments so far; `assignment` is the live one; `declined_by` are the riders who declined,
    did not answer or dropped out.
    """

    id: str
    city: str
    job_type: str
    customer_id: str
    stops: tuple[Stop, ...]
    created_at_ms: int
    promise_from_ms: int
    promise_to_ms: int
    expires_at_ms: int
    price_fen: int
    tenant: str = "default"
    merchant_id: str = ""
    skills: tuple[str, ...] = ()
    ride_max_ms: int | None = None
    note: str = ""
    open_at_ms: int | None = None
    state: OrderState = OrderState.QUOTED
    version: int = 0
    attempts: int = 0
    assignment: Assignment | None = None
    declined_by: tuple[str, ...] = ()
    returning: bool = False
    ended_reason: str = ""
    matching: Matching = Matching.DISPATCH


class RiderState(StrEnum):
    OFF = "off"
    ON = "on"


class Rider(Value, frozen=True, kw_only=True):
    """The field worker, whatever the vertical. `speed_mps` stays within the legal limit."""

    id: str
    city: str
    tenant: str = "default"
    vehicle: str = "scooter"
    speed_mps: float = 6.0
    capacity: tuple[int, ...] = (5,)
    skills: tuple[str, ...] = ()
    state: RiderState = RiderState.OFF
    shift_end_ms: int = 0
    version: int = 0
    place: Place | None = None
