"""Personal rows: written with their order, encrypted again, erased on request and by age."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from api.codec import decode_fact, order_from_json, order_to_json, rider_to_json, to_json_text
from api.data_keys import KeyRing
from api.personal import (
    NOTHING,
    Contact,
    OrderPersonal,
    RiderPersonal,
    StopPersonal,
    in_the_clear,
    without_texts,
)
from api.store import Store, migrate
from api.store.migrate import MIGRATIONS, asyncpg_url
from api.store.schema import metadata
from dispatch.commands import Cancel, GoOffShift, GoOnShift
from dispatch.events import Placed, ReturnAdded, WentOffShift, WentOnShift, kind_of
from dispatch.model import Order, OrderState, Party, Place, Rider
from geo.errors import Conflict, StartupError

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
OWN = OrderPersonal(
    stops=(
        StopPersonal(text="Frobozz Lane 4711"),
        StopPersonal(contact=Contact(name="Quuxolina", phone="+8613977735557")),
    ),
    note="Fnord",
)
MARKERS = ("Frobozz", "Quuxolina", "13977735557", "Fnord")


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "data-keys")


@pytest.fixture
async def store(migrated_url: str, sql: asyncpg.Connection, ring: KeyRing) -> AsyncIterator[Store]:
    """A store with keys on the emptied database."""
    opened = await Store.open(migrated_url, data_keys=ring)
    yield opened
    await opened.close()


@pytest.fixture
def place(store: Store, new_order: Callable[..., Order]) -> Callable[..., Any]:
    """Place an order with personal data."""

    async def make(order_id: str, own: OrderPersonal = OWN, **changes: Any) -> Order:
        order = new_order(order_id, **changes)
        sealed = store.personal.seal_order(order, own, NOW_MS)
        done = await store.create_order(order, NOW_MS, idempotency=None, personal=sealed)
        return done.order

    return make


async def cancel(store: Store, order_id: str, at_ms: int = NOW_MS) -> None:
    done = await store.run(order_id, Cancel(at_ms=at_ms, by=Party.CUSTOMER, reason=""))
    assert done.refusal is None


async def subjects(sql: asyncpg.Connection) -> list[str]:
    return [r["subject"] for r in await sql.fetch("SELECT subject FROM personal ORDER BY subject")]


# --- in and out ---------------------------------------------------------------------------------


async def test_they_are_written_with_the_order_and_not_in_the_clear(
    store: Store, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    order = await place("a")
    assert await store.personal.of_order(order) == OWN
    row = await sql.fetchrow("SELECT * FROM personal")
    assert (row["subject"], row["owner"], row["erase_at_ms"]) == ("order/a", "customer/anna", None)
    for table in ("personal", "orders", "events"):
        for found in await sql.fetch(f"SELECT t::text AS text FROM {table} AS t"):
            for marker in MARKERS:
                assert marker not in found["text"]
                assert marker.encode().hex() not in found["text"]


async def test_an_order_that_is_not_placed_leaves_no_row(
    sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    await place("a", NOTHING)
    assert await subjects(sql) == []
    with pytest.raises(Conflict):
        await place("a")
    assert await subjects(sql) == []


async def test_many_are_read_at_once(store: Store, place: Callable[..., Any]) -> None:
    orders = [await place("a"), await place("b", NOTHING)]
    assert await store.personal.of_orders(orders) == {"a": OWN, "b": NOTHING}
    assert await store.personal.of_orders([]) == {}


async def test_rows_that_were_swapped_do_not_open(
    store: Store, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    a, b = await place("a"), await place("b", OrderPersonal(note="of b"))
    await sql.execute(
        "UPDATE personal AS p SET nonce = o.nonce, ciphertext = o.ciphertext FROM personal AS o"
        " WHERE p.subject <> o.subject"
    )
    with capture_logs() as lines:
        assert await store.personal.of_orders([a, b]) == {"a": NOTHING, "b": NOTHING}
    assert [line["event"] for line in lines] == ["personal_unreadable"] * 2
    assert {line["subject"] for line in lines} == {"order/a", "order/b"}


async def test_a_store_without_keys_shows_nothing(
    store: Store, migrated_url: str, place: Callable[..., Any]
) -> None:
    order = await place("a")
    bare = await Store.open(migrated_url)
    try:
        with pytest.raises(StartupError, match="no keys"):
            await bare.personal.of_order(order)
        assert (await bare.personal.erase("default", "customer/anna", NOW_MS)).when_ended == 1
    finally:
        await bare.close()


# --- keys ---------------------------------------------------------------------------------------


async def test_a_new_key_takes_every_row_over_and_the_old_one_may_go(
    store: Store, ring: KeyRing, place: Callable[..., Any]
) -> None:
    orders = [await place(order_id) for order_id in "abc"]
    old = ring.newest
    assert await store.personal.reseal() == 0
    added = ring.rotate()
    orders.append(await place("d"))
    assert await store.personal.keys_in_use() == {old: 3, added: 1}
    assert [await store.personal.reseal(limit=2) for _ in range(3)] == [2, 1, 0]
    assert await store.personal.keys_in_use() == {added: 4}
    ring.remove(old)
    assert set((await store.personal.of_orders(orders)).values()) == {OWN}


async def test_a_row_of_a_missing_key_is_left_alone_and_named(
    store: Store, ring: KeyRing, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    order = await place("a")
    await sql.execute("UPDATE personal SET key_id = 'lost'")
    ring.rotate()
    assert await store.personal.reseal() == 0
    with capture_logs() as lines:
        assert await store.personal.of_order(order) == NOTHING
    assert [(line["event"], line["key_id"]) for line in lines] == [("personal_unreadable", "lost")]


# --- erasure ------------------------------------------------------------------------------------


async def test_on_request_ended_orders_at_once_and_live_ones_when_they_end(
    store: Store, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    live = await place("live")
    await place("ended")
    await place("bobs", customer_id="bob")
    await place("elsewhere", tenant="else")
    await cancel(store, "ended")
    assert await store.personal.erase("default", "customer/anna", NOW_MS) == (1, 1)
    assert await subjects(sql) == ["order/bobs", "order/elsewhere", "order/live"]
    assert await store.personal.erase_old(NOW_MS + 1) == 0
    assert await store.personal.of_order(live) == OWN
    await cancel(store, "live")
    await store.personal.erase_old(NOW_MS + 1)
    assert await subjects(sql) == ["order/bobs", "order/elsewhere"]
    assert await store.personal.of_order(live) == NOTHING
    assert await store.personal.erase("default", "customer/anna", NOW_MS) == (0, 0)


async def test_a_rider_s_go_when_he_is_off_shift(
    store: Store, sql: asyncpg.Connection, registered: Callable[..., Any]
) -> None:
    own = RiderPersonal(name="Quuxolina", phone="+8613977735557")
    await registered("rita", own)
    shift = GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 1, place=Place(lat=31.23, lon=121.47))
    await store.run_rider("rita", shift)
    assert await store.personal.erase("default", "rider/rita", NOW_MS) == (0, 1)
    await store.personal.erase_old(NOW_MS + 1)
    assert await store.personal.of_rider("rita") == own
    await store.run_rider("rita", GoOffShift(at_ms=NOW_MS))
    await store.personal.erase_old(NOW_MS + 1)
    assert await store.personal.of_rider("rita") is None
    assert await subjects(sql) == []


async def test_a_rider_s_do_not_go_by_age(store: Store, registered: Callable[..., Any]) -> None:
    own = RiderPersonal(name="Quuxolina")
    await registered("rita", own)
    await store.personal.erase_old(NOW_MS + 1_000 * DAY_MS)
    assert await store.personal.of_rider("rita") == own


async def test_by_age_thirty_days_after_the_end(
    store: Store, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    await place("live")
    await place("ended")
    end_ms = NOW_MS + 5 * DAY_MS
    await cancel(store, "ended", end_ms)
    for at_ms in (end_ms, end_ms + 30 * DAY_MS - 1):
        await store.personal.erase_old(at_ms)
        assert await subjects(sql) == ["order/ended", "order/live"]
    await store.personal.erase_old(end_ms + 30 * DAY_MS)
    assert await subjects(sql) == ["order/live"]


async def test_tidying_goes_on_in_steps_until_nothing_is_left(
    store: Store, sql: asyncpg.Connection, place: Callable[..., Any]
) -> None:
    for order_id in "abcde":
        await place(order_id)
        await cancel(store, order_id)
    later = NOW_MS + 31 * DAY_MS
    steps = 0
    while await store.personal.erase_old(later, limit=2):
        steps += 1
    assert steps == 3
    assert await subjects(sql) == []


# --- orders of before ---------------------------------------------------------------------------


async def test_an_order_of_before_is_moved(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    order = new_order("old")
    stops = tuple(replace(s, place=replace(s.place, text=f"Frobozz {s.kind}")) for s in order.stops)
    order = replace(order, stops=stops, note="Fnord")
    placed = (await store.create_order(order, NOW_MS, idempotency=None)).order
    await sql.execute("INSERT INTO unsealed VALUES ('old'), ('gone')")
    before = in_the_clear(order)
    assert await store.personal.of_order(placed) == before
    assert await store.personal.adopt() == 1
    assert await store.personal.adopt() == 0
    body = await sql.fetchval("SELECT body::text FROM orders")
    assert "Frobozz" not in body
    assert "Fnord" not in body
    now = order_from_json(body)
    assert replace(now, stops=placed.stops, note=placed.note) == placed
    assert await store.personal.of_order(now) == before


@pytest.fixture
def of_before(
    sql: asyncpg.Connection, placed: Callable[..., Any], new_order: Callable[..., Order]
) -> Callable[..., Any]:
    """Place an order as the migration leaves those of before: with its texts, and listed."""

    async def make(order_id: str, **changes: Any) -> Order:
        stops = new_order(order_id).stops
        stops = tuple(replace(s, place=replace(s.place, text="Frobozz")) for s in stops)
        order: Order = await placed(order_id, stops=stops, note="Fnord", **changes)
        await sql.execute("INSERT INTO unsealed VALUES ($1)", order_id)
        return order

    return make


async def test_a_change_that_read_the_order_before_it_was_moved_brings_nothing_back(
    store: Store,
    sql: asyncpg.Connection,
    of_before: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await of_before("old")
    read = store._quick._read

    async def read_and_be_late(*asked: Any) -> Order | None:
        found = await read(*asked)
        assert await store.personal.adopt() == 1
        return found

    monkeypatch.setattr(store._quick, "_read", read_and_be_late)
    await cancel(store, "old")
    body = await sql.fetchval("SELECT body::text FROM orders")
    assert "cancelled_customer" in body
    assert not [marker for marker in MARKERS if marker in body]


async def test_erasing_reaches_what_is_not_moved_yet(
    store: Store, migrated_url: str, sql: asyncpg.Connection, of_before: Callable[..., Any]
) -> None:
    for order_id in ("ended", "live"):
        await of_before(order_id)
    await of_before("bobs", customer_id="bob")
    await of_before("elsewhere", tenant="else")
    await cancel(store, "ended")
    bare = await Store.open(migrated_url)
    try:
        with pytest.raises(StartupError, match="no keys"):
            await bare.personal.erase("default", "customer/anna", NOW_MS)
    finally:
        await bare.close()
    assert await store.personal.erase("default", "customer/anna", NOW_MS) == (1, 1)
    assert await store.personal.adopt() == 2
    assert await subjects(sql) == ["order/bobs", "order/elsewhere", "order/live"]
    assert "Frobozz" not in await sql.fetchval("SELECT string_agg(body::text, '') FROM orders")
    live = await store.order("live")
    assert live is not None
    assert (await store.personal.of_order(live)).note == "Fnord"
    await cancel(store, "live")
    await store.personal.erase_old(NOW_MS + 1)
    assert await subjects(sql) == ["order/bobs", "order/elsewhere"]


async def test_the_migration_lists_old_orders_and_takes_addresses_out_of_history(
    database_url: str, new_order: Callable[..., Order], ring: KeyRing
) -> None:
    plain = new_order("plain")
    stops = tuple(replace(s, place=replace(s.place, text=f"Frobozz {s.kind}")) for s in plain.stops)
    old = replace(plain, id="old", stops=stops, note="Fnord")
    rider = Rider(id="rita", city="demo", place=replace(stops[0].place))
    await _upgrade(database_url, "0001")
    sql = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    for order in (plain, old):
        body = order_to_json(replace(order, state=OrderState.OPEN, version=1))
        await sql.execute(
            "INSERT INTO orders (id, tenant, city, state, version, job_type, customer_id,"
            " merchant_id, price_fen, created_at_ms, expires_at_ms, promise_to_ms, body)"
            " VALUES ($1, 'default', 'demo', 'open', 1, 'delivery', 'anna', '', 1, 1, 1, 1, $2)",
            order.id,
            body,
        )
        await sql.execute(
            "INSERT INTO idempotency VALUES ('anna', $1, '', 201, $2, 1)", order.id, body
        )
    await sql.execute(
        "INSERT INTO riders VALUES ('rita', 'default', 'demo', 'off', 1, $1)", rider_to_json(rider)
    )
    facts = [
        ("order", "plain", Placed(order=plain)),
        ("order", "old", Placed(order=old)),
        ("order", "old", ReturnAdded(rider_id="rita", stop=stops[0])),
        ("rider", "rita", WentOnShift(rider=rider)),
        ("rider", "rita", WentOffShift()),
    ]
    for seq, (subject, subject_id, fact) in enumerate(facts, 1):
        await sql.execute(
            "INSERT INTO events (subject_kind, subject_id, seq, tenant, city, at_ms, kind, body)"
            " VALUES ($1, $2, $3, 'default', 'demo', 1, $4, $5)",
            subject,
            subject_id,
            seq,
            kind_of(fact),
            to_json_text(fact),
        )
    await migrate(database_url)
    store = await Store.open(database_url, data_keys=ring)
    try:
        kept = await store.order("old")
        assert kept is not None
        assert await store.personal.of_order(kept) == in_the_clear(old)
        assert await sql.fetch("SELECT * FROM unsealed") == [("old",)]
        assert await store.personal.adopt() == 1
        tables = [f"SELECT t::text AS row FROM {t} AS t" for t in metadata.tables]
        rows = [r["row"] for r in await sql.fetch(" UNION ALL ".join(tables))]
        assert [row for row in rows for marker in MARKERS if marker in row] == []
        found = await sql.fetch("SELECT kind, body::text AS body FROM events ORDER BY id")
        bare = [decode_fact(row["kind"], row["body"]) for row in found]
        back = replace(stops[0], place=replace(stops[0].place, text=""))
        off = replace(rider, place=back.place)
        assert bare == [
            Placed(order=plain),
            Placed(order=without_texts(old)),
            ReturnAdded(rider_id="rita", stop=back),
            WentOnShift(rider=off),
            WentOffShift(),
        ]
        assert await store.rider("rita") == off
        with pytest.raises(asyncpg.RestrictViolationError):
            await sql.execute("UPDATE events SET at_ms = 2")
    finally:
        await store.close()
        await sql.close()


async def _upgrade(url: str, revision: str) -> None:
    """Bring an empty database to an old revision."""
    engine = create_async_engine(asyncpg_url(url))

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()
