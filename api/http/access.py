"""Who asks, and what he may reach; may import FastAPI, the guard, the rates and dispatch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis

from api.auth import Claims, Role, Tokens
from api.guard import Guard
from api.http.forms import ID
from api.http.valve import Capacity
from api.rates import Limit, Rates
from api.settings import CityArea, Settings
from api.store import Store
from api.store.keys import KEY_PREFIX
from dispatch.model import Order, Party
from geo.datum import System
from geo.errors import Forbidden, NotFound, Unauthorised


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes work with."""

    store: Store
    settings: Settings
    redis: Redis
    guard: Guard
    rates: Rates

    @property
    def tokens(self) -> Tokens:
        return self.guard.tokens


async def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def capacity_of(request: Request) -> Capacity:
    capacity: Capacity = request.app.state.capacity
    return capacity


WithParts = Annotated[Parts, Depends(parts_of)]
WithCapacity = Annotated[Capacity, Depends(capacity_of)]

_bearer = HTTPBearer(auto_error=False, description="a token of this system, HS256, or an API key")


async def scoped_claims_of(
    request: Request,
    parts: WithParts,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Claims:
    """The caller, counted; also one whose token is scoped to orders.

    Raises Unauthorised, RateLimited, or Forbidden for a token of another city.
    """
    if given is None:
        raise Unauthorised("token is missing: send `Authorization: Bearer <token>`")
    address = address_of(request)
    if given.credentials.startswith(KEY_PREFIX):
        parts.rates.check(Limit.STRANGER, address)  # before the database is asked
    try:
        claims = await parts.guard.bearer(given.credentials)
    except Unauthorised as error:
        # Who lets a token of ours run out guesses nothing: he is not counted as a stranger.
        request.state.known = error.genuine
        if error.genuine:
            await parts.rates.hit(Limit.ADDRESS, address)
        raise
    request.state.known, request.state.claims = True, claims
    await asyncio.gather(
        parts.rates.hit(Limit.SUBJECT, claims.holder), parts.rates.hit(Limit.ADDRESS, address)
    )
    area_of(parts, claims)
    return claims


def area_of(parts: Parts, claims: Claims) -> CityArea:
    """The caller's city. Raises Forbidden when it is not one of those served here."""
    area = parts.settings.area(claims.city)
    if area is None:
        served = ", ".join(repr(city.name) for city in parts.settings.cities)
        raise Forbidden(f"the token is for the city {claims.city!r}, this server has {served}")
    return area


async def claims_of(claims: Annotated[Claims, Depends(scoped_claims_of)]) -> Claims:
    """The caller, who may do all that his role may: a scoped token is Forbidden."""
    if claims.orders:
        raise Forbidden("the token is scoped to orders: it may look at them and watch them only")
    return claims


def address_of(request: Request) -> str:
    """From where, as `StrangerLimit` has found it."""
    address: str = getattr(request.state, "address", "unknown")
    return address


PathId = Annotated[str, Path(pattern=ID)]
Caller = Annotated[Claims, Depends(claims_of)]
ScopedCaller = Annotated[Claims, Depends(scoped_claims_of)]
"""Instead of `Caller` where a token that is scoped to orders may come in: look at its orders."""
AnswerSystem = Annotated[
    System, Query(alias="coordinate_system", description="of the points in the answer")
]

_PARTY = {
    Role.CUSTOMER: Party.CUSTOMER,
    Role.MERCHANT: Party.MERCHANT,
    Role.INTEGRATOR: Party.MERCHANT,
    Role.OPERATOR: Party.SYSTEM,
}


def only(claims: Claims, *roles: Role) -> None:
    """Raises Forbidden when the caller has none of the roles."""
    if claims.role not in roles:
        raise Forbidden(f"a {claims.role} may not do this, only: {', '.join(roles)}")


def reach_order(claims: Claims, order: Order) -> None:
    """Raises Forbidden unless the order is his own, or of his tenant when he runs it.

    A scoped token reaches the orders that it names, whoever holds it.
    """
    mine = (order.tenant, order.city) == (claims.tenant, claims.city)
    if claims.orders:
        mine = mine and order.id in claims.orders
    elif claims.role is Role.CUSTOMER:
        mine = mine and order.customer_id == claims.sub
    elif claims.role is Role.MERCHANT:
        mine = mine and order.merchant_id == claims.sub
    elif claims.role is Role.RIDER:
        live = order.assignment
        mine = mine and live is not None and live.rider_id == claims.sub
    if not mine:
        raise Forbidden(f"order {order.id} is not this {claims.role}'s")


async def order_for(claims: Claims, parts: Parts, order_id: str) -> Order:
    """The order, as it stands. Raises NotFound, or Forbidden as `reach_order`."""
    order = await parts.store.order(order_id)
    if order is None:
        raise NotFound(f"no order {order_id!r}")
    reach_order(claims, order)
    return order


def reach_rider(claims: Claims, rider_id: str) -> None:
    """Raises Forbidden unless the caller is the rider or an operator."""
    only(claims, Role.RIDER, Role.OPERATOR)
    if claims.role is Role.RIDER and claims.sub != rider_id:
        raise Forbidden(f"rider {claims.sub} is not rider {rider_id}")


def party_of(claims: Claims) -> Party:
    """As whom he cancels: an integrator speaks for the merchant, an operator for the system."""
    only(claims, *_PARTY)
    return _PARTY[claims.role]


def client_of(claims: Claims) -> str:
    """Whose idempotency keys his are: each city has its own, whoever else has the same name."""
    return f"{claims.city}/{claims.holder}"
