"""The journal of positions: append-only msgpack files with one group fsync; may import asyncio.

A segment `<gateway>-<opened_ms>.seg` is a run of msgpack maps
`{"v": 1, "received_ms": ..., "rows": [[rider_id, seq, at_ms, lat, lon, accuracy_m, speed_mps,
heading_deg, system, counter, on_trust], ...]}` in WGS-84 degrees; `system` is what the phone gave,
`counter` what it counts `seq` in. A fix with a tenant in `on_trust` was taken while nobody could
tell whose the rider is: it is his only if he is that tenant's. A segment is never changed once
written. A crash may tear its last record; readers stop there, and nothing of a torn record was
acknowledged, because an append is answered only after its fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import msgpack
import msgspec
import structlog
from prometheus_client import Histogram

from api.clock import monotonic_s, now_ms
from api.messages import FixRow
from api.metrics import Mode, degraded
from geo.errors import InvalidValue, MissingFile

log = structlog.get_logger(__name__)

SEGMENT_BYTES_MAX = 64 * 1024 * 1024
COMMIT_S = 0.1
# A commit that takes longer is told as the mode `disk_slow`.
SLOW_S = 2.0

_COMMIT_SECONDS = Histogram(
    "hexrun_segment_commit_seconds",
    "writing and fsyncing one group of records",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

_NAME = re.compile(r"[A-Za-z0-9_]+-[0-9]+\.seg")
_GATEWAY = re.compile(r"[A-Za-z0-9_]{1,40}")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The fixes of one flush, with the server's time of their receipt (ms UTC)."""

    v: Literal[1] = 1
    received_ms: int
    rows: list[FixRow]


class Ref(NamedTuple):
    """Where a record lies: file name, first byte, number of bytes."""

    name: str
    offset: int
    length: int


class SegmentFile(io.FileIO):
    """An open segment: a file whose `sync` returns once its bytes are on the disk."""

    def sync(self) -> None:
        """Raises OSError when the disk would not take them."""
        os.fsync(self.fileno())


def open_segment(path: Path) -> SegmentFile:
    """Create a segment that does not exist yet; raises FileExistsError when it does."""
    return SegmentFile(path, "x")


class SegmentWriter:
    """Appends records to this gateway's segments, fsyncs groups of them, rotates by size.

    One event loop appends; writing and fsync run in a thread of its own. After a failed write or
    fsync the segment is given up (a second fsync may lie about pages the first one lost), the
    whole group fails, and the next group opens another segment.
    """

    def __init__(
        self,
        folder: Path,
        gateway_id: str,
        *,
        bytes_max: int = SEGMENT_BYTES_MAX,
        open_file: Callable[[Path], SegmentFile] = open_segment,
    ) -> None:
        if not _GATEWAY.fullmatch(gateway_id):
            raise InvalidValue("gateway_id", gateway_id, "1 to 40 letters, digits and underscores")
        self.failures = 0
        self._folder, self._gateway = folder, gateway_id
        self._bytes_max, self._open_file = bytes_max, open_file
        self._encode = msgspec.msgpack.Encoder().encode
        self._waiting: list[tuple[bytes, asyncio.Future[Ref]]] = []
        self._appended = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "segments")
        self._file: SegmentFile | None = None
        self._path = folder
        self._size = 0
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, record: Record) -> asyncio.Future[Ref]:
        """Take a record into the next group.

        The future gives its place once it is on the disk, or the OSError that kept it off.
        """
        data = self._encode(record)
        future: asyncio.Future[Ref] = asyncio.get_running_loop().create_future()
        self._waiting.append((data, future))
        self._appended.set()
        return future

    async def run(self) -> None:
        """Commit a group at most each COMMIT_S seconds, until cancelled."""
        while True:
            await self._appended.wait()
            started_s = monotonic_s()
            await self.commit()
            await asyncio.sleep(max(0.0, COMMIT_S - (monotonic_s() - started_s)))

    async def commit(self) -> None:
        """Write what waits, fsync, and answer its futures; never raises for a failing disk."""
        group, self._waiting = self._waiting, []
        self._appended.clear()
        if not group:
            return
        started_s = monotonic_s()
        slow = asyncio.get_running_loop().call_later(SLOW_S, degraded, Mode.DISK_SLOW, True)
        job = asyncio.get_running_loop().run_in_executor(
            self._thread, self._write, [data for data, _ in group]
        )
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError:
            await asyncio.wait([job])  # the thread cannot be stopped
            raise
        finally:
            slow.cancel()
            took_s = monotonic_s() - started_s
            _COMMIT_SECONDS.observe(took_s)
            if took_s < SLOW_S:
                degraded(Mode.DISK_SLOW, False)
            self._answer(group, job)

    async def close(self) -> None:
        """Commit the rest and close the segment."""
        await self.commit()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._abandon, False)
        self._thread.shutdown()

    def _answer(
        self, group: list[tuple[bytes, asyncio.Future[Ref]]], job: asyncio.Future[list[Ref]]
    ) -> None:
        if not job.done():
            return
        error = job.exception()
        degraded(Mode.DISK_FAILS, error is not None, error=str(error or ""))
        if error is not None:
            self.failures += 1
            log.error("segment_failed", path=str(self._path), records=len(group), error=str(error))
        refs = [] if error else job.result()
        for i, (_, future) in enumerate(group):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(refs[i])

    # --- in the thread ------------------------------------------------------------------------

    def _write(self, group: list[bytes]) -> list[Ref]:
        data = b"".join(group)
        if self._file is not None and self._size + len(data) > self._bytes_max:
            self._abandon(False)
        try:
            file = self._file or self._open()
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            file.sync()
        except BaseException:
            self._abandon(True)
            raise
        refs, offset = [], self._size
        for record in group:
            refs.append(Ref(self._path.name, offset, len(record)))
            offset += len(record)
        self._size = offset
        return refs

    def _open(self) -> SegmentFile:
        opened_ms = now_ms()
        while True:
            path = self._folder / f"{self._gateway}-{opened_ms}.seg"
            try:
                self._file = self._open_file(path)
                break
            except FileExistsError:
                opened_ms += 1
        self._path, self._size = path, 0
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._file

    def _abandon(self, torn: bool) -> None:
        """Close the segment; cut off what a failed group left in it, if the disk allows.

        One that holds nothing else is removed: a disk that stays full would collect them.
        """
        file, self._file = self._file, None
        if file is None:
            return
        if torn:
            with contextlib.suppress(OSError):
                file.truncate(self._size)
            if self._size == 0:
                with contextlib.suppress(OSError):
                    self._path.unlink()
        with contextlib.suppress(OSError):
            file.close()


# --- reading ----------------------------------------------------------------------------------


FILES_OPEN_MAX = 8


class SegmentReader:
    """Reads records by their Refs; the files used last stay open until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: OrderedDict[str, io.BufferedReader] = OrderedDict()
        self._decode = msgspec.msgpack.Decoder(Record).decode

    def read(self, name: str, offset: int, length: int) -> Record:
        """The record at a Ref. Raises MissingFile, and InvalidValue where no record lies."""
        try:
            file = self._file(name)
            file.seek(offset)
            return self._decode(file.read(length))
        except (OSError, msgspec.DecodeError, UnicodeError):
            raise InvalidValue(name, (offset, length), "the place of a record") from None

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _file(self, name: str) -> io.BufferedReader:
        file = self._files.pop(name, None)
        if file is None:
            file = self._open(name)
        self._files[name] = file  # the newest
        if len(self._files) > FILES_OPEN_MAX:
            self._files.popitem(last=False)[1].close()
        return file

    def _open(self, name: str) -> io.BufferedReader:
        if not _NAME.fullmatch(name):
            raise InvalidValue("segment", name, "a name like <gateway>-<opened_ms>.seg")
        path = self._folder / name
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise MissingFile(str(path), "a record of fixes") from None


def read(folder: Path, name: str, offset: int, length: int) -> Record:
    """One record; raises as `SegmentReader.read`."""
    reader = SegmentReader(folder)
    try:
        return reader.read(name, offset, length)
    finally:
        reader.close()


def iterate(path: Path) -> Iterator[tuple[Ref, Record]]:
    """The records of a segment with their places, up to a torn tail, which is logged.

    Raises MissingFile.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise MissingFile(str(path), "a segment of fixes") from None
    with file:
        unpacker = msgpack.Unpacker(file)
        offset = 0
        while True:
            try:
                record = msgspec.convert(unpacker.unpack(), Record)
            except msgpack.OutOfData:
                break
            # What a torn tail holds is arbitrary: zeros, the middle of a record, bad UTF-8.
            except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
                break
            end = unpacker.tell()
            yield Ref(path.name, offset, end - offset), record
            offset = end
        size = file.seek(0, os.SEEK_END)
        if size > offset:
            log.warning("segment_torn", path=str(path), offset=offset, bytes_left=size - offset)
