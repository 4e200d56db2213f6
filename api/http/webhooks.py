"""Routes: endpoints to which a tenant's events are sent; may import FastAPI, webhooks."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.auth import Claims, Role
from api.clock import now_ms
from api.http.access import Caller, Parts, PathId, WithParts, only
from api.http.errors import RESPONSES
from api.http.pages import LIMIT, POSITION_MAX, After, Limit
from api.http.retries import OptionalKey, key_of, mark
from api.http.webhook_forms import (
    ChangeWebhookForm,
    DeadLetterAnswer,
    DeadLettersAnswer,
    DeliveriesAnswer,
    DeliveryAnswer,
    NewWebhookForm,
    ProbeAnswer,
    RetryAnswer,
    RotateForm,
    SecretAnswer,
    WebhookAnswer,
    WebhooksAnswer,
)
from api.store.webhooks import Endpoint, Whose
from api.webhooks import WebhookCaller, check_target, check_url, make_key, message
from geo.errors import InvalidValue

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=RESPONSES)

LISTED_MS = 48 * 3_600_000


Position = Annotated[int, Path(ge=1, le=POSITION_MAX)]


@router.post("", status_code=201)
async def create(
    form: NewWebhookForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
) -> SecretAnswer:
    """A new endpoint. The answer alone has its secret."""
    whose = _whose(caller)
    await _check(parts, form.url)
    key = make_key()
    endpoint = await parts.store.webhooks.create(
        whose,
        f"wh_{uuid.uuid4().hex}",
        key,
        now_ms(),
        url=form.url,
        description=form.description,
        kinds=form.kinds,
        coordinate_system=form.coordinate_system.value,
        after=form.after,
        idempotency=await key_of(caller, idempotency_key, "webhooks", form, parts),
    )
    mark(response, endpoint.key != key)
    return _with_secret(endpoint)


@router.get("")
async def every(caller: Caller, parts: WithParts) -> WebhooksAnswer:
    """The tenant's endpoints in this city, oldest first."""
    found = await parts.store.webhooks.all(_whose(caller))
    return WebhooksAnswer(webhooks=[_view(endpoint) for endpoint in found])


@router.get("/{endpoint_id}")
async def look(endpoint_id: PathId, caller: Caller, parts: WithParts) -> WebhookAnswer:
    """The endpoint as it stands."""
    return _view(await parts.store.webhooks.one(_whose(caller), endpoint_id))


@router.patch("/{endpoint_id}")
async def change(
    endpoint_id: PathId, form: ChangeWebhookForm, caller: Caller, parts: WithParts
) -> WebhookAnswer:
    """Change what is given. Counts from the cursor on; some events may come twice."""
    whose = _whose(caller)
    given = form.model_dump(exclude_unset=True)
    for name in ("url", "description", "coordinate_system"):
        if name in given and given[name] is None:
            raise InvalidValue(name, None, "a value, or the key left out")
    if form.url is not None:
        await _check(parts, form.url)
    return _view(await parts.store.webhooks.change(whose, endpoint_id, given))


@router.delete("/{endpoint_id}", status_code=204, response_class=Response)
async def delete(endpoint_id: PathId, caller: Caller, parts: WithParts) -> None:
    """Delete it with its dead letters; what is under way may still arrive."""
    await parts.store.webhooks.delete(_whose(caller), endpoint_id)


@router.post("/{endpoint_id}/rotate-secret")
async def rotate_secret(
    endpoint_id: PathId,
    form: RotateForm,
    caller: Caller,
    parts: WithParts,
    response: Response,
    idempotency_key: OptionalKey = None,
) -> SecretAnswer:
    """A new secret, which the answer alone has. Both sign for `grace_s`, then the new one."""
    whose, at_ms, key = _whose(caller), now_ms(), make_key()
    what = f"webhooks/{endpoint_id}/rotate-secret"
    endpoint = await parts.store.webhooks.rotate(
        whose,
        endpoint_id,
        key,
        at_ms + form.grace_s * 1000,
        at_ms,
        await key_of(caller, idempotency_key, what, form, parts),
    )
    mark(response, endpoint.key != key)
    return _with_secret(endpoint)


@router.post("/{endpoint_id}/pause")
async def pause(endpoint_id: PathId, caller: Caller, parts: WithParts) -> WebhookAnswer:
    """Send nothing more after about a second; events wait."""
    return _view(await parts.store.webhooks.pause(_whose(caller), endpoint_id, "asked"))


@router.post("/{endpoint_id}/resume")
async def resume(endpoint_id: PathId, caller: Caller, parts: WithParts) -> WebhookAnswer:
    """Go on from the cursor, in order; what was failing is tried at once."""
    return _view(await parts.store.webhooks.resume(_whose(caller), endpoint_id))


@router.post("/{endpoint_id}/probe")
async def probe(endpoint_id: PathId, caller: Caller, parts: WithParts) -> ProbeAnswer:
    """Send a signed test event now, paused or not, and tell what came of it."""
    endpoint = await parts.store.webhooks.one(_whose(caller), endpoint_id)
    check_url(endpoint.url, allow_private=parts.settings.webhooks.allow_private)
    event_id = f"probe-{uuid.uuid4().hex}"
    view = {
        "position": 0,
        "city": endpoint.city,
        "subject": "probe",
        "id": endpoint.id,
        "seq": 0,
        "kind": "probe",
        "at_ms": now_ms(),
        "fact": {},
    }
    async with WebhookCaller(allow_private=parts.settings.webhooks.allow_private) as web:
        outcome = await web.call(endpoint, event_id, message(event_id, view))
    return ProbeAnswer(
        delivered=outcome.delivered,
        status=outcome.status,
        latency_ms=outcome.latency_ms,
        error=outcome.error,
    )


@router.get("/{endpoint_id}/dead-letters")
async def dead_letters(
    endpoint_id: PathId,
    caller: Caller,
    parts: WithParts,
    after: After = 0,
    limit: Limit = LIMIT,
) -> DeadLettersAnswer:
    """Events that were given up, by position."""
    store = parts.store.webhooks
    found = await store.dead_letters(_whose(caller), endpoint_id, after, limit + 1)
    page = found[:limit]
    return DeadLettersAnswer(
        dead_letters=[DeadLetterAnswer.model_validate(_shown(asdict(letter))) for letter in page],
        next_after=page[-1].position if page else after,
        more=len(found) > limit,
    )


@router.post("/{endpoint_id}/dead-letters/retry")
async def retry_all(endpoint_id: PathId, caller: Caller, parts: WithParts) -> RetryAnswer:
    """Have every dead letter sent once more; those that arrive leave the list."""
    asked = await parts.store.webhooks.retry_dead(_whose(caller), endpoint_id, None)
    return RetryAnswer(asked=asked)


@router.post("/{endpoint_id}/dead-letters/{position}/retry")
async def retry_one(
    endpoint_id: PathId, position: Position, caller: Caller, parts: WithParts
) -> RetryAnswer:
    """Have the dead letter of this position sent once more."""
    asked = await parts.store.webhooks.retry_dead(_whose(caller), endpoint_id, position)
    return RetryAnswer(asked=asked)


@router.get("/{endpoint_id}/deliveries")
async def deliveries(
    endpoint_id: PathId,
    caller: Caller,
    parts: WithParts,
    before: Annotated[int, Query(ge=1, le=POSITION_MAX)] = POSITION_MAX,
    limit: Limit = LIMIT,
) -> DeliveriesAnswer:
    """How the events of the last 48 hours stand, the latest first."""
    found = await parts.store.webhooks.deliveries(
        _whose(caller), endpoint_id, before, limit, now_ms() - LISTED_MS
    )
    return DeliveriesAnswer(
        deliveries=[DeliveryAnswer.model_validate(_shown(asdict(one))) for one in found],
        next_before=found[-1].position if len(found) == limit else None,
    )


def _whose(caller: Claims) -> Whose:
    only(caller, Role.INTEGRATOR, Role.OPERATOR)
    return Whose(caller.tenant, caller.city)


async def _check(parts: Parts, url: str) -> None:
    allow_private = parts.settings.webhooks.allow_private
    target = check_url(url, allow_private=allow_private)
    if not allow_private:
        await check_target(target, allow_private=False)


def _shown(fields: dict[str, object]) -> dict[str, object]:
    """As `GET /v1/events` names them."""
    return fields | {"id": fields.pop("subject_id"), "event_id": str(fields["event_id"])}


def _fields(endpoint: Endpoint) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "city": endpoint.city,
        "url": endpoint.url,
        "description": endpoint.description,
        "kinds": endpoint.kinds,
        "coordinate_system": endpoint.coordinate_system,
        "state": endpoint.state,
        "paused_reason": endpoint.paused_reason,
        "cursor": endpoint.cursor,
        "failing_since_ms": endpoint.failing_since_ms,
        "key_id": endpoint.key.id,
        "old_key_until_ms": endpoint.old_until_ms,
        "created_at_ms": endpoint.created_at_ms,
    }


def _view(endpoint: Endpoint) -> WebhookAnswer:
    return WebhookAnswer.model_validate(_fields(endpoint))


def _with_secret(endpoint: Endpoint) -> SecretAnswer:
    return SecretAnswer.model_validate(_fields(endpoint) | {"secret": endpoint.key.secret})
