"""A given day is run as it is: the drawn one as without it, a real one with its own places."""

import dataclasses

import numpy as np
import pytest

from dispatch import events as e
from dispatch.model import Place, Rider
from geo.errors import InvalidValue
from sim.crew import Member
from sim.day import Day, draw_day
from sim.demand import NEVER, Demand
from sim.run import simulate
from sim.scenario import load_scenario

SMALL = load_scenario("small")
TINY = dataclasses.replace(
    SMALL, duration_s=900, orders=dataclasses.replace(SMALL.orders, count=40, peaks=())
)
START_MS = TINY.start_ms


def run(scenario, seed=1, **kwargs):
    return simulate(scenario, seed, stopwatch=lambda: 0.0, **kwargs)


def places(*xy):
    return TINY.plane.lat_lon(*np.array(xy, np.float64).T)


def columns(**changed):
    """Two orders of a real day: the first promised and told, the second neither."""
    pickup_lat, pickup_lon = places((0.0, 0.0), (500.0, 0.0))
    door_lat, door_lon = places((0.0, 900.0), (500.0, 900.0))
    given = dict(
        ids=("x-17", "x-9"), at_ms=START_MS + np.array([1_000, 60_000]),
        jobs=("delivery",), job=np.zeros(2, np.int64),
        merchants=("noodles",), merchant=np.array([0, -1]),
        pickup_lat=pickup_lat, pickup_lon=pickup_lon, door_lat=door_lat, door_lon=door_lon,
        prep_ms=np.array([300_000, NEVER]), late_ms=np.array([0, 120_000]),
        cancel_after_ms=np.full(2, NEVER), promise_ms=np.array([START_MS + 3_000_000, NEVER]),
        items=np.array([1, 2]),
    )  # fmt: skip
    return Demand(**given | changed)


def courier():
    lat, lon = TINY.plane.lat_lon(100.0, 100.0)
    return Member(
        rider=Rider(id="carla", city=TINY.city.name, vehicle="car", speed_mps=5.0),
        x=100.0, y=100.0, place=Place(lat=lat, lon=lon),
        shift_start_ms=START_MS, shift_end_ms=START_MS + 7_200_000,
    )  # fmt: skip


def test_the_drawn_day_runs_as_without_it():
    assert run(TINY, day=draw_day(TINY, 1)).event_log_sha256 == run(TINY).event_log_sha256


def test_one_day_meets_other_knobs():
    other = dataclasses.replace(TINY, decide_ms=900)
    day = draw_day(TINY, 1)
    assert run(other, day=day).event_log_sha256 == run(other).event_log_sha256
    later = dataclasses.replace(TINY, start_ms=START_MS + 1)
    with pytest.raises(InvalidValue, match=r"day\.start_ms"):
        run(later, day=day)


def test_a_real_day_keeps_its_ids_places_times_and_promises():
    events = []
    day = Day(scenario=TINY, demand=columns(), crew=(courier(),))
    out = run(TINY, day=day, on_event=events.append)
    placed = [ev.fact.order for ev in events if isinstance(ev.fact, e.Placed)]
    one, two = placed
    assert (one.id, one.merchant_id, one.created_at_ms) == ("x-17", "noodles", START_MS + 1_000)
    assert one.promise_to_ms == START_MS + 3_000_000
    assert one.promise_from_ms < one.promise_to_ms
    assert one.stops[0].earliest_ms == START_MS + 301_000
    assert (one.stops[0].place.lat, one.stops[1].place.lon) == (
        day.demand.pickup_lat[0],
        day.demand.door_lon[0],
    )
    assert (two.id, two.merchant_id, two.stops[0].earliest_ms) == ("x-9", "", None)
    assert two.promise_to_ms > two.created_at_ms
    done = {(ev.order_id, ev.fact.stop): ev for ev in events if isinstance(ev.fact, e.StopDone)}
    assert done["x-9", 0].at_ms >= START_MS + 60_000 + 120_000  # ready in truth, though untold
    assert {ev.fact.rider_id for ev in done.values()} == {"carla"}
    assert out.kpis["orders_delivered"] == 2


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"items": np.ones(3, np.int64)}, r"demand\.items"),
        ({"ids": ("x-17",)}, r"demand\.ids"),
        ({"at_ms": np.array([START_MS + 5, START_MS])}, r"demand\.at_ms"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changed, named):
    with pytest.raises(InvalidValue, match=named):
        columns(**changed)
