"""Routes: quote, place, look at and cancel an order; may import FastAPI, the store and dispatch."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, Path, Response

from api.auth import Role
from api.clock import now_ms
from api.http.access import (
    AnswerSystem,
    Caller,
    WithParts,
    client_of,
    only,
    party_of,
    reach_order,
)
from api.http.answers import OrderAnswer, QuoteAnswer, view_order, view_quote
from api.http.errors import RESPONSES, refusal_response
from api.http.forms import ID, CancelForm, NewOrderForm, QuoteForm
from api.http.prices import PRICE_TTL_S, open_price, read_form, sign_price
from api.http.retries import ABOUT, KEY, OptionalKey, mark
from api.store import Created, IdempotencyKey
from dispatch.commands import Cancel
from dispatch.registry import job_type
from geo.datum import System
from geo.errors import NotFound

router = APIRouter(prefix="/v1", tags=["orders"], responses=RESPONSES)

OrderId = Annotated[str, Path(pattern=ID)]
# An order for later is brought before the dispatcher so long before its first stop may be served.
SCHEDULE_AHEAD_MS = 60 * 60_000
_BUYERS = (Role.CUSTOMER, Role.MERCHANT, Role.INTEGRATOR, Role.OPERATOR)


@router.post("/quotes")
async def quote(form: QuoteForm, caller: Caller, parts: WithParts) -> QuoteAnswer:
    """What it would cost, line by line, and when it would be done."""
    only(caller, *_BUYERS)
    at_ms = now_ms()
    asked = read_form(form, caller, parts.settings.city, at_ms)
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
) -> OrderAnswer:
    """Place an order. With a `price_token` at the quoted price, else at today's.

    One for later, by its first stop's `earliest_ms`, is `scheduled` until an hour before.
    """
    only(caller, *_BUYERS)
    key = IdempotencyKey(
        client_id=client_of(caller),
        key=idempotency_key,
        body_hash=hashlib.sha256(form.model_dump_json().encode()).hexdigest(),
    )
    # Before any check that depends on the time: a retry must not fail where the first did not.
    created = await parts.store.replay(key) or await _create(form, caller, parts, key)
    mark(response, created.replayed)
    return view_order(created.order, coordinate_system)


async def _create(
    form: NewOrderForm, caller: Caller, parts: WithParts, key: IdempotencyKey
) -> Created:
    at_ms = now_ms()
    asked = read_form(form, caller, parts.settings.city, at_ms)
    job = job_type(form.job_type)
    price = job.quote(asked, at_ms)
    if form.price_token is not None:
        price = open_price(parts.tokens, caller, job.name, asked, form.price_token, at_ms)
    order_id = f"ord_{at_ms:x}{secrets.token_hex(5)}"
    order = job.order(order_id, caller.city, asked, price, at_ms)
    order = replace(order, tenant=caller.tenant)
    first_ms = order.stops[0].earliest_ms
    return await parts.store.create_order(
        order,
        at_ms,
        idempotency=key,
        open_at_ms=None if first_ms is None else first_ms - SCHEDULE_AHEAD_MS,
    )


@router.get("/orders/{order_id}")
async def look(
    order_id: OrderId,
    caller: Caller,
    parts: WithParts,
    coordinate_system: AnswerSystem = System.GCJ02,
) -> OrderAnswer:
    """The order as it stands, with the states of its stops and its live attempt."""
    order = await parts.store.order(order_id)
    if order is None:
        raise NotFound(f"no order {order_id!r}")
    reach_order(caller, order)
    return view_order(order, coordinate_system)


@router.post("/orders/{order_id}/cancel", response_model=OrderAnswer)
async def cancel(
    order_id: OrderId,
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
    order = await parts.store.order(order_id)
    if order is None:
        raise NotFound(f"no order {order_id!r}")
    reach_order(caller, order)
    outcome = await parts.store.run(
        order_id,
        Cancel(at_ms=now_ms(), by=party, reason=form.reason),
        action_id=idempotency_key and f"{client_of(caller)}/{idempotency_key}",
    )
    answer = response if outcome.refusal is None else refusal_response(outcome.refusal)
    mark(answer, outcome.replayed)
    if outcome.refusal is not None:
        return answer
    return view_order(outcome.order, coordinate_system)
