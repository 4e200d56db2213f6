"""Who sees which personal data of an order; and the routes of contacts and of erasure.

May import FastAPI, the store and the personal values. Forms are split here: the engine is given
points, and what stands beside them goes to `store.personal`.
"""

from __future__ import annotations

import structlog
from fastapi import APIRouter

from api.auth import Claims, Role
from api.clock import now_ms
from api.http.access import Caller, Parts, PathId, WithParts, only, order_for
from api.http.answers import ContactsAnswer, ErasureAnswer, PartyAnswer
from api.http.errors import RESPONSES
from api.http.forms import ContactForm, ErasureForm, QuoteForm
from api.personal import (
    NOTHING,
    Contact,
    OrderPersonal,
    StopPersonal,
    masked,
    masked_name,
)
from dispatch.model import AssignmentState, Order, OrderState
from geo.errors import Forbidden, InvalidValue

router = APIRouter(prefix="/v1", tags=["personal data"], responses=RESPONSES)

# A masked number outlives the promise by so much; the end of the order ends it before.
NUMBER_MS = 4 * 3_600_000
_SERVED = (OrderState.ASSIGNED, OrderState.UNDER_WAY)

log = structlog.get_logger(__name__)


def read_personal(form: QuoteForm) -> OrderPersonal:
    """What of the form is not for the engine; NOTHING when there is nothing."""
    stops = tuple(
        StopPersonal(text=stop.place.text, contact=_read_contact(stop.contact))
        for stop in form.stops
    )
    if not form.note and all(stop == StopPersonal() for stop in stops):
        return NOTHING
    return OrderPersonal(stops=stops, note=form.note)


def _read_contact(form: ContactForm | None) -> Contact | None:
    if form is None or not (form.name or form.phone):
        return None
    return Contact(name=form.name, phone=form.phone)


async def personal_for(claims: Claims, order: Order, parts: Parts) -> OrderPersonal:
    """What this caller, who reaches the order, may see of it.

    A scoped token is a link that anybody may hold, whatever its role: it shows points and states.
    """
    if claims.orders:
        return NOTHING
    if claims.role is Role.RIDER and not _serves(claims, order):
        return NOTHING
    return shown_to(claims.role, await parts.store.personal.of_order(order))


def shown_to(role: Role, whole: OrderPersonal) -> OrderPersonal:
    """Phones are shown to who gave them; others have the masked ones of `contacts`."""
    if role in (Role.CUSTOMER, Role.INTEGRATOR, Role.OPERATOR):
        return whole
    stops = []
    for stop in whole.stops:
        contact = masked(stop.contact)
        if contact is not None and role is Role.RIDER:
            contact = Contact(name=contact.name)
        stops.append(StopPersonal(text=stop.text, contact=contact))
    return OrderPersonal(stops=tuple(stops), note=whole.note)


def _is_served(order: Order) -> bool:
    live = order.assignment
    offered = live is None or live.state is AssignmentState.OFFERED
    return order.state in _SERVED and not offered


def _serves(claims: Claims, order: Order) -> bool:
    live = order.assignment
    return _is_served(order) and live is not None and live.rider_id == claims.sub


@router.get("/orders/{order_id}/contacts")
async def contacts(order_id: PathId, caller: Caller, parts: WithParts) -> ContactsAnswer:
    """The other parties of an order under way: how to call them, not who they are.

    Each has a masked number, good while the order is under way, for the parties of this order.
    """
    store = parts.store
    order = await order_for(caller, parts, order_id)
    if caller.role is Role.RIDER and not _serves(caller, order):
        raise Forbidden(f"order {order_id} shows its contacts to the rider who has accepted it")
    live = order.assignment
    if live is None or not _is_served(order):
        return ContactsAnswer(contacts=[])
    whole = await store.personal.of_order(order)
    known = {f"stop:{n}": stop.contact for n, stop in enumerate(whole.stops) if stop.contact}
    if caller.role is not Role.RIDER:
        rider = await store.personal.of_rider(live.rider_id)
        if rider is not None:
            known["rider"] = Contact(name=rider.name, phone=rider.phone)
    at_ms = now_ms()
    expires_at_ms = max(at_ms, order.promise_to_ms) + NUMBER_MS
    parties = []
    for party, contact in known.items():
        number = None
        if contact.phone:
            number = await store.numbers.bind(order.id, party, at_ms, expires_at_ms)
        name = masked_name(contact.name)
        parties.append(PartyAnswer(party=party, name=name, masked_number=number))
    return ContactsAnswer(contacts=parties)


@router.post("/erasures")
async def erase(form: ErasureForm, caller: Caller, parts: WithParts) -> ErasureAnswer:
    """Erase the personal data of a customer or a rider; what is under way goes when it has ended.

    A customer and a rider for himself, by an empty form; an operator for one of his tenant.
    """
    only(caller, Role.CUSTOMER, Role.RIDER, Role.OPERATOR)
    owner = _owner(form, caller)
    gone = await parts.store.personal.erase(caller.tenant, owner, now_ms())
    log.info(
        "personal_erased",
        tenant=caller.tenant,
        owner=owner,
        by=f"{caller.role}/{caller.sub}",
        at_once=gone.at_once,
        when_ended=gone.when_ended,
    )
    return ErasureAnswer(erased=gone.at_once, when_ended=gone.when_ended)


def _owner(form: ErasureForm, caller: Claims) -> str:
    given = {"customer": form.customer_id, "rider": form.rider_id}
    named = [f"{kind}/{name}" for kind, name in given.items() if name is not None]
    if caller.role is Role.OPERATOR:
        if len(named) != 1:
            expected = "either customer_id or rider_id"
            raise InvalidValue("customer_id", form.customer_id, expected)
        return named[0]
    own = f"{caller.role}/{caller.sub}"
    if named not in ([], [own]):
        raise Forbidden(f"a {caller.role} may have only his own data erased")
    return own
