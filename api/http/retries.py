"""A client's retry: its key, what it covers, and the mark on a repeated answer; imports FastAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

from api.auth import Claims
from api.http.access import Parts, client_of
from api.store import IdempotencyKey

KEY = r"^[\x21-\x7e]{1,255}$"
REPLAY = "Idempotent-Replay"
ABOUT = "chosen by the client: the same again gives the first answer again"

OptionalKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY, description=ABOUT)]


async def key_of(
    caller: Claims, given: str | None, what: str, form: BaseModel, parts: Parts
) -> IdempotencyKey | None:
    """The caller's key for this request: `what` is the route with its ids, `form` the body."""
    return None if given is None else await needed_key_of(caller, given, what, form, parts)


async def needed_key_of(
    caller: Claims, given: str, what: str, form: BaseModel, parts: Parts
) -> IdempotencyKey:
    """See `key_of`."""
    body_hash = await parts.store.digests.of(f"{what}\n{form.model_dump_json()}")
    return IdempotencyKey(client_id=client_of(caller), key=given, body_hash=body_hash)


def mark(response: Response, replayed: bool) -> None:
    """Say that this request changed nothing because it was known."""
    if replayed:
        response.headers[REPLAY] = "true"
