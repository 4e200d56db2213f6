"""Partitions are made ahead and dropped over their age; writes never wait for one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from api.keep import Keep
from api.store import IdempotencyKey, Receipt, Store, migrate
from api.store.housekeeping import DAYS_AHEAD, FEED_STEP
from api.store.keys import Deed
from api.store.webhooks import Whose
from api.webhooks import make_key
from dispatch import commands as c
from dispatch.model import Order, Party
from geo.errors import InvalidValue

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
TODAY = NOW_MS // DAY_MS


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database of this test alone: partitions are not emptied between tests."""
    await migrate(database_url)
    connection = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    yield connection
    await connection.close()


@pytest.fixture
async def store(database_url: str, sql: asyncpg.Connection) -> AsyncIterator[Store]:
    opened = await Store.open(database_url)
    yield opened
    await opened.close()


async def parts(sql: asyncpg.Connection, table: str) -> set[str]:
    rows = await sql.fetch(
        "SELECT relname FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid"
        " WHERE inhparent = $1::text::regclass",
        table,
    )
    return {row["relname"].removeprefix(f"{table}_") for row in rows}


async def sequence(store: Store) -> None:
    session = await store.open_sequencing()
    assert await session.lock()
    while await session.take(500):
        pass
    await session.close()


async def where(sql: asyncpg.Connection, table: str) -> set[str]:
    rows = await sql.fetch(f"SELECT DISTINCT tableoid::regclass::text AS at FROM {table}")
    return {row["at"] for row in rows}


async def test_days_are_made_ahead(store: Store, sql: asyncpg.Connection) -> None:
    await store.housekeeping.run(NOW_MS, Keep())
    ahead = {str(TODAY + n) for n in range(DAYS_AHEAD + 1)}
    assert ahead < await parts(sql, "events")
    assert {str(int(d) * DAY_MS) for d in ahead} < await parts(sql, "receipts")
    assert await parts(sql, "feed") == {"0", str(FEED_STEP), str(2 * FEED_STEP), "rest"}
    assert await store.housekeeping.run(NOW_MS, Keep()) == []


async def test_the_events_of_an_order_lie_in_its_day(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await store.housekeeping.run(NOW_MS, Keep())
    await placed("o1")
    await store.run("o1", c.Cancel(at_ms=NOW_MS + 5 * DAY_MS, by=Party.CUSTOMER))
    assert await where(sql, "events") == {f"parts.events_{TODAY}"}


async def test_a_missing_day_does_not_stop_a_write(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    """A clock that is years ahead: its rows lie in the rest, and stay there when it is made."""
    later = NOW_MS + 9_000 * DAY_MS
    await store.create_order(new_order("o1", created_at_ms=later), later, idempotency=None)
    assert await where(sql, "events") == {"parts.events_rest"}
    await store.housekeeping.run(later, Keep())
    assert str(later // DAY_MS) not in await parts(sql, "events")
    assert str(later // DAY_MS + 1) in await parts(sql, "events")
    await store.run("o1", c.Cancel(at_ms=later, by=Party.CUSTOMER))
    await sequence(store)
    assert [p.event.seq for p in await store.events_after(0, "demo", 10)] == [1, 2, 3]


async def test_old_days_go_one_at_a_time(
    store: Store,
    sql: asyncpg.Connection,
    new_order: Callable[..., Order],
    offer: Callable[..., Any],
) -> None:
    keep = Keep(events_days=3, receipts_days=2)
    epoch = await store.leases.take("demo", "d", DAY_MS)
    assert epoch is not None
    for n in (9, 8, 2, 0):
        at_ms = NOW_MS - n * DAY_MS
        await store.housekeeping.run(at_ms, Keep(events_days=900, receipts_days=900))
        order = new_order(f"o{n}", created_at_ms=at_ms)
        placed = (await store.create_order(order, at_ms, idempotency=None)).order
        receipt = Receipt(order_id=order.id, round_at_ms=at_ms, body={})
        await store.write_plan("demo", epoch, [(order.id, offer(placed))], [receipt])
    await sequence(store)
    dropped = [await store.housekeeping.run(NOW_MS, keep) for _ in range(20)]
    assert dropped[0] == [f"events_{TODAY - 9}", f"receipts_{(TODAY - 9) * DAY_MS}"]
    assert dropped[-1] == []
    kept = await sql.fetch("SELECT DISTINCT subject_id FROM events ORDER BY 1")
    assert [r[0] for r in kept] == ["o0", "o2"]
    assert await sql.fetchval("SELECT count(*) FROM receipts") == 2  # the day of the limit is kept
    assert await sql.fetchval("SELECT count(*) FROM orders") == 4
    # Its history is gone, the order is not: it goes on, in the rest.
    ended = await store.run("o9", c.Withdraw(at_ms=NOW_MS, number=1), action_id="a")
    assert ended.refusal is None
    again = await store.run("o9", c.Withdraw(at_ms=NOW_MS, number=1), action_id="a")
    assert (again.replayed, again.order) == (True, ended.order)
    assert "parts.events_rest" in await where(sql, "events")
    assert await store.housekeeping.run(NOW_MS, keep) == ["events_rest"]
    assert await where(sql, "events") == {f"parts.events_{TODAY - n}" for n in (0, 2)}


async def test_a_clock_ahead_of_the_server_drops_nothing(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    at_ms = await sql.fetchval("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    await store.housekeeping.run(at_ms, Keep())
    before = await parts(sql, "events")
    assert await store.housekeeping.run(at_ms + 400 * DAY_MS, Keep()) == []
    assert before <= await parts(sql, "events")


async def test_a_full_part_of_the_feed_goes_with_its_last_event(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    await sequence(store)
    await sql.execute("INSERT INTO heads VALUES ('far', $1)", FEED_STEP + 5)
    hour = 3_600_000
    assert await store.housekeeping.run(NOW_MS + 71 * hour, Keep()) == []
    assert await store.housekeeping.run(NOW_MS + 73 * hour, Keep()) == ["feed_0"]
    assert await sql.fetchval("SELECT count(*) FROM feed") == 0


async def test_webhooks_that_are_behind_hold_the_feed_back_for_two_weeks(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    await sequence(store)
    await sql.execute("INSERT INTO heads VALUES ('far', $1)", FEED_STEP + 5)

    async def endpoint(name: str, city: str = "demo") -> None:
        whose, asked = Whose("default", city), {"kinds": None, "coordinate_system": "gcj02"}
        await store.webhooks.create(
            whose, name, make_key(), NOW_MS, url="u", description="", after=0, **asked
        )

    for name in ("late", "retries", "done"):
        await endpoint(name)
    await endpoint("elsewhere", city="far")
    await sql.execute("UPDATE webhook_endpoints SET cursor = 2 WHERE id <> 'late'")
    await sql.execute(
        "INSERT INTO webhook_behind VALUES ('retries', 'order', 'o1', 1, 3, NULL, 0, '')"
    )
    await store.webhooks.pause(Whose("default", "demo"), "late", "by hand")

    async def paused() -> dict[str, str]:
        rows = await sql.fetch("SELECT id, paused_reason FROM webhook_endpoints")
        return {row["id"]: row["paused_reason"] for row in rows if row["paused_reason"]}

    assert await store.housekeeping.run(NOW_MS + 4 * DAY_MS, Keep()) == []
    assert await paused() == {"late": "by hand"}
    assert await store.first_kept() == 0
    assert await store.housekeeping.run(NOW_MS + 15 * DAY_MS, Keep()) == ["feed_0"]
    assert await store.first_kept() == FEED_STEP
    reason = "feed_gone: events up to position 999999 are not kept any more"
    assert await paused() == {"late": reason, "retries": reason}
    assert (await store.webhooks.resume(Whose("default", "demo"), "late")).state == "active"


async def test_events_that_are_kept_for_less_hold_the_feed_back_for_less(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    await sequence(store)
    await sql.execute("INSERT INTO heads VALUES ('far', $1)", FEED_STEP + 5)
    whose = Whose("default", "demo")
    await store.webhooks.create(
        whose, "e1", make_key(), NOW_MS, url="u", description="", kinds=None,
        coordinate_system="gcj02", after=0,
    )  # fmt: skip
    await sql.execute("UPDATE webhook_endpoints SET cursor = 2")
    await sql.execute(
        "INSERT INTO webhook_dead_letters VALUES"
        " ('e1', 1, 1, 'order', 'o1', 1, 'placed', 9, 1, '', false)"
    )
    keep = Keep(events_days=8)
    assert await store.housekeeping.run(NOW_MS + 6 * DAY_MS, keep) == []
    assert "feed_0" in await store.housekeeping.run(NOW_MS + 8 * DAY_MS, keep)
    assert (await store.webhooks.one(whose, "e1")).state == "active"


async def test_answers_are_forgotten(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    for n in range(5):
        at_ms = NOW_MS + n * 3_600_000
        key = IdempotencyKey(client_id="anna", key=f"k{n}", body_hash="b")
        await store.create_order(new_order(f"o{n}"), at_ms, idempotency=key)
        await store.run(f"o{n}", c.Cancel(at_ms=at_ms, by=Party.CUSTOMER), action_id="a")
    await store.housekeeping.run(NOW_MS + (48 + 3) * 3_600_000, Keep())
    assert [r[0] for r in await sql.fetch("SELECT key FROM idempotency ORDER BY 1")] == ["k3", "k4"]
    assert [r[0] for r in await sql.fetch("SELECT order_id FROM actions ORDER BY 1")] == [
        "o3",
        "o4",
    ]


async def test_audit_revocations_and_dead_letters_are_forgotten(
    store: Store, sql: asyncpg.Connection
) -> None:
    server_ms = await sql.fetchval("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    ages = (401, 399, 91, 31, 29, 0)
    await store.webhooks.create(
        Whose("default", "demo"), "e1", make_key(), server_ms, url="u", description="",
        kinds=None, coordinate_system="gcj02", after=0,
    )  # fmt: skip
    for n, days in enumerate(ages):
        at_ms = server_ms - days * DAY_MS
        deed = Deed(
            at_ms=at_ms, tenant="default", city="demo", role="operator", sub="olga", key_id="",
            action="POST /v1/keys", object=f"{days}", address="::1", outcome=201,
        )  # fmt: skip
        await store.keys.note(deed)
        await sql.execute(
            "INSERT INTO webhook_dead_letters VALUES"
            " ('e1', $1, $1, 'order', 'o1', 1, 'placed', 9, $2, '', false)",
            n + 1,
            at_ms,
        )
        await sql.execute(
            "INSERT INTO revocations (tenant, city, kind, value, at_ms, until_ms)"
            " VALUES ('default', 'demo', 'token', $1, $2, $3)",
            f"{days}",
            at_ms,
            at_ms + 31 * DAY_MS,
        )
    await store.housekeeping.run(server_ms, Keep())
    deeds = await store.keys.deeds("default", "demo", 0, 10)
    assert [deed.object for _, deed in deeds] == ["399", "91", "31", "29", "0"]
    letters = await store.webhooks.dead_letters(Whose("default", "demo"), "e1", 0, 10)
    assert [ages[letter.position - 1] for letter in letters] == [29, 0]
    left = await sql.fetch("SELECT value FROM revocations ORDER BY at_ms")
    assert [row["value"] for row in left if row["value"] != "31"] == ["29", "0"]

    await store.housekeeping.run(server_ms, Keep(audit_days=90, dead_letters_days=1))
    deeds = await store.keys.deeds("default", "demo", 0, 10)
    assert [deed.object for _, deed in deeds] == ["31", "29", "0"]
    # The rest is refused, whoever asks.
    for statement in ("DELETE FROM audit WHERE object = '31'", "UPDATE audit SET outcome = 0"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute(statement)


HISTORY = """
SET session_replication_role = replica;
INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)
    SELECT 'order', 'old' || n, 1, {first} + n % 20, 'default', 'demo', {at}, 'opened', '{{}}'
    FROM generate_series(1, 100000) n;
INSERT INTO feed (position, prev_position, city, tenant, event_id, day)
    SELECT id, id - 1, city, tenant, id, day FROM events;
INSERT INTO heads SELECT 'demo', max(position) FROM feed;
RESET session_replication_role;
ANALYZE;
"""


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads as a whole."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(scanned(p) for p in plan.get("Plans", [])))


async def test_reading_looks_at_no_old_day(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    for n in range(0, 28, 7):
        await store.housekeeping.run(NOW_MS - n * DAY_MS, Keep())
    await sql.execute(HISTORY.format(first=TODAY - 20, at=NOW_MS))
    await placed("o1")
    await sequence(store)
    plans: list[dict[str, Any]] = []
    # What the server runs, as it plans it: auto_explain is not in every installation.
    for query, values in (
        (
            "SELECT * FROM feed WHERE position > $1 AND city = $2 ORDER BY position LIMIT 500",
            (99_000, "demo"),
        ),
        (
            "SELECT * FROM events WHERE day = ANY($1::integer[]) AND id = ANY($2::bigint[])",
            ([TODAY - 3], list(range(99_000, 99_500))),
        ),
        (
            "SELECT count(*) FROM events WHERE day = $1 AND subject_kind = 'order'"
            " AND subject_id = $2 AND seq > 1 AND seq <= 3",
            (TODAY - 3, "old17"),
        ),
        (
            "SELECT * FROM orders WHERE city = $1 AND state IN"
            " ('quoted', 'scheduled', 'open', 'assigned', 'under_way', 'done')",
            ("demo",),
        ),
    ):
        plan = json.loads(await sql.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *values))[0]["Plan"]
        plans.append(plan)
        assert not {t for t in scanned(plan) if t.startswith(("events", "feed"))}, plan
    read = json.dumps(plans[1])
    assert f"events_{TODAY - 3}" in read
    assert f"events_{TODAY - 4}" not in read
    found = await store.events_after(99_990, "demo", 500)
    assert [p.position for p in found] == list(range(99_991, 100_003))
    assert (await store.load_city("demo")).position == 100_002


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEXRUN_KEEP_FEED_HOURS", "47"),
        ("HEXRUN_KEEP_ANSWERS_HOURS", "23"),
        ("HEXRUN_KEEP_EVENTS_DAYS", "3"),
        ("HEXRUN_KEEP_RECEIPTS_DAYS", "0"),
        ("HEXRUN_KEEP_AUDIT_DAYS", "89"),
        ("HEXRUN_KEEP_DEAD_LETTERS_DAYS", "0"),
        ("HEXRUN_KEEP_FILES_DAYS", "-1"),
        ("HEXRUN_KEEP_FILES_DAYS", "1.5"),
    ],
)
def test_settings_that_keep_too_little(name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        Keep.from_environment({name: value})


def test_settings() -> None:
    assert Keep.from_environment({}) == Keep()
    assert Keep.from_environment({"HEXRUN_KEEP_EVENTS_DAYS": "400"}).events_days == 400
