"""Which money an order's facts move, as double entries in fen; imports the model and events.

A transfer takes from one account and gives the same to another, so money is neither made nor lost.
The price is held when the order is placed, and captured or given back when it ends. Accounts are
names: `customer/<tenant>/<customer id>`, `escrow/<tenant>`, `sales/<tenant>`, `gateway/<provider>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dispatch import events as e
from dispatch.model import Order


class TransferKind(StrEnum):
    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    PAYMENT = "payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """`fen`, more than 0, leave the account `debit` and reach the account `credit`."""

    kind: TransferKind
    debit: str
    credit: str
    fen: int
    at_ms: int
    order_id: str | None = None


_ENDS: dict[type, TransferKind] = {
    e.Completed: TransferKind.CAPTURE,
    e.Cancelled: TransferKind.RELEASE,
    e.Expired: TransferKind.RELEASE,
    e.Failed: TransferKind.RELEASE,
    e.Returned: TransferKind.RELEASE,
}


def customer_account(tenant: str, customer_id: str) -> str:
    return f"customer/{tenant}/{customer_id}"


def escrow_account(tenant: str) -> str:
    return f"escrow/{tenant}"


def sales_account(tenant: str) -> str:
    return f"sales/{tenant}"


def gateway_account(provider: str) -> str:
    return f"gateway/{provider}"


def transfers_of(order: Order, events: Iterable[e.Event]) -> tuple[Transfer, ...]:
    """What the events of `order` move, in order; nothing when its price is 0."""
    if order.price_fen == 0:
        return ()
    customer = customer_account(order.tenant, order.customer_id)
    escrow, sales = escrow_account(order.tenant), sales_account(order.tenant)
    sides = {
        TransferKind.HOLD: (customer, escrow),
        TransferKind.CAPTURE: (escrow, sales),
        TransferKind.RELEASE: (escrow, customer),
    }
    made = []
    for event in events:
        first = isinstance(event.fact, e.Placed)
        kind = TransferKind.HOLD if first else _ENDS.get(type(event.fact))
        if kind is not None:
            debit, credit = sides[kind]
            made.append(
                Transfer(
                    kind=kind,
                    debit=debit,
                    credit=credit,
                    fen=order.price_fen,
                    at_ms=event.at_ms,
                    order_id=order.id,
                )
            )
    return tuple(made)


def payment(provider: str, tenant: str, customer_id: str, fen: int, at_ms: int) -> Transfer:
    """What a customer has paid at a provider, to his credit."""
    return Transfer(
        kind=TransferKind.PAYMENT,
        debit=gateway_account(provider),
        credit=customer_account(tenant, customer_id),
        fen=fen,
        at_ms=at_ms,
    )
