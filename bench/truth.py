"""A live demo beside the simulator on the same scenario, seed and span: does it lie within?

The demo and every simulated run have the same orders and riders; what riders answer and how long
they take is drawn anew by each seed. A demo is one more draw, so that each figure has a prediction
interval, mean -+ t sd sqrt(1 + 1/n), with Bonferroni's level for as many figures: all of them hold
together in 95 of 100 demos of a true simulator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from api.journal import Events, journals, read_journal
from dispatch.events import Event, Placed, RiderEvent, WentOnShift
from sim.day import Day, draw_day
from sim.demand import Demand
from sim.kpi import KpiBook, Kpis
from sim.run import simulate
from sim.scenario import Scenario

WARM_S = 60
"""Orders placed in the first minute are left out: the servers and 300 phones are still starting,
which is not simulated."""
CONFIDENCE = 0.95
FIGURES = (
    "orders_delivered",
    "offers_accepted_share",
    "click_to_door_mean_min",
    "click_to_door_p95_min",
    "match_mean_min",
    "to_pickup_mean_min",
    "wait_pickup_mean_min",
    "to_door_mean_min",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One figure: the demo's, and the interval in which it should lie."""

    name: str
    live: float
    mean: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low <= self.live <= self.high


def compare(folder: Path, scenario: Scenario, seed: int, span_s: int, seeds: int) -> list[Truth]:
    """The demo of that scenario and seed in the folder, over `span_s` from when its bots began."""
    day = draw_day(scenario, seed)
    events = sorted(_events(folder), key=lambda event: event.at_ms)
    began_ms = _began_ms(events, day)
    live = _kpis(events, began_ms, span_s, scenario)
    assert isinstance(day.demand, Demand)
    first = day.demand.before(scenario.start_ms + span_s * 1000)
    day = replace(day, demand=first, crew=_as_they_came(day, events, began_ms))
    runs = [_simulated(scenario, day, n + 1, span_s) for n in range(seeds)]
    return [_truth(name, live, runs) for name in FIGURES]


def _truth(name: str, live: Kpis, runs: list[Kpis]) -> Truth:
    values = np.array([run[name] for run in runs], np.float64)
    told = live[name]
    assert told is not None
    n, mean = len(values), float(values.mean())
    t = float(stdtrit(n - 1, 1.0 - (1.0 - CONFIDENCE) / len(FIGURES) / 2))
    half = t * float(values.std(ddof=1)) * sqrt(1.0 + 1.0 / n)
    return Truth(name=name, live=float(told), mean=mean, low=mean - half, high=mean + half)


def _events(folder: Path) -> Iterable[Event | RiderEvent]:
    for path in journals(folder):
        for record in read_journal(path):
            if isinstance(record, Events):
                yield from record.events


def _began_ms(events: list[Event | RiderEvent], day: Day) -> int:
    """When the bots began: no order is placed before its time, and the quickest was not late."""
    placed = [e.at_ms for e in events if isinstance(e.fact, Placed)]
    offsets = day.demand.at_ms[: len(placed)] - day.scenario.start_ms
    return int((np.array(placed) - offsets).min())


def _as_they_came(day: Day, events: list[Event | RiderEvent], began_ms: int):
    """The riders, each on shift from when the live server had him on: 300 phones need seconds."""
    came = {e.rider_id: e.at_ms for e in events if isinstance(e.fact, WentOnShift)}
    start_ms = day.scenario.start_ms
    return tuple(
        replace(m, shift_start_ms=max(m.shift_start_ms, start_ms + came[m.rider.id] - began_ms))
        for m in day.crew
        if m.rider.id in came
    )


def _simulated(scenario: Scenario, day: Day, seed: int, span_s: int) -> Kpis:
    events: list[Event | RiderEvent] = []
    simulate(scenario, seed, day=day, stopwatch=lambda: 0.0, on_event=events.append)
    return _kpis(events, scenario.start_ms, span_s, scenario)


def _kpis(events: list[Event | RiderEvent], began_ms: int, span_s: int, scenario: Scenario) -> Kpis:
    warm_ms, end_ms = began_ms + WARM_S * 1000, began_ms + span_s * 1000
    early = {e.order_id for e in events if isinstance(e.fact, Placed) and e.at_ms < warm_ms}
    book = KpiBook(scenario.plane, scenario.travel.build())
    for event in events:
        late = event.at_ms > end_ms
        if not late and not (isinstance(event, Event) and event.order_id in early):
            book.add(event)
    found = book.result(end_ms)
    offers, accepted = found["offers_made"], found["offers_accepted"]
    found["offers_accepted_share"] = accepted / offers if offers and accepted else None
    return found
