"""The journal of positions on a real disk, with disks that are slow, full or torn."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.messages import FixRow
from api.segments import COMMIT_S, Record, Ref, SegmentFile, SegmentWriter, iterate, read
from geo.errors import InvalidValue, MissingFile


def record(n: int) -> Record:
    rows = [FixRow(f"r{n}", n, 1000 + n, 31.0 + n, 121.0, 5.0, None, 90.0, "gcj02")]
    return Record(received_ms=2000 + n, rows=rows)


class SlowFile(SegmentFile):
    """A disk that takes its time: `sync` waits until it may go on."""

    go_on: ClassVar[threading.Event]

    def sync(self) -> None:
        assert self.go_on.wait(5)
        super().sync()


class FailingFile(SegmentFile):
    """A disk whose next fsync fails, after part of the bytes are on it."""

    failing: ClassVar[bool] = True

    def sync(self) -> None:
        if FailingFile.failing:
            raise OSError(errno.EIO, "cannot sync")
        super().sync()


class FullFile(SegmentFile):
    """A disk with room for 10 bytes more."""

    full: ClassVar[bool] = True

    def write(self, data) -> int:
        if not FullFile.full:
            return super().write(data)
        if len(data) > 10:
            return super().write(bytes(data)[:10])
        raise OSError(errno.ENOSPC, "no space left on device")


async def test_records_come_back_by_their_place(tmp_path):
    writer = SegmentWriter(tmp_path, "g1")
    futures = [writer.append(record(n)) for n in range(3)]
    await writer.commit()
    refs = [await future for future in futures]
    assert [read(tmp_path, *ref) for ref in refs] == [record(n) for n in range(3)]
    assert list(iterate(tmp_path / refs[0].name)) == [
        (ref, record(n)) for n, ref in enumerate(refs)
    ]
    assert refs[1].offset == refs[0].length
    await writer.close()
    first = msgspec.msgpack.decode((tmp_path / refs[0].name).read_bytes()[: refs[0].length])
    assert first == {
        "v": 1,
        "received_ms": 2000,
        "rows": [["r0", 0, 1000, 31.0, 121.0, 5.0, None, 90.0, "gcj02", "", ""]],
    }


async def test_an_append_is_answered_only_after_the_fsync(tmp_path):
    SlowFile.go_on = threading.Event()
    writer = SegmentWriter(tmp_path, "g1", open_file=lambda path: SlowFile(path, "x"))
    running = asyncio.create_task(writer.run())
    future = writer.append(record(0))
    await asyncio.sleep(0.3)
    assert not future.done()
    later = writer.append(record(1))  # appending does not wait for the disk
    SlowFile.go_on.set()
    await future
    assert (await later).offset == (await future).length
    running.cancel()
    await writer.close()


async def test_one_fsync_serves_a_group(tmp_path):
    syncs = []

    class Counting(SegmentFile):
        def sync(self) -> None:
            syncs.append(1)
            super().sync()

    writer = SegmentWriter(tmp_path, "g1", open_file=lambda path: Counting(path, "x"))
    running = asyncio.create_task(writer.run())
    started_s = time.monotonic()
    for n in range(20):
        writer.append(record(n))
        await asyncio.sleep(0.01)
    last = writer.append(record(20))
    await last
    assert len(syncs) <= 2 + (time.monotonic() - started_s) / COMMIT_S
    running.cancel()
    await writer.close()


@pytest.mark.parametrize("broken", [FailingFile, FullFile])
async def test_a_failing_disk_acknowledges_nothing_and_the_next_segment_goes_on(tmp_path, broken):
    broken.failing = broken.full = False
    writer = SegmentWriter(tmp_path, "g1", open_file=lambda path: broken(path, "x"))
    good = writer.append(record(0))
    await writer.commit()
    broken.failing = broken.full = True
    lost = [writer.append(record(1)), writer.append(record(2))]
    await writer.commit()
    for future in lost:
        with pytest.raises(OSError, match=r"cannot sync|no space"):
            await future
    assert writer.failures == 1
    broken.failing = broken.full = False
    again = writer.append(record(3))
    await writer.commit()
    await writer.close()
    assert (await good).name != (await again).name
    assert [r for _, r in iterate(tmp_path / (await good).name)] == [record(0)]
    assert read(tmp_path, *(await again)) == record(3)


async def test_no_folder_no_acknowledgement(tmp_path):
    writer = SegmentWriter(tmp_path / "segments", "g1")
    (tmp_path / "segments").rmdir()
    lost = writer.append(record(0))
    await writer.commit()
    with pytest.raises(FileNotFoundError):
        await lost
    await writer.close()


async def test_segments_rotate_by_size(tmp_path):
    writer = SegmentWriter(tmp_path, "g1", bytes_max=200)
    refs = []
    for n in range(6):
        future = writer.append(record(n))
        await writer.commit()
        refs.append(await future)
    await writer.close()
    assert len({ref.name for ref in refs}) == 3
    assert all((tmp_path / ref.name).stat().st_size <= 200 for ref in refs)
    assert [read(tmp_path, *ref) for ref in refs] == [record(n) for n in range(6)]


async def test_a_cancelled_writer_finishes_what_it_began(tmp_path):
    SlowFile.go_on = threading.Event()
    writer = SegmentWriter(tmp_path, "g1", open_file=lambda path: SlowFile(path, "x"))
    running = asyncio.create_task(writer.run())
    future = writer.append(record(0))
    await asyncio.sleep(0.05)
    running.cancel()
    SlowFile.go_on.set()
    assert read(tmp_path, *(await future)) == record(0)
    await writer.close()


def whole(path: Path, count: int = 3) -> list[Ref]:
    """A segment of `count` records, written without a loop."""
    refs, offset = [], 0
    with path.open("wb") as file:
        for n in range(count):
            data = msgspec.msgpack.encode(record(n))
            file.write(data)
            refs.append(Ref(path.name, offset, len(data)))
            offset += len(data)
    return refs


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 10_000), tail=st.binary(max_size=40))
def test_a_torn_tail_ends_the_reading_and_nothing_else(tmp_path_factory, cut, tail):
    path = tmp_path_factory.mktemp("torn") / "g1-1.seg"
    refs = whole(path)
    size = path.stat().st_size
    cut %= size
    os.truncate(path, cut)
    with path.open("ab") as file:
        file.write(tail)
    kept = [ref for ref in refs if ref.offset + ref.length <= cut]
    found = [r for _, r in iterate(path)]
    assert found[: len(kept)] == [record(n) for n in range(len(kept))]
    # Random bytes may complete the record that was cut, and nothing more.
    assert len(found) <= len(kept) + 1


@pytest.mark.parametrize(
    "tail", [b"\0" * 64, b"\xc1", b"\x91" * 50_000, b"\x81\xa1v\x02", b"\xa3a\xff"]
)
def test_garbage_behind_the_last_record_is_no_record(tmp_path, tail):
    refs = whole(tmp_path / "g1-1.seg")
    with (tmp_path / "g1-1.seg").open("ab") as file:
        file.write(tail)
    assert [ref for ref, _ in iterate(tmp_path / "g1-1.seg")] == refs


def test_reading_where_nothing_lies(tmp_path):
    (ref, *_) = whole(tmp_path / "g1-1.seg")
    for wrong in (ref._replace(offset=1), ref._replace(length=5), ref._replace(offset=10**9)):
        with pytest.raises(InvalidValue, match=r"g1-1\.seg"):
            read(tmp_path, *wrong)
    with pytest.raises(InvalidValue, match="segment"):
        read(tmp_path, "../g1-1.seg", 0, ref.length)
    with pytest.raises(MissingFile):
        read(tmp_path, "g1-2.seg", 0, ref.length)
    with pytest.raises(MissingFile):
        list(iterate(tmp_path / "g1-2.seg"))
    with pytest.raises(InvalidValue, match="gateway_id"):
        SegmentWriter(tmp_path, "../x")


def test_a_row_of_before_counters_is_one_without(tmp_path):
    path = tmp_path / "g1-1.seg"
    row = ["r", 0, 1000, 31.0, 121.0, 5.0, None, 90.0, "gcj02"]
    path.write_bytes(msgspec.msgpack.encode({"v": 1, "received_ms": 1, "rows": [row]}))
    ((_, found),) = iterate(path)
    assert found.rows == [FixRow(*row)]
    assert (found.rows[0].counter, found.rows[0].on_trust) == ("", "")
