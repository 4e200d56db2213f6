"""What is asked about one order reads that order's rows, however many there are of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from api.store import IdempotencyKey, Receipt, Store
from api.store.ledger import PaymentNotice
from dispatch import commands as c
from dispatch.model import Order, Party, Rider, RouteStop

NOW_MS = 1_790_000_000_000
ORDERS = 1_000
GROWING = ("actions", "assignments", "idempotency", "orders", "receipts", "transfers")


async def rows_read(sql: asyncpg.Connection) -> dict[str, int]:
    """Rows that were read by reading a table as a whole, by growing table, partitions included."""
    rows = await sql.fetch("SELECT relname, seq_tup_read FROM pg_stat_user_tables")
    found = dict.fromkeys((*GROWING, "events", "feed"), 0)
    for name, read in rows:
        table = name.split("_")[0]
        if name in found or name.startswith(("events_", "feed_", "receipts_")):
            found[table] += read
    return found


async def one_life(store: Store, order: Order, epoch: int) -> None:
    """From the first request to completion, with what is read of it on the way."""
    key = IdempotencyKey(client_id="default/customer/anna", key=order.id, body_hash="0" * 64)
    order = (await store.create_order(order, NOW_MS, idempotency=key)).order
    notice = PaymentNotice(
        tenant="default",
        city="demo",
        provider="wechat",
        notice_id=order.id,
        customer_id="anna",
        fen=order.price_fen,
        order_id=order.id,
    )
    await store.ledger.note_payment(notice, NOW_MS)
    offer = c.Offer(
        at_ms=NOW_MS,
        rider_id="rita",
        deadline_ms=NOW_MS + 60_000,
        route=tuple(RouteStop(order_id=order.id, stop=n) for n in (0, 1)),
        order_version=order.version,
    )
    receipt = Receipt(order_id=order.id, round_at_ms=NOW_MS, body={"cost": 1})
    written = await store.write_plan("demo", epoch, [(order.id, offer)], [receipt])
    assert written.committed, written.dropped
    asked: list[c.Command] = [c.Accept(at_ms=NOW_MS, rider_id="rita", number=1)]
    for stop in (0, 1):
        asked += [
            command(at_ms=NOW_MS, rider_id="rita", stop=stop)
            for command in (c.Head, c.Arrive, c.FinishStop)
        ]
    for n, command in enumerate(asked):
        outcome = await store.run(order.id, command, action_id=f"{order.id}-{n}")
        assert outcome.refusal is None, outcome.refusal
        await store.orders_of_rider("rita")
    assert await store.order(order.id)
    assert (await store.run(order.id, c.Complete(at_ms=NOW_MS))).refusal is None
    assert len(await store.ledger.transfers_of_order(order.id)) == 3


async def test_one_order_s_life_reads_no_table_as_a_whole(
    store: Store,
    migrated_url: str,
    sql: asyncpg.Connection,
    new_order: Callable[..., Order],
) -> None:
    cancel = c.Cancel(at_ms=NOW_MS, by=Party.CUSTOMER)

    async def cancelled(n: int) -> None:
        await store.create_order(new_order(f"o{n}"), NOW_MS, idempotency=None)
        await store.run(f"o{n}", cancel, action_id=f"a{n}")

    for first in range(0, ORDERS, 20):
        await asyncio.gather(*(cancelled(n) for n in range(first, first + 20)))
    await sql.execute("ANALYZE")
    await store.close()  # a connection that ends tells what it has read
    before = await rows_read(sql)

    other = await Store.open(migrated_url)
    await other.register_rider(Rider(id="rita", city="demo"))
    place = new_order("x").stops[0].place
    start = c.GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=place)
    assert (await other.run_rider("rita", start)).refusal is None
    epoch = await other.leases.take("demo", "d1", 60_000)
    assert epoch is not None
    for n in range(8):  # from the sixth on a plan serves for all values
        await one_life(other, new_order(f"x{n}"), epoch)
    await other.close()
    after = await rows_read(sql)
    # A table of a few rows is best read as a whole; one with a row an order never is.
    assert {name for name, read in before.items() if after[name] - read >= ORDERS} == set()
