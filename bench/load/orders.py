"""Orders through their whole life a second, beside a rival that writes the same rows."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from typing import Protocol

import asyncpg

from api.keep import Keep
from api.store import Store, migrate
from bench.load.life import BATCH, CITY, Worker
from bench.load.rival import TABLES, Rival
from bench.load.server import plain, postgres

LEASE_MS = 3_600_000


class Batches(Protocol):
    async def batch(self, number: int) -> None: ...


async def rate(workers: Sequence[Batches], first: int, batches: int) -> tuple[float, float]:
    """Orders a second of all workers together, and ms of this process's CPU an order."""

    async def work(worker: Batches) -> None:
        for number in range(first, first + batches):
            await worker.batch(number)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(w) for w in workers))
    orders = len(workers) * batches * BATCH
    return orders / (time.perf_counter() - began), 1000 * (time.process_time() - cpu) / orders


async def measure(url: str, workers: int, batches: int, runs: int) -> dict[str, object]:
    await migrate(url)
    store = await Store.open(url)
    epoch = await store.leases.take(CITY, "bench", LEASE_MS)
    assert epoch is not None
    await store.housekeeping.run(int(time.time() * 1000), Keep())
    pool = await asyncpg.create_pool(
        plain(url), min_size=8, max_size=8, server_settings={"search_path": "rival"}
    )
    await pool.execute(TABLES)
    ours = [Worker(store, f"w{n}", epoch) for n in range(workers)]
    theirs = [Rival(pool, f"w{n}") for n in range(workers)]
    await rate(ours, 0, 1)
    await rate(theirs, 0, 1)
    mine, rival = [], []
    for run in range(runs):
        first = 1 + run * batches
        mine.append(await rate(ours, first, batches))
        rival.append(await rate(theirs, first, batches))
    await store.close()
    await pool.close()
    return {
        "workers": workers,
        "orders": runs * batches * workers * BATCH,
        "orders_per_s": [round(r, 1) for r, _ in mine],
        "rival_per_s": [round(r, 1) for r, _ in rival],
        "cpu_ms_an_order": round(statistics.median(cpu for _, cpu in mine), 2),
        "rival_cpu_ms_an_order": round(statistics.median(cpu for _, cpu in rival), 2),
        "median": round(statistics.median(r for r, _ in mine), 1),
        "rival_median": round(statistics.median(r for r, _ in rival), 1),
        "ratio": round(statistics.median(a[0] / b[0] for a, b in zip(mine, rival, strict=True)), 3),
    }


def run(workers: int, batches: int, runs: int, as_json: bool) -> None:
    import uvloop

    with postgres() as url:
        found = uvloop.run(measure(url, workers, batches, runs))
    print(json.dumps(found) if as_json else found)
