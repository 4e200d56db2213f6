"""Routes: make, list and delete API keys; may import FastAPI and the store."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, StringConstraints

from api.auth import TTL_S_MAX, Role
from api.clock import now_ms
from api.http.access import Caller, PathId, WithParts, only
from api.http.audit import about
from api.http.errors import RESPONSES
from api.http.forms import AtMs, Form, Id
from api.http.retries import OptionalKey, key_of, mark
from geo.errors import Forbidden, InvalidValue, NotFound

router = APIRouter(prefix="/v1/keys", tags=["keys"], responses=RESPONSES)

SECRET = "the secret of an API key"  # what else is signed by the token secret begins otherwise
Label = Annotated[str, StringConstraints(max_length=100, pattern=r"^[^\x00]*$")]


class KeyForm(Form):
    """`sub` is whose it is, the id in the role: keys that replace each other have the same."""

    role: Literal["integrator", "merchant", "operator"]
    sub: Id
    label: Label = ""
    expires_at_ms: AtMs | None = None


class KeyAnswer(BaseModel):
    """`last_used_ms` is coarse: to the hour."""

    id: str
    role: str
    sub: str
    label: str
    tenant: str
    city: str
    created_at_ms: int
    expires_at_ms: int | None
    last_used_ms: int | None


class NewKeyAnswer(KeyAnswer):
    """`key` is shown this once, and to a retry with the same Idempotency-Key for two days."""

    key: str


class KeysAnswer(BaseModel):
    keys: list[KeyAnswer]


@router.post("", status_code=201)
async def create(
    form: KeyForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
) -> NewKeyAnswer:
    """A key for the operator's tenant and city. 409 where a retry's key cannot be shown again."""
    only(caller, Role.OPERATOR)
    at_ms = now_ms()
    if form.expires_at_ms is not None and form.expires_at_ms <= at_ms:
        raise InvalidValue("expires_at_ms", form.expires_at_ms, f"later than {at_ms}")

    def secret_of(seed: str) -> str:
        """Who reads the database finds the seed of a retry there, but not the token secret."""
        mixed = hmac.digest(parts.settings.secret.encode(), f"{SECRET}\n{seed}".encode(), "sha256")
        return urlsafe_b64encode(mixed).decode().rstrip("=")

    made = await parts.store.keys.create(
        tenant=caller.tenant,
        city=caller.city,
        role=form.role,
        sub=form.sub,
        label=form.label,
        at_ms=at_ms,
        expires_at_ms=form.expires_at_ms,
        secret_of=secret_of,
        idempotency=await key_of(caller, idempotency_key, "keys", form, parts),
    )
    about(made.key.id)
    mark(response, made.replayed)
    return NewKeyAnswer.model_validate(asdict(made.key) | {"key": made.text})


@router.get("")
async def listed(caller: Caller, parts: WithParts) -> KeysAnswer:
    """The keys of the operator's tenant and city, oldest first, without their secrets."""
    only(caller, Role.OPERATOR)
    found = await parts.store.keys.of_tenant(caller.tenant, caller.city)
    return KeysAnswer(keys=[KeyAnswer.model_validate(asdict(key)) for key in found])


@router.delete("/{key_id}", status_code=204)
async def remove(key_id: PathId, caller: Caller, parts: WithParts) -> None:
    """The key is refused from now on, and every token that it made within seconds."""
    only(caller, Role.OPERATOR)
    key = await parts.store.keys.one(key_id)
    if key is None:
        raise NotFound(f"no key {key_id!r}")
    if (key.tenant, key.city) != (caller.tenant, caller.city):
        raise Forbidden(f"key {key_id} is of another tenant or city")
    at_ms = now_ms()
    await parts.store.keys.remove(key, at_ms, at_ms + TTL_S_MAX * 1000)
    await parts.guard.read()
