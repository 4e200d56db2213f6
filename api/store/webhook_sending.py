"""What the sender of webhooks reads and writes; may import SQLAlchemy and the store's values.

A sender owns an endpoint for as long as it holds its lease. Every write names the epoch of the
lease, so that one that was paused and woke up after another took over changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Select, and_, delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.rows import event_from_row
from api.store.schema import (
    events,
    feed,
    heads,
    webhook_behind,
    webhook_dead_letters,
    webhook_endpoints,
)
from api.store.values import Positioned

if TYPE_CHECKING:
    from api.store.webhooks import Endpoint


class Subject(NamedTuple):
    """Whose events keep their order among each other: an order's, or a rider's."""

    kind: str
    id: str


class Entry(NamedTuple):
    """An event of the feed; `event_id` is the same in every attempt, to every endpoint."""

    event_id: int
    subject: Subject
    placed: Positioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """An order or rider whose event at `position` failed, and whose later events wait for it."""

    subject: Subject
    position: int
    attempts: int
    tried_since_ms: int | None
    next_at_ms: int
    last_error: str = ""


class Dead(NamedTuple):
    """An event to give up at `at_ms`, after so many attempts."""

    entry: Entry
    attempts: int
    at_ms: int
    last_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a sender did with an endpoint since the last time, all or nothing."""

    cursor: int
    failing_since_ms: int | None
    behind: Sequence[Behind] = ()
    caught_up: Sequence[Subject] = ()
    dead: Sequence[Dead] = ()
    paused_reason: str | None = None


class WebhookSending:
    """The sender's tables. Every method raises one of `UNAVAILABLE` when PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine, endpoint_of: Callable[[Any], Endpoint]) -> None:
        self._engine, self._endpoint_of = engine, endpoint_of

    async def take(self, limit: int, ttl_ms: int) -> list[Endpoint]:
        """Lease at most `limit` active endpoints that nobody holds; each under a higher epoch."""
        async with self._engine.connect() as connection:
            # A look first: with nothing to take, nothing is locked or written.
            if await connection.scalar(_ANY_FREE) is None:
                return []
        async with self._engine.begin() as connection:
            found = await connection.execute(_TAKE, {"limit": limit, "ttl": ttl_ms})
            return [self._endpoint_of(row) for row in found.mappings()]

    async def renew(self, held: dict[str, int], ttl_ms: int) -> list[Endpoint]:
        """Hold the endpoints (epoch by id) for another `ttl_ms`: those that are still ours."""
        values = {"ids": list(held), "epochs": list(held.values()), "ttl": ttl_ms}
        async with self._engine.begin() as connection:
            found = await connection.execute(_RENEW, values)
            return [self._endpoint_of(row) for row in found.mappings()]

    async def release(self, endpoint_id: str, epoch: int) -> None:
        """Let the next one take it at once; does nothing when it is not ours."""
        c = webhook_endpoints.c
        query = update(webhook_endpoints).where(c.id == endpoint_id, c.epoch == epoch)
        async with self._engine.begin() as connection:
            await connection.execute(query.values(lease_until_ms=0))

    async def heads(self) -> dict[str, int]:
        """The last position of every city: up to it, all events can be read."""
        async with self._engine.connect() as connection:
            found = await connection.execute(select(heads.c.city, heads.c.position))
            return {city: position for city, position in found}

    async def behind(self, endpoint_id: str) -> list[Behind]:
        """The orders and riders that are behind."""
        query = select(webhook_behind).where(webhook_behind.c.endpoint_id == endpoint_id)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            Behind(
                subject=Subject(row["subject"], row["subject_id"]),
                position=row["position"],
                attempts=row["attempts"],
                tried_since_ms=row["tried_since_ms"],
                next_at_ms=row["next_at_ms"],
                last_error=row["last_error"],
            )
            for row in rows
        ]

    async def entries(self, endpoint: Endpoint, after: int, until: int, limit: int) -> list[Entry]:
        """The endpoint's first `limit` events after `after` up to `until`, in order."""
        query = _entries(endpoint).where(feed.c.position > after, feed.c.position <= until)
        return await self._read(query.order_by(feed.c.position).limit(limit))

    async def entry(self, endpoint: Endpoint, position: int) -> Entry | None:
        """The event at the position; None when the endpoint does not want its kind any more."""
        found = await self._read(_entries(endpoint).where(feed.c.position == position))
        return found[0] if found else None

    async def next_of(
        self, endpoint: Endpoint, subject: Subject, after: int, until: int
    ) -> int | None:
        """The position of the subject's next event after `after` up to `until`."""
        query = (
            _entries(endpoint)
            .with_only_columns(func.min(feed.c.position))
            .where(
                events.c.subject_kind == subject.kind,
                events.c.subject_id == subject.id,
                feed.c.position > after,
                feed.c.position <= until,
            )
        )
        async with self._engine.connect() as connection:
            position: int | None = await connection.scalar(query)
        return position

    async def save(self, endpoint: Endpoint, progress: Progress) -> bool:
        """Write it in one transaction. False, and nothing written, when the lease is not ours."""
        c = webhook_endpoints.c
        values: dict[str, Any] = {
            "cursor": progress.cursor,
            "failing_since_ms": progress.failing_since_ms,
        }
        if progress.paused_reason is not None:
            values |= {"state": "paused", "paused_reason": progress.paused_reason}
        fence = update(webhook_endpoints).where(c.id == endpoint.id, c.epoch == endpoint.epoch)
        async with self._engine.begin() as connection:
            if (await connection.execute(fence.values(values))).rowcount != 1:
                return False
            await _write_behind(connection, endpoint.id, progress)
            await _write_dead(connection, endpoint.id, progress.dead)
        return True

    async def asked(self, endpoint_ids: Sequence[str], limit: int) -> list[tuple[str, int]]:
        """(endpoint, position) of dead letters that somebody wants to be sent once more."""
        dead = webhook_dead_letters.c
        query = select(dead.endpoint_id, dead.position).where(
            dead.retry_asked, dead.endpoint_id.in_(endpoint_ids)
        )
        async with self._engine.connect() as connection:
            found = await connection.execute(query.order_by(dead.position).limit(limit))
            return [(endpoint_id, position) for endpoint_id, position in found]

    async def settle_dead(self, endpoint: Endpoint, position: int, error: str | None) -> None:
        """The dead letter was sent once more: it goes, or stays with the error.

        Changes nothing when the lease is not ours: the next one sends it again.
        """
        dead, c = webhook_dead_letters, webhook_endpoints.c
        here = (dead.c.endpoint_id == endpoint.id, dead.c.position == position)
        ours = select(c.id).where(c.id == endpoint.id, c.epoch == endpoint.epoch)
        async with self._engine.begin() as connection:
            if await connection.scalar(ours.with_for_update(read=True)) is None:
                return
            if error is None:
                await connection.execute(delete(dead).where(*here))
                return
            await connection.execute(
                update(dead)
                .where(*here)
                .values(retry_asked=False, attempts=dead.c.attempts + 1, last_error=error)
            )

    async def totals(self) -> list[tuple[str, int, int]]:
        """(city, paused endpoints, dead letters) of every city that has endpoints."""
        async with self._engine.connect() as connection:
            found = await connection.execute(_TOTALS)
            return [(city, paused, dead) for city, paused, dead in found]

    async def _read(self, query: Select[Any]) -> list[Entry]:
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            Entry(
                event_id=row["id"],
                subject=Subject(row["subject_kind"], row["subject_id"]),
                placed=Positioned(
                    position=row["position"],
                    prev_position=row["prev_position"],
                    city=row["city"],
                    event=event_from_row(row),
                ),
            )
            for row in rows
        ]


def _entries(endpoint: Endpoint) -> Select[Any]:
    query = (
        select(feed.c.position, feed.c.prev_position, events)
        .join(events, and_(events.c.id == feed.c.event_id, events.c.day == feed.c.day))
        .where(feed.c.tenant == endpoint.tenant, feed.c.city == endpoint.city)
    )
    return query if endpoint.kinds is None else query.where(events.c.kind.in_(endpoint.kinds))


async def _write_behind(connection: AsyncConnection, endpoint_id: str, progress: Progress) -> None:
    if progress.caught_up:
        kinds, ids = zip(*progress.caught_up, strict=True)
        await connection.execute(
            _CAUGHT_UP, {"endpoint": endpoint_id, "subjects": list(kinds), "ids": list(ids)}
        )
    if progress.behind:
        await connection.execute(
            _BEHIND,
            {
                "endpoint": endpoint_id,
                "subjects": [b.subject.kind for b in progress.behind],
                "ids": [b.subject.id for b in progress.behind],
                "positions": [b.position for b in progress.behind],
                "attempts": [b.attempts for b in progress.behind],
                "since": [b.tried_since_ms for b in progress.behind],
                "next": [b.next_at_ms for b in progress.behind],
                "errors": [b.last_error for b in progress.behind],
            },
        )


async def _write_dead(
    connection: AsyncConnection, endpoint_id: str, letters: Sequence[Dead]
) -> None:
    if not letters:
        return
    await connection.execute(
        _DEAD,
        {
            "endpoint": endpoint_id,
            "positions": [d.entry.placed.position for d in letters],
            "event_ids": [d.entry.event_id for d in letters],
            "attempts": [d.attempts for d in letters],
            "at": [d.at_ms for d in letters],
            "errors": [d.last_error for d in letters],
        },
    )


_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint".replace("::", r"\:\:")

_ANY_FREE = text(f"""
SELECT 1 FROM webhook_endpoints WHERE state = 'active' AND lease_until_ms <= {_NOW} LIMIT 1
""")

_TAKE = text(f"""
UPDATE webhook_endpoints SET epoch = epoch + 1, lease_until_ms = {_NOW} + :ttl
WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_endpoints WHERE state = 'active' AND lease_until_ms <= {_NOW}
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED))
RETURNING *
""")

_RENEW = text(f"""
UPDATE webhook_endpoints AS e SET lease_until_ms = {_NOW} + :ttl
FROM unnest(CAST(:ids AS text[]), CAST(:epochs AS bigint[])) AS held(id, epoch)
WHERE e.id = held.id AND e.epoch = held.epoch
RETURNING e.*
""")

_CAUGHT_UP = text("""
DELETE FROM webhook_behind AS b
USING unnest(CAST(:subjects AS text[]), CAST(:ids AS text[])) AS gone(subject, id)
WHERE b.endpoint_id = :endpoint AND b.subject = gone.subject AND b.subject_id = gone.id
""")

_BEHIND = text("""
INSERT INTO webhook_behind (endpoint_id, subject, subject_id, position, attempts, tried_since_ms,
                            next_at_ms, last_error)
SELECT CAST(:endpoint AS text), n.*
FROM unnest(CAST(:subjects AS text[]), CAST(:ids AS text[]), CAST(:positions AS bigint[]),
            CAST(:attempts AS integer[]), CAST(:since AS bigint[]), CAST(:next AS bigint[]),
            CAST(:errors AS text[])) AS n
ON CONFLICT (endpoint_id, subject, subject_id) DO UPDATE
SET position = excluded.position, attempts = excluded.attempts,
    tried_since_ms = excluded.tried_since_ms, next_at_ms = excluded.next_at_ms,
    last_error = excluded.last_error
""")

_DEAD = text("""
INSERT INTO webhook_dead_letters (endpoint_id, position, event_id, subject, subject_id, seq, kind,
                                  attempts, dead_at_ms, last_error, retry_asked)
SELECT CAST(:endpoint AS text), n.position, e.id, e.subject_kind, e.subject_id, e.seq, e.kind,
       n.attempts, n.at_ms, n.error, false
FROM unnest(CAST(:positions AS bigint[]), CAST(:event_ids AS bigint[]),
            CAST(:attempts AS integer[]), CAST(:at AS bigint[]), CAST(:errors AS text[]))
     AS n(position, event_id, attempts, at_ms, error)
JOIN events AS e ON e.id = n.event_id
ON CONFLICT (endpoint_id, position) DO NOTHING
""")

_TOTALS = text("""
SELECT e.city, count(*) FILTER (WHERE e.state = 'paused'),
       coalesce(sum((SELECT count(*) FROM webhook_dead_letters AS d WHERE d.endpoint_id = e.id)), 0)
FROM webhook_endpoints AS e GROUP BY e.city
""")
