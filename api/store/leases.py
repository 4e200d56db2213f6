"""Who dispatches: the running dispatchers by heartbeat, and the lease of each city.

A city's lease lets exactly one owner write its plans: each one that takes it gets a higher epoch.
PostgreSQL's own clock says what is over, so no process's clock matters. May import SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.store.schema import leases
from geo.errors import StaleEpoch

FORGET_MS = 60_000
FROZEN_MS = 2_000
"""A process that stops in the middle of a transaction holds its locks for so long: less than a
lease, or nobody could take its cities over."""

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

_WHEN_FROZEN = func.set_config("idle_in_transaction_session_timeout", str(FROZEN_MS), True)
_NO_WAIT_FOR_DISK = func.set_config("synchronous_commit", "off", True)

# A plan under way holds the row by FOR KEY SHARE: taking waits for it, renewing does not.
_WAIT = text("SELECT 1 FROM leases WHERE city = :city FOR UPDATE")
_TAKE = text(f"""
INSERT INTO leases AS held (city, epoch, owner, expires_at_ms)
VALUES (:city, 1, :owner, {_NOW} + :ttl_ms)
ON CONFLICT (city) DO UPDATE
SET epoch = held.epoch + 1, owner = excluded.owner, expires_at_ms = excluded.expires_at_ms
WHERE held.expires_at_ms <= {_NOW}
RETURNING epoch
""")

_BEAT = text(f"""
WITH clock AS MATERIALIZED (SELECT {_NOW} AS now_ms),
me AS (
    INSERT INTO members (name, expires_at_ms, cities)
    SELECT :name, now_ms + :ttl_ms, CAST(:serves AS text[]) FROM clock
    ON CONFLICT (name) DO UPDATE
    SET expires_at_ms = excluded.expires_at_ms, cities = excluded.cities
),
gone AS (
    DELETE FROM members USING clock
    WHERE name <> :name AND expires_at_ms < now_ms - :forget_ms
),
kept AS (
    UPDATE leases SET expires_at_ms = now_ms + :ttl_ms
    FROM clock, unnest(CAST(:cities AS text[]), CAST(:epochs AS bigint[])) AS mine(city, epoch)
    WHERE leases.city = mine.city AND leases.epoch = mine.epoch AND leases.owner = :name
    AND leases.expires_at_ms > 0
    RETURNING leases.city
)
SELECT 'kept' AS kind, city AS name, CAST(NULL AS text[]) AS cities FROM kept
UNION ALL
SELECT 'member', name, cities FROM members, clock WHERE expires_at_ms > now_ms AND name <> :name
UNION ALL
SELECT 'held', city, NULL FROM leases, clock WHERE expires_at_ms > now_ms
""")


@dataclass(frozen=True, slots=True)
class Beat:
    """What stood at a heartbeat: the live members with the asker and the cities that each serves
    (None: all), the asked-for cities whose lease goes on, and all cities whose lease somebody held
    when it came."""

    members: Mapping[str, frozenset[str] | None]
    kept: frozenset[str]
    held: frozenset[str]

    def serving(self, city: str) -> frozenset[str]:
        """The live members who serve the city."""
        return frozenset(
            m for m, serves in self.members.items() if serves is None or city in serves
        )


class Leases:
    """Members and leases. Every method raises one of `UNAVAILABLE` without PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def beat(
        self,
        name: str,
        epochs: Mapping[str, int],
        ttl_ms: int,
        serves: Collection[str] | None = None,
    ) -> Beat:
        """Be a member who `serves` these cities, and hold those of `epochs`, for another `ttl_ms`.

        A lease that was over and that nobody has taken goes on, unless it was released.
        """
        values = {
            "name": name,
            "ttl_ms": ttl_ms,
            "forget_ms": FORGET_MS,
            "cities": list(epochs),
            "epochs": list(epochs.values()),
            "serves": None if serves is None else sorted(serves),
        }
        members = {name: None if serves is None else frozenset(serves)}
        found: dict[str, set[str]] = {"kept": set(), "held": set()}
        async with self._engine.begin() as connection:
            # What a crash of the server may lose of this is a heartbeat: no need to wait for disks.
            await connection.execute(select(_WHEN_FROZEN, _NO_WAIT_FOR_DISK))
            for kind, what, cities in await connection.execute(_BEAT, values):
                if kind == "member":
                    members[what] = None if cities is None else frozenset(cities)
                else:
                    found[kind].add(what)
        return Beat(members, frozenset(found["kept"]), frozenset(found["held"]))

    async def leave(self, name: str) -> None:
        """Be a member no longer; leases are released on their own."""
        async with self._engine.begin() as connection:
            await connection.execute(text("DELETE FROM members WHERE name = :name"), {"name": name})

    async def take(self, city: str, owner: str, ttl_ms: int) -> int | None:
        """The new epoch if the city's lease was free or over, else None.

        Also None for who has it: an `owner` that starts again waits, or takes another name.
        """
        values = {"city": city, "owner": owner, "ttl_ms": ttl_ms}
        async with self._engine.begin() as connection:
            await connection.execute(select(_WHEN_FROZEN))
            await connection.execute(_WAIT, {"city": city})
            epoch = (await connection.execute(_TAKE, values)).scalar_one_or_none()
        return None if epoch is None else int(epoch)

    async def release(self, city: str, owner: str, epoch: int) -> None:
        """Let the next one take it at once; does nothing when it is not ours."""
        change = (
            update(leases)
            .where(leases.c.city == city, leases.c.owner == owner, leases.c.epoch == epoch)
            .values(expires_at_ms=0)
        )
        async with self._engine.begin() as connection:
            await connection.execute(change)


async def hold(connection: AsyncConnection, city: str, epoch: int) -> None:
    """Hold the lease until the transaction ends: who takes the city over waits for it.

    Raises StaleEpoch when another one has taken it.
    """
    current = await connection.scalar(
        select(leases.c.epoch, _WHEN_FROZEN)
        .where(leases.c.city == city)
        .with_for_update(read=True, key_share=True)
    )
    if current != epoch:
        raise StaleEpoch(city, epoch, current)
