"""From the first release's tables to today's, with orders under way."""

from __future__ import annotations

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from api.codec import digest_of_command, to_json_text
from api.store import IdempotencyKey, Store, migrate
from api.store.migrate import MIGRATIONS, asyncpg_url
from dispatch import commands as c
from dispatch.events import Event, kind_of
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Party, Place, Rider
from dispatch.registry import OrderForm, StopForm
from dispatch.transitions import Refusal, apply, apply_rider, evolve_rider, fold

NOW_MS = 1_790_000_000_000
RITA: dict[str, object] = {"rider_id": "rita"}
OFFER = c.Offer(
    at_ms=NOW_MS + 1, rider_id="rita", deadline_ms=NOW_MS + 9_000, route=(), order_version=2
)
ACCEPT = c.Accept(at_ms=NOW_MS + 2, rider_id="rita", number=1)
HEAD = c.Head(at_ms=NOW_MS + 3, rider_id="rita", stop=0)


def life(order_id: str, *commands: c.Command) -> tuple[Order, list[Event]]:
    stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
    form = OrderForm(customer_id="anna", stops=stops)
    order = JOB.order(order_id, "demo", form, JOB.quote(form, NOW_MS), NOW_MS)
    history: list[Event] = []
    for asked in (c.Confirm(at_ms=NOW_MS), *commands):
        events = apply(order, asked)
        assert not isinstance(events, Refusal), events
        order, history = fold(order, events), [*history, *events]
    return order, history


async def first_release(url: str) -> None:
    await upgrade_to(url, "0001")


async def upgrade_to(url: str, revision: str) -> None:
    engine = create_async_engine(asyncpg_url(url))

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def fill(sql: asyncpg.Connection, orders: list[tuple[Order, list[Event]]]) -> None:
    for o, history in orders:
        live = o.assignment
        await sql.execute(
            "INSERT INTO orders VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
            " $14)",
            o.id, o.tenant, o.city, o.state.value, o.version, o.job_type, o.customer_id,
            o.merchant_id, live and live.rider_id, o.price_fen, o.created_at_ms, o.expires_at_ms,
            o.promise_to_ms, to_json_text(o),
        )  # fmt: skip
        if live is not None:
            await sql.execute(
                "INSERT INTO assignments VALUES ($1, $2, $3, $4, $5, $6, '[]')",
                o.id, live.number, live.rider_id, live.state.value, live.offered_at_ms,
                live.deadline_ms,
            )  # fmt: skip
            await sql.execute("INSERT INTO receipts VALUES ($1, 1, $2, '{}')", o.id, NOW_MS)
        for v in history:
            await insert_event(sql, "order", o.id, v.seq, v.at_ms, v.fact)
    rider = Rider(id="rita", city="demo")
    here = Place(lat=31.23, lon=121.47)
    on = c.GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=here)
    (shift,) = apply_rider(rider, on)  # type: ignore[misc]
    rider = evolve_rider(rider, shift)
    await sql.execute(
        "INSERT INTO riders VALUES ('rita', 'default', 'demo', 'on', 1, $1)", to_json_text(rider)
    )
    await insert_event(sql, "rider", "rita", 1, NOW_MS, shift.fact)
    # All but the last two have a position already.
    await sql.execute(
        "INSERT INTO feed SELECT id, id - 1, city, tenant, id FROM events"
        " WHERE id <= (SELECT max(id) - 2 FROM events)"
    )
    await sql.execute("INSERT INTO heads SELECT 'demo', max(position) FROM feed")
    await sql.execute("DELETE FROM outbox WHERE event_id IN (SELECT event_id FROM feed)")


async def insert_event(
    sql: asyncpg.Connection, kind: str, subject: str, seq: int, at_ms: int, fact: object
) -> None:
    await sql.execute(
        "WITH e AS (INSERT INTO events (subject_kind, subject_id, seq, tenant, city, at_ms, kind,"
        " body) VALUES ($1, $2, $3, 'default', 'demo', $4, $5, $6) RETURNING id)"
        " INSERT INTO outbox SELECT id FROM e",
        kind, subject, seq, at_ms, kind_of(fact), to_json_text(fact),  # type: ignore[arg-type]
    )  # fmt: skip


async def test_live_orders_go_on(database_url: str) -> None:
    await first_release(database_url)
    sql = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    waiting, offered = life("o1"), life("o2", OFFER)
    taken = life("o3", OFFER, ACCEPT, HEAD)
    stops = [
        c.Arrive(at_ms=NOW_MS, rider_id="rita", stop=0),
        c.FinishStop(at_ms=NOW_MS, rider_id="rita", stop=0),
        c.Arrive(at_ms=NOW_MS, rider_id="rita", stop=1),
        c.FinishStop(at_ms=NOW_MS, rider_id="rita", stop=1),
    ]
    over = life("o4", OFFER, ACCEPT, *stops, c.Complete(at_ms=NOW_MS + 77))
    await fill(sql, [waiting, offered, taken, over])
    await sql.execute(
        "INSERT INTO actions VALUES ('o3', 'rita', 'a1', $1, 4, 1, NULL, $2)",
        digest_of_command(ACCEPT),
        NOW_MS,
    )
    key = IdempotencyKey(client_id="anna", key="k", body_hash="b")
    first = life("o1")[0]
    await sql.execute(
        "INSERT INTO idempotency VALUES ('anna', 'k', 'b', 201, $1, $2)",
        to_json_text(first),
        NOW_MS,
    )
    before = await sql.fetch("SELECT id, subject_id, seq, body FROM events ORDER BY id")
    positions = await sql.fetch("SELECT position, prev_position, event_id FROM feed ORDER BY 1")

    await migrate(database_url)

    assert await sql.fetch("SELECT id, subject_id, seq, body FROM events ORDER BY id") == before
    kept = await sql.fetch("SELECT position, prev_position, event_id FROM feed ORDER BY 1")
    assert kept == positions
    store = await Store.open(database_url)
    try:
        state = await store.load_city("demo")
        assert {o.id: o for o in state.orders} == {o.id: o for o, _ in (waiting, offered, taken)}
        found = await store.events_after(0, "demo", 100)
        assert [p.event.seq for p in found] == [row["seq"] for row in before[:-2]]
        # A retry from before the upgrade gets the answer from before it.
        again = await store.run("o3", ACCEPT, action_id="a1")
        assert (again.replayed, again.order.version, len(again.events)) == (True, 4, 1)
        replayed = await store.replay(key)
        assert replayed is not None
        assert replayed.order == first
        # Everything goes on: the offer is answered, the rider serves both, the shift ends.
        assert (await store.run("o2", ACCEPT, action_id="a2")).refusal is None
        for order_id in ("o2", "o3"):
            for asked in (*stops, c.Complete(at_ms=NOW_MS + 99)):
                outcome = await store.run(order_id, asked)
                assert outcome.refusal is None, outcome.refusal
        cancelled = await store.run("o1", c.Cancel(at_ms=NOW_MS + 98, by=Party.CUSTOMER))
        assert cancelled.refusal is None
        off = await store.run_rider("rita", c.GoOffShift(at_ms=NOW_MS + 100))
        assert off.refusal is None
        session = await store.open_sequencing()
        assert await session.lock()
        await session.take(1_000)
        await session.close()
        everything = await store.events_after(0, "demo", 1_000)
        assert [p.position for p in everything] == list(range(1, len(everything) + 1))
        seqs: dict[str, list[int]] = {}
        for entry in everything:
            subject = getattr(entry.event, "order_id", "rita")
            seqs.setdefault(subject, []).append(entry.event.seq)
        assert all(s == list(range(1, len(s) + 1)) for s in seqs.values())
        # Money was held for what stood already.
        rows = await sql.fetch("SELECT order_id, kind, at_ms FROM transfers ORDER BY order_id, id")
        assert [tuple(r) for r in rows] == [
            ("o1", "hold", NOW_MS),
            ("o1", "release", NOW_MS + 98),
            ("o2", "hold", NOW_MS),
            ("o2", "capture", NOW_MS + 99),
            ("o3", "hold", NOW_MS),
            ("o3", "capture", NOW_MS + 99),
            ("o4", "hold", NOW_MS),
            ("o4", "capture", NOW_MS + 77),
        ]
    finally:
        await store.close()
        await sql.close()


async def test_an_order_whose_price_was_never_held_does_not_stop_the_upgrade(
    database_url: str,
) -> None:
    await first_release(database_url)
    sql = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    await fill(sql, [life("o1")])
    await upgrade_to(database_url, "0007")
    await sql.execute("SET session_replication_role = replica; DELETE FROM transfers")
    await sql.execute("RESET session_replication_role")
    await migrate(database_url)
    store = await Store.open(database_url)
    try:
        assert (await store.run("o1", OFFER)).refusal is None
    finally:
        await store.close()
        await sql.close()


async def test_of_the_same_revocations_the_latest_stays(database_url: str) -> None:
    await upgrade_to(database_url, "0009")
    sql = await asyncpg.connect(database_url.replace("+asyncpg", "", 1))
    insert = (
        "INSERT INTO revocations (tenant, city, kind, value, at_ms, until_ms)"
        " VALUES ('t', 'c', 'subject', $1, $2, $3)"
    )
    for value, at_ms in (("rider/a", 5), ("rider/a", 9), ("rider/b", 7), ("rider/a", 2)):
        await sql.execute(insert, value, at_ms, NOW_MS + at_ms)
    await sql.close()
    await migrate(database_url)
    store = await Store.open(database_url)
    try:
        found = [(r.value, r.at_ms) for _, r in await store.keys.revoked(0, NOW_MS, 9)]
        assert sorted(found) == [("rider/a", 9), ("rider/b", 7)]
    finally:
        await store.close()
