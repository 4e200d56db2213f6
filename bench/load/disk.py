"""How much room a city takes a day: bytes an order by table, and bytes a fix in the files."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path

import asyncpg

from api.journal import Events, FrameOfFixes, JournalWriter
from api.keep import Keep
from api.messages import FixRow
from api.segments import Record, SegmentWriter
from api.store import Store, migrate
from bench.load.life import BATCH, CITY, Worker
from bench.load.server import plain, postgres

ORDERS_A_DAY, RIDERS, HOURS, FIX_EVERY_S = 100_000, 4_000, 10, 5
FIXES_A_DAY = RIDERS * HOURS * 3_600 // FIX_EVERY_S
FLUSH_S = 0.1  # a gateway writes a record so often
FRAMES = 500
WORKERS = 16
LEASE_MS = 3_600_000

SIZES = """
SELECT coalesce(p.relname, c.relname) AS name, sum(pg_relation_size(c.oid))::bigint AS rows,
       sum(pg_total_relation_size(c.oid))::bigint AS total
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind = 'r' AND c.relnamespace IN ('public'::regnamespace, 'parts'::regnamespace)
GROUP BY 1 ORDER BY 1
"""
FOR_GOOD = ("orders", "assignments", "transfers")


async def sizes(sql: asyncpg.Connection) -> dict[str, int]:
    await sql.execute("VACUUM")
    return {row["name"]: row["total"] for row in await sql.fetch(SIZES)}


async def bytes_an_order(url: str, rounds: int) -> tuple[dict[str, float], float]:
    """By table with its indexes, after all is sequenced; and the events' bytes in the journal."""
    await migrate(url)
    store = await Store.open(url)
    sql = await asyncpg.connect(plain(url))
    await store.housekeeping.run(int(time.time() * 1000), Keep())
    epoch = await store.leases.take(CITY, "bench", LEASE_MS)
    assert epoch is not None
    before = await sizes(sql)
    session = await store.open_sequencing()
    assert await session.lock()
    workers = [Worker(store, f"w{n}", epoch) for n in range(WORKERS)]
    for number in range(rounds):
        await asyncio.gather(*(w.batch(number) for w in workers))
        while await session.take(500):
            pass
    after = await sizes(sql)
    made = rounds * WORKERS * BATCH
    events = [p.event for p in await store.events_after(0, CITY, 10_000)]
    with tempfile.TemporaryDirectory() as folder:
        with JournalWriter(Path(folder), CITY, 0) as journal:
            journal.write(Events(1, tuple(events)))
        placed = sum(e.seq == 1 for e in events)
        journal_bytes = journal.path.stat().st_size / max(placed, 1)
    await session.close()
    await store.close()
    await sql.close()
    tables = {name: (after[name] - before.get(name, 0)) / made for name in after}
    return {k: round(v, 1) for k, v in tables.items() if v > 0}, journal_bytes


async def bytes_a_fix() -> tuple[float, float]:
    """In the segments and in the dispatcher's journal, of a city's one gateway."""
    rows_a_flush = int(RIDERS / FIX_EVERY_S * FLUSH_S)
    at_ms = int(time.time() * 1000)
    with tempfile.TemporaryDirectory() as folder:
        writer = SegmentWriter(Path(folder), "gateway_1")
        with JournalWriter(Path(folder), CITY, 0) as journal:
            for n in range(FRAMES):
                rows = [
                    FixRow(
                        rider_id=f"rider-{k:05}",
                        seq=n + k,
                        at_ms=at_ms + n * 100 + k,
                        lat=31.2304 + k * 1.1e-5,
                        lon=121.4737 + n * 1.3e-5,
                        accuracy_m=8.5,
                        speed_mps=5.3,
                        heading_deg=211.5,
                        system="gcj02",
                    )
                    for k in range(rows_a_flush)
                ]
                future = writer.append(Record(received_ms=at_ms + n * 100, rows=rows))
                await writer.commit()
                journal.write(FrameOfFixes(*(await future)))
        await writer.close()
        fixes = FRAMES * rows_a_flush
        segments = sum(p.stat().st_size for p in Path(folder).glob("*.seg"))
        return segments / fixes, journal.path.stat().st_size / fixes


async def measure(url: str, orders: int) -> dict[str, object]:
    rounds = -(-orders // (WORKERS * BATCH))
    tables, journal_order = await bytes_an_order(url, rounds)
    segment_fix, journal_fix = await bytes_a_fix()
    gb = 1e9
    day = {
        "tables": sum(tables.values()) * ORDERS_A_DAY / gb,
        "kept_for_good": sum(tables.get(t, 0.0) for t in FOR_GOOD) * ORDERS_A_DAY / gb,
        "segments": segment_fix * FIXES_A_DAY / gb,
        "journal": (journal_fix * FIXES_A_DAY + journal_order * ORDERS_A_DAY) / gb,
    }
    return {
        "orders": rounds * WORKERS * BATCH,
        "bytes_an_order": tables,
        "bytes_an_order_all": round(sum(tables.values()), 1),
        "journal_bytes_an_order": round(journal_order, 1),
        "segment_bytes_a_fix": round(segment_fix, 1),
        "journal_bytes_a_fix": round(journal_fix, 2),
        "fixes_a_day": FIXES_A_DAY,
        "gb_a_day": {k: round(v, 2) for k, v in day.items()},
    }


def run(orders: int, as_json: bool) -> None:
    import uvloop

    with postgres() as url:
        found = uvloop.run(measure(url, orders))
    print(json.dumps(found) if as_json else found)
