"""Routes: quote, place, look at and cancel an order; may import FastAPI, the store and dispatch."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Header, Response
from msgspec.structs import replace

from api.auth import Role
from api.clock import now_ms
from api.http.access import (
    AnswerSystem,
    Caller,
    PathId,
    ScopedCaller,
    WithCapacity,
    WithParts,
    area_of,
    client_of,
    only,
    order_for,
    party_of,
)
from api.http.answers import OrderAnswer, QuoteAnswer, view_order, view_quote
from api.http.audit import about
from api.http.errors import RESPONSES, refusal_response
from api.http.forms import CancelForm, NewOrderForm, QuoteForm
from api.http.personal import personal_for, read_personal, shown_to
from api.http.prices import PRICE_TTL_S, open_price, read_form, sign_price
from api.http.retries import ABOUT, KEY, OptionalKey, mark, needed_key_of
from api.personal import without_numbers
from api.store import Created, IdempotencyKey
from api.traces import placing
from dispatch.commands import Cancel
from dispatch.registry import job_type, matchings_of
from geo.datum import System
from geo.errors import InvalidValue

router = APIRouter(prefix="/v1", tags=["orders"], responses=RESPONSES)

# An order for later is brought before the dispatcher so long before its first stop may be served.
SCHEDULE_AHEAD_MS = 60 * 60_000
_BUYERS = (Role.CUSTOMER, Role.MERCHANT, Role.INTEGRATOR, Role.OPERATOR)


@router.post("/quotes")
async def quote(form: QuoteForm, caller: Caller, parts: WithParts) -> QuoteAnswer:
    """What it would cost, line by line, and when it would be done."""
    only(caller, *_BUYERS)
    at_ms = now_ms()
    asked = read_form(form, caller, area_of(parts, caller), at_ms)
    offer = job_type(form.job_type).quote(asked, at_ms)
    token = sign_price(parts.tokens, caller, form.job_type, asked, offer)
    # The token counts whole seconds.
    expires_at_ms = (at_ms // 1000 + PRICE_TTL_S) * 1000
    return view_quote(form.job_type, offer, token, expires_at_ms)


@router.post("/orders", status_code=201)
async def place(
    form: NewOrderForm,
    caller: Caller,
    parts: WithParts,
    capacity: WithCapacity,
    response: Response,
    idempotency_key: Annotated[
        str,
        Header(
            alias="Idempotency-Key",
            pattern=KEY,
            description=ABOUT,
        ),
    ],
    coordinate_system: AnswerSystem = System.GCJ02,
    traceparent: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> OrderAnswer:
    """Place an order. With a `price_token` at the quoted price, else at today's.

    One for later, by its first stop's `earliest_ms`, is `scheduled` until an hour before.
    """
    only(caller, *_BUYERS)
    key = await needed_key_of(caller, idempotency_key, "orders", form, parts)
    # Before any check that depends on the time: a retry must not fail where the first did not.
    async with capacity.orders.share():
        created = await parts.store.replay(key)
        if created is None:
            await capacity.check_crowd(parts.store, caller.city, caller.tenant)
            created = await _create(form, caller, parts, key, traceparent)
    about(created.order.id)
    mark(response, created.replayed)
    order = created.order
    if created.replayed:  # it may have been erased since
        personal = await personal_for(caller, order, parts)
    else:
        personal = shown_to(caller.role, read_personal(form))
    return view_order(order, coordinate_system, personal)


async def _create(
    form: NewOrderForm,
    caller: Caller,
    parts: WithParts,
    key: IdempotencyKey,
    traceparent: str | None,
) -> Created:
    at_ms = now_ms()
    asked = read_form(form, caller, area_of(parts, caller), at_ms)
    job = job_type(form.job_type)
    price = job.quote(asked, at_ms)
    if form.price_token is not None:
        price = open_price(parts.tokens, caller, job.name, asked, form.price_token, at_ms)
    order_id = f"ord_{at_ms:x}{secrets.token_hex(5)}"
    order = job.order(order_id, caller.city, asked, price, at_ms)
    if form.matching not in matchings_of(job):
        expected = "one of " + ", ".join(matchings_of(job))
        raise InvalidValue("matching", form.matching, f"{expected} for a {job.name}")
    order = replace(order, tenant=caller.tenant, matching=form.matching)
    first_ms = order.stops[0].earliest_ms
    with placing(order_id, traceparent, route="/v1/orders", city=caller.city):
        return await parts.store.create_order(
            order,
            at_ms,
            idempotency=key,
            open_at_ms=None if first_ms is None else first_ms - SCHEDULE_AHEAD_MS,
            personal=parts.store.personal.seal_order(order, read_personal(form), at_ms),
        )


@router.get("/orders/{order_id}")
async def look(
    order_id: PathId,
    caller: ScopedCaller,
    parts: WithParts,
    capacity: WithCapacity,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> OrderAnswer:
    """The order as it stands, with the states of its stops and its live attempt."""
    async with capacity.reads.share():
        order = await order_for(caller, parts, order_id)
    return view_order(order, coordinate_system, await personal_for(caller, order, parts))


@router.post("/orders/{order_id}/cancel", response_model=OrderAnswer)
async def cancel(
    order_id: PathId,
    form: CancelForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> OrderAnswer | Response:
    """Cancel it as the caller's party. 409 with the reason when that is not possible any more.

    With an Idempotency-Key the same request again gives the first answer again.
    """
    party = party_of(caller)
    await order_for(caller, parts, order_id)
    outcome = await parts.store.run(
        order_id,
        Cancel(at_ms=now_ms(), by=party, reason=without_numbers(form.reason)),
        action_id=idempotency_key and f"{client_of(caller)}/{idempotency_key}",
    )
    answer = response if outcome.refusal is None else refusal_response(outcome.refusal)
    mark(answer, outcome.replayed)
    if outcome.refusal is not None:
        return answer
    order = outcome.order
    return view_order(order, coordinate_system, await personal_for(caller, order, parts))
