"""The sequencer's side of PostgreSQL: one session with the lock, the wake-ups and the positions.

May import asyncpg, the codec and the store's values. It speaks asyncpg itself, since lock,
notifications and transactions must be on one and the same session.
"""

from __future__ import annotations

import asyncio

import asyncpg
from sqlalchemy.engine import URL

from api.store.away import telling_unavailable
from api.store.connecting import ANSWER_LIMIT_S, CONNECT_LIMIT_S, SESSION
from api.store.rows import event_from_row, events_by_id
from api.store.values import Positioned

CHANNEL = "hexrun_outbox"
WAKE_UP = f"NOTIFY {CHANNEL}"
# Any number that no other program uses as an advisory lock in this database.
SEQUENCER_LOCK = 0x6865_7872_0002
# Of no city: a head from which the positions of all cities go on, set by a restore.
NOWHERE = ""
_SEQUENCER = {"application_name": "hexrun sequencer"}


class Sequencing:
    """A session that may give positions once it has the lock; as long as it lives, no other may.

    The positions are written on the session that holds the lock: when it is lost, so is the
    transaction, and two sequencers can never write side by side. Every method but `close` raises
    Unavailable when the session is lost or the server away.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._woken = asyncio.Event()

    @classmethod
    async def open(cls, url: URL) -> Sequencing:
        """Connect."""
        dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with telling_unavailable():
            return cls(
                await asyncpg.connect(
                    dsn,
                    timeout=CONNECT_LIMIT_S,
                    command_timeout=ANSWER_LIMIT_S,
                    server_settings=SESSION | _SEQUENCER,
                )
            )

    async def close(self) -> None:
        """Give the lock up. Never raises."""
        try:
            await self._connection.close(timeout=2.0)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._connection.terminate()

    async def lock(self) -> bool:
        """Take the lock if it is free; from then on listen for wake-ups.

        Tried again and again by whoever stands by: a waiting statement would hold a snapshot and
        keep the whole database from being vacuumed.
        """
        with telling_unavailable(self._connection):
            got: bool = await self._connection.fetchval(
                "SELECT pg_try_advisory_lock($1)", SEQUENCER_LOCK
            )
            if got:
                await self._connection.add_listener(CHANNEL, lambda *_: self._woken.set())
        return got

    async def wait(self, timeout_s: float) -> None:
        """Until somebody has written to the outbox, `timeout_s` at most."""
        try:
            # Not `wait_for`: Python 3.11's loses a cancellation that comes with the wake-up.
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()

    async def take(self, limit: int) -> list[Positioned]:
        """Give the next positions to at most `limit` committed events of the outbox.

        An event that commits late comes later, and nothing is skipped; the events of one order
        keep their order, because their ids grow with their seq and the earlier one is committed
        before the later one is written. Empties the outbox in the same transaction.
        """
        connection = self._connection
        with telling_unavailable():
            async with connection.transaction():
                with telling_unavailable(connection):
                    return await self._take(limit)

    async def _take(self, limit: int) -> list[Positioned]:
        connection = self._connection
        outbox = await connection.fetch(_TAKE, limit)
        if not outbox:
            return []
        days, ids = [r["day"] for r in outbox], [r["event_id"] for r in outbox]
        known = await events_by_id(connection, days, ids)
        taken = [known[event_id] for event_id in sorted(known)]
        heads = {r["city"]: r["position"] for r in await connection.fetch(_HEADS)}
        last = max(heads.values(), default=0)
        placed = []
        for position, row in enumerate(taken, last + 1):
            city = row["city"]
            placed.append(
                Positioned(
                    position=position,
                    prev_position=heads.get(city, 0),
                    city=city,
                    event=event_from_row(row),
                )
            )
            heads[city] = position
        await connection.execute(
            _APPEND,
            [p.position for p in placed],
            [p.prev_position for p in placed],
            [p.city for p in placed],
            [row["tenant"] for row in taken],
            [row["id"] for row in taken],
            [row["day"] for row in taken],
        )
        touched = sorted({p.city for p in placed})
        await connection.execute(_MOVE_HEADS, touched, [heads[city] for city in touched])
        return placed

    async def waiting(self) -> int:
        """How many events have no position yet."""
        with telling_unavailable():
            return int(await self._connection.fetchval("SELECT count(*) FROM outbox"))

    async def heads(self) -> dict[str, int]:
        """The last position of every city."""
        with telling_unavailable(self._connection):
            found = await self._connection.fetch(_HEADS)
        return {r["city"]: r["position"] for r in found if r["city"] != NOWHERE}


_TAKE = """
DELETE FROM outbox
WHERE event_id = ANY (ARRAY(SELECT event_id FROM outbox ORDER BY event_id LIMIT $1))
RETURNING event_id, day
"""

_HEADS = "SELECT city, position FROM heads"

_APPEND = """
INSERT INTO feed (position, prev_position, city, tenant, event_id, day)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[],
                     $6::integer[])
"""

_MOVE_HEADS = """
INSERT INTO heads (city, position) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (city) DO UPDATE SET position = excluded.position
"""
