"""Runs in which everything goes wrong: the same twice, and no promise broken."""

import dataclasses
import json
import subprocess
import sys
import time
from functools import cache

import pytest
from msgspec import structs

from dispatch import events as e
from dispatch.model import Order, Place, Stop, StopKind
from geo.errors import InvalidValue, UnknownKey
from sim.day import draw_day
from sim.faults import (
    ClockKnobs,
    DropOutKnobs,
    Fate,
    FaultKnobs,
    Faults,
    PhoneKnobs,
    RepeatKnobs,
    RestartKnobs,
    SolverKnobs,
    WriteKnobs,
)
from sim.promises import SLACK_MS, Promises
from sim.run import simulate
from sim.scenario import load_scenario, parse_scenario

FAULTS = load_scenario("faults")
# Twenty minutes in which nearly everything goes wrong nearly all the time.
STORM = dataclasses.replace(
    FAULTS,
    name="storm",
    duration_s=1_200,
    orders=dataclasses.replace(FAULTS.orders, count=80, peaks=()),
    riders=dataclasses.replace(FAULTS.riders, count=30, accept_share=0.7, ignore_share=0.1),
    faults=parse_scenario(
        """
name: storm
city: {name: x, lat: 30.0, lon: 104.0, radius_m: 4000, hot_spots: 6}
start_ms: 1
duration_s: 1
horizon_s: 1
orders: {count: 1}
riders: {count: 1, shifts: [{start_h: 0, hours: 3}]}
merchants: {count: 1}
jobs: {delivery: 1.0}
faults:
  restarts: {at_s: [0, 600], per_h: 60, for_s: 15}
  writes: {dropped_share: 0.2, late_share: 0.3, late_s: 25, refused_share: 0.1}
  repeats: {share: 0.4, run_max: 50}
  solver: {late_share: 0.3, late_s: 8, at_s: [300], for_s: 300}
  phones: {per_h: 300, for_s: 400}
  drop_outs: {share: 0.3, within_s: 900}
  clocks: {share: 0.8, off_s: 300}
"""
    ).faults,
)


class Ran:
    def __init__(self, scenario, seed=1):
        self.events = []
        self.out = simulate(
            scenario, seed, stopwatch=time.perf_counter, on_event=self.events.append
        )
        self.facts = [event.fact for event in self.events]

    def count(self, kind):
        return sum(isinstance(fact, kind) for fact in self.facts)


def only(**knobs):
    """The storm's city with these faults alone."""
    return dataclasses.replace(STORM, faults=FaultKnobs(**knobs))


def in_two_processes(scenario):
    run = [sys.executable, "-m", "api.cli", "sim", "run", scenario, "--json"]
    running = [subprocess.Popen(run, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return [json.loads(process.communicate()[0]) for process in running]


@cache
def calm():
    return Ran(only())


def test_two_processes_have_the_same_faults_and_the_same_events():
    first, second = in_two_processes("faults")
    assert first["event_log_sha256"] == second["event_log_sha256"]
    assert first["violations"] == [] == second["violations"]
    assert first["orders_created"] == FAULTS.orders.count
    assert first["orders_reassigned"] > 0
    without = dataclasses.replace(FAULTS, faults=FaultKnobs())
    calm = simulate(without, 1, stopwatch=lambda: 0.0)
    assert calm.event_log_sha256 != first["event_log_sha256"]


@pytest.mark.parametrize("seed", range(1, 5))
def test_promises_hold_in_the_storm(seed):
    ran = Ran(STORM, seed)
    assert ran.out.violations == ()
    assert ran.count(e.Placed) == STORM.orders.count
    assert ran.count(e.Dropped) > 0
    # Nothing is left over: what nobody could serve has expired.
    over = ran.count(e.Finished) + ran.count(e.Cancelled) + ran.count(e.Expired)
    assert over == STORM.orders.count


@pytest.mark.parametrize("kind", [f.name for f in dataclasses.fields(FaultKnobs)])
def test_every_kind_of_fault_makes_a_difference_and_breaks_nothing(kind):
    ran = Ran(only(**{kind: getattr(STORM.faults, kind)}))
    assert ran.out.violations == ()
    if kind == "repeats":
        assert ran.out.event_log_sha256 == calm().out.event_log_sha256, (
            "known events change nothing"
        )
    else:
        assert ran.out.event_log_sha256 != calm().out.event_log_sha256
    came = {name for name, count in ran.out.faults.items() if count}
    by_refusal = {"restarts"} if kind == "writes" else set()
    assert came
    assert all(name.startswith(kind) for name in came - by_refusal)
    assert not calm().out.faults


def test_one_kind_of_fault_leaves_the_draws_of_the_others_as_they_were():
    def drawn(knobs):
        faults = Faults(knobs, 7, 0, 36_000, 50)
        return faults.restarts, faults.phones, faults.clock_off_ms.tolist()

    restarts, phones = RestartKnobs(per_h=5), PhoneKnobs(per_h=20)
    alone = drawn(FaultKnobs(restarts=restarts))
    both = drawn(FaultKnobs(restarts=restarts, phones=phones))
    clocks = drawn(FaultKnobs(restarts=restarts, phones=phones, clocks=ClockKnobs(share=0.5)))
    assert alone[0] == both[0] == clocks[0] != []
    assert alone[1] == [] != both[1] == clocks[1]
    assert any(clocks[2])
    assert not any(both[2])


def test_more_riders_have_faults_of_their_own_and_leave_the_others_theirs():
    def drawn(riders, at_s=()):
        phones = PhoneKnobs(per_h=30, at_s=at_s)
        faults = Faults(
            FaultKnobs(phones=phones, clocks=ClockKnobs(share=0.4)), 7, 0, 36_000, riders
        )
        return faults.phones, faults.clock_off_ms.tolist()

    (few, few_off), (many, many_off) = drawn(110), drawn(121)
    assert many_off[:110] == few_off
    moved = [new for old, new in zip(few, many, strict=True) if old != new]
    assert 0 < len(moved) < len(few) / 5  # a twelfth of some 300
    assert all(row >= 110 for _, row in moved)
    assert set(drawn(110, at_s=(5, 5))[0]) > set(few)


def test_riders_who_never_ride_change_nothing():
    scenario = only(clocks=STORM.faults.clocks)
    day = draw_day(scenario, 1)
    later_ms = scenario.start_ms + scenario.horizon_s * 1000 - 1
    late = [
        dataclasses.replace(
            member,
            rider=structs.replace(member.rider, id=f"never{i}"),
            shift_start_ms=later_ms,
            shift_end_ms=later_ms + 1,
        )
        for i, member in enumerate(day.crew)
    ]
    more = dataclasses.replace(day, crew=(*day.crew, *late))
    few, many = (simulate(scenario, 1, day=d, stopwatch=time.perf_counter) for d in (day, more))
    assert few.event_log_sha256 == many.event_log_sha256


def test_the_schedule_is_kept():
    faults = Faults(FaultKnobs(restarts=RestartKnobs(at_s=(60, 5))), 1, 1_000, 600, 5)
    assert faults.restarts == [6_000, 61_000]


def test_every_fault_can_be_scheduled():
    knobs = FaultKnobs(
        writes=WriteKnobs(dropped_at_s=(10,), late_at_s=(20, 20), refused_at_s=(5,)),
        solver=SolverKnobs(late_at_s=(30,)),
        drop_outs=DropOutKnobs(at_s=(40,), within_s=7),
        clocks=ClockKnobs(riders=(1, 99), off_s=3),
    )
    faults = Faults(knobs, 1, 0, 600, 3)
    fates = [faults.write(at_ms) for at_ms in (1_000, 5_000, 12_000, 21_000, 22_000, 60_000)]
    assert fates == [
        Fate.STANDS,
        Fate.REFUSED,
        Fate.DROPPED,
        Fate.LATE,
        Fate.LATE,
        Fate.STANDS,
    ]
    assert [faults.solver_is_late(at_ms) for at_ms in (29_999, 30_000, 35_000)] == [0, 1, 0]
    assert faults.drop_out_ms(39_000) is None
    assert 0 <= faults.drop_out_ms(41_000) < 7_000
    assert faults.drop_out_ms(42_000) is None
    assert faults.clock_off_ms.tolist() == [0, 3_000, 0]
    repeats = Faults(FaultKnobs(repeats=RepeatKnobs(at_s=(2,), run_max=2)), 1, 0, 600, 3)
    told = [e.Event("a", n, n * 1_000, e.Opened()) for n in range(1, 5)]
    heard = [one.seq for event in told for one in repeats.deliveries(event)]
    assert heard == [1, 2, 1, 2, 3, 4]


def test_a_schedule_leaves_the_draws_as_they_were():
    def fates(**more):
        knobs = FaultKnobs(writes=WriteKnobs(late_share=0.3, **more))
        faults = Faults(knobs, 1, 0, 600, 3)
        return [faults.write(n * 1_000) for n in range(50)]

    drawn, told = fates(), fates(dropped_at_s=(20,))
    assert [n for n in range(50) if drawn[n] is not told[n]] == [20]


@pytest.mark.parametrize(
    ("text", "error", "field"),
    [
        ("{restart: {}}", UnknownKey, "faults.restart"),
        ("{writes: {late_share: 1.5}}", InvalidValue, "faults.writes.late_share"),
        ("{writes: {late_share: 0.6, dropped_share: 0.6}}", InvalidValue, "faults.writes"),
        ("{phones: {for_s: -1}}", InvalidValue, "faults.phones.for_s"),
        ("{restarts: {at_s: [5, -5]}}", InvalidValue, "faults.restarts.at_s"),
        ("{repeats: {run_max: 0}}", InvalidValue, "faults.repeats.run_max"),
        ("{solver: {per_h: soon}}", InvalidValue, "faults.solver.per_h"),
    ],
)
def test_wrong_faults_are_refused_by_name(text, error, field):
    scenario = f"""
name: x
city: {{name: x, lat: 30.0, lon: 104.0, radius_m: 4000, hot_spots: 6}}
start_ms: 1
duration_s: 1
horizon_s: 1
orders: {{count: 1}}
riders: {{count: 1, shifts: [{{start_h: 0, hours: 3}}]}}
merchants: {{count: 1}}
jobs: {{delivery: 1.0}}
faults: {text}
"""
    with pytest.raises(error) as caught:
        parse_scenario(scenario)
    assert caught.value.field == field


# --- the promises themselves -------------------------------------------------------------------

PLACE = Place(lat=30.0, lon=104.0)
ORDER = Order(
    id="o", city="x", job_type="t", customer_id="c", created_at_ms=0, promise_from_ms=0,
    promise_to_ms=0, expires_at_ms=1_000, price_fen=1,
    stops=(Stop(kind=StopKind.VISIT, place=PLACE),),
)  # fmt: skip
OFFERED = e.Offered(number=1, rider_id="ann", deadline_ms=50, route=())
TIMED_OUT = e.TimedOut(number=1, rider_id="ann")
ACCEPTED = e.Accepted(number=1, rider_id="ann")


def broken(*facts, end_ms=0, seqs=None, at_ms=()):
    """`at_ms`, where it matters, are the instants of the last facts."""
    promises = Promises()
    facts = (e.Placed(order=ORDER), e.Opened(), *facts)
    at_ms = (0,) * (len(facts) - len(at_ms)) + tuple(at_ms)
    for seq, fact, when in zip(seqs or range(1, 99), facts, at_ms, strict=False):
        promises.add(e.Event("o", seq, when, fact))
    return promises.end(end_ms)


@pytest.mark.parametrize(
    ("told", "facts", "more"),
    [
        ("is ann's and bob's", [OFFERED, structs.replace(OFFERED, rider_id="bob")], {}),
        ("accepted by bob", [OFFERED, structs.replace(ACCEPTED, rider_id="bob")], {}),
        ("served by bob", [OFFERED, ACCEPTED, e.Heading(rider_id="bob", stop=0)], {}),
        ("goes from version 2 to 4", [OFFERED], {"seqs": [1, 2, 4]}),
        ("goes from version 2 to 2", [OFFERED], {"seqs": [1, 2, 2]}),
        ("has ended and gets Offered", [e.Expired(), OFFERED], {}),
        ("no rider, long past its expiry", [], {"end_ms": 1_001 + SLACK_MS}),
        ("an offer that is long over", [OFFERED], {"end_ms": 51 + SLACK_MS}),
        ("left with ann, who is off shift", [OFFERED, ACCEPTED], {}),
        ("given back by bob", [OFFERED, e.TimedOut(number=1, rider_id="bob")], {}),
        ("offered to ann after its expiry", [OFFERED], {"at_ms": [1_000]}),
        ("long after it could have", [e.Expired()], {"at_ms": [1_001 + SLACK_MS]}),
        ("long after", [OFFERED, TIMED_OUT, e.Expired()], {"at_ms": [9, 60, 1_001 + SLACK_MS]}),
    ],
)
def test_a_broken_promise_is_told(told, facts, more):
    (first, *_) = broken(*facts, **more)
    assert told in first


def test_a_kept_one_is_not():
    assert broken() == broken(OFFERED) == broken(OFFERED, end_ms=SLACK_MS) == []
    assert broken(e.Expired(), end_ms=9 * SLACK_MS) == []
    late = [999, 5 * SLACK_MS, 6 * SLACK_MS]
    assert broken(OFFERED, TIMED_OUT, e.Expired(), at_ms=late, end_ms=9 * SLACK_MS) == []
