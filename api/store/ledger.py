"""The ledger as it stands, and payments that come in; may import SQLAlchemy and dispatch.

The orders' own transfers are written with the orders, in `api.store.rows`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import RowMapping, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.pooling import single_of
from api.store.schema import orders, payment_notices, transfers
from dispatch.ledger import Transfer, TransferKind, payment
from geo.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A transfer as it was written; ids grow."""

    id: int
    transfer: Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentNotice:
    """A provider says that a customer has paid `fen`, for an order or just so.

    The order must be one of `city`; the customer's account is the tenant's, in all its cities.
    """

    tenant: str
    city: str
    provider: str
    notice_id: str
    customer_id: str
    fen: int
    order_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The notice, and the payment it made; `replayed` when it was known already."""

    notice: PaymentNotice
    transfer_id: int
    at_ms: int
    replayed: bool


class LedgerStore:
    """Every method raises one of `UNAVAILABLE` without PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._single = engine, single_of(engine)

    async def transfers_of_order(self, order_id: str) -> list[Recorded]:
        """In the order in which they were written."""
        if "\0" in order_id:
            return []
        query = select(transfers).where(transfers.c.order_id == order_id).order_by(transfers.c.id)
        async with self._single.connect() as connection:
            return [_recorded(row) for row in (await connection.execute(query)).mappings()]

    async def note_payment(self, notice: PaymentNotice, at_ms: int) -> Noted:
        """One payment to the customer's credit, however often the notice comes.

        Raises:
            NotFound: no such order in the city.
            Conflict: the notice's id was used with another content, or the order is another's.
        """
        paid = payment(notice.provider, notice.tenant, notice.customer_id, notice.fen, at_ms)
        async with self._engine.begin() as connection:
            if notice.order_id is not None:
                await _check_order(connection, notice)
            transfer_id = await connection.scalar(
                _NOTE,
                {
                    "tenant": notice.tenant,
                    "provider": notice.provider,
                    "notice_id": notice.notice_id,
                    "customer_id": notice.customer_id,
                    "fen": notice.fen,
                    "order_id": notice.order_id,
                    "at_ms": at_ms,
                    "debit": paid.debit,
                    "credit": paid.credit,
                },
            )
            if transfer_id is not None:
                return Noted(notice=notice, transfer_id=transfer_id, at_ms=at_ms, replayed=False)
            return await _first(connection, notice)


async def _check_order(connection: AsyncConnection, notice: PaymentNotice) -> None:
    found = await connection.execute(
        select(orders.c.tenant, orders.c.city, orders.c.customer_id).where(
            orders.c.id == notice.order_id
        )
    )
    row = found.one_or_none()
    if row is None or (row.tenant, row.city) != (notice.tenant, notice.city):
        raise NotFound(f"no order {notice.order_id!r}")
    if row.customer_id != notice.customer_id:
        raise Conflict(f"order {notice.order_id} is not customer {notice.customer_id}'s")


async def _first(connection: AsyncConnection, notice: PaymentNotice) -> Noted:
    found = await connection.execute(
        select(payment_notices).where(
            payment_notices.c.tenant == notice.tenant,
            payment_notices.c.provider == notice.provider,
            payment_notices.c.notice_id == notice.notice_id,
        )
    )
    row = found.one()
    if (row.customer_id, row.fen, row.order_id) != (
        notice.customer_id,
        notice.fen,
        notice.order_id,
    ):
        raise Conflict(f"notice {notice.notice_id!r} of {notice.provider} said something else")
    return Noted(notice=notice, transfer_id=row.transfer_id, at_ms=row.at_ms, replayed=True)


def _recorded(row: RowMapping) -> Recorded:
    return Recorded(
        id=row["id"],
        transfer=Transfer(
            kind=TransferKind(row["kind"]),
            debit=row["debit"],
            credit=row["credit"],
            fen=row["fen"],
            at_ms=row["at_ms"],
            order_id=row["order_id"],
        ),
    )


_NOTE = text("""
WITH next AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('transfers', 'id')) AS id),
noted AS (
    INSERT INTO payment_notices (tenant, provider, notice_id, customer_id, fen, order_id,
                                 transfer_id, at_ms)
    SELECT :tenant, :provider, :notice_id, :customer_id, :fen, :order_id, id, :at_ms FROM next
    ON CONFLICT DO NOTHING RETURNING transfer_id)
INSERT INTO transfers (id, order_id, kind, debit, credit, fen, at_ms) OVERRIDING SYSTEM VALUE
SELECT transfer_id, :order_id, 'payment', :debit, :credit, :fen, :at_ms FROM noted
RETURNING id
""")
