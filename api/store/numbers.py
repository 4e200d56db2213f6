"""Masked numbers: a number of our own that reaches a party of an order while it is under way.

May import SQLAlchemy, the codec and dispatch's model. `NumberProvider` is what a telephone
company's service would implement; `SandboxNumbers` hands out the numbers of a block of our own.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.codec import order_from_json
from api.settings import MASKED_NUMBERS
from api.store.schema import among
from dispatch.model import Order, OrderState
from geo.errors import InvalidValue

BLOCK_MAX = 100_000
# Before a number serves another order: a late call must not reach a stranger.
REST_MS = 600_000
# Any number that no other program uses as an advisory lock in this database.
NUMBERS_LOCK = 0x6865_7872_0006
UNDER_WAY = (OrderState.ASSIGNED.value, OrderState.UNDER_WAY.value)

_BLOCK = re.compile(r"\+([1-9]\d{6,14})-\+([1-9]\d{6,14})")
_log = structlog.get_logger(__name__)


class Bound(NamedTuple):
    """Whom a number reaches: a party (`rider`, `stop:<n>`) of an order that is under way."""

    party: str
    order: Order


class NumberProvider(Protocol):
    """Numbers that forward to a party of an order."""

    async def bind(self, order_id: str, party: str, at_ms: int, expires_at_ms: int) -> str | None:
        """The party's number, the same while it is bound; None when none is free.

        It is bound until `expires_at_ms`, or later if it was already.
        """
        ...

    async def release(self, order_id: str, at_ms: int) -> int:
        """Take the order's numbers back; how many."""
        ...


class SandboxNumbers:
    """A `NumberProvider` on a table. A number serves one order at a time."""

    def __init__(self, engine: AsyncEngine, block: str = MASKED_NUMBERS) -> None:
        """`block` is `+<first>-+<last>`. Raises InvalidValue when it is not."""
        found = _BLOCK.fullmatch(block)
        first, last = (int(part) for part in found.groups()) if found else (1, 0)
        if not 0 <= last - first < BLOCK_MAX:
            expected = f"+<first>-+<last>, at most {BLOCK_MAX} numbers"
            raise InvalidValue("HEXRUN_MASKED_NUMBERS", block, expected)
        self._engine = engine
        self._block = {"first": first, "last": last}

    async def bind(self, order_id: str, party: str, at_ms: int, expires_at_ms: int) -> str | None:
        """See `NumberProvider.bind`."""
        whose = {"order_id": order_id, "party": party, "at_ms": at_ms, "expires": expires_at_ms}
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK, {"key": NUMBERS_LOCK})
            number: str | None = await connection.scalar(_EXTEND, whose)
            if number is None:
                await connection.execute(_RELEASE_EXPIRED, {"at_ms": at_ms})
                rested = {"rested_ms": at_ms - REST_MS}
                number = await connection.scalar(_BIND, {**whose, **self._block, **rested})
        if number is None:
            _log.error("no_masked_number_free", order_id=order_id)
        return number

    async def release(self, order_id: str, at_ms: int) -> int:
        """See `NumberProvider.release`."""
        async with self._engine.begin() as connection:
            done = await connection.execute(_RELEASE, {"order_id": order_id, "at_ms": at_ms})
        return done.rowcount

    async def release_ended(self, at_ms: int) -> int:
        """Take back what has expired, and the numbers of orders that nobody serves any more."""
        async with self._engine.begin() as connection:
            expired = await connection.execute(_RELEASE_EXPIRED, {"at_ms": at_ms})
            ended = await connection.execute(_RELEASE_ENDED, {"at_ms": at_ms})
        return expired.rowcount + ended.rowcount

    async def bound(self, number: str, at_ms: int) -> Bound | None:
        """Whom the number reaches now."""
        async with self._engine.connect() as connection:
            found = await connection.execute(_BOUND, {"number": number, "at_ms": at_ms})
            row = found.one_or_none()
        return None if row is None else Bound(row.party, order_from_json(row.body))


_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

_EXTEND = text("""
UPDATE masked_numbers SET expires_at_ms = GREATEST(expires_at_ms, :expires)
WHERE order_id = :order_id AND party = :party AND released_at_ms IS NULL
  AND expires_at_ms > :at_ms
RETURNING number
""")

_RELEASE_EXPIRED = text("""
UPDATE masked_numbers SET released_at_ms = expires_at_ms
WHERE released_at_ms IS NULL AND expires_at_ms <= :at_ms
""")

# Numbers that were never used come first, then the one that has rested longest.
_BIND = text("""
INSERT INTO masked_numbers AS m (number, order_id, party, bound_at_ms, expires_at_ms)
SELECT '+' || n, :order_id, :party, :at_ms, :expires
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
LEFT JOIN masked_numbers AS before ON before.number = '+' || n
WHERE before.number IS NULL OR before.released_at_ms <= :rested_ms
ORDER BY before.released_at_ms NULLS FIRST, n LIMIT 1
ON CONFLICT (number) DO UPDATE
SET order_id = excluded.order_id, party = excluded.party, bound_at_ms = excluded.bound_at_ms,
    expires_at_ms = excluded.expires_at_ms, released_at_ms = NULL
RETURNING m.number
""")

_RELEASE = text("""
UPDATE masked_numbers SET released_at_ms = :at_ms
WHERE order_id = :order_id AND released_at_ms IS NULL
""")

_RELEASE_ENDED = text(f"""
UPDATE masked_numbers AS m SET released_at_ms = :at_ms
WHERE m.released_at_ms IS NULL AND NOT EXISTS (
    SELECT FROM orders AS o WHERE o.id = m.order_id AND {among("o.state", UNDER_WAY)})
""")

_BOUND = text(f"""
SELECT m.party, o.body FROM masked_numbers AS m JOIN orders AS o ON o.id = m.order_id
WHERE m.number = :number AND m.released_at_ms IS NULL AND m.expires_at_ms > :at_ms
  AND {among("o.state", UNDER_WAY)}
""")
