"""Routes: the transfers of an order, and notices of payments; may import FastAPI and the store."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, StringConstraints

from api.auth import Role
from api.clock import now_ms
from api.http.access import Caller, PathId, WithParts, only, order_for
from api.http.errors import RESPONSES
from api.http.forms import Form, Id
from api.http.retries import mark
from api.store.ledger import PaymentNotice, Recorded

router = APIRouter(prefix="/v1", tags=["money"], responses=RESPONSES)

FEN_MAX = 10**12
_SEE_MONEY = (Role.CUSTOMER, Role.MERCHANT, Role.INTEGRATOR, Role.OPERATOR)


class NoticeForm(Form):
    """What a payment provider says: `notice_id` is its own, the same for every repetition."""

    provider: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
    notice_id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,128}$")]
    customer_id: Id
    fen: Annotated[int, Field(strict=True, gt=0, le=FEN_MAX)]
    order_id: Id | None = None


class NoticeAnswer(BaseModel):
    provider: str
    notice_id: str
    customer_id: str
    fen: int
    order_id: str | None
    transfer_id: int
    at_ms: int


class TransferAnswer(BaseModel):
    """`fen` went from the account `debit` to the account `credit`."""

    id: int
    kind: str
    debit: str
    credit: str
    fen: int
    at_ms: int


class TransfersAnswer(BaseModel):
    order_id: str
    transfers: list[TransferAnswer]


@router.get("/orders/{order_id}/transfers")
async def transfers(order_id: PathId, caller: Caller, parts: WithParts) -> TransfersAnswer:
    """What the order has moved: held when it was placed, captured or released at its end."""
    only(caller, *_SEE_MONEY)
    await order_for(caller, parts, order_id)
    found = await parts.store.ledger.transfers_of_order(order_id)
    return TransfersAnswer(order_id=order_id, transfers=[_view(r) for r in found])


@router.post("/payments/notices", status_code=201)
async def notice(
    form: NoticeForm, caller: Caller, parts: WithParts, response: Response
) -> NoticeAnswer:
    """A customer has paid. The same notice again changes nothing and gives the same answer."""
    only(caller, Role.INTEGRATOR)
    noted = await parts.store.ledger.note_payment(
        PaymentNotice(
            tenant=caller.tenant,
            city=caller.city,
            provider=form.provider,
            notice_id=form.notice_id,
            customer_id=form.customer_id,
            fen=form.fen,
            order_id=form.order_id,
        ),
        now_ms(),
    )
    mark(response, noted.replayed)
    return NoticeAnswer(
        provider=form.provider,
        notice_id=form.notice_id,
        customer_id=form.customer_id,
        fen=form.fen,
        order_id=form.order_id,
        transfer_id=noted.transfer_id,
        at_ms=noted.at_ms,
    )


def _view(recorded: Recorded) -> TransferAnswer:
    t = recorded.transfer
    return TransferAnswer(
        id=recorded.id, kind=t.kind.value, debit=t.debit, credit=t.credit, fen=t.fen, at_ms=t.at_ms
    )
