"""The journal gives back what was written, and a replay of it decides the same."""

import asyncio

import pytest

from api.journal import (
    CityShape,
    Events,
    FrameOfFixes,
    JournalWriter,
    PlanMade,
    Start,
    Tick,
    journals,
    read_journal,
)
from api.replay import replay_folder
from api.segments import FixRow, Record, SegmentWriter
from dispatch.commands import Confirm, GoOnShift
from dispatch.dispatcher import Decide, Decided, Dispatcher, Known, PlanWritten
from dispatch.engine import decide
from dispatch.model import Place, Rider
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.transitions import apply, apply_rider
from geo.distance import Plane
from geo.errors import InvalidValue, MissingFile
from geo.travel import StraightLine

AT = 1_700_000_000_000
CITY = CityShape(name="demo", lat=31.23, lon=121.47)


def shift(name, lat):
    on = GoOnShift(at_ms=AT, shift_end_ms=AT + 3_600_000, place=Place(lat=lat, lon=121.47))
    return apply_rider(Rider(id=name, city="demo"), on)


def order(name):
    kind = job_type("delivery")
    here, there = Place(lat=31.231, lon=121.47), Place(lat=31.24, lon=121.47)
    form = OrderForm(customer_id="c", stops=(StopForm(place=here), StopForm(place=there)))
    made = kind.order(name, "demo", form, kind.quote(form, AT), AT)
    return apply(made, Confirm(at_ms=AT))


def records():
    """A small round: two riders, the far one comes near by a fix, one order."""
    return [
        Start(city=CITY, policy=Policy()),
        Known(orders=(), riders=()),
        Events(3, (*shift("near", 31.232), *shift("far", 31.30))),
        Events(5, order("o1")),
    ]


async def written(folder, fix_lat=31.2311):
    """The folder of a live run, with the round's true plan."""
    segments = SegmentWriter(folder / "segments", "g1")
    row = FixRow("far", 0, AT + 10, fix_lat, 121.47)
    future = segments.append(Record(received_ms=AT + 20, rows=[row]))
    await segments.commit()
    ref = await future
    await segments.close()
    dispatcher = Dispatcher("demo", Plane(CITY.lat, CITY.lon), StraightLine(1.3), Policy())
    with JournalWriter(folder / "journal", "demo", AT) as journal:
        for record in records():
            journal.write(record)
            for event in record.events if isinstance(record, Events) else ():
                dispatcher.receive(event)
        journal.write(FrameOfFixes(ref.name, ref.offset, ref.length))
        from api.dispatching import fixes_of

        dispatcher.receive(fixes_of([row]))
        journal.write(Tick(AT + 1_000))
        dispatcher.tick(AT + 1_000)
        (effect,) = dispatcher.outbox()
        assert isinstance(effect, Decide)
        plan = decide(effect.snapshot, Policy())
        journal.write(PlanMade(plan.at_ms, plan.solver, plan.digest(), 1.5, False))
        dispatcher.receive(Decided(plan=plan))
        journal.write(PlanWritten(at_ms=plan.at_ms, dropped=(("o1", "order_moved"),)))
    return plan


def test_records_come_back_equal(tmp_path):
    asyncio.run(written(tmp_path))
    (path,) = journals(tmp_path)
    found = list(read_journal(path))
    assert found[:4] == records()
    assert [type(r) for r in found[4:]] == [FrameOfFixes, Tick, PlanMade, PlanWritten]
    assert found[-1].dropped == (("o1", "order_moved"),)


def test_a_replay_decides_the_same(tmp_path):
    plan = asyncio.run(written(tmp_path))
    assert [o.rider_id for o in plan.offers] == ["far"], "the fix must matter to the plan"
    result = replay_folder(tmp_path)
    assert result.ok
    assert (result.rounds, result.equal, result.fixes) == (1, 1, 1)


def test_a_replay_notices_another_position(tmp_path):
    asyncio.run(written(tmp_path / "a"))
    asyncio.run(written(tmp_path / "b", fix_lat=31.29))
    other = next((tmp_path / "b" / "segments").glob("*.seg"))
    mine = next((tmp_path / "a" / "segments").glob("*.seg"))
    mine.write_bytes(other.read_bytes())
    result = replay_folder(tmp_path / "a")
    assert not result.ok
    assert len(result.different) == 1


def test_a_torn_tail_is_left_out_and_wrong_files_are_refused(tmp_path):
    asyncio.run(written(tmp_path))
    (path,) = journals(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert not any(isinstance(r, PlanWritten) for r in read_journal(path))
    path.write_bytes(b"\x93\xa4tick\x01\x02")
    with pytest.raises(InvalidValue, match="a record"):
        list(read_journal(path))
    path.write_bytes(b"\x92\xa4tick\x01")
    with pytest.raises(InvalidValue, match="start record"):
        list(read_journal(path))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(MissingFile, match="journal"):
        replay_folder(tmp_path)
    asyncio.run(written(tmp_path))
    next((tmp_path / "segments").glob("*.seg")).unlink()
    with pytest.raises(MissingFile, match="seg"):
        replay_folder(tmp_path)
