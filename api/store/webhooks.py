"""The endpoints to which integrators have their events sent, and what became of the events.

May import SQLAlchemy, the codec and the store's values. The sender's side is in `webhook_sending`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sqlalchemy import and_, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.answers import once
from api.store.reading import first_kept, last_position
from api.store.schema import events, feed, webhook_behind, webhook_dead_letters, webhook_endpoints
from api.store.values import IdempotencyKey
from api.store.webhook_sending import WebhookSending
from geo.errors import Conflict, FeedGone, InvalidValue, NotFound

ENDPOINTS_MAX = 20  # of a tenant in a city

State = Literal["active", "paused"]


@dataclass(frozen=True, slots=True)
class Key:
    """One of an endpoint's secrets, and the id that names it in public."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant's events of a city go. `kinds` None: events of every kind.

    Every event up to `cursor` is delivered or dead, or comes later because an earlier one of
    the same order or rider is still being tried.
    """

    id: str
    tenant: str
    city: str
    url: str
    description: str
    kinds: tuple[str, ...] | None
    coordinate_system: str
    state: State
    paused_reason: str | None
    cursor: int
    failing_since_ms: int | None
    created_at_ms: int
    key: Key = field(repr=False)
    old_key: Key | None = field(repr=False)
    old_until_ms: int | None
    epoch: int

    def keys_at(self, now_ms: int) -> tuple[Key, ...]:
        """The secrets that sign at this moment, the newest first."""
        if self.old_key is not None and now_ms < (self.old_until_ms or 0):
            return self.key, self.old_key
        return (self.key,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that was given up after so many attempts."""

    position: int
    event_id: int
    subject: str
    subject_id: str
    seq: int
    kind: str
    attempts: int
    dead_at_ms: int
    last_error: str
    retry_asked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How one event stands with an endpoint; the last four are of a `retrying` or `dead` one."""

    position: int
    event_id: int
    subject: str
    subject_id: str
    seq: int
    kind: str
    at_ms: int
    state: Literal["delivered", "waiting", "retrying", "dead"]
    attempts: int | None
    next_at_ms: int | None
    last_error: str | None


class Whose(NamedTuple):
    """The tenant and the city that a caller may reach."""

    tenant: str
    city: str


class Made(NamedTuple):
    """What is kept of a secret's making, to answer a retry: not the secret."""

    endpoint_id: str
    key_id: str


class WebhookStore:
    """Endpoints by tenant and city; one of another tenant or city is not found.

    Methods that name an endpoint raise NotFound when the caller has no such one.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.sending = WebhookSending(engine, endpoint_from_row)

    async def create(
        self,
        whose: Whose,
        endpoint_id: str,
        key: Key,
        now_ms: int,
        *,
        url: str,
        description: str,
        kinds: tuple[str, ...] | None,
        coordinate_system: str,
        after: int | None,
        idempotency: IdempotencyKey | None = None,
    ) -> Endpoint:
        """A new endpoint, active, from the events after position `after` on; None: from now on.

        0 is from the first event that is kept.

        A known `idempotency` gives the endpoint that it made, which has another key than `key`.

        Raises:
            Conflict: the tenant has ENDPOINTS_MAX in the city, the idempotency key was used with
                another body, or the secret that it made has been replaced since.
            FeedGone: what follows `after` is not kept any more.
            InvalidValue: `after` is a position that is still to come.
        """

        async def make(connection: AsyncConnection) -> Made:
            # Two at once must not both be the last one.
            lock = f"webhooks {whose.tenant} {whose.city}"
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": lock}
            )
            count = await connection.scalar(select(func.count()).where(_of(whose)))
            if (count or 0) >= ENDPOINTS_MAX:
                raise Conflict(f"{ENDPOINTS_MAX} endpoints exist already: delete one first")
            head = await last_position(connection, whose.city)
            if after is not None and after > head:
                raise InvalidValue("after", after, f"at most {head}, the last position")
            first = await first_kept(connection)
            if after is not None and 0 < after < first - 1:
                raise FeedGone(after, first)
            start = head if after is None else after
            values = {
                "id": endpoint_id,
                "tenant": whose.tenant,
                "city": whose.city,
                "url": url,
                "description": description,
                "kinds": kinds,
                "coordinate_system": coordinate_system,
                "state": "active",
                "cursor": start,
                "listed_after": start,
                "key_id": key.id,
                "secret": key.secret,
                "epoch": 0,
                "lease_until_ms": 0,
                "created_at_ms": now_ms,
            }
            await connection.execute(insert(webhook_endpoints).values(values))
            return Made(endpoint_id, key.id)

        made, _ = await once(self._engine, idempotency, now_ms, Made, make)
        return await self._made(whose, made)

    async def all(self, whose: Whose) -> list[Endpoint]:
        """The caller's endpoints, oldest first."""
        query = select(webhook_endpoints).where(_of(whose))
        query = query.order_by(webhook_endpoints.c.created_at_ms, webhook_endpoints.c.id)
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [endpoint_from_row(row) for row in rows]

    async def one(self, whose: Whose, endpoint_id: str) -> Endpoint:
        """The endpoint as it stands."""
        async with self._engine.connect() as connection:
            return endpoint_from_row(await _row(connection, whose, endpoint_id))

    async def change(self, whose: Whose, endpoint_id: str, changes: dict[str, Any]) -> Endpoint:
        """Set `url`, `description`, `kinds` or `coordinate_system`.

        Counts from the cursor on: the sender starts again there with what is set now. What is so
        already changes nothing.
        """
        before = await self.one(whose, endpoint_id)
        values = {name: new for name, new in changes.items() if getattr(before, name) != new}
        if not values:
            return before
        if "kinds" in values:
            values["listed_after"] = webhook_endpoints.c.cursor
        return await self._update(whose, endpoint_id, values | _AFRESH)

    async def delete(self, whose: Whose, endpoint_id: str) -> None:
        """Delete it with its dead letters."""
        async with self._engine.begin() as connection:
            await _row(connection, whose, endpoint_id, lock=True)
            await connection.execute(delete(webhook_endpoints).where(_is(whose, endpoint_id)))

    async def rotate(
        self,
        whose: Whose,
        endpoint_id: str,
        key: Key,
        old_until_ms: int,
        now_ms: int,
        idempotency: IdempotencyKey | None = None,
    ) -> Endpoint:
        """Sign with `key`, and until `old_until_ms` with the present one as well.

        A retry must not rotate again: the receiver would know neither secret. See `create`.
        """
        c = webhook_endpoints.c
        values = {
            "old_key_id": c.key_id,
            "old_secret": c.secret,
            "old_until_ms": old_until_ms,
            "key_id": key.id,
            "secret": key.secret,
        }

        async def make(connection: AsyncConnection) -> Made:
            await _row(connection, whose, endpoint_id, lock=True)
            query = update(webhook_endpoints).where(_is(whose, endpoint_id)).values(values)
            await connection.execute(query)
            return Made(endpoint_id, key.id)

        made, _ = await once(self._engine, idempotency, now_ms, Made, make)
        return await self._made(whose, made)

    async def pause(self, whose: Whose, endpoint_id: str, reason: str) -> Endpoint:
        """Send nothing more, but for what is under way; one that is paused keeps its reason."""
        values = {
            "state": "paused",
            "paused_reason": func.coalesce(webhook_endpoints.c.paused_reason, reason),
        }
        return await self._update(whose, endpoint_id, values)

    async def resume(self, whose: Whose, endpoint_id: str) -> Endpoint:
        """Go on from the cursor; what was failing is tried at once, with all of its time again."""
        async with self._engine.begin() as connection:
            row = await _row(connection, whose, endpoint_id, lock=True)
            if row["state"] == "active":
                return endpoint_from_row(row)
            await connection.execute(
                update(webhook_behind)
                .where(webhook_behind.c.endpoint_id == endpoint_id)
                .values(attempts=0, tried_since_ms=None, next_at_ms=0)
            )
            values = {"state": "active", "paused_reason": None, "failing_since_ms": None}
            done = await connection.execute(
                update(webhook_endpoints)
                .where(webhook_endpoints.c.id == endpoint_id)
                .values(values | _AFRESH)
                .returning(*webhook_endpoints.c)
            )
            return endpoint_from_row(done.mappings().one())

    async def dead_letters(
        self, whose: Whose, endpoint_id: str, after: int, limit: int
    ) -> list[DeadLetter]:
        """The first `limit` after the position `after`."""
        dead = webhook_dead_letters
        columns = [c for c in dead.c if c.name != "endpoint_id"]
        query = select(*columns).where(dead.c.endpoint_id == endpoint_id, dead.c.position > after)
        async with self._engine.connect() as connection:
            await _row(connection, whose, endpoint_id)
            found = await connection.execute(query.order_by(dead.c.position).limit(limit))
            return [DeadLetter(**row) for row in found.mappings()]

    async def retry_dead(self, whose: Whose, endpoint_id: str, position: int | None) -> int:
        """Have one dead letter or, with None, all sent once more; how many they are.

        Raises:
            NotFound: no such endpoint, or no dead letter at the position.
        """
        dead = webhook_dead_letters
        query = update(dead).where(dead.c.endpoint_id == endpoint_id).values(retry_asked=True)
        if position is not None:
            query = query.where(dead.c.position == position)
        async with self._engine.begin() as connection:
            await _row(connection, whose, endpoint_id)
            count = (await connection.execute(query)).rowcount
        if position is not None and not count:
            raise NotFound(f"no dead letter at position {position}")
        return count

    async def deliveries(
        self, whose: Whose, endpoint_id: str, before: int, limit: int, since_ms: int
    ) -> list[Delivery]:
        """How the events below position `before` stand, the latest first, `limit` at most.

        Ends with the first that happened before `since_ms`. Told from cursor, orders behind and
        dead letters: a delivery that succeeds leaves no row of its own.
        """
        behind, dead = webhook_behind, webhook_dead_letters
        async with self._engine.connect() as connection:
            # One snapshot: an event must not slip between the cursor and the orders behind.
            await connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            row = await _row(connection, whose, endpoint_id)
            query = (
                select(
                    feed.c.position,
                    feed.c.event_id,
                    events.c.subject_kind.label("subject"),
                    events.c.subject_id,
                    events.c.seq,
                    events.c.kind,
                    events.c.at_ms,
                    behind.c.position.label("behind"),
                    dead.c.position.label("dead"),
                    func.coalesce(dead.c.attempts, behind.c.attempts).label("attempts"),
                    behind.c.next_at_ms,
                    func.coalesce(dead.c.last_error, behind.c.last_error).label("last_error"),
                )
                .join(events, and_(events.c.id == feed.c.event_id, events.c.day == feed.c.day))
                .outerjoin(
                    behind,
                    and_(
                        behind.c.endpoint_id == endpoint_id,
                        behind.c.subject == events.c.subject_kind,
                        behind.c.subject_id == events.c.subject_id,
                        behind.c.position <= feed.c.position,
                    ),
                )
                .outerjoin(
                    dead,
                    and_(dead.c.endpoint_id == endpoint_id, dead.c.position == feed.c.position),
                )
                .where(
                    feed.c.tenant == whose.tenant,
                    feed.c.city == whose.city,
                    feed.c.position < before,
                    feed.c.position > row["listed_after"],
                )
                .order_by(feed.c.position.desc())
                .limit(limit)
            )
            if row["kinds"] is not None:
                query = query.where(events.c.kind.in_(row["kinds"]))
            found = (await connection.execute(query)).mappings().all()
        deliveries = []
        for event in found:
            if event["at_ms"] < since_ms:
                break
            deliveries.append(_delivery(event, row["cursor"]))
        return deliveries

    async def _made(self, whose: Whose, made: Made) -> Endpoint:
        endpoint = await self.one(whose, made.endpoint_id)
        if endpoint.key.id != made.key_id:
            raise Conflict(f"the secret of {endpoint.id} has been replaced since: rotate it")
        return endpoint

    async def _update(self, whose: Whose, endpoint_id: str, values: dict[str, Any]) -> Endpoint:
        query = update(webhook_endpoints).where(_is(whose, endpoint_id)).values(values)
        async with self._engine.begin() as connection:
            done = await connection.execute(query.returning(*webhook_endpoints.c))
            row = done.mappings().one_or_none()
        if row is None:
            raise NotFound(f"no webhook endpoint {endpoint_id!r}")
        return endpoint_from_row(row)


# Takes the endpoint from its sender: what that one has in memory was read under the old settings.
_AFRESH = {"epoch": webhook_endpoints.c.epoch + 1, "lease_until_ms": 0}


def endpoint_from_row(row: Any) -> Endpoint:
    """The endpoint of a row of `webhook_endpoints` by column names."""
    old = None if row["old_key_id"] is None else Key(row["old_key_id"], row["old_secret"])
    return Endpoint(
        id=row["id"],
        tenant=row["tenant"],
        city=row["city"],
        url=row["url"],
        description=row["description"],
        kinds=None if row["kinds"] is None else tuple(row["kinds"]),
        coordinate_system=row["coordinate_system"],
        state=row["state"],
        paused_reason=row["paused_reason"],
        cursor=row["cursor"],
        failing_since_ms=row["failing_since_ms"],
        created_at_ms=row["created_at_ms"],
        key=Key(row["key_id"], row["secret"]),
        old_key=old,
        old_until_ms=row["old_until_ms"],
        epoch=row["epoch"],
    )


def _delivery(row: Any, cursor: int) -> Delivery:
    position, behind = row["position"], row["behind"]
    state: Literal["delivered", "waiting", "retrying", "dead"]
    if row["dead"] is not None:
        state = "dead"
    elif behind is not None:
        state = "retrying" if behind == position else "waiting"
    else:
        state = "delivered" if position <= cursor else "waiting"
    tried = state in ("retrying", "dead")
    return Delivery(
        position=position,
        event_id=row["event_id"],
        subject=row["subject"],
        subject_id=row["subject_id"],
        seq=row["seq"],
        kind=row["kind"],
        at_ms=row["at_ms"],
        state=state,
        attempts=row["attempts"] if tried else None,
        next_at_ms=row["next_at_ms"] if state == "retrying" else None,
        last_error=row["last_error"] if tried else None,
    )


def _of(whose: Whose) -> Any:
    c = webhook_endpoints.c
    return and_(c.tenant == whose.tenant, c.city == whose.city)


def _is(whose: Whose, endpoint_id: str) -> Any:
    return and_(webhook_endpoints.c.id == endpoint_id, _of(whose))


async def _row(
    connection: AsyncConnection, whose: Whose, endpoint_id: str, *, lock: bool = False
) -> Any:
    query = select(webhook_endpoints).where(_is(whose, endpoint_id))
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no webhook endpoint {endpoint_id!r}")
    return row
