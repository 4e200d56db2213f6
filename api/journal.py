"""The journal of a city's dispatcher: every input of every round, in order; may import the codecs.

Events + segments + this file replay to the same plans. One append-only msgpack file a run of the
dispatcher, `journal/<city>-<started_ms>.journal`; records are arrays whose first entry is a kind:

    start    {version, city, centre, travel, policy}
    known    position, orders, riders         what stood in the store at the start
    events   position, [event as JSON]        inlined: they are small and outlive retention
    fixes    segment, offset, length          the positions stay in the segment file
    tick     at_ms
    plan     at_ms, solver, digest, ms, refused
    written  at_ms, [(order id, code)]        what the store dropped of that plan
    broken   at_ms, why                       the disk failed: nothing more was recorded here

It is no truth that an order depends on: it is not synced to the disk, and a city whose journal
cannot be written goes on without. Then the next file's start has `gap_since_ms`, from when on
nothing was recorded.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import msgspec

from api.codec import decode_event, encode_event
from dispatch.dispatcher import Known, PlanWritten
from dispatch.events import Event, RiderEvent
from dispatch.model import Order, Rider
from dispatch.policy import Policy
from geo.errors import InvalidValue, MissingFile

VERSION = 2
SUFFIX = ".journal"
_NAME = re.compile(r".+-[0-9]+" + re.escape(SUFFIX))


class NoJournal(MissingFile):
    """A folder that holds no journal."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, "a replay")
        self.args = (f"{folder}: holds no journal; name the data folder of a live run",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CityShape:
    """What a dispatcher is built from: the city's plane and its travel model by name."""

    name: str
    lat: float
    lon: float
    travel: str = "straight_line"
    detour: float = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    city: CityShape
    policy: Policy
    version: int = VERSION
    gap_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Events:
    position: int
    events: tuple[Event | RiderEvent, ...]


@dataclass(frozen=True, slots=True)
class FrameOfFixes:
    """Where in the segment files the rows of one frame stand."""

    segment: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Tick:
    at_ms: int


@dataclass(frozen=True, slots=True)
class PlanMade:
    """`ms` is what the round took by the wall clock, which no replay repeats."""

    at_ms: int
    solver: str
    digest: str
    ms: float
    refused: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """The last record of a journal whose disk failed at `at_ms`, if it could still be written."""

    at_ms: int
    why: str


Record = Start | Known | Events | FrameOfFixes | Tick | PlanMade | PlanWritten | Broken


def encode_record(record: Record) -> bytes:
    """The record as it stands in the file."""
    packed: bytes = msgpack.packb(_encoded(record), use_bin_type=True)
    return packed


class JournalWriter:
    """Appends records; one writer a file. Every record is whole in the file or not at all."""

    def __init__(self, folder: Path, city: str, started_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{city}-{started_ms}{SUFFIX}"
        self._file: io.FileIO = self.path.open("xb", buffering=0)
        self._size = 0

    def write(self, record: Record) -> None:
        """Appends one record. Raises OSError when the disk is full."""
        self.append(encode_record(record))

    def append(self, encoded: bytes) -> None:
        """Appends what `encode_record` made. Raises OSError when the disk is full."""
        try:
            left = memoryview(encoded)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += len(encoded)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def city_of(path: Path) -> str:
    """Whose journal a file is, by its name."""
    return path.stem.rpartition("-")[0]


def started_ms(path: Path) -> int:
    """When a journal was begun, by its name."""
    return int(path.stem.rpartition("-")[2])


def journals(folder: Path) -> list[Path]:
    """The journal files of a data folder, or of its `journal` folder, oldest first.

    Raises MissingFile when there is none, InvalidValue when the folder cannot be read.
    """
    try:
        inside = folder / "journal" if (folder / "journal").is_dir() else folder
        named = [p for p in inside.iterdir() if _NAME.fullmatch(p.name)]
    except OSError as error:
        raise InvalidValue("folder", str(folder), f"a data folder ({error.strerror})") from None
    if not named:
        raise NoJournal(str(folder))
    return sorted(named, key=started_ms)


class JournalReader:
    """The records of one journal in order, read as they are asked for, one in memory at a time.

    `offset` is the byte after the last record given, `size` the file's. A crash leaves a torn last
    record, or zeros where the file had grown before its bytes were written: the records end there,
    and `torn` is the number of bytes left over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.offset = 0
        self.torn = 0

    def __iter__(self) -> Iterator[Record]:
        """Raises InvalidValue for a file that is no journal or of another version."""
        with self.path.open("rb") as file:
            # No limit to a record: one is all that a large city knew at its start.
            unpacker = msgpack.Unpacker(file, raw=False, strict_map_key=False, max_buffer_size=0)
            while (raw := self._next(unpacker)) is not None:
                try:
                    record = _decoded(raw, self.path)
                except (TypeError, ValueError, msgspec.ValidationError) as error:
                    if self._zeros_left():
                        break
                    raise self._wrong(raw, f"a record ({error})") from None
                if self.offset == 0 and not isinstance(record, Start):
                    raise InvalidValue(f"{self.path}[0]", raw[:1], "a start record")
                self.offset = unpacker.tell()
                yield record
        self.torn = max(0, self.size - self.offset)

    def _next(self, unpacker: msgpack.Unpacker) -> Any:
        try:
            return unpacker.unpack()
        except msgpack.OutOfData:
            return None
        except (ValueError, msgpack.UnpackException) as error:
            raise self._wrong("", f"a record ({error})") from None

    def _wrong(self, raw: Any, expected: str) -> InvalidValue:
        return InvalidValue(f"{self.path} at byte {self.offset}", repr(raw)[:80], expected)

    def _zeros_left(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return not any(any(chunk) for chunk in iter(partial(file.read, 1 << 16), b""))


def read_journal(path: Path) -> Iterator[Record]:
    """The records in order, up to a torn tail; raises as `JournalReader`."""
    return iter(JournalReader(path))


def _encoded(record: Record) -> list[Any]:
    if isinstance(record, Start):
        return ["start", msgspec.to_builtins(record)]
    if isinstance(record, Known):
        orders, riders = record.orders, record.riders
        return ["known", [msgspec.to_builtins(o) for o in orders], msgspec.to_builtins(riders)]
    if isinstance(record, Events):
        return ["events", record.position, [encode_event(e) for e in record.events]]
    if isinstance(record, FrameOfFixes):
        return ["fixes", record.segment, record.offset, record.length]
    if isinstance(record, Tick):
        return ["tick", record.at_ms]
    if isinstance(record, PlanMade):
        return ["plan", record.at_ms, record.solver, record.digest, record.ms, record.refused]
    if isinstance(record, Broken):
        return ["broken", record.at_ms, record.why]
    return ["written", record.at_ms, [list(pair) for pair in record.dropped]]


def _decoded(raw: Sequence[Any], path: Path) -> Record:
    kind, *rest = raw
    if kind == "start":
        start = msgspec.convert(rest[0], Start)
        if start.version != VERSION:
            raise InvalidValue(f"{path}.version", start.version, str(VERSION))
        return start
    if kind == "known":
        return Known(
            orders=msgspec.convert(rest[0], tuple[Order, ...]),
            riders=msgspec.convert(rest[1], tuple[Rider, ...]),
        )
    if kind == "events":
        return Events(rest[0], tuple(decode_event(e) for e in rest[1]))
    if kind == "fixes":
        return FrameOfFixes(*rest)
    if kind == "tick":
        return Tick(*rest)
    if kind == "plan":
        return PlanMade(*rest)
    if kind == "written":
        return PlanWritten(at_ms=rest[0], dropped=tuple((a, b) for a, b in rest[1]))
    if kind == "broken":
        return Broken(*rest)
    raise InvalidValue(f"{path}.kind", kind, "a kind of journal record")
