"""The rival: bare asyncpg in the manner of pgbench, a transaction of one statement a row.

Tables with the same columns and sizes and a primary key each, but no further index, no trigger, no
partition and no decision. It writes the same rows in the same transactions as `bench.load.life`.
"""

from __future__ import annotations

import asyncpg

from bench.load.life import BATCH

ORDER_CHARS, PLACED_CHARS, FACT_CHARS, RECEIPT_CHARS = 1_450, 1_400, 60, 130

TABLES = """
CREATE SCHEMA rival;
SET search_path = rival;
CREATE TABLE orders (id text PRIMARY KEY, tenant text, city text, state text, version integer,
    job_type text, customer_id text, merchant_id text, rider_id text, price_fen bigint,
    created_at_ms bigint, expires_at_ms bigint, promise_to_ms bigint, body text);
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject_kind text,
    subject_id text, seq integer, day integer, tenant text, city text, at_ms bigint, kind text,
    body text);
CREATE TABLE outbox (event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, day integer);
CREATE TABLE assignments (order_id text, number integer, rider_id text, state text,
    offered_at_ms bigint, deadline_ms bigint, route text, PRIMARY KEY (order_id, number));
CREATE TABLE receipts (order_id text, number integer, round_at_ms bigint, body text,
    PRIMARY KEY (order_id, number));
CREATE TABLE actions (order_id text, actor text, action_id text, digest text, version integer,
    events integer, created_at_ms bigint, PRIMARY KEY (order_id, actor, action_id));
CREATE TABLE idempotency (client_id text, key text, body_hash text, status smallint, answer text,
    created_at_ms bigint, PRIMARY KEY (client_id, key));
CREATE TABLE transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id text,
    kind text, debit text, credit text, fen bigint, at_ms bigint);
"""

_BODY = "x" * ORDER_CHARS
_AT = 1_790_000_000_000
_ORDER = (
    "INSERT INTO orders VALUES ($1, 'default', 'bench', 'open', 2, 'delivery', $1, 'shop', NULL,"
    " 599, $2, $2, $2, $3)"
)
_CLAIM = "INSERT INTO idempotency VALUES ('default/customer/x', $1, $2, 201, $3, $4)"
_MOVE = (
    "UPDATE orders SET state = $2, version = version + 1, rider_id = $3, body = $4 WHERE id = $1"
)
_EVENT = (
    "INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)"
    " VALUES ('order', $1, $2, 20000, 'default', 'bench', $3, 'heading', $4)"
)
_OUTBOX = "INSERT INTO outbox (day) VALUES (20000)"
_TRY = "INSERT INTO assignments VALUES ($1, 1, $2, 'offered', $3, $3, $4)"
_TRIED = "UPDATE assignments SET state = $2 WHERE order_id = $1 AND number = 1"
_RECEIPT = "INSERT INTO receipts VALUES ($1, 1, $2, $3)"
_ACT = "INSERT INTO actions VALUES ($1, $2, $3, $4, 5, 1, $5)"
_PAY = (
    "INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms)"
    " VALUES ($1, 'hold', $2, 'escrow/default', 599, $3)"
)


class Rival:
    """As `bench.load.life.Worker`."""

    def __init__(self, pool: asyncpg.Pool, name: str) -> None:
        self._pool, self._name = pool, name

    async def batch(self, number: int) -> None:
        ids = [f"{self._name}-{number}-{n}" for n in range(BATCH)]
        for order_id in ids:
            async with self._pool.acquire() as db, db.transaction():
                await db.execute(_CLAIM, order_id, "0" * 64, _BODY, _AT)
                await db.execute(_ORDER, order_id, _AT, _BODY)
                await self._events(db, order_id, 1, PLACED_CHARS)
                await self._events(db, order_id, 2)
                await db.execute(_PAY, order_id, f"customer/default/{order_id}", _AT)
        async with self._pool.acquire() as db, db.transaction():
            for order_id in ids:
                await db.execute(_MOVE, order_id, "open", self._name, _BODY)
                await db.execute(_TRY, order_id, self._name, _AT, "r" * 80)
                await self._events(db, order_id, 3, 2 * FACT_CHARS)
                await db.execute(_RECEIPT, order_id, _AT, "r" * RECEIPT_CHARS)
        for order_id in ids:
            await self._serve(order_id)

    async def _serve(self, order_id: str) -> None:
        # (attempt changes, events) of accept, then head, arrive and finish of both stops.
        steps = ((1, 1), (1, 1), (0, 1), (0, 1), (0, 1), (0, 1), (1, 2))
        for n, (tries, events) in enumerate(steps):
            async with self._pool.acquire() as db, db.transaction():
                await db.execute(_MOVE, order_id, "under_way", self._name, _BODY)
                for _ in range(tries):
                    await db.execute(_TRIED, order_id, "active")
                for k in range(events):
                    await self._events(db, order_id, 4 + n + k)
                await db.execute(_ACT, order_id, self._name, f"action-{n}", "0" * 64, _AT)
        async with self._pool.acquire() as db, db.transaction():
            await db.execute(_MOVE, order_id, "completed", None, _BODY)
            await self._events(db, order_id, 12, 2)
            await db.execute(_PAY, order_id, "escrow/default", _AT)

    async def _events(
        self, db: asyncpg.Connection, order_id: str, seq: int, chars: int = FACT_CHARS
    ) -> None:
        await db.execute(_EVENT, order_id, seq, _AT, "x" * chars)
        await db.execute(_OUTBOX)
