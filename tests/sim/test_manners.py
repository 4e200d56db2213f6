"""Breaks, rain, the hour, far offers, empty doors: what the minds make of them, and whole runs."""

import dataclasses
from collections import Counter, defaultdict

import numpy as np
import pytest

from dispatch import events as e
from dispatch.model import Place, Rider, StopKind, StopState
from geo.travel import TravelLaw
from sim.behaviour import Answer, EndShift, OfferSeen, Report, RiderMind, StartShift, StopAhead
from sim.city import build_city
from sim.crew import Member, draw_crew
from sim.day import draw_day
from sim.manners import manners_of
from sim.run import simulate
from sim.scenario import (
    HOUR_MS,
    LEGAL_SPEED_MPS,
    BreakKnobs,
    CustomerKnobs,
    HomeKnobs,
    OrderKnobs,
    RainKnobs,
    RiderKnobs,
    Shift,
    Spell,
    Vehicle,
    load_scenario,
)
from sim.weather import Conditions, conditions, draw_rain

SMALL = load_scenario("small")
# Half an hour of it, for whole runs.
SHORT = dataclasses.replace(
    SMALL,
    duration_s=1_800,
    horizon_s=7_200,
    orders=OrderKnobs(count=120),
    riders=dataclasses.replace(SMALL.riders, count=50),
)
SURE = RiderKnobs(
    count=1,
    shifts=(Shift(start_h=0, hours=8),),
    accept_share=1.0,
    ignore_share=0.0,
    service_spread=0.0,
)


def mind_of(knobs=SURE, of_day=None, seed=0, end_ms=8 * HOUR_MS):
    member = Member(
        rider=Rider(id="r", city="c", speed_mps=5.0),
        x=0.0,
        y=0.0,
        place=Place(lat=30.0, lon=104.0),
        shift_start_ms=1_000,
        shift_end_ms=end_ms,
        conditions=of_day,
    )
    mind = RiderMind(
        knobs=knobs,
        law=TravelLaw(0, 1.0, 1),
        speed_mps=5.0,
        x=0.0,
        y=0.0,
        shift_start_ms=1_000,
        shift_end_ms=end_ms,
        rng=np.random.default_rng(seed),
        manners=manners_of(knobs, member, seed),
    )
    mind.act(1_000)
    return mind


def run(scenario, seed=3):
    """The outcome and all events."""
    told: list = []
    out = simulate(scenario, seed, stopwatch=lambda: 0.0, on_event=told.append)
    return out, told


def test_who_is_asked_for_nothing_has_no_manners():
    member = draw_crew(SMALL, build_city(SMALL, 1), 1)[0]
    assert member.conditions is None
    assert manners_of(SMALL.riders, member, 1) is None


# --- breaks ---


def test_a_break_comes_when_told_and_ends_when_told():
    knobs = dataclasses.replace(SURE, breaks=BreakKnobs(every_h=2.0, minutes=20.0))
    mind = mind_of(knobs)
    off_ms = mind.wake_at()
    assert 1.5 * HOUR_MS <= off_ms - 1_000 <= 2.5 * HOUR_MS
    assert mind.act(off_ms) == [EndShift()]
    mind.offered(off_ms, OfferSeen(order_id="a", number=1, deadline_ms=off_ms + 20_000))
    back_ms = mind.wake_at()
    assert 15 * 60_000 <= back_ms - off_ms <= 25 * 60_000
    assert mind.act(back_ms) == [StartShift(shift_end_ms=8 * HOUR_MS)]
    assert 1.5 * HOUR_MS <= mind.wake_at() - back_ms <= 2.5 * HOUR_MS


def test_nobody_leaves_for_a_break_with_an_order_or_an_answer_to_give():
    knobs = dataclasses.replace(SURE, breaks=BreakKnobs(every_h=1.0))
    mind = mind_of(knobs)
    due_ms = mind.wake_at()
    stop = StopAhead(order_id="a", stop=0, number=1, kind=StopKind.VISIT, x=10.0, y=0.0,
                     ready_ms=due_ms + 5_000)  # fmt: skip
    mind.route(due_ms - 100_000, [stop])
    while mind.wake_at() <= due_ms:
        assert EndShift() not in mind.act(mind.wake_at())
    done = mind.act(mind.wake_at())
    assert [a.state for a in done if isinstance(a, Report)] == [StopState.DONE]
    assert EndShift() in done
    other = mind_of(knobs)
    due_ms = other.wake_at()
    other.offered(due_ms - 1, OfferSeen(order_id="a", number=1, deadline_ms=due_ms + 60_000))
    assert EndShift() not in other.act(due_ms)
    assert [type(a) for a in other.act(other.wake_at())] == [Answer]


def test_a_break_at_the_end_of_a_shift_is_its_end():
    knobs = dataclasses.replace(SURE, breaks=BreakKnobs(every_h=1.0, minutes=300.0))
    mind = mind_of(knobs, end_ms=2 * HOUR_MS)
    assert mind.act(mind.wake_at()) == [EndShift()]
    assert mind.wake_at() is None


def test_breaks_in_a_run_are_where_the_rider_is_and_break_nothing():
    riders = dataclasses.replace(SHORT.riders, breaks=BreakKnobs(every_h=0.25, minutes=4.0))
    out, told = run(dataclasses.replace(SHORT, riders=riders))
    assert out.violations == ()
    assert out.kpis["refused_plans"] == 0
    shifts = defaultdict(list)
    for event in told:
        if isinstance(event, e.RiderEvent):
            shifts[event.rider_id].append(event)
    pauses, moved = [], 0
    for own in shifts.values():
        for off, on in zip(own[1::2], own[2::2], strict=False):
            pauses.append((on.at_ms - off.at_ms) / 60_000)
            moved += on.fact.rider.place != own[0].fact.rider.place
    assert len(pauses) > 50
    assert 3.0 <= min(pauses) <= max(pauses) <= 5.1
    assert moved > 20


# --- offers ---


def offers_accepted(knobs, of_day=None, pickup=None, n=2_000):
    mind = mind_of(knobs, of_day)
    for i in range(n):
        seen = OfferSeen(order_id=f"{i}", number=1, deadline_ms=10 * HOUR_MS, pickup=pickup)
        mind.offered(2_000, seen)
    given = [a for a in mind.act(2 * HOUR_MS) if isinstance(a, Answer)]
    return sum(a.accept for a in given) / n, len(given) / n


def test_far_from_home_and_in_the_rain_less_is_accepted():
    knobs = dataclasses.replace(
        SURE, accept_share=0.8, ignore_share=0.1, home=HomeKnobs(far_m=1_000.0, far_factor=0.5)
    )
    near, answered = offers_accepted(knobs, pickup=(600.0, 600.0))
    assert near == pytest.approx(0.8, abs=0.04)
    assert answered == pytest.approx(0.9, abs=0.03)
    far, answered = offers_accepted(knobs, pickup=(900.0, 900.0))
    assert far == pytest.approx(0.4, abs=0.05)
    assert answered == pytest.approx(0.9, abs=0.03)  # no more are ignored
    wet = Conditions((0,), (1.0,), (0.7,))
    assert offers_accepted(knobs, wet)[0] == pytest.approx(0.56, abs=0.05)
    farther = dataclasses.replace(SURE, accept_drop_per_km=0.2)
    assert offers_accepted(farther, pickup=(2_000.0, 0.0))[0] == pytest.approx(0.6, abs=0.05)


def test_the_world_tells_where_an_offer_is_picked_up():
    home = HomeKnobs(far_m=1.0, far_factor=0.0)
    riders = dataclasses.replace(SHORT.riders, home=home, count=5)
    orders = OrderKnobs(count=5)
    few = dataclasses.replace(SHORT, riders=riders, orders=orders, duration_s=60, horizon_s=300)
    out, _ = run(few)
    assert out.kpis["offers_declined"] >= 5
    assert out.kpis["offers_accepted"] == 0


# --- speed ---


def test_he_rides_as_fast_as_the_moment_allows():
    slow = Conditions((0, 100_000), (0.5, 1.0), (1.0, 1.0))
    stop = StopAhead(order_id="a", stop=0, number=1, kind=StopKind.PICKUP, x=100.0, y=0.0)
    early, late = mind_of(of_day=slow), mind_of(of_day=slow)
    early.route(2_000, [stop])
    early.act(2_000)
    assert early.wake_at() == 2_000 + 40_000
    late.route(200_000, [stop])
    late.act(200_000)
    assert late.wake_at() == 200_000 + 20_000


def test_hours_and_spells_multiply_and_hold_as_long_as_told():
    by_hour = tuple(0.8 if hour == 12 else 1.0 for hour in range(24))
    city = dataclasses.replace(SMALL.city, zone="Asia/Shanghai")
    noon = dataclasses.replace(SMALL, city=city)  # starts at 11:00 there
    spell = Spell(from_h=1.5, to_h=2.5, speed_factor=0.5, accept_factor=0.9)
    noon = dataclasses.replace(noon, rain=RainKnobs(spells=(spell,)))
    found = conditions(noon, draw_rain(noon, 1), by_hour)
    at = [found.speed_at(SMALL.start_ms + int(h * HOUR_MS)) for h in (0.5, 1.2, 1.6, 2.2, 2.6)]
    assert at == pytest.approx([1.0, 0.8, 0.4, 0.5, 1.0])
    willing = [found.accept_at(SMALL.start_ms + int(h * HOUR_MS)) for h in (-1.0, 1.6, 2.6)]
    assert willing == [1.0, 0.9, 1.0]


def test_a_rider_is_registered_with_his_mean_speed_and_never_beyond_the_law():
    by_hour = tuple(0.5 if hour % 2 else 1.5 for hour in range(24))
    vehicle = Vehicle(vehicle="scooter", share=1.0, speed_mps=6.0, speed_by_hour=by_hour)
    shifts = (Shift(start_h=0, hours=2),)
    riders = dataclasses.replace(SMALL.riders, vehicles=(vehicle,), speed_spread=0.0, shifts=shifts)
    member = draw_crew(dataclasses.replace(SMALL, riders=riders), build_city(SMALL, 1), 1)[0]
    registered = member.rider.speed_mps
    assert registered == pytest.approx(6.0)
    true = [registered * member.conditions.speed_at(SMALL.start_ms + h * HOUR_MS) for h in (0, 1)]
    assert true == pytest.approx([3.0, LEGAL_SPEED_MPS["scooter"]])  # 03:00 UTC, then 04:00


def test_vehicles_have_their_shares_loads_and_speeds():
    vehicles = (
        Vehicle(vehicle="foot", share=0.2, speed_mps=1.4, capacity=3),
        Vehicle(vehicle="motorcycle", share=0.5, speed_mps=8.0, capacity=12),
    )
    riders = dataclasses.replace(SMALL.riders, vehicles=vehicles, count=4_000)
    crew = draw_crew(dataclasses.replace(SMALL, riders=riders), build_city(SMALL, 1), 1)
    share = Counter(m.rider.vehicle for m in crew)
    assert share["foot"] / 4_000 == pytest.approx(0.2, abs=0.025)
    assert share["motorcycle"] / 4_000 == pytest.approx(0.5, abs=0.032)
    assert {m.rider.capacity for m in crew if m.rider.vehicle == "motorcycle"} == {(12,)}
    for member in crew:
        assert member.rider.speed_mps <= LEGAL_SPEED_MPS[member.rider.vehicle]


def test_rain_makes_a_run_slower():
    rain = RainKnobs(spells=(Spell(from_h=0, to_h=4, demand_factor=1.0, speed_factor=0.6),))
    dry, _ = run(SHORT)
    wet, _ = run(dataclasses.replace(SHORT, rain=rain))
    assert wet.kpis["orders_created"] == dry.kpis["orders_created"]
    assert wet.kpis["to_door_mean_min"] > 1.2 * dry.kpis["to_door_mean_min"]
    assert wet.violations == ()


# --- customers ---


def test_a_rider_waits_at_an_empty_door_and_reports_it():
    mind = mind_of()
    door = StopAhead(order_id="a", stop=1, number=1, kind=StopKind.DROPOFF, x=50.0, y=0.0,
                     approach_ms=1_000, no_answer_ms=90_000)  # fmt: skip
    mind.route(2_000, [door])
    told = []
    while mind.wake_at() is not None and mind.wake_at() < HOUR_MS:
        at_ms = mind.wake_at()
        told += [(at_ms, a.state) for a in mind.act(at_ms) if isinstance(a, Report)]
    assert told == [
        (2_000, StopState.HEADING),
        (12_000, StopState.ARRIVED),
        (103_000, StopState.FAILED),
    ]


def test_what_nobody_takes_is_brought_back_and_tips_are_income():
    knobs = CustomerKnobs(unreachable_share=0.1, wait_s=120.0, tip_share=0.5, tip_fen=400.0)
    scenario = dataclasses.replace(SHORT, customers=knobs)
    out, told = run(scenario)
    demand = draw_day(scenario, 3).demand
    away = {demand.request(i).order_id for i in range(len(demand))
            if demand.request(i).no_answer_ms is not None}  # fmt: skip
    failed = {t.order_id for t in told if isinstance(t.fact, e.StopFailed)}
    returned = {t.order_id for t in told if isinstance(t.fact, e.Returned)}
    done = {t.order_id for t in told if isinstance(t.fact, e.Finished)}
    assert failed == returned <= away
    assert not done & away
    assert len(returned) > 4
    assert out.kpis["orders_returned"] == len(returned)
    assert out.violations == ()
    tips = sum(fen for order, fen in demand.tips().items() if order in done)
    assert out.kpis["tips_yuan"] == pytest.approx(tips / 100)
    plain, _ = run(dataclasses.replace(scenario, customers=dataclasses.replace(
        knobs, tip_share=0.0)))  # fmt: skip
    assert plain.event_log_sha256 == out.event_log_sha256
    more = out.kpis["income_per_online_h_yuan"] - plain.kpis["income_per_online_h_yuan"]
    assert more * out.kpis["online_h"] == pytest.approx(tips / 100)
