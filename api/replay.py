"""Replays a live journal into the same engine and compares every plan; may import the journal.

Nothing is timed again and nothing is asked of a server: events come from the journal, positions
from the segment files, and each recorded tick makes the same snapshot and the same plan. What is
read is used and forgotten, so that a journal may be of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from api.dispatching import empty_plan, fixes_of, make_dispatcher
from api.journal import (
    Broken,
    Events,
    FrameOfFixes,
    JournalReader,
    PlanMade,
    Record,
    Start,
    Tick,
    city_of,
    journals,
    started_ms,
)
from api.pool import FrameRow
from api.segments import SegmentReader
from dispatch.dispatcher import Decide, Decided, Dispatcher, Known, PlanWritten
from dispatch.engine import GREEDY, NONE, decide, no_plan
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from geo.errors import InvalidValue

DIFFERENT_KEPT = 100
TELL_EVERY = 200  # records


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a replay is: bytes of the journals read, of `bytes_all`, and rounds decided."""

    bytes_read: int
    bytes_all: int
    rounds: int


@dataclass(slots=True)
class ReplayResult:
    """What a replay found. `different` holds the first (at_ms, recorded digest, replayed digest).

    `broken` counts journals that say where their disk failed, `gaps` those that begin after such a
    time, `torn` has the files that a crash cut off, with the bytes of the torn record left out.
    """

    files: int = 0
    bytes_read: int = 0
    rounds: int = 0
    equal: int = 0
    refused: int = 0
    events: int = 0
    fixes: int = 0
    greedy: int = 0
    broken: int = 0
    gaps: int = 0
    torn: list[tuple[str, int]] = field(default_factory=list)
    different: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.rounds > 0 and self.equal == self.rounds


def replay_folder(
    folder: Path,
    progress: Callable[[ReplayProgress], None] | None = None,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> ReplayResult:
    """Every journal of a data folder, oldest first, or the rounds from one instant to another.

    A journal that the next one of its city had followed by `from_ms` is not read; one that is, is
    replayed from its start, but its earlier rounds are not counted. Raises MissingFile when the
    folder holds no journal or a segment that one names is gone, and InvalidValue for a file that
    is not a journal or does not fit itself.
    """
    result = ReplayResult()
    paths = _within(journals(folder), from_ms, to_ms)
    bytes_all = sum(path.stat().st_size for path in paths)

    def tell(here: int) -> None:
        if progress is not None:
            read = result.bytes_read + here
            progress(ReplayProgress(bytes_read=read, bytes_all=bytes_all, rounds=result.rounds))

    segments = SegmentReader(folder / "segments")
    try:
        for path in paths:
            result.files += 1
            reader = JournalReader(path)
            _Replay(reader, segments, result, from_ms, to_ms, tell).run()
            result.bytes_read += reader.offset
            if reader.torn:
                result.torn.append((path.name, reader.torn))
            tell(0)
    finally:
        segments.close()
    return result


def last_round_ms(folder: Path) -> int | None:
    """When the last round of a data folder was; None for one without rounds. Decides nothing."""
    for path in reversed(journals(folder)):
        rounds = [record.at_ms for record in JournalReader(path) if isinstance(record, PlanMade)]
        if rounds:
            return rounds[-1]
    return None


def _within(paths: list[Path], from_ms: int | None, to_ms: int | None) -> list[Path]:
    """The journals that may hold rounds of the time, by when they and the next ones were begun."""
    found = []
    for i, path in enumerate(paths):
        next_ms = next((started_ms(p) for p in paths[i + 1 :] if city_of(p) == city_of(path)), None)
        over = from_ms is not None and next_ms is not None and next_ms <= from_ms
        later = to_ms is not None and started_ms(path) >= to_ms
        if not over and not later:
            found.append(path)
    return found


class _Replay:
    """One file."""

    def __init__(
        self,
        reader: JournalReader,
        segments: SegmentReader,
        result: ReplayResult,
        from_ms: int | None,
        to_ms: int | None,
        tell: Callable[[int], None],
    ) -> None:
        self._reader, self._segments, self._result = reader, segments, result
        self._from_ms, self._to_ms, self._tell = from_ms, to_ms, tell
        self._dispatcher: Dispatcher | None = None
        self._policy = Policy()
        self._asked: Snapshot | None = None

    def run(self) -> None:
        for count, record in enumerate(self._reader):
            if isinstance(record, Broken):
                self._result.broken += 1
            elif isinstance(record, Start):
                self._result.gaps += record.gap_since_ms is not None
                self._policy = record.policy
                self._dispatcher = make_dispatcher(record.city, record.policy)
            elif self._is_over(record):
                return
            else:
                assert self._dispatcher is not None
                self._take(self._dispatcher, record)
            if count % TELL_EVERY == 0:
                self._tell(self._reader.offset)

    def _is_over(self, record: Record) -> bool:
        return self._to_ms is not None and isinstance(record, Tick) and record.at_ms >= self._to_ms

    def _take(self, dispatcher: Dispatcher, record: Record) -> None:
        if isinstance(record, Known | PlanWritten):
            dispatcher.receive(record)
        elif isinstance(record, Events):
            self._result.events += len(record.events)
            for event in record.events:
                dispatcher.receive(event)
        elif isinstance(record, FrameOfFixes):
            stored = self._segments.read(record.segment, record.offset, record.length)
            known = (r for r in stored.rows if not r.on_trust)  # the others were in no frame
            rows = [FrameRow(r.rider_id, r.seq, r.at_ms, r.lat, r.lon) for r in known]
            self._result.fixes += len(rows)
            dispatcher.receive(fixes_of(rows))
        elif isinstance(record, Tick):
            dispatcher.tick(record.at_ms)
        elif isinstance(record, PlanMade):
            self._compare(dispatcher, record)
        for effect in dispatcher.outbox():
            if isinstance(effect, Decide):
                self._asked = effect.snapshot

    def _compare(self, dispatcher: Dispatcher, made: PlanMade) -> None:
        if self._asked is None or self._asked.at_ms != made.at_ms:
            asked = None if self._asked is None else self._asked.at_ms
            where = f"{self._reader.path}: plan"
            raise InvalidValue(where, made.at_ms, f"the round asked at {asked}")
        if made.solver == NONE:
            plan = no_plan(self._asked)
        else:
            plan = decide(self._asked, self._policy, made.solver)
        self._asked = None
        if self._from_ms is None or made.at_ms >= self._from_ms:
            self._count(made, plan.digest())
        dispatcher.receive(Decided(plan=empty_plan(plan) if made.refused else plan))

    def _count(self, made: PlanMade, digest: str) -> None:
        result = self._result
        result.rounds += 1
        result.refused += made.refused
        result.greedy += made.solver == GREEDY
        if digest == made.digest:
            result.equal += 1
        elif len(result.different) < DIFFERENT_KEPT:
            result.different.append((made.at_ms, made.digest, digest))
