"""Routes: make, list and delete API keys; may import FastAPI and the store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, StringConstraints

from api.auth import TTL_S_MAX, Role
from api.clock import now_ms
from api.http.access import Caller, PathId, WithParts, only
from api.http.audit import about
from api.http.errors import RESPONSES
from api.http.forms import AtMs, Form, Id
from geo.errors import Forbidden, InvalidValue, NotFound

router = APIRouter(prefix="/v1/keys", tags=["keys"], responses=RESPONSES)

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
    """`key` is shown this once; nobody can show it again."""

    key: str


class KeysAnswer(BaseModel):
    keys: list[KeyAnswer]


@router.post("", status_code=201)
async def create(form: KeyForm, caller: Caller, parts: WithParts) -> NewKeyAnswer:
    """A key for the operator's tenant and city."""
    only(caller, Role.OPERATOR)
    at_ms = now_ms()
    if form.expires_at_ms is not None and form.expires_at_ms <= at_ms:
        raise InvalidValue("expires_at_ms", form.expires_at_ms, f"later than {at_ms}")
    made = await parts.store.keys.create(
        tenant=caller.tenant,
        city=caller.city,
        role=form.role,
        sub=form.sub,
        label=form.label,
        at_ms=at_ms,
        expires_at_ms=form.expires_at_ms,
    )
    about(made.key.id)
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
