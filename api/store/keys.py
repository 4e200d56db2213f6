"""API keys, revocations and the audit log; may import SQLAlchemy and the schema.

A key's secret is 256 random bits, so one SHA-256 keeps it: there is nothing to guess that a slow
hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.answers import once
from api.store.pooling import single_of
from api.store.schema import audit, keys, revocations
from api.store.values import IdempotencyKey
from geo.errors import Conflict

KEY_PREFIX = "hxk_"
KEY_CHARS_MAX = 128
USED_STEP_MS = 3_600_000
# Revocations that serve at once for one tenant: each process keeps them all in memory.
REVOCATIONS_MAX = 20_000
# Any number that no other program uses as an advisory lock in this database.
REVOCATIONS_LOCK = 0x6865_7872_7265
# `lower_token` is a token of anybody but an operator.
Kind = Literal["token", "lower_token", "subject", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it may be shown; `last_used_ms` is coarse: to the hour."""

    id: str
    tenant: str
    city: str
    role: str
    sub: str
    label: str
    created_at_ms: int
    expires_at_ms: int | None = None
    last_used_ms: int | None = None


class NewKey(NamedTuple):
    """A key and its `text`, which is kept nowhere; `replayed` when a retry is told it again."""

    key: ApiKey
    text: str
    replayed: bool


class _Made(NamedTuple):
    """What is kept of a key's making, to answer a retry: of the secret only what it came from."""

    key_id: str
    seed: str


class Revocation(NamedTuple):
    """Tokens of tenant and city made until `at_ms` are over; the entry serves until `until_ms`."""

    tenant: str
    city: str
    kind: Kind
    value: str
    at_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One line of the audit log: who did what to which object, when, from where, how it ended."""

    at_ms: int
    tenant: str
    city: str
    role: str
    sub: str
    key_id: str
    action: str
    object: str
    address: str
    outcome: int


_SHOWN = [c for c in keys.c if c.name != "digest"]
_DEED = [c for c in audit.c if c.name != "id"]
_FIND = select(*_SHOWN, keys.c.digest).where(keys.c.id == bindparam("id"))
_NOTE = insert(audit)


class KeyStore:
    """Every method raises one of `UNAVAILABLE` when PostgreSQL does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._single = engine, single_of(engine)

    # --- keys ---------------------------------------------------------------------------------

    async def create(
        self,
        *,
        tenant: str,
        city: str,
        role: str,
        sub: str,
        label: str,
        at_ms: int,
        expires_at_ms: int | None,
        secret_of: Callable[[str], str] = str,
        idempotency: IdempotencyKey | None = None,
    ) -> NewKey:
        """A key `hxk_<id>_<secret>`; a known `idempotency` gives the key that it made, again.

        The secret is `secret_of` a random seed. The seed is kept with the answer for a retry, so
        with an `idempotency` it must need more than the seed to make the secret.

        Raises:
            Conflict: the idempotency key was used with another body, or what it made cannot be
                shown again: it is deleted, or `secret_of` makes another secret now.
        """
        key = ApiKey(
            id=secrets.token_hex(6),
            tenant=tenant,
            city=city,
            role=role,
            sub=sub,
            label=label,
            created_at_ms=at_ms,
            expires_at_ms=expires_at_ms,
        )
        seed = secrets.token_urlsafe(32)

        async def make(connection: AsyncConnection) -> _Made:
            row = {c.name: getattr(key, c.name) for c in _SHOWN}
            row["digest"] = _digest(secret_of(seed))
            await connection.execute(insert(keys).values(row))
            return _Made(key.id, seed)

        made, replayed = await once(self._engine, idempotency, at_ms, _Made, make)
        secret = secret_of(made.seed)
        text = f"{KEY_PREFIX}{made.key_id}_{secret}"
        if not replayed:
            return NewKey(key, text, replayed)
        found = await self._of_text(text)
        if found is None:
            raise Conflict(f"key {made.key_id} cannot be shown again: delete it, make another")
        return NewKey(found, text, replayed)

    async def find(self, text: str, at_ms: int) -> ApiKey | None:
        """The key of this text, None when there is none; an expired one is given too.

        Notes that it was used, at most once an hour.
        """
        found = await self._of_text(text)
        if found is None:
            return None
        if found.last_used_ms is None or found.last_used_ms < at_ms - USED_STEP_MS:
            await self._note_used(found.id, at_ms - at_ms % USED_STEP_MS)
        return found

    async def _of_text(self, text: str) -> ApiKey | None:
        key_id, _, secret = text.removeprefix(KEY_PREFIX).partition("_")
        if len(text) > KEY_CHARS_MAX or not (key_id.isascii() and key_id.isalnum()):
            return None
        async with self._single.connect() as connection:
            row = (await connection.execute(_FIND, {"id": key_id})).mappings().first()
        if row is None or not hmac.compare_digest(row["digest"], _digest(secret)):
            return None
        return ApiKey(**{c.name: row[c.name] for c in _SHOWN})

    async def _note_used(self, key_id: str, hour_ms: int) -> None:
        older = or_(keys.c.last_used_ms.is_(None), keys.c.last_used_ms < hour_ms)
        async with self._single.connect() as connection:
            await connection.execute(
                update(keys).where(keys.c.id == key_id, older).values(last_used_ms=hour_ms)
            )

    async def of_tenant(self, tenant: str, city: str) -> list[ApiKey]:
        """The tenant's keys in the city, oldest first."""
        query = (
            select(*_SHOWN)
            .where(keys.c.tenant == tenant, keys.c.city == city)
            .order_by(keys.c.created_at_ms, keys.c.id)
        )
        async with self._single.connect() as connection:
            return [ApiKey(**row) for row in (await connection.execute(query)).mappings()]

    async def one(self, key_id: str) -> ApiKey | None:
        """The key of this id."""
        async with self._single.connect() as connection:
            found = await connection.execute(select(*_SHOWN).where(keys.c.id == key_id))
            row = found.mappings().first()
        return None if row is None else ApiKey(**row)

    async def remove(self, key: ApiKey, at_ms: int, until_ms: int) -> None:
        """The key is no more, nor are the tokens that it made."""
        over = Revocation(key.tenant, key.city, "key", key.id, at_ms, until_ms)
        async with self._engine.begin() as connection:
            await connection.execute(delete(keys).where(keys.c.id == key.id))
            await _put(connection, over)

    # --- revocations --------------------------------------------------------------------------

    async def revoke(self, revocation: Revocation) -> None:
        """Write it down, and drop those that have served their time.

        Raises:
            Conflict: the tenant has REVOCATIONS_MAX already; nothing was revoked.
        """
        async with self._engine.begin() as connection:
            await connection.execute(
                delete(revocations).where(revocations.c.until_ms <= revocation.at_ms)
            )
            await _put(connection, revocation)
            count = select(func.count()).where(revocations.c.tenant == revocation.tenant)
            if (await connection.execute(count)).scalar_one() > REVOCATIONS_MAX:
                raise Conflict(
                    f"revocations: the tenant has {REVOCATIONS_MAX} that still serve; delete the "
                    "API key that made the tokens, or replace the line of the secret"
                )

    async def revoked(self, after: int, at_ms: int, limit: int) -> list[tuple[int, Revocation]]:
        """The first `limit` (position, revocation) after a position that still serve."""
        columns = (revocations.c[name] for name in Revocation._fields)
        query = (
            select(revocations.c.id, *columns)
            .where(revocations.c.id > after, revocations.c.until_ms > at_ms)
            .order_by(revocations.c.id)
            .limit(limit)
        )
        async with self._single.connect() as connection:
            found = await connection.execute(query)
            return [(position, Revocation(*rest)) for position, *rest in found]

    # --- audit --------------------------------------------------------------------------------

    async def note(self, deed: Deed) -> None:
        """Add a line to the audit log."""
        row = {c.name: getattr(deed, c.name) for c in _DEED}
        async with self._single.connect() as connection:
            await connection.execute(_NOTE, row)

    async def deeds(
        self, tenant: str, city: str, after: int, limit: int
    ) -> Sequence[tuple[int, Deed]]:
        """The first `limit` (id, deed) of the tenant in the city after the id `after`."""
        query = (
            select(audit)
            .where(audit.c.tenant == tenant, audit.c.city == city, audit.c.id > after)
            .order_by(audit.c.id)
            .limit(limit)
        )
        async with self._single.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [(row["id"], Deed(**{c.name: row[c.name] for c in _DEED})) for row in rows]


async def _put(connection: AsyncConnection, revocation: Revocation) -> None:
    """Write it at a new position; of two of the same the later instants hold.

    One after the other, so that no position shows up behind a reader who is past it.
    """
    await connection.execute(_LOCK, {"key": REVOCATIONS_LOCK})
    row = upsert(revocations).values(revocation._asdict())
    later = {
        name: func.greatest(revocations.c[name], row.excluded[name])
        for name in ("at_ms", "until_ms")
    }
    holder = [revocations.c[name] for name in ("tenant", "city", "kind", "value")]
    await connection.execute(
        row.on_conflict_do_update(index_elements=holder, set_={"id": text("DEFAULT"), **later})
    )


_LOCK = text("SELECT pg_advisory_xact_lock(:key)")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
