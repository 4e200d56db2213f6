"""What a live city's journals hold, as a stream of values; may import the journal and segments.

Unlike a replay this decides nothing again: it gives what was known and what happened, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from api.journal import (
    Broken,
    Events,
    FrameOfFixes,
    JournalReader,
    PlanMade,
    Start,
    Tick,
    city_of,
    journals,
    started_ms,
)
from api.segments import SegmentReader
from dispatch.dispatcher import Known
from dispatch.events import Event, RiderEvent
from geo.errors import InvalidValue, UnknownName

TELL_EVERY = 1_000  # records


@dataclass(frozen=True, slots=True)
class Seen:
    """A rider's fix, in WGS-84 degrees, by the clock of his phone."""

    rider_id: str
    lat: float
    lon: float
    at_ms: int


Told = Start | Known | Event | RiderEvent | Seen | PlanMade | Broken


class Recording:
    """The journals of one city in a data folder.

    `city` may be left out where the folder has only one. Raises MissingFile for a folder without
    journals, UnknownName for a city that it does not have, InvalidValue for one that must be named.
    """

    def __init__(self, folder: Path, city: str | None = None) -> None:
        found = journals(folder)
        names = sorted({city_of(path) for path in found})
        if city is None and len(names) > 1:
            raise InvalidValue("city", None, f"one of {', '.join(names)}: the folder has several")
        if city is not None and city not in names:
            raise UnknownName("city", city, f"one of {', '.join(names)}")
        self.city = names[0] if city is None else city
        self.paths = [path for path in found if city_of(path) == self.city]
        self.begun_ms = started_ms(self.paths[0])
        self.torn: list[str] = []
        self._segments = folder / "segments"

    def before(self, at_ms: int) -> Path:
        """The journal that was being written at the instant. InvalidValue for one too early."""
        begun = [path for path in self.paths if started_ms(path) <= at_ms]
        if not begun:
            raise InvalidValue("at_ms", at_ms, f"{self.begun_ms} or later: the journals begin then")
        return begun[-1]

    def read(
        self,
        since: Path,
        seen_from_ms: int,
        seen_to_ms: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[tuple[Path, Told]]:
        """What the journals from `since` on hold, each value with its file.

        Fixes are read where a round between the two instants stands near: the others cost nothing.
        `progress` is told bytes read, of how many.
        """
        paths = self.paths[self.paths.index(since) :]
        size, done = sum(path.stat().st_size for path in paths), 0
        segments = SegmentReader(self._segments)
        try:
            for path in paths:
                reader = JournalReader(path)
                now_ms = started_ms(path)
                for count, record in enumerate(reader):
                    if isinstance(record, Tick | PlanMade):
                        now_ms = record.at_ms
                    if isinstance(record, Events):
                        now_ms = max(now_ms, record.events[-1].at_ms if record.events else 0)
                        yield from ((path, event) for event in record.events)
                    elif isinstance(record, FrameOfFixes):
                        if seen_from_ms <= now_ms < seen_to_ms:
                            yield from ((path, seen) for seen in _seen(segments, record))
                    elif isinstance(record, Start | Known | PlanMade | Broken):
                        yield path, record
                    if progress is not None and count % TELL_EVERY == 0:
                        progress(done + reader.offset, size)
                done += reader.offset
                if reader.torn:
                    self.torn.append(path.name)
        finally:
            segments.close()


def _seen(segments: SegmentReader, frame: FrameOfFixes) -> Iterator[Seen]:
    stored = segments.read(frame.segment, frame.offset, frame.length)
    for row in stored.rows:
        if not row.on_trust:
            yield Seen(row.rider_id, row.lat, row.lon, row.at_ms)
