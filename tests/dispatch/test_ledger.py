"""What the facts of an order move: held once, captured or given back once, never made or lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from dispatch import commands as c
from dispatch.jobs.delivery import JOB
from dispatch.ledger import Transfer, TransferKind, payment, transfers_of
from dispatch.model import Order, Party, Place
from dispatch.registry import OrderForm, StopForm
from dispatch.transitions import Refusal, apply, fold

NOW_MS = 1_790_000_000_000


def quoted() -> Order:
    stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
    form = OrderForm(customer_id="anna", stops=stops)
    return JOB.order("o1", "demo", form, JOB.quote(form, NOW_MS), NOW_MS)


def moved_by(order: Order, *commands: c.Command) -> list[Transfer]:
    made: list[Transfer] = []
    for command in commands:
        events = apply(order, command)
        assert not isinstance(events, Refusal), events
        order = fold(order, events)
        made += transfers_of(order, events)
    return made


PLACE = c.Confirm(at_ms=NOW_MS)
TAKE = (
    c.Offer(at_ms=NOW_MS, rider_id="rita", deadline_ms=NOW_MS + 9, route=(), order_version=2),
    c.Accept(at_ms=NOW_MS, rider_id="rita", number=1),
    c.Arrive(at_ms=NOW_MS, rider_id="rita", stop=0),
)
FINISH = c.FinishStop(at_ms=NOW_MS, rider_id="rita", stop=0)
THERE = c.Arrive(at_ms=NOW_MS, rider_id="rita", stop=1)
FAIL = c.FailStop(at_ms=NOW_MS, rider_id="rita", stop=0, reason="closed")


def test_the_price_is_held_and_captured() -> None:
    order = quoted()
    hold, capture = moved_by(
        order, PLACE, *TAKE, FINISH, THERE, replace(FINISH, stop=1), c.Complete(at_ms=NOW_MS + 5)
    )
    fen = order.price_fen
    assert hold == Transfer(
        kind=TransferKind.HOLD,
        debit="customer/default/anna",
        credit="escrow/default",
        fen=fen,
        at_ms=NOW_MS,
        order_id="o1",
    )
    assert capture == Transfer(
        kind=TransferKind.CAPTURE,
        debit="escrow/default",
        credit="sales/default",
        fen=fen,
        at_ms=NOW_MS + 5,
        order_id="o1",
    )


@pytest.mark.parametrize(
    "ends",
    [
        (c.Cancel(at_ms=NOW_MS + 1, by=Party.CUSTOMER),),
        (c.Cancel(at_ms=NOW_MS + 1, by=Party.SYSTEM),),
        (c.Expire(at_ms=NOW_MS + 10**9),),
        (*TAKE, FAIL),
        (
            *TAKE,
            FINISH,
            THERE,
            replace(FAIL, stop=1),
            replace(THERE, stop=2),
            replace(FINISH, stop=2),
        ),
        (*TAKE, FINISH, c.Cancel(at_ms=NOW_MS, by=Party.SYSTEM)),
    ],
)
def test_what_is_not_delivered_is_given_back(ends: tuple[c.Command, ...]) -> None:
    hold, release = moved_by(quoted(), PLACE, *ends)
    assert release.kind is TransferKind.RELEASE
    assert (release.debit, release.credit, release.fen) == (hold.credit, hold.debit, hold.fen)


def test_an_order_for_nothing_moves_nothing() -> None:
    free = replace(quoted(), price_fen=0)
    assert moved_by(free, PLACE, c.Cancel(at_ms=NOW_MS, by=Party.CUSTOMER)) == []


def test_a_payment() -> None:
    paid = payment("wechat", "shop", "anna", 599, NOW_MS)
    assert (paid.kind, paid.debit, paid.credit) == (
        "payment",
        "gateway/wechat",
        "customer/shop/anna",
    )
