"""The usual way of a change, in two round trips without a lock; may import asyncpg and dispatch.

What is read is written back in one statement, which does nothing where the order has moved
meanwhile. Then, and whenever anything else is not as usual (a known key, a refusal that must be
remembered, no such order), the answer is None: the way with locks in `api.store.orders` takes over
and has the last word.
"""

from __future__ import annotations

import asyncpg
from sqlalchemy.engine import URL

from api.codec import digest_of_command, order_from_json, to_json_text
from api.personal import Sealed, has_texts
from api.store.away import telling_unavailable
from api.store.connecting import ANSWER_LIMIT_S, CONNECT_LIMIT_S, SESSION
from api.store.rows import Change, add_changes, add_order, change_by
from api.store.statement import Statement
from api.store.values import Created, IdempotencyKey, Outcome
from dispatch.commands import Accept, Command, Confirm
from dispatch.model import Order
from dispatch.transitions import Refusal, apply
from geo.errors import Unavailable

CONNECTIONS_MAX = 8
WAIT_S = 10.0
CREATED_STATUS = 201
# The statements are large and always the same: planned once a connection, not at each call.
_QUICK = {"application_name": "hexrun quick", "plan_cache_mode": "force_generic_plan"}


class Quick:
    """A few connections of its own, made when they are needed."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: URL) -> Quick:
        """No connection is made yet."""
        return cls(
            await asyncpg.create_pool(
                url.set(drivername="postgresql").render_as_string(hide_password=False),
                min_size=0,
                max_size=CONNECTIONS_MAX,
                reset=_leave_as_it_is,
                timeout=CONNECT_LIMIT_S,
                command_timeout=ANSWER_LIMIT_S,
                server_settings=SESSION | _QUICK,
            )
        )

    async def close(self) -> None:
        """Cut the connections: who is writing gets Unavailable."""
        self._pool.terminate()

    async def create(
        self,
        order: Order,
        at_ms: int,
        key: IdempotencyKey | None,
        open_at_ms: int | None,
        personal: Sealed | None,
    ) -> Created | None:
        """See `Store.create_order`."""
        decided = apply(order, Confirm(at_ms=at_ms, open_at_ms=open_at_ms))
        if isinstance(decided, Refusal):
            return None
        change = change_by(order, decided)
        statement, where = Statement(), "true"
        if key is not None:
            where = "EXISTS (SELECT FROM claimed)"
            statement.add(
                "claimed",
                _CLAIM,
                key.client_id,
                key.key,
                key.body_hash,
                CREATED_STATUS,
                to_json_text(change.after),
                at_ms,
            )
        add_order(statement, change, where=where)
        if personal is not None:
            statement.add("sealed", _SEAL, *personal)
        if not await self._write(statement):
            return None
        return Created(order=change.after, replayed=False)

    async def run(self, order_id: str, command: Command, action_id: str | None) -> Outcome | None:
        """See `Store.run`."""
        order = await self._read(order_id, command, action_id)
        if order is None or has_texts(order):
            return None  # what moves its texts away does not raise its version
        decided = apply(order, command)
        if isinstance(decided, Refusal):
            # Whether he is on shift comes before what the order says.
            final = action_id is None and not isinstance(command, Accept)
            return Outcome(order=order, refusal=decided) if final else None
        change = change_by(order, decided)
        statement, where = Statement(), "true"
        if isinstance(command, Accept):
            where = "NOT EXISTS (SELECT FROM rider WHERE state = 'off')"
            statement.add("rider", _RIDER, command.rider_id)
        add_changes(statement, [change], where=where)
        if action_id is not None:
            _add_action(statement, command, action_id, change)
        if not await self._write(statement):
            return None
        return Outcome(order=change.after, events=decided)

    async def tell(self, statement: str) -> None:
        """Run a statement that has no answer. Raises Unavailable."""
        with telling_unavailable():
            async with self._pool.acquire(timeout=WAIT_S) as driver:
                with telling_unavailable(driver):
                    await driver.execute(statement)

    async def _read(self, order_id: str, command: Command, action_id: str | None) -> Order | None:
        """The order as it stands, None when there is none or the action is known."""
        if "\0" in order_id or "\0" in (action_id or ""):
            return None
        try:
            with telling_unavailable():
                async with self._pool.acquire(timeout=WAIT_S) as driver:
                    with telling_unavailable(driver):
                        if action_id is None:
                            body = await driver.fetchval(_READ, order_id)
                        else:
                            who = getattr(command, "rider_id", "")
                            body = await driver.fetchval(
                                _READ_UNLESS_KNOWN, order_id, who, action_id
                            )
        except Unavailable:
            return None  # perhaps only this connection: the other way tries a fresh one
        return None if body is None else order_from_json(body)

    async def _write(self, statement: Statement) -> bool:
        """Whether the order was written; a statement is a transaction of its own."""
        try:
            with telling_unavailable():
                async with self._pool.acquire(timeout=WAIT_S) as driver:
                    return bool(await statement.ask(driver, "SELECT id FROM moved"))
        except asyncpg.UniqueViolationError:
            return False  # the key, action or order has come into being meanwhile


def _add_action(statement: Statement, command: Command, action_id: str, change: Change) -> None:
    statement.add(
        "acted",
        _ACT,
        change.after.id,
        getattr(command, "rider_id", ""),
        action_id,
        digest_of_command(command),
        change.after.version,
        len(change.events),
        command.at_ms,
    )


async def _leave_as_it_is(driver: asyncpg.Connection) -> None:
    """Nothing is ever set on these connections, so nothing has to be reset between two uses."""


_READ = "SELECT body FROM orders WHERE id = $1"

_READ_UNLESS_KNOWN = """
SELECT body FROM orders WHERE id = $1 AND NOT EXISTS (
    SELECT FROM actions WHERE order_id = $1 AND actor = $2 AND action_id = $3)
"""

# Locked until the commit: he goes off shift before this, or sees the order that he has accepted.
_RIDER = "SELECT state FROM riders WHERE id = $1::text FOR SHARE"

_CLAIM = """
INSERT INTO idempotency (client_id, key, body_hash, status, answer, created_at_ms)
VALUES ($1::text, $2::text, $3::text, $4::smallint, $5::text::jsonb, $6::bigint)
ON CONFLICT DO NOTHING RETURNING client_id
"""

_SEAL = f"""
INSERT INTO personal ({", ".join(Sealed._fields)})
SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::bytea, $8::bigint FROM moved
"""

_ACT = """
INSERT INTO actions (order_id, actor, action_id, digest, version, events, created_at_ms)
SELECT $1::text, $2::text, $3::text, $4::text, $5::integer, $6::integer, $7::bigint FROM moved
"""
