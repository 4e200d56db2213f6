"""A fork starts from what the journal says was, goes on as the minds would, and explains itself."""

import json
import re
from dataclasses import replace

import msgspec
import pytest

from api.cli.fork import read_setting, run_fork
from api.cli.instants import shown, zone_of
from api.journal import (
    Events,
    JournalWriter,
    PlanMade,
    Tick,
    journals,
    read_journal,
    started_ms,
)
from bench.recorded import record_run
from dispatch.events import Event, Offered, Placed
from dispatch.lifecycle import ORDER
from dispatch.model import AssignmentState, OrderState, StopState
from dispatch.transitions import evolve
from geo.errors import HexrunError, InvalidValue, UnknownKey
from sim.day import draw_day
from sim.fork import estimate, fork, prediction
from sim.recorded import Recorded
from sim.scenario import load_scenario

ZONE = zone_of("Asia/Shanghai")


def town(**otherwise):
    found = load_scenario("small")
    return replace(
        found,
        duration_s=1_800,
        orders=replace(found.orders, count=170, peaks=()),
        riders=replace(found.riders, count=50, fix_s=2.0),
        customers=replace(found.customers, cancel_share=0.15, patience_s=600),
        **otherwise,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of a run, and its events."""
    folder, events = tmp_path_factory.mktemp("recorded") / "live", []
    record_run(folder, town(), 5, events.append)
    return folder, events


@pytest.fixture(scope="module")
def setting(recorded):
    return read_setting(recorded[0], "11:15", None, None, ZONE)


@pytest.fixture(scope="module")
def result(setting):
    slow = replace(setting.policy, tick_ms=20_000)
    return fork(
        setting.branch(setting.policy), setting.branch(slow), setting.moment, range(1, 4),
        stopwatch=lambda: 0.0,
    )  # fmt: skip


def stood(events, at_ms):
    """The orders as they stood at the instant."""
    orders = {}
    for event in events:
        if isinstance(event, Event) and event.at_ms < at_ms:
            before = event.fact.order if isinstance(event.fact, Placed) else orders[event.order_id]
            orders[event.order_id] = evolve(before, event)
    return orders


def over(order):
    return order.state is OrderState.DONE or ORDER.ended(order.state)


def test_the_moment_is_what_the_events_say(recorded, setting):
    _, events = recorded
    moment = setting.moment
    then = stood(events, moment.at_ms)
    live = {name: order for name, order in then.items() if not over(order)}
    assert {o.id: o for o in moment.orders} == live
    states = {stop.state for order in moment.orders for stop in order.stops}
    assert states >= {StopState.PLANNED, StopState.HEADING, StopState.ARRIVED, StopState.DONE}
    placed = [e.order_id for e in events if isinstance(e.fact, Placed)]
    assert [a.order.id for a in moment.arrivals] == placed[len(then) :]
    assert len(moment.shifts) == 50
    assert set(moment.seen) == {shift.rider.id for shift in moment.shifts}


def test_habits_are_those_of_the_scenario(setting):
    knobs, habits = town().riders, setting.habits
    assert habits.riders.accept_share == pytest.approx(knobs.accept_share, abs=0.05)
    assert habits.riders.answer_s == pytest.approx(knobs.answer_s, rel=0.15)
    assert habits.riders.service_factor == pytest.approx(knobs.service_factor, abs=0.03)
    assert habits.riders.service_spread == pytest.approx(knobs.service_spread, abs=0.05)
    assert habits.ride_factor == pytest.approx(1.0, abs=0.01)
    assert habits.decide_ms + habits.write_ms == 200


def test_who_is_on_his_way_arrives_when_he_did(recorded, setting):
    """What was driven at the moment is driven on: diversions apart, arrivals are the recorded."""
    moment, branch = setting.moment, setting.branch(setting.policy)
    lives, _ = branch.run(1, lambda: 0.0)
    told = branch.recorded().by_id
    off = []
    for order in moment.orders:
        first, last = order.stops
        was, now = told[order.id], lives.by_id[order.id]
        if first.state is StopState.HEADING and not order.declined_by:
            off.append(abs(was.arrived_ms - now.arrived_ms))
        elif last.state is StopState.HEADING:
            off.append(abs(was.at_door_ms - now.at_door_ms))
    assert len(off) >= 5
    assert sorted(off)[len(off) // 2] <= 2_500, f"the fixes are 2 s apart: {sorted(off)}"


def test_orders_cancelled_by_their_customers_are_cancelled_again(recorded, setting):
    moment, branch = setting.moment, setting.branch(setting.policy)
    lives, broken = branch.run(2, lambda: 0.0)
    assert broken == ()
    told = branch.recorded().by_id
    cancelled = [n for n, life in told.items() if life.state is OrderState.CANCELLED_CUSTOMER]
    assert len(cancelled) >= 2
    assert set(cancelled) == set(moment.cancels)
    again = [name for name in cancelled if lives.by_id[name].state is not OrderState.DONE]
    assert again, "not all of them are served before"
    for name in cancelled:
        life = lives.by_id[name]
        assert life.picked_ms or life.ended_ms == moment.cancels[name].at_ms
    assert all(life.ended_ms for life in lives.by_id.values()), "no order is left behind"


def test_goods_that_riders_waited_for_are_ready_when_they_were(recorded, setting):
    moment = setting.moment
    day = draw_day(town(), 5)
    true = {r.order_id: r.ready_ms for r in map(day.demand.request, range(len(day.demand)))}
    assert len(moment.ready_ms) > 5
    assert all(true[name] == ready_ms for name, ready_ms in moment.ready_ms.items())


def test_the_same_policy_changes_nothing_and_a_branch_can_run_again(setting):
    branch = setting.branch(setting.policy)
    same = fork(
        branch, setting.branch(setting.policy), setting.moment, [3, 3], stopwatch=lambda: 0.0
    )
    assert same.total.mean == same.total.low == same.total.high == 0.0
    assert {cause.mean for cause in same.causes.values()} == {0.0}
    assert set(same.changed.values()) == {0.0}
    assert same.effects == []
    for was, now, less in same.figures.values():
        assert was == now
        assert less.mean == 0.0


def test_causes_add_up_and_say_what_the_policy_does(result):
    assert sum(c.mean for c in result.causes.values()) == pytest.approx(result.total.mean, abs=1e-9)
    # Rounds of 20 s rather than 5: the first offer comes 7.5 s later.
    waited = result.causes["waited_for_offer"]
    assert waited.low < 7.5 / 60 < waited.high or waited.mean == pytest.approx(7.5 / 60, rel=0.4)
    assert result.changed["accepted_later"] > result.orders / 3
    assert result.violations == ()
    assert len(result.effects) == 10
    adds = [abs(effect.adds_min) for effect in result.effects]
    assert adds == sorted(adds, reverse=True)


def test_the_simulator_is_near_the_recording(result):
    for name in ("orders_delivered", "click_to_door_mean_min", "offers_made"):
        told, simulated = result.near[name]
        assert simulated.mean == pytest.approx(told, rel=0.05), name


def test_an_offer_that_was_being_written_stands(recorded):
    _, events = recorded
    offered = next(e for e in events if isinstance(e.fact, Offered) and e.at_ms % 5_000 == 200)
    at_ms = offered.at_ms - 100  # decided, and not written yet
    found = Recorded(at_ms=at_ms, offer_ms=town().policy.offer_ms)
    for event in events:
        found.event(event)
    orders = {order.id: order for order in found.moment(1.5).orders}
    live = orders[offered.order_id].assignment
    assert live.state is AssignmentState.OFFERED
    assert live.rider_id == offered.fact.rider_id
    earlier = Recorded(at_ms=at_ms - 5_000, offer_ms=town().policy.offer_ms)
    for event in events:
        earlier.event(event)
    before = {order.id: order for order in earlier.moment(1.5).orders}
    assert offered.order_id not in before or before[offered.order_id].assignment is None


def test_restarts_between_journals_lose_no_order(tmp_path):
    """What happened while a dispatcher was away stands in what the next one knew."""
    found, events = load_scenario("faults"), []
    brief = replace(found, duration_s=2_400, orders=replace(found.orders, count=150, peaks=()))
    record_run(tmp_path / "live", brief, 5, events.append)
    assert len(journals(tmp_path / "live")) > 2
    setting = read_setting(tmp_path / "live", "11:15", None, None, ZONE)
    moment = setting.moment
    then = stood(events, moment.at_ms)
    live = {name for name, order in then.items() if not over(order)}
    assert {order.id for order in moment.orders} == live
    later = {e.order_id for e in events if isinstance(e.fact, Placed)} - set(then)
    assert {arrival.order.id for arrival in moment.arrivals} == later
    lives, broken = setting.branch(setting.policy).run(1, lambda: 0.0)
    assert broken == ()
    assert len(lives.by_id) == len(live) + len(later)


def refused(folder, **otherwise):
    of = {"at": "11:15", "until": None, "city": None, "zone": ZONE} | otherwise
    with pytest.raises(HexrunError) as error:
        read_setting(folder, **of)
    return str(error.value)


def test_times_and_cities_that_were_not_recorded_are_refused(recorded, tmp_path):
    folder, _ = recorded
    begun = shown(started_ms(journals(folder)[0]), ZONE)
    assert f"a time within the recording, from {begun}" in refused(folder, at="16:00")
    assert "the journals begin then" in refused(folder, at="2026-05-31T12:00")
    assert "later than 2026-06-01 11:15:00" in refused(folder, until="2026-06-01T11:10")
    assert "one of chengdu" in refused(folder, city="shanghai")
    assert "holds no journal" in refused(tmp_path)


def test_times_are_taken_as_they_are_told(recorded, capsys):
    """The first and the last time that a message names are times; others come back as typed."""
    folder, _ = recorded
    told = refused(folder, at="16:00")
    assert told.startswith("at: '16:00' is not valid")
    first, last = re.findall(r"\d+-\d+-\d+ (\d+:\d+:\d+)", told)
    for at in (first, last):
        assert read_setting(folder, at, None, None, ZONE).moment.at_ms % 5_000 == 0
    assert refused(folder, at="16:00:01").startswith("at: '16:00:01'")
    begun_ms = started_ms(journals(folder)[0])
    odd = folder.parent / "odd"
    (odd / "journal").mkdir(parents=True, exist_ok=True)
    (odd / "segments").symlink_to(folder / "segments")
    (odd / "journal" / f"chengdu-{begun_ms + 493}.journal").symlink_to(journals(folder)[0])
    assert read_setting(odd, first, None, None, ZONE).moment.at_ms == begun_ms + 5_000


@pytest.mark.parametrize("until", ["11:10", "2026-06-01T18:00", "11:15"])
def test_an_end_that_was_not_recorded_is_refused(recorded, until):
    """A time of day before `--at` is tomorrow's: not cut to the end without a word."""
    told = refused(recorded[0], until=until)
    assert f"until: '{until}' is not valid, expected later than 2026-06-01 11:15:00" in told
    assert "the last record" in told


def without(folder, to, from_ms, to_ms, fresh):
    """A copy in which nothing was written between two instants; `fresh` begins a new file then."""
    (to / "segments").parent.mkdir()
    (to / "segments").symlink_to(folder / "segments")
    path = journals(folder)[0]
    writer = JournalWriter(to / "journal", "chengdu", started_ms(path))
    now_ms, start, cut = 0, None, False
    for record in read_journal(path):
        start = start or record
        if isinstance(record, Events):
            now_ms = max(now_ms, record.events[-1].at_ms)
        elif isinstance(record, Tick | PlanMade):
            now_ms = record.at_ms
        if from_ms < now_ms < to_ms:
            if isinstance(record, Events):  # what happened, happened: before
                early = tuple(msgspec.structs.replace(e, at_ms=from_ms) for e in record.events)
                writer.write(Events(record.position, early))
            continue
        if now_ms >= to_ms and fresh and not cut:
            writer.close()
            writer, cut = JournalWriter(to / "journal", "chengdu", to_ms), True
            writer.write(start)
        writer.write(record)
    writer.close()
    return to


@pytest.mark.parametrize(
    ("gap_s", "fresh", "told"),
    [
        (40, True, "a time that was recorded: nothing is from 2026-06-01 11:14:"),
        (8, True, ""),
        (40, False, "the state is that of then"),
        (90, False, "a time that was recorded: nothing is from 2026-06-01 11:14:"),
    ],
)
def test_a_time_when_nothing_was_written(recorded, setting, tmp_path, capsys, gap_s, fresh, told):
    at_ms = setting.moment.at_ms
    gap = at_ms - gap_s * 1000 + 2_000, at_ms + 2_000
    folder = without(recorded[0], tmp_path / "gap", *gap, fresh)
    if told.startswith("a time"):
        assert told[:-9] in refused(folder)
    else:
        found = read_setting(folder, "11:15", None, None, ZONE)
        assert found.moment.at_ms == at_ms
        assert told in capsys.readouterr().err


def test_figures_that_too_few_cases_stand_behind_are_named(tmp_path, capsys):
    small = load_scenario("small")
    brief = replace(
        small, duration_s=900, orders=replace(small.orders, count=12, peaks=()),
        riders=replace(small.riders, count=12),
    )  # fmt: skip
    record_run(tmp_path / "live", brief, 5, lambda event: None)
    found = read_setting(tmp_path / "live", "11:05", None, None, ZONE)
    told = capsys.readouterr().err
    assert "fewer than 20 cases recorded: " in told
    assert f"service_factor ({found.habits.samples['services']} cases)" in told
    assert found.habits.riders.service_factor == 1.0


def test_a_recording_of_many_cases_has_no_defaults(setting):
    assert setting.habits.defaults == {}


def test_who_stops_a_fork_waits_for_no_seed(setting):
    asked = 0

    def stop():
        nonlocal asked
        asked += 1
        return asked > 3

    branch = setting.branch(setting.policy)
    of = {"stopwatch": lambda: 0.0, "stop": stop}
    assert fork(branch, branch, setting.moment, [1, 2], **of) is None
    assert asked == 4, "once a simulated minute, and not again"
    whole = 0

    def later(limit=10**9):
        nonlocal whole
        whole += 1
        return whole > limit

    fork(branch, branch, setting.moment, [1], stopwatch=lambda: 0.0, stop=later)
    minutes, whole = whole, 0
    kept = fork(
        branch, branch, setting.moment, [1, 2], stopwatch=lambda: 0.0,
        stop=lambda: later(minutes + 2),
    )  # fmt: skip
    assert kept.seeds == (1,)


def test_the_command_prints_the_difference(recorded, tmp_path, capsys):
    folder, _ = recorded
    policy = tmp_path / "other.yaml"
    policy.write_text("tick_ms: 15000\n")
    asked = {
        "at": "11:15", "policy": policy, "until": "11:20", "city": None,
        "zone_name": "Asia/Shanghai", "seed": 1, "replicas": 1,
    }  # fmt: skip
    run_fork(folder, **asked, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["policy_now"]["tick_ms"] == 15_000
    assert found["until_ms"] - found["at_ms"] == 300_000
    total = sum(cause["mean"] for cause in found["causes_min"].values())
    assert total == pytest.approx(found["click_to_door_difference_min"]["mean"], abs=1e-9)
    run_fork(folder, **asked, as_json=False)
    told = capsys.readouterr().out
    assert "tick_ms 5000 -> 15000" in told
    assert "waited for offer" in told
    policy.write_text("tik_ms: 15000\n")
    with pytest.raises(UnknownKey, match="tik_ms"):
        run_fork(folder, **asked, as_json=True)
    policy.write_text("tick_ms: 0\n")
    with pytest.raises(InvalidValue, match="tick_ms"):
        run_fork(folder, **asked, as_json=True)


def test_a_prediction_is_wider_than_an_interval_of_the_mean():
    values = [1.0, 2.0, 3.0, 4.0]
    mean, one = estimate(values), prediction(values)
    # t(0.975, 3) = 3.182446, sd = 1.290994
    assert mean.high - mean.mean == pytest.approx(3.182446 * 1.290994 / 2, rel=1e-5)
    assert one.high - one.mean == pytest.approx(3.182446 * 1.290994 * 1.25**0.5, rel=1e-5)
    assert estimate([1.0]).low is None
