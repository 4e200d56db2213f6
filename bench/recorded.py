"""Live folders made by the simulator: its runs, journaled as a live dispatcher's are.

For replays and forks of any length without hours of waiting. Every dispatcher of a run (a fault may
end one) writes a journal of its own, and positions go into segment files.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

import sim.run
from api.journal import CityShape, Events, FrameOfFixes, JournalWriter, PlanMade, Start, Tick
from api.messages import FixRow
from api.segments import Record
from dispatch.dispatcher import Decided, Dispatcher, Fixes, Known, PlanWritten
from dispatch.events import Event, RiderEvent
from sim.run import Outcome, simulate
from sim.scenario import Scenario

SEGMENT_RECORDS = 2_000


def record_run(folder: Path, scenario: Scenario, seed: int, on_event=None) -> Outcome:
    """Runs the scenario and leaves `journal/` and `segments/` in the folder."""
    tape = _Tape(folder, scenario)
    before = sim.run.Dispatcher
    sim.run.Dispatcher = lambda *of, **named: _Recorded(tape, *of, **named)  # type: ignore[assignment,misc]
    try:
        return simulate(scenario, seed, stopwatch=lambda: 0.0, on_event=on_event)
    finally:
        sim.run.Dispatcher = before  # type: ignore[misc]
        tape.close()


class _Tape:
    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._folder, self._policy = folder, scenario.policy
        city, travel = scenario.city, scenario.travel
        detour = {} if travel.detour is None else {"detour": travel.detour}
        self._shape = CityShape(
            name=city.name, lat=city.lat, lon=city.lon, travel=travel.model, **detour
        )
        self._journal: JournalWriter | None = None
        self._segment = None
        self._name, self._offset, self._records = "", 0, 0
        self._position = 0
        self.now_ms = scenario.start_ms
        (folder / "segments").mkdir(parents=True)

    def start(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self.now_ms += 1
        self._journal = JournalWriter(self._folder / "journal", self._shape.name, self.now_ms)
        self._journal.write(Start(city=self._shape, policy=self._policy))

    def write(self, record) -> None:
        assert self._journal is not None
        self._journal.write(record)

    def events(self, event: Event | RiderEvent) -> None:
        self._position += 1
        self.now_ms = max(self.now_ms, event.at_ms)
        self.write(Events(self._position, (event,)))

    def fixes(self, fixes: Fixes) -> None:
        columns = (fixes.at_ms.tolist(), fixes.lat.tolist(), fixes.lon.tolist())
        ids = fixes.rider_id
        if fixes.which is not None:
            ids = tuple(ids[row] for row in fixes.which.tolist())
        rows = [
            FixRow(rider_id=r, seq=0, at_ms=at, lat=lat, lon=lon)
            for r, at, lat, lon in zip(ids, *columns, strict=True)
        ]
        data = msgspec.msgpack.encode(Record(received_ms=self.now_ms, rows=rows))
        if self._segment is None or self._records >= SEGMENT_RECORDS:
            self.close_segment()
            self._name = f"g0-{self.now_ms}.seg"
            self._segment = (self._folder / "segments" / self._name).open("xb")
            self._offset = self._records = 0
        self._segment.write(data)
        self.write(FrameOfFixes(self._name, self._offset, len(data)))
        self._offset += len(data)
        self._records += 1

    def close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()

    def close(self) -> None:
        self.close_segment()
        if self._journal is not None:
            self._journal.close()


class _Recorded(Dispatcher):
    """Journals what it hears before it uses it, as the live driver does."""

    def __init__(self, tape: _Tape, *of, **named) -> None:
        super().__init__(*of, **named)
        self._tape = tape

    def follow(self, event: Event, after=None) -> None:
        self._tape.events(event)
        super().follow(event, after)

    def receive(self, message) -> None:
        tape = self._tape
        if isinstance(message, Known):
            tape.start()
            tape.write(message)
        elif isinstance(message, Event | RiderEvent):
            tape.events(message)
        elif isinstance(message, Fixes):
            tape.fixes(message)
        elif isinstance(message, PlanWritten):
            tape.write(message)
        elif isinstance(message, Decided):
            plan = message.plan
            tape.write(PlanMade(plan.at_ms, plan.solver, plan.digest(), 0.0, False))
        super().receive(message)

    def tick(self, now_ms: int, look=None) -> None:
        self._tape.now_ms = max(self._tape.now_ms, now_ms)
        fixes = look(now_ms) if look is not None else None
        if fixes is not None:
            self.receive(fixes)
        self._tape.write(Tick(now_ms))
        super().tick(now_ms)
