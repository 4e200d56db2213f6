"""Fixes on their way: collected, journaled, then acknowledged and put into the pool.

May import the segments, the pool and the session's watermark.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.gateway import counters
from api.gateway.marks import Seat
from api.messages import FixRow
from api.pool import Pool
from api.segments import Record, Ref, SegmentWriter
from api.session import Watermark

FLUSH_S = 0.04
# Rows that are taken and not yet on the disk: about 20 s of a gateway's full load.
ROWS_MAX = 200_000
# Batches on the disk and not yet in the pool; the oldest gives way, the journal has it.
FRAMES_MAX = 256
POOL_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of whoever has the seat, in order of `seq`, taken in `epoch` of his watermark."""

    seat: Seat
    mark: Watermark
    epoch: int
    rows: list[FixRow]
    taken_s: float = field(default_factory=monotonic_s)

    @property
    def on_trust(self) -> bool:
        return not isinstance(self.seat, str)


@dataclass(slots=True)
class Counts:
    """Since the start: rows by what became of them."""

    rows_stored: int = 0
    rows_lost: int = 0
    frames_projected: int = 0
    frames_failed: int = 0
    frames_dropped: int = 0


class Ingest:
    """Collects the rows of a city's connections; one record each FLUSH_S goes to the journal.

    `settled(seat)` is called when a rider's watermark has risen, `lost(seat, seq)` when it
    has failed: from `seq` on his fixes have to come again. Redis never holds up the journal: the
    pool has a task and a bounded queue of its own, and `unprojected(rows)` is told what it missed.
    Rows that were taken on trust go to the journal only: nobody must see a stranger as the rider.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        pool: Pool,
        settled: Callable[[Seat], None],
        lost: Callable[[Seat, int], None],
        unprojected: Callable[[list[FixRow]], None],
        *,
        rows_max: int = ROWS_MAX,
    ) -> None:
        self.counts = Counts()
        self._writer, self._pool = writer, pool
        self._settled, self._lost, self._unprojected = settled, lost, unprojected
        self._rows_max = rows_max
        self._batch: list[Taken] = []
        self._rows_waiting = 0
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._frames: deque[tuple[Ref, list[FixRow]]] = deque()
        self._frame = asyncio.Event()
        self._projecting = False

    async def put(self, taken: Taken) -> None:
        """Take rows for the next flush; waits while the disk is behind."""
        while self._rows_waiting >= self._rows_max:
            self._room.clear()
            await self._room.wait()
        self._batch.append(taken)
        self._rows_waiting += len(taken.rows)
        self._some.set()

    async def run(self) -> None:
        """Flush each FLUSH_S while there is something, until cancelled."""
        while True:
            await self._some.wait()
            await asyncio.sleep(FLUSH_S)
            self.flush()

    def flush(self) -> None:
        """Hand what was collected to the journal."""
        batch, self._batch = self._batch, []
        self._some.clear()
        if not batch:
            return
        rows = [row for taken in batch for row in taken.rows]
        future = self._writer.append(Record(received_ms=now_ms(), rows=rows))
        future.add_done_callback(lambda done: self._landed(done, batch, rows))

    async def finish(self) -> None:
        """Journal what was collected and answer for it; nothing is put any more."""
        self.flush()
        await self._writer.commit()
        while self._rows_waiting:
            self._room.clear()
            await self._room.wait()

    async def project(self) -> None:
        """Bring what is on the disk into the pool and the stream, until cancelled."""
        while True:
            await self._frame.wait()
            self._frame.clear()
            self._projecting = True
            while self._frames:
                await self._project(*self._frames.popleft())
                end_if_cancelled()
            self._projecting = False

    async def drain(self, limit_s: float) -> None:
        """Wait until `project` has brought everything into the pool, `limit_s` seconds at most."""
        try:
            async with asyncio.timeout(limit_s):
                while self._frames or self._projecting:
                    await asyncio.sleep(FLUSH_S / 4)
        except TimeoutError:
            self.counts.frames_dropped += len(self._frames)

    def _landed(self, done: asyncio.Future[Ref], batch: list[Taken], rows: list[FixRow]) -> None:
        self._rows_waiting -= len(rows)
        self._room.set()
        if done.cancelled() or done.exception() is not None:
            self.counts.rows_lost += len(rows)
            counters.FIXES_LOST.inc(len(rows))
            for taken in batch:
                if taken.mark.fail(taken.epoch):
                    self._lost(taken.seat, taken.rows[0].seq)
            return
        self.counts.rows_stored += len(rows)
        counters.FIXES_STORED.inc(len(rows))
        now_s = monotonic_s()
        for taken in batch:
            counters.ACK_SECONDS.observe(now_s - taken.taken_s)
            if taken.mark.settle(taken.rows[-1].seq, taken.epoch):
                self._settled(taken.seat)
        if any(taken.on_trust for taken in batch):
            rows = [row for taken in batch if not taken.on_trust for row in taken.rows]
            if not rows:
                return
        if len(self._frames) >= FRAMES_MAX:
            self._unprojected(self._frames.popleft()[1])
            self.counts.frames_dropped += 1
            counters.BATCHES_DROPPED.inc()
        self._frames.append((done.result(), rows))
        self._frame.set()

    async def _project(self, ref: Ref, rows: list[FixRow]) -> None:
        try:
            async with asyncio.timeout(POOL_LIMIT_S):
                await self._pool.flush(rows, ref)
        except (RedisError, OSError):
            self.counts.frames_failed += 1
            counters.BATCHES_FAILED.inc()
            self._unprojected(rows)
            return
        self.counts.frames_projected += 1
        counters.BATCHES_DONE.inc()
