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


async def rate(workers: Sequence[Batches], first: int, batches: int) -> float:
    """Orders a second, of all workers together."""

    async def work(worker: Batches) -> None:
        for number in range(first, first + batches):
            await worker.batch(number)

    began = time.perf_counter()
    await asyncio.gather(*(work(w) for w in workers))
    return len(workers) * batches * BATCH / (time.perf_counter() - began)


async def measure(url: str, workers: int, batches: int, runs: int) -> dict[str, object]:
    await migrate(url)
    store = await Store.open(url)
    epoch = await store.take_lease(CITY, "bench", 0, LEASE_MS)
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
    rates: list[tuple[float, float]] = []
    for run in range(runs):
        first = 1 + run * batches
        rates.append((await rate(ours, first, batches), await rate(theirs, first, batches)))
    await store.close()
    await pool.close()
    mine, rival = (statistics.median(r[k] for r in rates) for k in (0, 1))
    return {
        "workers": workers,
        "orders": runs * batches * workers * BATCH,
        "orders_per_s": [round(r[0], 1) for r in rates],
        "rival_per_s": [round(r[1], 1) for r in rates],
        "median": round(mine, 1),
        "rival_median": round(rival, 1),
        "ratio": round(statistics.median(a / b for a, b in rates), 3),
    }


def run(workers: int, batches: int, runs: int, as_json: bool) -> None:
    import uvloop

    with postgres() as url:
        found = uvloop.run(measure(url, workers, batches, runs))
    print(json.dumps(found) if as_json else found)
