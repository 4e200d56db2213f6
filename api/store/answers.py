"""A client's retry gets the first answer: claimed, changed and answered in one transaction.

May import SQLAlchemy and the codec. Whoever adds a write wraps it in `once`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import msgspec
from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.schema import idempotency
from api.store.values import IdempotencyKey
from geo.errors import Conflict

T = TypeVar("T")
STATUS = 200
_FIRST = select(idempotency.c.body_hash, idempotency.c.answer).where(
    idempotency.c.client_id == bindparam("client_id"), idempotency.c.key == bindparam("key")
)


class Found(NamedTuple):
    """The JSON of the first answer."""

    answer: str


async def once(
    engine: AsyncEngine,
    key: IdempotencyKey | None,
    at_ms: int,
    kind: type[T],
    change: Callable[[AsyncConnection], Awaitable[T]],
) -> tuple[T, bool]:
    """Run `change` in a transaction, or with a known key give the `kind` it gave before.

    Also gives whether it was known. Without a key the change is simply run. What `change` raises
    undoes everything and leaves the key free; a refusal is an answer, and kept as one. Who comes
    with the same key meanwhile waits for the first. Raises Conflict for another body.
    """
    async with engine.begin() as connection:
        if key is None:
            return await change(connection), False
        if not await claim(connection, key, at_ms):
            found = await first(connection, key)
            assert found is not None, "a key that is taken has an answer"
            return msgspec.json.decode(found.answer, type=kind), True
        answer = await change(connection)
        mine = (idempotency.c.client_id == key.client_id, idempotency.c.key == key.key)
        await connection.execute(update(idempotency).where(*mine).values(answer=answer))
    return answer, False


async def claim(
    connection: AsyncConnection,
    key: IdempotencyKey,
    at_ms: int,
    answer: object = None,
    status: int = STATUS,
) -> bool:
    """Take the key; False when it is taken. Waits for one who is about to."""
    row = insert(idempotency).values(
        client_id=key.client_id,
        key=key.key,
        body_hash=key.body_hash,
        status=status,
        answer=answer,
        created_at_ms=at_ms,
    )
    claimed = await connection.execute(
        row.on_conflict_do_nothing().returning(idempotency.c.client_id)
    )
    return claimed.first() is not None


async def first(connection: AsyncConnection, key: IdempotencyKey) -> Found | None:
    """The key's answer, None when it has none. Raises Conflict for another body."""
    found = await connection.execute(_FIRST, {"client_id": key.client_id, "key": key.key})
    row = found.one_or_none()
    if row is None:
        return None
    if row.body_hash != key.body_hash:
        raise Conflict(f"Idempotency-Key {key.key!r} was used with another body")
    return Found(row.answer)
