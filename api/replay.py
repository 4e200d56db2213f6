"""Replays a live journal into the same engine and compares every plan; may import the journal.

Nothing is timed again and nothing is asked of a server: events come from the journal, positions
from the segment files, and each recorded tick makes the same snapshot and the same plan.
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
    PlanMade,
    Record,
    Start,
    Tick,
    journals,
    read_journal,
)
from api.pool import FrameRow
from api.segments import read
from dispatch.dispatcher import Decide, Decided, Dispatcher, Known, PlanWritten
from dispatch.engine import GREEDY, NONE, decide, no_plan
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from geo.errors import InvalidValue


@dataclass(slots=True)
class ReplayResult:
    """What a replay found. `different` holds (at_ms, recorded digest, replayed digest); `broken`
    counts journals that say where their disk failed, `gaps` those that begin after such a time."""

    files: int = 0
    rounds: int = 0
    equal: int = 0
    refused: int = 0
    events: int = 0
    fixes: int = 0
    greedy: int = 0
    broken: int = 0
    gaps: int = 0
    different: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.rounds > 0 and self.equal == self.rounds


def replay_folder(folder: Path, progress: Callable[[int], None] | None = None) -> ReplayResult:
    """Every journal of a data folder, oldest first. `progress` is told the rounds done.

    Raises MissingFile when the folder holds no journal or a segment that one names is gone, and
    InvalidValue for a file that is not a journal or does not fit itself.
    """
    result = ReplayResult()
    for path in journals(folder):
        result.files += 1
        _Replay(path, folder / "segments", result, progress).run()
    return result


class _Replay:
    """One file."""

    def __init__(
        self,
        path: Path,
        segments: Path,
        result: ReplayResult,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._path, self._segments, self._result = path, segments, result
        self._progress = progress
        self._dispatcher: Dispatcher | None = None
        self._policy = Policy()
        self._asked: Snapshot | None = None

    def run(self) -> None:
        for record in read_journal(self._path):
            if isinstance(record, Broken):
                self._result.broken += 1
            elif isinstance(record, Start):
                self._result.gaps += record.gap_since_ms is not None
                self._policy = record.policy
                self._dispatcher = make_dispatcher(record.city, record.policy)
            else:
                assert self._dispatcher is not None
                self._take(self._dispatcher, record)

    def _take(self, dispatcher: Dispatcher, record: Record) -> None:
        if isinstance(record, Known | PlanWritten):
            dispatcher.receive(record)
        elif isinstance(record, Events):
            self._result.events += len(record.events)
            for event in record.events:
                dispatcher.receive(event)
        elif isinstance(record, FrameOfFixes):
            stored = read(self._segments, record.segment, record.offset, record.length)
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
            raise InvalidValue(f"{self._path}: plan", made.at_ms, f"the round asked at {asked}")
        if made.solver == NONE:
            plan = no_plan(self._asked)
        else:
            plan = decide(self._asked, self._policy, made.solver)
        self._asked = None
        result, digest = self._result, plan.digest()
        result.rounds += 1
        result.refused += made.refused
        result.greedy += made.solver == GREEDY
        if digest == made.digest:
            result.equal += 1
        else:
            result.different.append((made.at_ms, made.digest, digest))
        dispatcher.receive(Decided(plan=empty_plan(plan) if made.refused else plan))
        if self._progress is not None:
            self._progress(result.rounds)
