"""A client's retry: its key, what it covers, and the mark on a repeated answer; imports FastAPI."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

from api.auth import Claims
from api.http.access import client_of
from api.store import IdempotencyKey

KEY = r"^[\x21-\x7e]{1,255}$"
REPLAY = "Idempotent-Replay"
ABOUT = "chosen by the client: the same again gives the first answer again"

OptionalKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY, description=ABOUT)]


def key_of(caller: Claims, given: str | None, what: str, form: BaseModel) -> IdempotencyKey | None:
    """The caller's key for this request: `what` is the route with its ids, `form` the body."""
    if given is None:
        return None
    asked = f"{what}\n{form.model_dump_json()}"
    body_hash = hashlib.sha256(asked.encode()).hexdigest()
    return IdempotencyKey(client_id=client_of(caller), key=given, body_hash=body_hash)


def mark(response: Response, replayed: bool) -> None:
    """Say that this request changed nothing because it was known."""
    if replayed:
        response.headers[REPLAY] = "true"
