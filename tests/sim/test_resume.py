"""Shifts that end and begin again after the moment, and minds that go on in the middle of a way."""

import pytest
from msgspec.structs import replace

from dispatch.commands import Confirm
from dispatch.dispatcher import Known
from dispatch.events import RiderEvent, WentOffShift, WentOnShift
from dispatch.model import Matching, Place, Rider, RiderState, StopKind, StopState
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.transitions import apply, fold
from geo.travel import TravelLaw
from sim.behaviour import EndShift, Report, RiderMind, StartShift, StopAhead
from sim.habits import HabitBook
from sim.lives import Lives
from sim.recorded import Recorded
from sim.resume import Resumed, Where
from sim.run import simulate
from sim.scenario import RiderKnobs, Shift, TravelKnobs
from sim.streams import stream

AT = 1_780_282_800_000
MINUTE = 60_000
HERE = Place(lat=30.65, lon=104.06)
WHERE = Where(name="town", lat=30.65, lon=104.06, travel=TravelKnobs())


def rider(name, end_ms, version=1):
    return Rider(id=name, city="town", state=RiderState.ON, shift_end_ms=end_ms, version=version,
                 place=HERE, speed_mps=6.0)  # fmt: skip


def came(name, seq, at_ms, end_ms):
    return RiderEvent(name, seq, at_ms, WentOnShift(rider=rider(name, end_ms, seq)))


def mind(**of):
    knobs = RiderKnobs(count=1, shifts=(Shift(start_h=0.0, hours=1.0),), service_spread=0.0)
    law = TravelLaw(metric=0, detour=1.0, quantum_ms=1)
    return RiderMind(
        knobs=knobs, law=law, speed_mps=5.0, x=0.0, y=0.0, shift_start_ms=AT,
        shift_end_ms=AT + 60 * MINUTE, rng=stream(1, "rider", "r"), **of,
    )  # fmt: skip


def ahead(index, state, x):
    kind = (StopKind.PICKUP, StopKind.DROPOFF)[index]
    return StopAhead(order_id="o", stop=index, number=1, kind=kind, x=x, y=0.0, state=state,
                     approach_ms=30_000, ready_ms=AT if index == 0 else 0)  # fmt: skip


def test_a_mind_goes_on_to_the_stop_that_it_was_driving_to():
    one = mind()
    # Seen 10 s ago at 100 m, 5 m/s, on his way to 600 m: there 90 s from now.
    one.resume(AT, (100.0, 0.0, AT - 10_000), 0, [ahead(0, StopState.HEADING, 600.0)])
    assert one.position(AT) == (150.0, 0.0)
    assert one.wake_at() == AT + 90_000
    (done,) = one.act(AT + 90_000)
    assert done == Report(order_id="o", stop=0, state=StopState.ARRIVED)


def test_a_mind_that_has_arrived_is_done_after_the_rest_of_its_service():
    one = mind()
    one.resume(AT, (600.0, 0.0, AT), AT - 20_000, [ahead(0, StopState.ARRIVED, 600.0)])
    assert one.wake_at() == AT + 10_000
    assert [a.state for a in one.act(AT + 10_000)] == [StopState.DONE]


def test_a_mind_between_stops_sets_out_at_once():
    one = mind()
    one.resume(AT, (0.0, 0.0, AT), AT - 5_000, [ahead(1, StopState.PLANNED, 500.0)])
    assert [a.state for a in one.act(AT)] == [StopState.HEADING]
    assert one.wake_at() == AT + 100_000


def test_a_mind_with_nothing_to_do_waits_for_the_end_of_its_shift():
    one = mind()
    one.resume(AT, (0.0, 0.0, AT), 0, [])
    assert one.wake_at() == AT + 60 * MINUTE


def test_a_second_shift_begins_where_it_was_recorded():
    one = mind()
    assert one.act(AT) == [StartShift(shift_end_ms=AT + 60 * MINUTE)]
    assert one.act(AT + 60 * MINUTE) == [EndShift()]
    assert one.wake_at() is None
    one.next_shift(50.0, 60.0, AT + 90 * MINUTE, AT + 120 * MINUTE)
    assert one.wake_at() == AT + 90 * MINUTE
    assert one.act(AT + 90 * MINUTE) == [StartShift(shift_end_ms=AT + 120 * MINUTE)]
    assert one.position(AT + 90 * MINUTE) == (50.0, 60.0)


def test_who_has_not_gone_stays_for_his_second_shift():
    one = mind()
    one.act(AT)
    one.next_shift(50.0, 60.0, AT + 30 * MINUTE, AT + 120 * MINUTE)
    assert one.wake_at() == AT + 120 * MINUTE
    assert one.position(AT) == (0.0, 0.0)


@pytest.fixture
def moment():
    """At AT + 10 min a is on shift, has a break and comes again; b comes later; c has gone."""
    recorded = Recorded(at_ms=AT + 10 * MINUTE, offer_ms=20_000)
    recorded.known(Known(orders=(), riders=(rider("c", AT + 9 * MINUTE),)), AT)
    events = [
        came("a", 1, AT, AT + 30 * MINUTE),
        RiderEvent("c", 2, AT + 9 * MINUTE, WentOffShift()),
        came("b", 1, AT + 15 * MINUTE, AT + 60 * MINUTE),
        RiderEvent("a", 2, AT + 20 * MINUTE, WentOffShift()),
        *apply(ordered("o1", AT + 22 * MINUTE), Confirm(at_ms=AT + 22 * MINUTE)),
        came("a", 3, AT + 40 * MINUTE, AT + 70 * MINUTE),
        *apply(ordered("o2", AT + 50 * MINUTE), Confirm(at_ms=AT + 50 * MINUTE)),
        RiderEvent("b", 2, AT + 60 * MINUTE, WentOffShift()),
    ]
    for event in events:
        recorded.event(event)
    return recorded.moment(1.2)


def ordered(name, at_ms):
    kind = job_type("delivery")
    door = Place(lat=30.655, lon=104.06)
    form = OrderForm(customer_id="c", stops=(StopForm(place=HERE), StopForm(place=door)))
    return kind.order(name, "town", form, kind.quote(form, at_ms), at_ms)


def test_shifts_are_told_with_their_ends(moment):
    told = [(s.rider.id, s.at_ms - AT, s.off_ms and s.off_ms - AT) for s in moment.shifts]
    assert told == [
        ("a", 0, 20 * MINUTE), ("b", 15 * MINUTE, 60 * MINUTE), ("a", 40 * MINUTE, None),
    ]  # fmt: skip


def test_riders_come_and_go_as_they_did(moment):
    habits = HabitBook(WHERE.plane, WHERE.travel.build(), 20_000).result()
    resumed = Resumed(moment, WHERE, habits, Policy())
    seen, lives = [], Lives(moment.until_ms)

    def heard(event):
        lives.add(event)
        if isinstance(event, RiderEvent):
            kind = isinstance(event.fact, WentOnShift)
            seen.append((event.rider_id, kind, event.seq, (event.at_ms - AT) // MINUTE))

    simulate(
        resumed.scenario, 1, day=resumed.day, stopwatch=lambda: 0.0, on_event=heard, since=resumed
    )
    assert ("a", False, 2, 20) in seen, "he went before the end of his shift, of his own accord"
    assert ("b", True, 1, 15) in seen
    assert ("a", True, 3, 40) in seen
    assert all(life.done_ms for life in lives.by_id.values())
    assert lives.by_id["o1"].rider_id == "b", "nobody else is on shift then"


def test_orders_from_the_hall_are_left_out_and_counted():
    recorded = Recorded(at_ms=AT, offer_ms=20_000)
    for name, matching in (("h", Matching.HALL), ("d", Matching.DISPATCH)):
        order = replace(ordered(name, AT + 1_000), matching=matching)
        for event in apply(order, Confirm(at_ms=AT + 1_000)):
            recorded.event(event)
    moment = recorded.moment(1.2)
    assert [arrival.order.id for arrival in moment.arrivals] == ["d"]
    assert moment.hall == 1


def test_what_a_later_dispatcher_knew_arrives_as_it_was_placed():
    """Between two journals nobody recorded the placing: the order's own state tells it."""
    recorded = Recorded(at_ms=AT, offer_ms=20_000)
    recorded.event(came("a", 1, AT - 1_000, AT + 30 * MINUTE))
    order = ordered("gap", AT + 5_000)
    placed = fold(order, apply(order, Confirm(at_ms=AT + 5_000)))
    recorded.known(Known(orders=(placed,), riders=()), AT + 60_000)
    moment = recorded.moment(1.2)
    assert [(a.at_ms, a.order) for a in moment.arrivals] == [(AT + 5_000, order)]
    (gone,) = moment.shifts
    assert gone.off_ms == AT + 60_000, "he is not among those whom the later one knew on shift"
