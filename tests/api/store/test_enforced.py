"""The database moves as the engine's tables do, keeps histories whole and money in balance."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import asyncpg
import pytest

from api.store import Store
from dispatch import commands as c
from dispatch.lifecycle import ASSIGNMENT, ORDER, Machine
from dispatch.model import AssignmentState, OrderState, Party, Place, Rider

NOW_MS = 1_790_000_000_000
DAY = NOW_MS // 86_400_000
HERE = Place(lat=31.23, lon=121.47)


@asynccontextmanager
async def undone(sql: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back."""
    transaction = sql.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def in_one_transaction(sql: asyncpg.Connection, statements: list[str]) -> None:
    async with sql.transaction():
        for statement in statements:
            await sql.execute(statement)


async def moves_of(
    sql: asyncpg.Connection, table: str, states: type[StrEnum], machine: Machine[Any]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The pairs of states that the database lets a row pass, and those of the engine's table."""
    passed = set()
    for a, b in itertools.product(states, states):
        async with undone(sql):
            await sql.execute("SET LOCAL session_replication_role = replica")
            await sql.execute(f"UPDATE {table} SET state = $1", a.value)
            await sql.execute("SET LOCAL session_replication_role = origin")
            try:
                version = ", version = version + 1" if table == "orders" else ""
                await sql.execute(f"UPDATE {table} SET state = $1{version}", b.value)
            except asyncpg.CheckViolationError as error:
                assert f"no move from {a} to {b}" in str(error)  # noqa: PT017
            else:
                passed.add((a.value, b.value))
    legal = {(a.value, b.value) for (a, _), b in machine.table.items()}
    return passed, legal | {(s.value, s.value) for s in states}


async def test_orders_move_as_the_table_says(
    sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    await placed("o1")
    passed, legal = await moves_of(sql, "orders", OrderState, ORDER)
    assert passed == legal


async def test_attempts_move_as_the_table_says(
    sql: asyncpg.Connection, accepted: Callable[..., Any]
) -> None:
    await accepted("o1")
    passed, legal = await moves_of(sql, "assignments", AssignmentState, ASSIGNMENT)
    assert passed == legal


async def test_first_states(sql: asyncpg.Connection, placed: Callable[..., Any]) -> None:
    """An order is stored when it is placed: one move after its first state."""
    await placed("o1")
    entered: dict[str, set[str]] = {"orders": set(), "assignments": set()}
    order = (
        "INSERT INTO orders (id, tenant, city, state, version, job_type, customer_id, merchant_id,"
        " price_fen, created_at_ms, expires_at_ms, promise_to_ms, body) SELECT 'o2', tenant, city,"
        " $1, version, job_type, customer_id, merchant_id, price_fen, created_at_ms, expires_at_ms,"
        " promise_to_ms, body FROM orders"
    )
    attempt = "INSERT INTO assignments VALUES ('o1', 1, 'rob', $1, 0, 1, '[]')"
    for table, insert, states in (
        ("orders", order, OrderState),
        ("assignments", attempt, AssignmentState),
    ):
        for state in states:
            async with undone(sql):
                try:
                    await sql.execute(insert, state.value)
                except asyncpg.CheckViolationError as error:
                    assert f"no move from nothing to {state}" in str(error)  # noqa: PT017
                else:
                    entered[table].add(state.value)
    assert entered["orders"] == {b.value for (a, _), b in ORDER.table.items() if a is ORDER.first}
    assert entered["assignments"] == {ASSIGNMENT.first.value}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM orders",
        "TRUNCATE orders CASCADE",
        "UPDATE orders SET tenant = 'else'",
        "UPDATE orders SET city = 'else'",
        "UPDATE orders SET customer_id = 'else'",
        "UPDATE orders SET created_at_ms = 0",
        "UPDATE orders SET price_fen = price_fen + 1",
        "UPDATE orders SET state = 'under_way'",
        "UPDATE orders SET rider_id = 'rob'",
        "UPDATE orders SET version = version - 1",
        "UPDATE assignments SET rider_id = 'rob'",
        "UPDATE transfers SET fen = fen + 1",
        "DELETE FROM transfers",
        "TRUNCATE transfers",
        "DELETE FROM parts.events_rest",
        "TRUNCATE parts.events_rest",
        "INSERT INTO parts.events_rest OVERRIDING SYSTEM VALUE SELECT * FROM events",
    ],
)
async def test_what_is_written_for_good(
    sql: asyncpg.Connection, accepted: Callable[..., Any], statement: str
) -> None:
    await accepted("o1")
    before = await sql.fetch("SELECT * FROM orders, transfers")
    with pytest.raises(asyncpg.RestrictViolationError):
        await sql.execute(statement)
    assert await sql.fetch("SELECT * FROM orders, transfers") == before


EVENT = (
    "INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)"
    " VALUES ('{kind}', '{id}', {seq}, {day}, '{tenant}', 'demo', 0, 'heading', '{{}}')"
)


def event(
    seq: int, day: int = DAY, kind: str = "order", tenant: str = "default", id: str = "o1"
) -> str:
    return EVENT.format(kind=kind, id=id, seq=seq, day=day, tenant=tenant)


UNDER_WAY = "UPDATE orders SET state = 'under_way', version = version + {}"


@pytest.mark.parametrize(
    "statements",
    [
        [UNDER_WAY.format(1)],  # the row without its event
        [UNDER_WAY.format(2), event(5)],  # one event of two
        [UNDER_WAY.format(2), event(6)],  # a gap
        [event(5)],  # the event without the row
        [UNDER_WAY.format(1), event(5), event(6)],  # one too many
        [UNDER_WAY.format(1), event(5, day=DAY + 1)],  # another day than the order's
        [UNDER_WAY.format(1), event(5, tenant="else")],
        [event(1, kind="rider", id="nobody")],
        [event(1, id="nobody")],
    ],
)
async def test_rows_and_events_go_together(
    sql: asyncpg.Connection, accepted: Callable[..., Any], statements: list[str]
) -> None:
    before = (await accepted("o1")).version
    assert before == 4
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await in_one_transaction(sql, statements)
    assert await sql.fetchval("SELECT version FROM orders") == before
    assert await sql.fetchval("SELECT count(*) FROM events") == before
    async with sql.transaction():
        await sql.execute(UNDER_WAY.format(2))
        await sql.execute(event(5))
        await sql.execute(event(6))


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE riders SET state = 'off', version = 2"],
        ["UPDATE riders SET state = 'off'"],
        [f"UPDATE riders SET day = {DAY + 1}"],
        ["UPDATE riders SET version = 3", event(3, kind="rider", id="rita")],
        [event(1, kind="rider", id="rita")],
        [f"UPDATE riders SET version = 2, day = {DAY + 1}", event(2, kind="rider", id="rita")],
    ],
)
async def test_riders_and_their_events_go_together(
    store: Store, sql: asyncpg.Connection, statements: list[str]
) -> None:
    await store.register_rider(Rider(id="rita", city="demo"))
    on = c.GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=HERE)
    await store.run_rider("rita", on)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await in_one_transaction(sql, statements)
    off = await store.run_rider("rita", c.GoOffShift(at_ms=NOW_MS + 86_400_000))
    assert off.rider.version == 2
    days = await sql.fetch("SELECT day FROM events ORDER BY seq")
    assert [r["day"] for r in days] == [DAY, DAY + 1]


TRANSFER = "INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms) VALUES "


@pytest.mark.parametrize(
    "row",
    [
        "('o1', 'hold', 'customer/default/anna', 'escrow/default', {fen}, 0)",  # a second one
        "('o1', 'capture', 'escrow/default', 'sales/default', {fen} - 1, 0)",
        "('o1', 'release', 'escrow/default', 'customer/default/bob', {fen}, 0)",
        "('o1', 'capture', 'escrow/else', 'sales/default', {fen}, 0)",
        "('o2', 'capture', 'escrow/default', 'sales/default', {fen}, 0)",  # nothing was held
        "('o2', 'hold', 'customer/default/anna', 'escrow/default', {fen}, 0)",  # no such order
        "('o1', 'capture', 'customer/default/anna', 'sales/default', {fen}, 0)",
        "('o1', 'gift', 'escrow/default', 'sales/default', {fen}, 0)",
        "(NULL, 'payment', 'gateway/wechat', 'customer/default/anna', 0, 0)",
        "(NULL, 'capture', 'escrow/default', 'sales/default', {fen}, 0)",
    ],
)
async def test_money_that_does_not_add_up_is_refused(
    sql: asyncpg.Connection, placed: Callable[..., Any], row: str
) -> None:
    order = await placed("o1")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await sql.execute(TRANSFER + row.format(fen=order.price_fen))
    assert await sql.fetchval("SELECT count(*) FROM transfers") == 1


END = (
    "UPDATE orders SET state = '{}', version = version + 1 WHERE id = 'o1'",
    event(3),
)
CAPTURE = TRANSFER + "('o1', 'capture', 'escrow/default', 'sales/default', {fen}, 0)"
RELEASE = TRANSFER + "('o1', 'release', 'escrow/default', 'customer/default/anna', {fen}, 0)"
COPY = (
    "INSERT INTO orders (id, tenant, city, state, version, job_type, customer_id, merchant_id,"
    " price_fen, created_at_ms, expires_at_ms, promise_to_ms, body) SELECT 'o2', tenant, city,"
    " 'open', 1, job_type, customer_id, merchant_id, {price}, created_at_ms, expires_at_ms,"
    " promise_to_ms, body FROM orders"
)


@pytest.mark.parametrize(
    "statements",
    [
        [CAPTURE],  # it is open
        [RELEASE],
        [END[0].format("cancelled_system"), END[1]],  # what was held is not given back
        [END[0].format("expired"), END[1], CAPTURE],  # taken for what was not done
        [COPY.format(price="price_fen"), event(1, id="o2")],  # placed without a hold
    ],
)
async def test_money_that_moves_at_another_time_is_refused(
    sql: asyncpg.Connection, placed: Callable[..., Any], statements: list[str]
) -> None:
    order = await placed("o1")
    asked = [statement.replace("{fen}", str(order.price_fen)) for statement in statements]
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await in_one_transaction(sql, asked)
    assert await sql.fetchval("SELECT count(*) FROM transfers") == 1
    assert await sql.fetchval("SELECT state FROM orders") == "open"


async def test_money_at_its_time(sql: asyncpg.Connection, placed: Callable[..., Any]) -> None:
    """In any order of the statements; and what costs nothing moves none."""
    fen = (await placed("o1")).price_fen
    await in_one_transaction(sql, [COPY.format(price=0), event(1, id="o2")])
    release = RELEASE.replace("{fen}", str(fen))
    await in_one_transaction(sql, [END[0].format("expired"), release, END[1]])
    assert await sql.fetchval("SELECT count(*) FROM transfers") == 2


async def test_completed_only_with_its_capture(
    store: Store, sql: asyncpg.Connection, accepted: Callable[..., Any]
) -> None:
    order = await accepted("o1")
    for stop in (0, 1):
        for asked in (c.Arrive, c.FinishStop):
            done = await store.run("o1", asked(at_ms=NOW_MS, rider_id="rita", stop=stop))
            assert done.refusal is None
    completed = [END[0].format("completed"), event(done.order.version + 1)]
    for ends in ([], [RELEASE.replace("{fen}", str(order.price_fen))]):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await in_one_transaction(sql, [*completed, *ends])
    await in_one_transaction(sql, [*completed, CAPTURE.replace("{fen}", str(order.price_fen))])


async def test_an_order_is_settled_once(
    store: Store, sql: asyncpg.Connection, placed: Callable[..., Any]
) -> None:
    fen = (await placed("o1")).price_fen
    await store.run("o1", c.Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))
    with pytest.raises(asyncpg.UniqueViolationError, match="transfers_one_end"):
        await sql.execute(
            TRANSFER + f"('o1', 'capture', 'escrow/default', 'sales/default', {fen}, 0)"
        )
