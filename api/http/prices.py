"""Quotes, and the signed token that keeps one for ten minutes; may import auth and dispatch."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from api.auth import Claims, Role, Tokens
from api.http.forms import QuoteForm
from api.http.places import read_place
from api.settings import CityArea
from dispatch.registry import OrderForm, Quote, StopForm
from geo.errors import InvalidValue, PriceExpired, Unauthorised

PRICE_ISSUER = "hexrun-price"
PRICE_TTL_S = 600
# A phone's clock may be behind, and a request takes its time.
PAST_MS_MAX = 60_000
HORIZON_MS = 24 * 3_600_000


def read_form(form: QuoteForm, claims: Claims, area: CityArea, at_ms: int) -> OrderForm:
    """The form as the job types take it: points, without addresses, contacts and note.

    Raises:
        InvalidValue: a place outside the city, a time in the past or beyond HORIZON_MS, a missing
            customer; names it.
    """
    stops = []
    last_ms = at_ms + HORIZON_MS
    for n, stop in enumerate(form.stops):
        field = f"stops[{n}]"
        for name in ("earliest_ms", "latest_ms"):
            given_ms = getattr(stop, name)
            if given_ms is not None and given_ms > last_ms:
                expected = f"at most {last_ms}: 24 h from now"
                raise InvalidValue(f"{field}.{name}", given_ms, expected)
        if stop.earliest_ms is not None and stop.earliest_ms < at_ms - PAST_MS_MAX:
            raise InvalidValue(f"{field}.earliest_ms", stop.earliest_ms, f"not before {at_ms}")
        if stop.latest_ms is not None and stop.latest_ms <= max(at_ms, stop.earliest_ms or 0):
            later = max(at_ms, stop.earliest_ms or 0)
            raise InvalidValue(f"{field}.latest_ms", stop.latest_ms, f"later than {later}")
        stops.append(
            StopForm(
                place=read_place(stop.place, f"{field}.place", area),
                earliest_ms=stop.earliest_ms,
                latest_ms=stop.latest_ms,
                place_id=stop.place_id or "",
            )
        )
    return OrderForm(
        customer_id=_own(form.customer_id, "customer_id", claims, Role.CUSTOMER, needed=True),
        merchant_id=_own(form.merchant_id, "merchant_id", claims, Role.MERCHANT, needed=False),
        stops=tuple(stops),
        load=form.load,
        details=form.details,
    )


def _own(given: str | None, field: str, claims: Claims, role: Role, *, needed: bool) -> str:
    """The caller himself where he has the role; what is given for others."""
    if claims.role is not role:
        if needed and given is None:
            raise InvalidValue(field, None, "the customer's id: the caller is not one")
        return given or ""
    if given not in (None, claims.sub):
        raise InvalidValue(field, given, f"{claims.sub}, the caller, or nothing")
    return claims.sub


def sign_price(tokens: Tokens, claims: Claims, job_type: str, form: OrderForm, quote: Quote) -> str:
    """A token that says: this quote, for this form of this caller."""
    content = {
        "form": _digest(claims, job_type, form),
        "lines": quote.lines,
        "from": quote.promise_from_ms,
        "to": quote.promise_to_ms,
    }
    return tokens.sign(PRICE_ISSUER, content, PRICE_TTL_S)


def open_price(
    tokens: Tokens, claims: Claims, job_type: str, form: OrderForm, token: str, at_ms: int
) -> Quote:
    """The quote of `sign_price`.

    Raises:
        PriceExpired: it was good until a moment ago.
        InvalidValue: it is not one of ours, or for another form or caller.
    """
    try:
        content: dict[str, Any] = tokens.open(PRICE_ISSUER, token, expired_too=True)
    except Unauthorised as error:
        expected = f"the price_token of a quote ({error})"
        raise InvalidValue("price_token", token[:20], expected) from None
    if content["form"] != _digest(claims, job_type, form):
        expected = "the token of a quote for this very form: this one is for another"
        raise InvalidValue("price_token", token[:20], expected)
    if content["exp"] * 1000 <= at_ms:
        raise PriceExpired(
            f"price_token: the price held until {content['exp'] * 1000}, it is {at_ms}; "
            "ask for a quote again, or leave the token out"
        )
    return Quote(
        lines=tuple((name, fen) for name, fen in content["lines"]),
        promise_from_ms=content["from"],
        promise_to_ms=content["to"],
    )


def _digest(claims: Claims, job_type: str, form: OrderForm) -> str:
    whole = [claims.tenant, claims.city, claims.role, claims.sub, job_type, form]
    return hashlib.sha256(msgspec.json.encode(whole, order="sorted")).hexdigest()
