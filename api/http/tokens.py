"""Routes: an API key makes short-lived tokens for its own people, and calls them back.

May import FastAPI and the store.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth import ORDERS_MAX, TTL_S, TTL_S_MAX, Claims, Role
from api.clock import now_ms
from api.http.access import Caller, WithParts, only
from api.http.audit import about
from api.http.errors import RESPONSES
from api.http.forms import Form, Id
from api.store.keys import Kind, Revocation
from geo.errors import Forbidden, InvalidValue

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], responses=RESPONSES)

EXCHANGE_TTL_S_MAX = 86_400
_ISSUERS = (Role.INTEGRATOR, Role.OPERATOR)


class TokenForm(Form):
    """For whom. With `orders` it may look at these and watch them, and nothing else."""

    role: Role
    sub: Id
    ttl_s: Annotated[int, Field(strict=True, ge=1, le=EXCHANGE_TTL_S_MAX)] = TTL_S
    orders: Annotated[tuple[Id, ...], Field(max_length=ORDERS_MAX)] = ()


class TokenAnswer(BaseModel):
    """`jti` is what one token is revoked by."""

    token: str
    jti: str
    expires_at_ms: int


class RevokeForm(Form):
    """One token by its `jti`, or all of whoever is `sub` in the role."""

    jti: Id | None = None
    role: Role | None = None
    sub: Id | None = None


class RevokedAnswer(BaseModel):
    """Tokens made until `at_ms` are refused, and their sockets closed, within a minute."""

    at_ms: int


@router.post("", status_code=201)
async def exchange(form: TokenForm, caller: Caller, parts: WithParts) -> TokenAnswer:
    """A token of the key's tenant and city, that ends with the key at the latest.

    Only an operator's key makes operators.
    """
    about(f"{form.role}/{form.sub}")
    only(caller, *_ISSUERS)
    if not caller.by_key:
        raise Forbidden("tokens are made with an API key, not with another token")
    _for(caller, form.role)
    text = parts.tokens.mint(
        sub=form.sub,
        role=form.role,
        tenant=caller.tenant,
        city=caller.city,
        ttl_s=max(1, min(form.ttl_s, caller.exp - caller.iat)),
        orders=form.orders,
        key=caller.key,
    )
    made = parts.tokens.verify(text)
    return TokenAnswer(token=text, jti=made.jti, expires_at_ms=made.exp * 1000)


@router.post("/revoke")
async def revoke(form: RevokeForm, caller: Caller, parts: WithParts) -> RevokedAnswer:
    """Revoke a token, or every token of somebody, of the caller's tenant and city."""
    only(caller, *_ISSUERS)
    kind: Kind
    if form.jti is not None and form.role is None and form.sub is None:
        # The jti does not tell whose it is: it ends no token that the caller may not end.
        kind, value = "token" if caller.role is Role.OPERATOR else "lower_token", form.jti
    elif form.jti is None and form.role is not None and form.sub is not None:
        kind, value = "subject", f"{form.role}/{form.sub}"
        _for(caller, form.role)
    else:
        raise InvalidValue("jti", form.jti, "either a jti, or a role and a sub")
    about(value)
    at_ms = now_ms()
    await parts.store.keys.revoke(
        Revocation(caller.tenant, caller.city, kind, value, at_ms, at_ms + TTL_S_MAX * 1000)
    )
    await parts.guard.read()
    return RevokedAnswer(at_ms=at_ms)


def _for(caller: Claims, role: Role) -> None:
    if role is Role.OPERATOR and caller.role is not Role.OPERATOR:
        raise Forbidden(f"an {caller.role} may not do this for operators")
