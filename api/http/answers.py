"""The answers' bodies, and the views that make them; may import pydantic and dispatch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from api.codec import subject_of, to_builtins
from api.http.places import show_place, show_places_in
from api.personal import Contact, OrderPersonal, RiderPersonal
from api.store import Positioned
from dispatch.codes import codes_of, is_final
from dispatch.events import kind_of
from dispatch.model import Assignment, Order, Place, Rider
from dispatch.registry import Quote
from geo.datum import System


class PlaceAnswer(BaseModel):
    lat: float
    lon: float
    coordinate_system: System
    text: str


class LineAnswer(BaseModel):
    name: str
    fen: int


class QuoteAnswer(BaseModel):
    """`price_token` keeps the price and the promise for this very form until `expires_at_ms`."""

    job_type: str
    lines: list[LineAnswer]
    price_fen: int
    promise_from_ms: int
    promise_to_ms: int
    price_token: str
    expires_at_ms: int


class ContactAnswer(BaseModel):
    """As far as the caller may see it."""

    name: str
    phone: str


class StopAnswer(BaseModel):
    kind: str
    state: str
    place: PlaceAnswer
    place_id: str
    contact: ContactAnswer | None
    earliest_ms: int | None
    latest_ms: int | None
    arrived_at_ms: int | None
    done_at_ms: int | None


class AssignmentAnswer(BaseModel):
    """The live attempt."""

    number: int
    rider_id: str
    state: str
    offered_at_ms: int
    deadline_ms: int
    accepted_at_ms: int | None


class OrderAnswer(BaseModel):
    """`codes` is the state as peers name it, by list; `final` when no later code can follow."""

    id: str
    city: str
    job_type: str
    state: str
    version: int
    codes: dict[str, str]
    final: bool
    customer_id: str
    merchant_id: str
    stops: list[StopAnswer]
    assignment: AssignmentAnswer | None
    attempts: int
    returning: bool
    matching: str
    price_fen: int
    promise_from_ms: int
    promise_to_ms: int
    created_at_ms: int
    expires_at_ms: int
    ended_reason: str
    note: str


class RiderAnswer(BaseModel):
    """`place` is where he started his shift, not where he is."""

    id: str
    city: str
    vehicle: str
    speed_mps: float
    capacity: list[int]
    skills: list[str]
    state: str
    shift_end_ms: int
    version: int
    place: PlaceAnswer | None
    name: str
    phone: str


class PartyAnswer(BaseModel):
    """`party` is `rider` or `stop:<n>`; without a number he gave no phone, or none is free."""

    party: str
    name: str
    masked_number: str | None


class ContactsAnswer(BaseModel):
    """Empty unless a rider has accepted the order and serves it."""

    contacts: list[PartyAnswer]


class ErasureAnswer(BaseModel):
    """Orders and riders whose personal data are gone, and whose go when they have ended."""

    erased: int
    when_ended: int


class EventAnswer(BaseModel):
    """`seq` counts the subject's events without a gap; `position` orders all events."""

    position: int
    city: str
    subject: str
    id: str
    seq: int
    at_ms: int
    kind: str
    fact: dict[str, Any]


class EventsAnswer(BaseModel):
    """Ask again with `after=next_after`, at once when there is `more`."""

    events: list[EventAnswer]
    next_after: int
    more: bool


class StatusAnswer(BaseModel):
    """The tenant's `orders` by state: the live ones and those placed in the last 24 hours."""

    city: str
    orders: dict[str, int]
    riders_on_shift: int
    position: int


def view_place(place: Place, system: System, text: str = "") -> PlaceAnswer:
    return PlaceAnswer(**show_place(place.lat, place.lon, text, system))


def view_contact(contact: Contact | None) -> ContactAnswer | None:
    return None if contact is None else ContactAnswer(name=contact.name, phone=contact.phone)


def view_quote(job_type: str, quote: Quote, token: str, expires_at_ms: int) -> QuoteAnswer:
    return QuoteAnswer(
        job_type=job_type,
        lines=[LineAnswer(name=name, fen=fen) for name, fen in quote.lines],
        price_fen=quote.price_fen,
        promise_from_ms=quote.promise_from_ms,
        promise_to_ms=quote.promise_to_ms,
        price_token=token,
        expires_at_ms=expires_at_ms,
    )


def view_assignment(live: Assignment) -> AssignmentAnswer:
    return AssignmentAnswer(
        number=live.number,
        rider_id=live.rider_id,
        state=live.state.value,
        offered_at_ms=live.offered_at_ms,
        deadline_ms=live.deadline_ms,
        accepted_at_ms=live.accepted_at_ms,
    )


def view_order(order: Order, system: System, personal: OrderPersonal) -> OrderAnswer:
    """The order, with as much of its personal data as is given."""
    live = order.assignment
    beside = [personal.stop(order, n) for n in range(len(order.stops))]
    return OrderAnswer(
        id=order.id,
        city=order.city,
        job_type=order.job_type,
        state=order.state.value,
        version=order.version,
        codes=codes_of(order),
        final=is_final(order),
        customer_id=order.customer_id,
        merchant_id=order.merchant_id,
        stops=[
            StopAnswer(
                kind=stop.kind.value,
                state=stop.state.value,
                place=view_place(stop.place, system, own.text),
                place_id=stop.place_id,
                contact=view_contact(own.contact),
                earliest_ms=stop.earliest_ms,
                latest_ms=stop.latest_ms,
                arrived_at_ms=stop.arrived_at_ms,
                done_at_ms=stop.done_at_ms,
            )
            for stop, own in zip(order.stops, beside, strict=True)
        ],
        assignment=None if live is None else view_assignment(live),
        attempts=order.attempts,
        returning=order.returning,
        matching=order.matching,
        price_fen=order.price_fen,
        promise_from_ms=order.promise_from_ms,
        promise_to_ms=order.promise_to_ms,
        created_at_ms=order.created_at_ms,
        expires_at_ms=order.expires_at_ms,
        ended_reason=order.ended_reason,
        note=personal.note,
    )


def view_rider(rider: Rider, system: System, personal: RiderPersonal | None) -> RiderAnswer:
    own = personal or RiderPersonal()
    return RiderAnswer(
        id=rider.id,
        city=rider.city,
        vehicle=rider.vehicle,
        speed_mps=rider.speed_mps,
        capacity=list(rider.capacity),
        skills=list(rider.skills),
        state=rider.state.value,
        shift_end_ms=rider.shift_end_ms,
        version=rider.version,
        place=None if rider.place is None else view_place(rider.place, system),
        name=own.name,
        phone=own.phone,
    )


def view_event(entry: Positioned, system: System) -> EventAnswer:
    subject, subject_id = subject_of(entry.event)
    return EventAnswer(
        position=entry.position,
        city=entry.city,
        subject=subject,
        id=subject_id,
        seq=entry.event.seq,
        at_ms=entry.event.at_ms,
        kind=kind_of(entry.event.fact),
        fact=show_places_in(to_builtins(entry.event.fact), system),
    )
