"""What the database itself refuses, whoever writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

ASSIGNMENT = (
    "INSERT INTO assignments (order_id, number, rider_id, state, offered_at_ms, deadline_ms, route)"
    " VALUES ('o1', {}, 'rob', '{}', 0, 1, '[]')"
)
# No triggers for one statement: what only constraints and indexes refuse.
AS_REPLICA = "SET LOCAL session_replication_role = replica; "


async def test_a_second_live_assignment_is_refused(
    sql: asyncpg.Connection, accepted: Callable[..., Any]
) -> None:
    await accepted("o1")
    for state in ("offered", "accepted", "active"):
        with pytest.raises(asyncpg.UniqueViolationError, match="assignments_one_live"):
            await sql.execute(AS_REPLICA + ASSIGNMENT.format(2, state))
    for number, state in enumerate(("declined", "timed_out", "withdrawn", "dropped"), 2):
        await sql.execute(AS_REPLICA + ASSIGNMENT.format(number, state))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET at_ms = 0",
        "DELETE FROM events",
        "DELETE FROM events WHERE kind = 'opened'",
        "TRUNCATE events",
    ],
)
async def test_what_happened_cannot_be_changed(
    sql: asyncpg.Connection, placed: Callable[..., Any], statement: str
) -> None:
    await placed("o1")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await sql.execute(statement)
    assert await sql.fetchval("SELECT count(*) FROM events") == 2


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE orders SET state = 'lost'", "orders_state"),
        ("UPDATE orders SET price_fen = -1", "orders_price"),
        ("UPDATE orders SET version = 0", "orders_version"),
        ("UPDATE assignments SET state = 'lost'", "assignments_state"),
        ("UPDATE assignments SET number = 0", "assignments_number"),
        ("INSERT INTO riders VALUES ('r', 't', 'c', 'asleep', 0, '{}')", "riders_state"),
        ("INSERT INTO feed VALUES (5, 5, 'c', 't', 1, 0)", "feed_prev"),
    ],
)
async def test_illegal_values_are_refused(
    sql: asyncpg.Connection, accepted: Callable[..., Any], statement: str, constraint: str
) -> None:
    await accepted("o1")
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await sql.execute(AS_REPLICA + statement)


async def test_an_event_happens_once(sql: asyncpg.Connection, placed: Callable[..., Any]) -> None:
    await placed("o1")
    with pytest.raises(asyncpg.UniqueViolationError, match="subject_id, seq"):
        await sql.execute(
            "INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind,"
            " body) SELECT 'order', 'o1', 2, day, 'default', 'demo', 0, 'opened', '{}' FROM events"
            " LIMIT 1"
        )
