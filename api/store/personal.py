"""Personal data in the store: encrypted rows beside orders and riders, and how they go away.

May import SQLAlchemy, the keys, the personal values and the codec. A row lives as long as its order
or rider does, then until its age or its owner ends it. Nothing here is written to a log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec
import structlog
from prometheus_client import Counter
from sqlalchemy import ARRAY, Text, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.codec import order_from_json, order_to_json
from api.data_keys import Box, KeyRing
from api.personal import (
    NOTHING,
    OrderPersonal,
    RiderPersonal,
    Sealed,
    in_the_clear,
    order_subject,
    rider_subject,
    without_texts,
)
from api.store.numbers import SandboxNumbers
from api.store.pooling import single_of
from api.store.schema import LIVE_ORDER, among, heads, personal
from dispatch.model import Order, Rider
from geo.errors import StartupError, Unreadable

TIDY_MAX = 500

_T = TypeVar("_T", OrderPersonal, RiderPersonal)
_log = structlog.get_logger(__name__)
_unreadable = Counter("hexrun_personal_unreadable", "Rows of personal data that did not open")


class Erased(NamedTuple):
    """How many rows went at once, and how many will when their order or shift has ended."""

    at_once: int
    when_ended: int


class PersonalStore:
    """Seals, finds and erases. Without keys it can only erase."""

    def __init__(
        self,
        engine: AsyncEngine,
        keys: KeyRing | None,
        numbers: SandboxNumbers,
        keep_ms: int,
    ) -> None:
        self._engine, self._single = engine, single_of(engine)
        self._ring, self._numbers = keys, numbers
        self._keep_ms = keep_ms

    @property
    def _keys(self) -> KeyRing:
        if self._ring is None:
            raise StartupError("this process was given no keys of personal data")
        return self._ring

    # --- in and out ---------------------------------------------------------------------------

    def seal_order(self, order: Order, value: OrderPersonal, at_ms: int) -> Sealed | None:
        """The order's row, to be written with it; None when there is nothing personal."""
        if value == NOTHING:
            return None
        owner = f"customer/{order.customer_id}"
        return self._seal(order_subject(order.id), order.tenant, order.city, owner, value, at_ms)

    def seal_rider(
        self, rider_id: str, tenant: str, city: str, value: RiderPersonal, at_ms: int
    ) -> Sealed:
        """The rider's row, to be written with him."""
        subject = rider_subject(rider_id)
        return self._seal(subject, tenant, city, subject, value, at_ms)

    async def merge_rider(
        self,
        connection: AsyncConnection,
        rider: Rider,
        name: str | None,
        phone: str | None,
        at_ms: int,
    ) -> None:
        """Write what is given beside what is known, in the caller's transaction.

        His row in `riders` must be locked, and his row here is from now on: an erasure comes before
        this or after it. One that waits for the end of his shift still takes what was known.
        """
        if name is None and phone is None:
            return
        mine = select(personal).where(personal.c.subject == rider_subject(rider.id))
        row = (await connection.execute(mine.with_for_update())).one_or_none()
        known = (None if row is None else self._open(row, RiderPersonal)) or RiderPersonal()
        given = RiderPersonal(
            name=known.name if name is None else name, phone=known.phone if phone is None else phone
        )
        if given == known:
            return
        erase_at_ms = None
        if row is not None and ((name is None and known.name) or (phone is None and known.phone)):
            erase_at_ms = row.erase_at_ms
        sealed = self.seal_rider(rider.id, rider.tenant, rider.city, given, at_ms)
        await put(connection, sealed, erase_at_ms)

    async def of_order(self, order: Order) -> OrderPersonal:
        """NOTHING when it is erased, was never there, or does not open (which is logged)."""
        return (await self.of_orders([order]))[order.id]

    async def of_orders(self, orders: Iterable[Order]) -> dict[str, OrderPersonal]:
        """By order id, see `of_order`. An order of before may still hold its own."""
        asked = {order_subject(order.id): order for order in orders}
        rows = await self._rows(asked)
        return {
            order.id: self._open(rows[subject], OrderPersonal) or NOTHING
            if subject in rows
            else in_the_clear(order)
            for subject, order in asked.items()
        }

    async def of_rider(self, rider_id: str) -> RiderPersonal | None:
        """None as in `of_order`."""
        rows = await self._rows([rider_subject(rider_id)])
        return next((self._open(row, RiderPersonal) for row in rows.values()), None)

    async def relay(self, number: str, caller: str, at_ms: int) -> str | None:
        """Whom the telephone side connects: the real number behind the masked one, both E.164.

        None unless the number is bound, its order is under way, and `caller` another party of it.
        """
        bound = await self._numbers.bound(number, at_ms)
        if bound is None or bound.order.assignment is None:
            return None
        rider = await self.of_rider(bound.order.assignment.rider_id)
        stops = (await self.of_order(bound.order)).stops
        phones = {f"stop:{n}": s.contact.phone for n, s in enumerate(stops) if s.contact}
        phones["rider"] = "" if rider is None else rider.phone
        wanted = phones.pop(bound.party, "")
        return wanted if wanted and caller and caller in phones.values() else None

    def _seal(
        self,
        subject: str,
        tenant: str,
        city: str,
        owner: str,
        value: OrderPersonal | RiderPersonal,
        at_ms: int,
    ) -> Sealed:
        box = self._keys.seal(subject, msgspec.json.encode(value))
        return Sealed(subject, tenant, city, owner, *box, created_at_ms=at_ms)

    async def _rows(self, subjects: Iterable[str]) -> dict[str, Any]:
        # U+0000 is in no text of the database.
        wanted = [subject for subject in subjects if "\0" not in subject]
        async with self._single.connect() as connection:
            found = await connection.execute(_OF_SUBJECTS, {"subjects": wanted})
            return {row.subject: row for row in found}

    def _open(self, row: Any, kind: type[_T]) -> _T | None:
        try:
            data = self._keys.open_box(row.subject, _box(row))
            return msgspec.json.decode(data, type=kind)
        except (Unreadable, msgspec.DecodeError):
            _unreadable.inc()
            _log.error("personal_unreadable", subject=row.subject, key_id=row.key_id)
            return None

    # --- the way out --------------------------------------------------------------------------

    async def erase(self, tenant: str, owner: str, at_ms: int) -> Erased:
        """Erase what is the owner's (`customer/<id>` or `rider/<id>`) in all cities of the tenant.

        What an order under way or a rider at work needs goes when that has ended.

        Raises:
            StartupError: an order of before is under way, and there is no key to move its own.
        """
        whose = {"tenant": tenant, "owner": owner}
        async with self._engine.begin() as connection:
            found = (await connection.execute(_UNSEALED_OF, whose)).all()
            ended = [row for row in found if row.ended]
            await self._unseal(connection, ended, keep=False)
            await self._unseal(connection, [row for row in found if not row.ended])
            gone = await connection.execute(_ERASE, whose)
            left = await connection.execute(_ERASE_LATER, {**whose, "at_ms": at_ms})
        return Erased(len(ended) + gone.rowcount, left.rowcount)

    async def erase_old(self, now_ms: int, limit: int = TIDY_MAX) -> int:
        """Erase at most `limit` rows whose time is over; how many rows this looked at or erased."""
        async with self._engine.begin() as connection:
            times = {"keep_ms": self._keep_ms, "now_ms": now_ms, "limit": limit}
            dated = await connection.execute(_DATE, times)
            gone = await connection.execute(_ERASE_OLD, {"now_ms": now_ms, "limit": limit})
        return dated.rowcount + gone.rowcount

    async def reseal(self, limit: int = TIDY_MAX) -> int:
        """Encrypt at most `limit` rows of older keys by the newest; how many it was."""
        older = self._keys.ids[:-1]
        if not older:
            return 0
        async with self._engine.begin() as connection:
            found = await connection.execute(_OLDER_KEY, {"keys": list(older), "limit": limit})
            boxes = []
            for row in found:
                try:
                    data = self._keys.open_box(row.subject, _box(row))
                except Unreadable:
                    continue
                boxes.append((row.subject, self._keys.seal(row.subject, data)))
            if boxes:
                await connection.execute(
                    _RESEAL,
                    {
                        "subjects": [subject for subject, _ in boxes],
                        "keys": [box.key_id for _, box in boxes],
                        "nonces": [box.nonce for _, box in boxes],
                        "ciphertexts": [box.ciphertext for _, box in boxes],
                    },
                )
        return len(boxes)

    async def adopt(self, limit: int = TIDY_MAX) -> int:
        """Move what at most `limit` orders of before hold in the clear; how many it was."""
        async with self._engine.begin() as connection:
            found = (await connection.execute(_UNSEALED, {"limit": limit})).all()
            await self._unseal(connection, found)
        return len(found)

    async def search(self, since_ms: int, limit: int = TIDY_MAX) -> AsyncIterator[int]:
        """List for `adopt` the orders since then that hold texts but stand in no list.

        Looks at `limit` orders at a time, and gives how many of them it has listed.
        """
        async with self._engine.connect() as connection:
            cities = (await connection.scalars(select(heads.c.city))).all()
        for city in cities:
            after: Any = (since_ms, "")
            while after is not None:
                page = {"city": city, "after_ms": after[0], "after_id": after[1], "limit": limit}
                async with self._engine.begin() as connection:
                    after = (await connection.execute(_SEARCH, page)).one_or_none()
                if after is not None:
                    yield after.listed

    async def _unseal(
        self, connection: AsyncConnection, found: Iterable[Any], *, keep: bool = True
    ) -> None:
        """Take the texts out of locked orders of before, and `keep` them as rows or not at all."""
        for row in found:
            order = order_from_json(row.body)
            sealed = None
            if keep:
                sealed = self.seal_order(order, in_the_clear(order), order.created_at_ms)
            if sealed is not None:
                await put(connection, sealed, replace=False)
            bare = order_to_json(without_texts(order))
            await connection.execute(_BARE, {"id": order.id, "body": bare})

    async def tidy(self, now_ms: int) -> int:
        """One round of all that is due; asks to be called again at once while it is not 0."""
        await self._numbers.release_ended(now_ms)
        return await self.adopt() + await self.reseal() + await self.erase_old(now_ms)

    async def keys_in_use(self) -> dict[str, int]:
        """Rows by key id."""
        query = select(personal.c.key_id, func.count()).group_by(personal.c.key_id)
        async with self._single.connect() as connection:
            return {key_id: n for key_id, n in await connection.execute(query)}


async def put(
    connection: AsyncConnection,
    sealed: Sealed,
    erase_at_ms: int | None = None,
    *,
    replace: bool = True,
) -> None:
    """Write the row, in the caller's transaction; by default it replaces what was there."""
    values = sealed._asdict()
    row = insert(personal).values(**values, erase_at_ms=erase_at_ms)
    if not replace:
        await connection.execute(row.on_conflict_do_nothing())
        return
    changed = {name: row.excluded[name] for name in (*values, "erase_at_ms") if name != "subject"}
    await connection.execute(
        row.on_conflict_do_update(index_elements=[personal.c.subject], set_=changed)
    )


def _box(row: Any) -> Box:
    return Box(row.key_id, row.nonce, row.ciphertext)


_OF_SUBJECTS = select(personal).where(
    personal.c.subject == func.any(bindparam("subjects", type_=ARRAY(Text)))
)

# Both prefixes, `order/` and `rider/`, have six characters.
_HAS_ENDED = f"""
CASE WHEN p.subject LIKE 'order/%' THEN NOT EXISTS (
    SELECT FROM orders AS o WHERE o.id = substr(p.subject, 7) AND {among("o.state", LIVE_ORDER)})
ELSE NOT EXISTS (SELECT FROM riders AS r WHERE r.id = substr(p.subject, 7) AND r.state = 'on')
    AND NOT EXISTS (SELECT FROM orders AS o WHERE o.rider_id = substr(p.subject, 7))
END
"""

_ERASE = text(f"""
DELETE FROM personal AS p WHERE p.tenant = :tenant AND p.owner = :owner AND {_HAS_ENDED}
""")

_ERASE_LATER = text("""
UPDATE personal SET erase_at_ms = :at_ms WHERE tenant = :tenant AND owner = :owner
""")

# An order's last event, the one of its version, ended it.
_DATE = text(f"""
UPDATE personal AS p
SET erase_at_ms = :keep_ms + COALESCE((
    SELECT e.at_ms FROM events AS e
    WHERE e.subject_kind = 'order' AND e.subject_id = n.id AND e.seq = n.version), :now_ms)
FROM (
    SELECT k.subject, o.id, o.version FROM personal AS k
    JOIN orders AS o ON o.id = substr(k.subject, 7)
    WHERE k.erase_at_ms IS NULL AND k.subject LIKE 'order/%'
      AND NOT {among("o.state", LIVE_ORDER)}
    LIMIT :limit
) AS n
WHERE p.subject = n.subject AND p.erase_at_ms IS NULL
""")

_ERASE_OLD = text(f"""
DELETE FROM personal WHERE subject = ANY (ARRAY(
    SELECT p.subject FROM personal AS p WHERE p.erase_at_ms <= :now_ms AND {_HAS_ENDED}
    ORDER BY p.erase_at_ms LIMIT :limit))
""")

_OLDER_KEY = text("""
SELECT subject, key_id, nonce, ciphertext FROM personal
WHERE key_id = ANY (CAST(:keys AS text[]))
LIMIT :limit FOR UPDATE SKIP LOCKED
""")

_RESEAL = text("""
UPDATE personal AS p SET key_id = n.key_id, nonce = n.nonce, ciphertext = n.ciphertext
FROM unnest(CAST(:subjects AS text[]), CAST(:keys AS text[]), CAST(:nonces AS bytea[]),
            CAST(:ciphertexts AS bytea[])) AS n(subject, key_id, nonce, ciphertext)
WHERE p.subject = n.subject
""")

_UNSEALED = text("""
WITH batch AS (
    DELETE FROM unsealed WHERE order_id = ANY (ARRAY(
        SELECT order_id FROM unsealed LIMIT :limit FOR UPDATE SKIP LOCKED))
    RETURNING order_id
)
SELECT o.body FROM orders AS o JOIN batch ON batch.order_id = o.id
ORDER BY o.id FOR UPDATE OF o
""")

# Pages by the index of cities and days. An order without a first event is in no city's head yet.
_SEARCH = text("""
WITH page AS MATERIALIZED (
    SELECT id, created_at_ms, body FROM orders
    WHERE city = :city AND (created_at_ms, id) > (:after_ms, :after_id)
    ORDER BY created_at_ms, id LIMIT :limit
),
found AS (
    INSERT INTO unsealed
    SELECT id FROM page
    WHERE jsonb_path_exists(body, '$.note ? (@ != "")')
       OR jsonb_path_exists(body, '$.stops[*].place.text ? (@ != "")')
    ON CONFLICT DO NOTHING RETURNING order_id
)
SELECT created_at_ms, id, (SELECT count(*) FROM found) AS listed FROM page
ORDER BY created_at_ms DESC, id DESC LIMIT 1
""")

# The list before the orders, as above: two that take both cannot wait for each other. Who finds
# the list empty because it is being worked off waits for that, and then finds the rows.
_UNSEALED_OF = text(f"""
WITH batch AS (
    DELETE FROM unsealed WHERE order_id = ANY (ARRAY(
        SELECT u.order_id FROM unsealed AS u JOIN orders AS o ON o.id = u.order_id
        WHERE o.tenant = :tenant AND 'customer/' || o.customer_id = :owner
        ORDER BY u.order_id FOR UPDATE OF u))
    RETURNING order_id
)
SELECT o.body, NOT {among("o.state", LIVE_ORDER)} AS ended
FROM orders AS o JOIN batch ON batch.order_id = o.id ORDER BY o.id FOR UPDATE OF o
""")

_BARE = text("UPDATE orders SET body = CAST(:body AS jsonb) WHERE id = :id")
