"""The audit log: what operators and API keys have changed; may import FastAPI and the store.

Every request that may change something, by an operator or an API key, leaves a line, done or
refused, before its answer is sent. Ids only: no names, places or bodies.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import asdict
from http import HTTPStatus

import structlog
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import Claims, Role
from api.clock import now_ms
from api.http.access import Caller, WithParts, only
from api.http.errors import RESPONSES
from api.http.pages import LIMIT, After, Limit
from api.store import UNAVAILABLE, Store
from api.store.keys import Deed

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1", tags=["audit"], responses=RESPONSES)

OBJECT_CHARS_MAX = 200
_READS = ("GET", "HEAD", "OPTIONS")

_object: ContextVar[list[str] | None] = ContextVar("audited object", default=None)


def about(object_id: str) -> None:
    """Name the object of this request where its path does not."""
    named = _object.get()
    if named is not None:
        named[:] = [object_id]


class AuditTrail:
    """ASGI middleware that writes the lines."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app, self._store = app, store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READS:
            await self._app(scope, receive, send)
            return
        named: list[str] = []
        before = _object.set(named)
        is_noted = False

        async def note(status: int) -> None:
            nonlocal is_noted
            is_noted = True
            claims = scope.get("state", {}).get("claims")
            if claims is not None and (claims.role is Role.OPERATOR or claims.key):
                await self._note(_deed(scope, claims, named, status))

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                await note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            # The 500 is answered outside of this, and what was changed before it is changed.
            if not is_noted:
                await note(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        finally:
            _object.reset(before)

    async def _note(self, deed: Deed) -> None:
        try:
            await self._store.keys.note(deed)
        except UNAVAILABLE as error:
            # What was done is done: the log line is the trail then.
            facts = {f: getattr(deed, f) for f in ("action", "object", "role", "sub", "key_id")}
            why = type(error).__name__
            log.error("audit_not_written", outcome=deed.outcome, error=why, **facts)


def _deed(scope: Scope, claims: Claims, named: list[str], status: int) -> Deed:
    path = getattr(scope.get("route"), "path", "")
    return Deed(
        at_ms=now_ms(),
        tenant=claims.tenant,
        city=claims.city,
        role=claims.role.value,
        sub=claims.sub,
        key_id=claims.key,
        action=f"{scope['method']} {path}",
        object=_storable(" ".join(named or map(str, scope.get("path_params", {}).values()))),
        address=scope["state"].get("address", "unknown"),
        outcome=status,
    )


def _storable(text: str) -> str:
    """What somebody wrote into a path may be long, and hold what no database does."""
    return text.replace("\0", "\\0")[:OBJECT_CHARS_MAX]


class DeedAnswer(BaseModel):
    """`role`/`sub` did `action` to `object` from `address`; `outcome` is the HTTP status."""

    id: int
    at_ms: int
    role: str
    sub: str
    key_id: str
    action: str
    object: str
    address: str
    outcome: int


class AuditAnswer(BaseModel):
    """Ask again with `after` = `next_after`, at once when `more` is true."""

    deeds: list[DeedAnswer]
    next_after: int
    more: bool


@router.get("/audit")
async def audit(
    caller: Caller,
    parts: WithParts,
    after: After = 0,
    limit: Limit = LIMIT,
) -> AuditAnswer:
    """What operators and API keys of the tenant have changed, or tried to, in order."""
    only(caller, Role.OPERATOR)
    found = await parts.store.keys.deeds(caller.tenant, caller.city, after, limit + 1)
    page = found[:limit]
    return AuditAnswer(
        deeds=[DeedAnswer.model_validate({"id": number, **asdict(deed)}) for number, deed in page],
        next_after=page[-1][0] if page else after,
        more=len(found) > limit,
    )
