"""The bodies of the webhooks' routes, asked and told; may import pydantic and dispatch."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from api.http.forms import Form, FreeText
from api.http.pages import POSITION_MAX
from dispatch.events import FACTS
from geo.datum import System

DAY_S = 86_400
GRACE_S_MAX = 7 * DAY_S


def _known(kind: str) -> str:
    if kind not in FACTS:
        raise ValueError(f"one of {', '.join(sorted(FACTS))}")
    return kind


Kinds = Annotated[
    tuple[Annotated[str, AfterValidator(_known)], ...], Field(min_length=1, max_length=len(FACTS))
]
Url = Annotated[str, Field(max_length=4_096)]


class NewWebhookForm(Form):
    """`kinds` left out: events of every kind. `after` left out: the events from now on."""

    url: Url
    description: FreeText = ""
    kinds: Kinds | None = None
    coordinate_system: System = System.GCJ02
    after: Annotated[int, Field(strict=True, ge=0, le=POSITION_MAX)] | None = None


class ChangeWebhookForm(Form):
    """What is left out stays; `kinds` null is every kind."""

    url: Url | None = None
    description: FreeText | None = None
    kinds: Kinds | None = None
    coordinate_system: System | None = None


class RotateForm(Form):
    """For so many seconds the old secret signs as well."""

    grace_s: Annotated[int, Field(strict=True, ge=0, le=GRACE_S_MAX)] = DAY_S


class WebhookAnswer(BaseModel):
    """`cursor`: events up to this position are settled, or wait for an earlier one that fails."""

    id: str
    city: str
    url: str
    description: str
    kinds: list[str] | None
    coordinate_system: str
    state: str
    paused_reason: str | None
    cursor: int
    failing_since_ms: int | None
    key_id: str
    old_key_until_ms: int | None
    created_at_ms: int


class WebhooksAnswer(BaseModel):
    webhooks: list[WebhookAnswer]


class SecretAnswer(WebhookAnswer):
    """The only answer with the `secret`: keep it."""

    secret: str


class ProbeAnswer(BaseModel):
    """`status` null: there was no answer, and `error` says why."""

    delivered: bool
    status: int | None
    latency_ms: int
    error: str | None


class DeadLetterAnswer(BaseModel):
    position: int
    event_id: str
    subject: str
    id: str
    seq: int
    kind: str
    attempts: int
    dead_at_ms: int
    last_error: str
    retry_asked: bool


class DeadLettersAnswer(BaseModel):
    dead_letters: list[DeadLetterAnswer]
    next_after: int
    more: bool


class RetryAnswer(BaseModel):
    asked: int


class DeliveryAnswer(BaseModel):
    position: int
    event_id: str
    subject: str
    id: str
    seq: int
    kind: str
    at_ms: int
    state: str
    attempts: int | None
    next_at_ms: int | None
    last_error: str | None


class DeliveriesAnswer(BaseModel):
    deliveries: list[DeliveryAnswer]
    next_before: int | None
