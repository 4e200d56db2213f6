"""Makes partitions ahead and drops what is over its age; may import asyncpg and the settings.

Days are dropped whole: no row is deleted, and nothing has to be vacuumed after them. Only answers
for retries go row by row, as a key must stay unique over days and so cannot lie in partitions, and
what is little: the audit log, revocations and dead letters.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from api.clock import DAY_MS, HOUR_MS
from api.keep import Keep
from api.store.away import telling_unavailable
from api.store.rows import day_of, events_by_id

log = structlog.get_logger(__name__)

DAYS_AHEAD = 7
FEED_STEP = 1_000_000
FEED_STEPS_AHEAD = 2
FORGET_AT_ONCE = 5_000
# How long webhooks that are behind hold a part of the feed back.
WEBHOOKS_WAIT_DAYS = 14
# Dropping locks the whole table for a moment: rather later than with writers in a queue behind it.
LOCK_LIMIT = "SET LOCAL lock_timeout = '1s'"


@dataclass(frozen=True, slots=True)
class _Cut:
    """A table cut by `key` into steps; `parts.<table>_<first key>` each, and `_rest`."""

    table: str
    key: str
    step: int


EVENTS = _Cut("events", "day", 1)
FEED = _Cut("feed", "position", FEED_STEP)
RECEIPTS = _Cut("receipts", "round_at_ms", DAY_MS)


class Housekeeping:
    """Only one process at a time should do it: the one that gives the positions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def run(self, now_ms: int, keep: Keep) -> list[str]:
        """Make, drop and forget; the names of the dropped partitions.

        Of each table at most one partition goes at a time, so that a clock that jumps ahead does
        not cost the whole history at once; PostgreSQL's clock must agree. A step that cannot have
        its lock is left for the next time. Raises one of `UNAVAILABLE` without PostgreSQL.
        """
        async with self._engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            with telling_unavailable():
                await self._make_ahead(driver, now_ms)
                now_ms = min(now_ms, await driver.fetchval(_SERVER_MS))
                dropped = await self._drop(driver, now_ms, keep)
                await self._forget(driver, now_ms, keep)
        return dropped

    async def _make_ahead(self, driver: asyncpg.Connection, now_ms: int) -> None:
        today = day_of(now_ms)
        position = await driver.fetchval("SELECT coalesce(max(position), 0) FROM heads")
        for cut, first, steps in (
            (EVENTS, today, DAYS_AHEAD),
            (RECEIPTS, today * DAY_MS, DAYS_AHEAD),
            (FEED, position // FEED_STEP * FEED_STEP, FEED_STEPS_AHEAD),
        ):
            known = await _partitions(driver, cut)
            for n in range(steps + 1):
                lower = first + n * cut.step
                if lower not in known:
                    make = "SELECT make_partition($1, $2, $3, $4)"
                    await _alter(driver, make, cut.table, cut.key, lower, lower + cut.step)

    async def _drop(self, driver: asyncpg.Connection, now_ms: int, keep: Keep) -> list[str]:
        events_from = day_of(now_ms) - keep.events_days
        receipts_from = now_ms - keep.receipts_days * DAY_MS
        # Events outlive their feed, also where it is held back.
        wait_ms = min(WEBHOOKS_WAIT_DAYS, keep.events_days - 1) * DAY_MS
        feed_before_ms = now_ms - keep.feed_hours * HOUR_MS
        feed_from = await _feed_from(driver, feed_before_ms, min(feed_before_ms, now_ms - wait_ms))
        dropped = []
        for cut, first in ((EVENTS, events_from), (RECEIPTS, receipts_from), (FEED, feed_from)):
            old = [n for n in await _partitions(driver, cut) if n + cut.step <= first]
            drop = f"DROP TABLE parts.{cut.table}_{min(old, default=0)}"
            if old and cut is FEED:
                drop = f"{_PAUSE.format(part=min(old), upper=min(old) + cut.step)}; {drop}"
            if old and await _alter(driver, drop):
                dropped.append(f"{cut.table}_{min(old)}")
            rest = f"{cut.table}_rest"
            newest = await driver.fetchval(f"SELECT max({cut.key}) FROM parts.{rest}")
            if newest is not None and newest < first:
                renew = f"DROP TABLE parts.{rest}; SELECT make_rest('{cut.table}')"
                if await _alter(driver, renew):
                    dropped.append(rest)
        if dropped:
            log.info("partitions_dropped", names=dropped)
        return dropped

    async def _forget(self, driver: asyncpg.Connection, now_ms: int, keep: Keep) -> None:
        answers_ms = now_ms - keep.answers_hours * HOUR_MS
        for table, old, before_ms in (
            ("idempotency", "FROM idempotency WHERE created_at_ms < $1", answers_ms),
            ("actions", "FROM actions WHERE created_at_ms < $1", answers_ms),
            ("audit", _OLD_AUDIT, now_ms - keep.audit_days * DAY_MS),
            ("revocations", "FROM revocations WHERE until_ms < $1", now_ms),
            (
                "webhook_dead_letters",
                "FROM webhook_dead_letters WHERE dead_at_ms < $1",
                now_ms - keep.dead_letters_days * DAY_MS,
            ),
        ):
            gone = FORGET_AT_ONCE
            while gone == FORGET_AT_ONCE:
                query = _FORGET.format(table=table, old=old)
                tag = await driver.execute(query, before_ms, FORGET_AT_ONCE)
                gone = int(tag.rpartition(" ")[2])


async def _partitions(driver: asyncpg.Connection, cut: _Cut) -> set[int]:
    """The first key of each."""
    rows = await driver.fetch(_PARTITIONS, cut.table)
    ends = (row["name"].removeprefix(f"{cut.table}_") for row in rows)
    return {int(end) for end in ends if end.isdigit()}


async def _feed_from(driver: asyncpg.Connection, before_ms: int, anyway_ms: int) -> int:
    """The first position that must be kept: a partition goes once its last event is too old.

    One that an endpoint has not delivered goes only when its last event is before `anyway_ms`.
    """
    last = await driver.fetchval("SELECT coalesce(max(position), 0) FROM heads")
    first = 0
    for lower in sorted(await _partitions(driver, FEED)):
        upper = lower + FEED_STEP
        if upper > last:
            break
        row = await driver.fetchrow(
            f"SELECT event_id, day FROM parts.feed_{lower} ORDER BY position DESC LIMIT 1"
        )
        if row is not None:
            event = (await events_by_id(driver, [row["day"]], [row["event_id"]])).values()
            at_ms = max((e["at_ms"] for e in event), default=0)
            if at_ms >= before_ms:
                break
            wanted = _WANTED.format(part=lower, upper=upper)
            if at_ms >= anyway_ms and await driver.fetchval(wanted):
                break
        first = upper
    return first


async def _alter(driver: asyncpg.Connection, statement: str, *values: object) -> bool:
    try:
        async with driver.transaction():
            await driver.execute(LOCK_LIMIT)
            await driver.execute(statement, *values)
    except (
        asyncpg.LockNotAvailableError,
        asyncpg.DeadlockDetectedError,
        asyncpg.CheckViolationError,  # a row came into the rest meanwhile: it stays there
    ) as error:
        log.warning("housekeeping_put_off", statement=statement, why=type(error).__name__)
        return False
    return True


_SERVER_MS = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"

_PARTITIONS = """
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass
"""

_LOSES = """
EXISTS (SELECT FROM parts.feed_{part} f
        WHERE f.tenant = e.tenant AND f.city = e.city AND f.position > e.cursor)
OR EXISTS (SELECT FROM webhook_behind b
           WHERE b.endpoint_id = e.id AND b.position >= {part} AND b.position < {upper})
"""

_WANTED = f"""
SELECT EXISTS (SELECT FROM webhook_endpoints e WHERE {_LOSES})
    OR EXISTS (SELECT FROM webhook_dead_letters WHERE position >= {{part}} AND position < {{upper}})
"""

# Taken from its sender, as by `resume`: its owner shall know before anything later comes.
_PAUSE = f"""
UPDATE webhook_endpoints e SET state = 'paused', epoch = epoch + 1, lease_until_ms = 0,
    paused_reason = 'feed_gone: events up to position ' || {{upper}} - 1 || ' are not kept any more'
WHERE {_LOSES}
"""

_FORGET = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid {old} LIMIT $2))
"""

# By the order of writing, whose index there is: a year of younger lines is not looked at.
_OLD_AUDIT = """
FROM (SELECT ctid, at_ms FROM audit ORDER BY id LIMIT $2) AS oldest WHERE at_ms < $1
"""
