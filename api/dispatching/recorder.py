"""The journal of one run of a city, written by a thread; may import the journal and metrics.

A disk that is full or slow must not stop the dispatching: what cannot be written is left out, the
journal says from when on, and the city goes on without until a fresh file can be written.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from queue import SimpleQueue

import structlog

from api.clock import monotonic_s, now_ms
from api.journal import Broken, JournalWriter, Record, Start, encode_record
from api.metrics import Mode, degraded

log = structlog.get_logger(__name__)

SLOW_S = 1.0
WAITING_BYTES_MAX = 32 << 20
CLOSE_LIMIT_S = 2.0


class Recorder:
    """Takes records without waiting. Use `open`; the file may be missing from the start."""

    def __init__(self, city: str, writer: JournalWriter | None, start: Start) -> None:
        self._city, self._writer = city, writer
        self._queue: SimpleQueue[tuple[float, bytes] | None] = SimpleQueue()
        self._put = self._written = 0  # bytes; each counted by one side only
        self._at_work_since_s: float | None = None  # of the record that the thread writes
        self._why: str | None = None if writer else "the file cannot be made"
        self.broken_since_ms: int | None = None
        """From when on nothing is recorded; None while all is well."""
        if writer is None:
            self.broken_since_ms = start.gap_since_ms or now_ms()
        else:
            # A daemon: a disk that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._work, args=(writer,), daemon=True)
            self._thread.start()

    @classmethod
    async def open(cls, folder: Path, start: Start) -> Recorder:
        """A fresh file that begins with `start`, or a recorder that is broken."""
        city = start.city.name
        try:
            writer = await asyncio.to_thread(_begun, folder, start)
        except OSError as error:
            degraded(Mode.DISK_FAILS, True, city, error=str(error))
            return cls(city, None, start)
        degraded(Mode.DISK_FAILS, False, city)
        return cls(city, writer, start)

    def write(self, record: Record) -> None:
        """Hands the record to the thread; does nothing once the journal is broken."""
        self.check()
        if self.broken_since_ms is None:
            data = encode_record(record)
            self._put += len(data)
            self._queue.put((monotonic_s(), data))

    def check(self) -> None:
        """Notices what has become of the disk."""
        if self.broken_since_ms is not None:
            return
        since_s = self._at_work_since_s
        slow = since_s is not None and monotonic_s() - since_s > SLOW_S
        degraded(Mode.DISK_SLOW, slow, self._city)
        if self._put - self._written > WAITING_BYTES_MAX:
            self._why = "the disk is too slow"
        if self._why is not None:
            self.broken_since_ms = now_ms()
            degraded(Mode.DISK_FAILS, True, self._city, error=self._why)

    async def close(self) -> None:
        """Writes what waits, unless that takes too long."""
        self.check()
        if self._writer is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, CLOSE_LIMIT_S)
        degraded(Mode.DISK_SLOW, False, self._city)

    def _work(self, writer: JournalWriter) -> None:
        with writer:
            while (item := self._queue.get()) is not None:
                self._at_work_since_s, data = item
                try:
                    if self._why is None:
                        writer.append(data)
                except OSError as error:
                    self._why = str(error)
                if self._why is not None:
                    self._mark(writer)
                    return
                self._written += len(data)
                self._at_work_since_s = None

    def _mark(self, writer: JournalWriter) -> None:
        assert self._why is not None
        try:
            writer.write(Broken(now_ms(), self._why))
        except OSError as error:
            log.warning("journal_not_marked", city=self._city, error=str(error))


def _begun(folder: Path, start: Start) -> JournalWriter:
    writer = JournalWriter(folder, start.city.name, now_ms())
    try:
        writer.write(start)
    except OSError:
        writer.close()
        writer.path.unlink(missing_ok=True)
        raise
    return writer
