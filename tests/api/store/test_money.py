"""Whatever happens to orders, the books are right: one hold each, settled exactly when it ends."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api.store import Store
from api.store.ledger import PaymentNotice
from dispatch import commands as c
from dispatch.ledger import TransferKind
from dispatch.model import AssignmentState, Order, OrderState, Party, RouteStop, StopState

NOW_MS = 1_790_000_000_000
RIDERS = ("rita", "ron")
ENDED_WITHOUT = {
    OrderState.CANCELLED_CUSTOMER, OrderState.CANCELLED_MERCHANT, OrderState.CANCELLED_SYSTEM,
    OrderState.EXPIRED, OrderState.FAILED, OrderState.RETURNED,
}  # fmt: skip
OPEN_STOP: dict[StopState, Any] = {
    StopState.PLANNED: c.Head, StopState.HEADING: c.Arrive, StopState.ARRIVED: c.FinishStop,
}  # fmt: skip
DEEDS = ("on", "on", "on", "on", "cancel", "expire", "drop", "decline", "withdraw", "fail", "pay")


def next_of(order: Order, rider_id: str, at_ms: int) -> Any:
    """The command that brings the order nearer to its end."""
    live = order.assignment
    if order.state is OrderState.SCHEDULED:
        return c.Open(at_ms=at_ms)
    if order.state is OrderState.DONE or not any(s.state in OPEN_STOP for s in order.stops):
        return c.Complete(at_ms=at_ms)
    if live is None:
        route = tuple(RouteStop(order_id=order.id, stop=n) for n in range(len(order.stops)))
        return c.Offer(
            at_ms=at_ms, rider_id=rider_id, deadline_ms=at_ms + 30_000, route=route,
            order_version=order.version,
        )  # fmt: skip
    if live.state is AssignmentState.OFFERED:
        return c.Accept(at_ms=at_ms, rider_id=live.rider_id, number=live.number)
    at = next(
        n for n, s in enumerate(order.stops) if s.state not in (StopState.DONE, StopState.FAILED)
    )
    return OPEN_STOP[order.stops[at].state](at_ms=at_ms, rider_id=live.rider_id, stop=at)


def command_of(deed: str, order: Order, rider_id: str, party: Party, at_ms: int) -> Any:
    live = order.assignment
    who = live.rider_id if live is not None else rider_id
    number = order.attempts
    match deed:
        case "cancel":
            return c.Cancel(at_ms=at_ms, by=party)
        case "expire":
            return c.Expire(at_ms=at_ms + 86_400_000)
        case "drop":
            return c.DropOut(at_ms=at_ms, rider_id=who, number=number)
        case "decline":
            return c.Decline(at_ms=at_ms, rider_id=who, number=number)
        case "withdraw":
            return c.Withdraw(at_ms=at_ms, number=number)
        case "fail":
            at = sum(stop.state is StopState.DONE for stop in order.stops)
            at = min(at, len(order.stops) - 1)
            return c.FailStop(at_ms=at_ms, rider_id=who, stop=at, reason="nobody_there")
    return next_of(order, rider_id, at_ms)


def notice_of(notice_id: str) -> PaymentNotice:
    return PaymentNotice(
        tenant="books", city="demo", provider="wechat", notice_id=notice_id, customer_id="mia",
        fen=700,
    )  # fmt: skip


STEP = st.tuples(
    st.sampled_from(DEEDS), st.integers(0, 1), st.sampled_from(RIDERS), st.sampled_from(Party),
    st.booleans(),
)  # fmt: skip


class Books:
    """Lives orders through, and knows what the accounts must then hold."""

    def __init__(
        self, store: Store, new_order: Callable[..., Order], trial_balance: Callable[[], Any]
    ) -> None:
        self.store, self.new_order, self.numbers = store, new_order, itertools.count()
        self.trial_balance = trial_balance
        self.paid = self.held = self.sold = 0
        self.states = Counter[str]()

    async def live_through(self, steps: list[Any]) -> None:
        """Two orders, one of which is for later and one free."""
        ids = [f"m{next(self.numbers)}" for _ in range(2)]
        for order_id, price_fen in zip(ids, (1_200, 0), strict=True):
            order = self.new_order(order_id, customer_id="mia", tenant="books", price_fen=price_fen)
            later = NOW_MS + 3_600_000 if price_fen else None
            await self.store.create_order(order, NOW_MS, idempotency=None, open_at_ms=later)
        for number, (deed, free, rider_id, party, twice) in enumerate(steps):
            order_id, at_ms = ids[free], NOW_MS + number
            if deed == "pay":
                await self.pay(f"{order_id}-{number}", at_ms, twice)
                continue
            order = await self.store.order(order_id)
            assert order is not None
            command = command_of(deed, order, rider_id, party, at_ms)
            for _ in range(1 + twice):
                await self.store.run(order_id, command, action_id=f"a{number}")
        for order_id in ids:
            await self.check_order(order_id)
        await self.check_accounts()

    async def pay(self, notice_id: str, at_ms: int, twice: bool) -> None:
        notice = notice_of(notice_id)
        done = [await self.store.ledger.note_payment(notice, at_ms) for _ in range(1 + twice)]
        assert [noted.replayed for noted in done] == [False, True][: len(done)]
        self.paid += notice.fen

    async def check_order(self, order_id: str) -> None:
        order = await self.store.order(order_id)
        assert order is not None
        self.states[order.state] += 1
        wanted = [TransferKind.HOLD]
        if order.state is OrderState.COMPLETED:
            wanted.append(TransferKind.CAPTURE)
            self.sold += order.price_fen
        elif order.state in ENDED_WITHOUT:
            wanted.append(TransferKind.RELEASE)
        else:
            self.held += order.price_fen
        moved = [r.transfer for r in await self.store.ledger.transfers_of_order(order_id)]
        assert [t.kind for t in moved] == (wanted if order.price_fen else []), order.state
        assert {t.fen for t in moved} <= {order.price_fen}

    async def check_accounts(self) -> None:
        trial = await self.trial_balance()
        wanted = {
            "escrow/books": self.held,
            "sales/books": self.sold,
            "customer/books/mia": self.paid - self.held - self.sold,
            "gateway/wechat": -self.paid,
        }
        assert dict.fromkeys(wanted, 0) | trial == wanted


def test_the_books_are_right_whatever_happens(
    migrated_url: str,
    new_order: Callable[..., Order],
    empty: Callable[..., Any],
    trial_balance: Callable[..., Any],
) -> None:
    """Commands in any order, some twice under one action id."""
    with asyncio.Runner() as runner:
        runner.run(empty(migrated_url))
        store = runner.run(Store.open(migrated_url))
        books = Books(store, new_order, partial(trial_balance, migrated_url))

        @settings(
            max_examples=25, deadline=None, database=None, derandomize=True,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.lists(STEP, min_size=10, max_size=40))
        def run(steps: list[Any]) -> None:
            runner.run(books.live_through(steps))

        try:
            run()
        finally:
            runner.run(store.close())
    # Else the steps would prove little.
    assert books.states[OrderState.COMPLETED]
    assert sum(books.states[state] for state in ENDED_WITHOUT)
