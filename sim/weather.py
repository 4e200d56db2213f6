"""When it rains in a scenario and what day it is there: what that changes; uses numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.hours import I8, LocalTime, local_time
from sim.scenario import HOUR_MS, WEEKDAYS, Scenario, SpecialDay, Spell
from sim.streams import stream

_DAY_H = 24

F8 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Conditions:
    """How fast riders are and what they accept, by time: factors that hold from each of `from_ms`
    (which rises) to the next; before the first they are 1."""

    from_ms: tuple[int, ...]
    speed: tuple[float, ...]
    accept: tuple[float, ...]

    def scaled(self, by: float, most: float = inf) -> Conditions:
        """The same with all speeds so many times as high, but none above `most`."""
        speed = tuple(min(by * fast, most) for fast in self.speed)
        return Conditions(self.from_ms, speed, self.accept)

    def speed_at(self, now_ms: int) -> float:
        at = bisect_right(self.from_ms, now_ms) - 1
        return self.speed[at] if at >= 0 else 1.0

    def accept_at(self, now_ms: int) -> float:
        at = bisect_right(self.from_ms, now_ms) - 1
        return self.accept[at] if at >= 0 else 1.0


class Rain(NamedTuple):
    """It rains in [from_ms, to_ms), ms UTC: so many times as many orders, as fast riders, as many
    accepted offers."""

    from_ms: int
    to_ms: int
    demand: float
    speed: float
    accept: float


def draw_rain(scenario: Scenario, seed: int) -> tuple[Rain, ...]:
    """The spells that are told, and those that are drawn."""
    rain = scenario.rain
    spells = list(rain.spells)
    if rain.per_day:
        rng = stream(seed, "weather", "rain")
        length_h = scenario.duration_s / 3600
        for _ in range(rng.poisson(rain.per_day * length_h / _DAY_H)):
            from_h = float(rng.uniform(0.0, length_h))
            to_h = from_h + max(float(rng.exponential(rain.hours)), 1e-3)
            spells.append(Spell(from_h=from_h, to_h=to_h))
    return tuple(
        Rain(
            scenario.start_ms + round(spell.from_h * HOUR_MS),
            scenario.start_ms + round(spell.to_h * HOUR_MS),
            _own(spell.demand_factor, rain.demand_factor),
            _own(spell.speed_factor, rain.speed_factor),
            _own(spell.accept_factor, rain.accept_factor),
        )
        for spell in spells
    )


def _own(factor: float | None, usual: float) -> float:
    return usual if factor is None else factor


def conditions(
    scenario: Scenario, rain: Sequence[Rain], speed_by_hour: Sequence[float] = ()
) -> Conditions | None:
    """What holds for a rider whose speed changes by the local hour; None where nothing changes.

    Spells at the same time multiply.
    """
    if not rain and not speed_by_hour:
        return None
    start_ms = scenario.start_ms
    last_ms = start_ms + scenario.horizon_s * 1000
    turns = {start_ms}
    for spell in rain:
        turns |= {spell.from_ms, spell.to_ms}
    local = local_time(start_ms, last_ms, scenario.city.zone)
    if speed_by_hour:
        turns |= set(local.edges_ms[:-1].tolist())
    at = np.array(sorted(turns), np.int64)
    hour = local.quarter[local.bins(at)] // 4
    from_ms: list[int] = []
    speed: list[float] = []
    accept: list[float] = []
    for at_ms, at_hour in zip(at.tolist(), hour.tolist(), strict=True):
        fast, willing = speed_by_hour[at_hour] if speed_by_hour else 1.0, 1.0
        for spell in rain:
            if spell.from_ms <= at_ms < spell.to_ms:
                fast *= spell.speed
                willing *= spell.accept
        if not from_ms or (fast, willing) != (speed[-1], accept[-1]):
            from_ms.append(at_ms)
            speed.append(fast)
            accept.append(willing)
    return Conditions(tuple(from_ms), tuple(speed), tuple(accept))


@dataclass(frozen=True, slots=True, eq=False)
class Cause:
    """A special day or a spell of rain: `factor` times as many orders of `job_type` ("": of any)
    come in [from_ms, to_ms), in those quarter hours of `local` where `quarters` is true.

    `name` says what and when it is, whatever other causes there are.
    """

    name: str
    factor: float
    job_type: str
    from_ms: int
    to_ms: int
    local: LocalTime
    quarters: NDArray[np.bool_]

    def holds(self, at_ms: I8) -> NDArray[np.bool_]:
        here = self.quarters[self.local.bins(at_ms)]
        return here & (self.from_ms <= at_ms) & (at_ms < self.to_ms)

    @property
    def touched(self) -> NDArray[np.bool_]:
        """The quarter hours in which it holds for a while at least."""
        edges = self.local.edges_ms
        return self.quarters & (edges[1:] > self.from_ms) & (edges[:-1] < self.to_ms)


class Causes:
    """What makes more or fewer orders come than the scenario's rates; several multiply."""

    def __init__(self, scenario: Scenario, rain: Sequence[Rain], local: LocalTime) -> None:
        first_ms, end_ms = int(local.edges_ms[0]), int(local.edges_ms[-1])
        found = []
        for day in scenario.days:
            name = "-".join(filter(None, (day.date or day.weekday, day.job_type)))
            on = _on(day, local)
            found.append(Cause(name, day.factor, day.job_type, first_ms, end_ms, local, on))
        always = np.ones(len(local), np.bool_)
        for spell in rain:
            name = f"rain-{spell.from_ms - scenario.start_ms}-{spell.to_ms - scenario.start_ms}"
            found.append(Cause(name, spell.demand, "", spell.from_ms, spell.to_ms, local, always))
        again: Counter[str] = Counter()
        for i, cause in enumerate(found):
            again[cause.name] += 1
            if again[cause.name] > 1:
                found[i] = replace(cause, name=f"{cause.name}-{again[cause.name]}")
        self._all = sorted((c for c in found if c.factor != 1.0), key=lambda c: c.name)

    def __bool__(self) -> bool:
        return bool(self._all)

    def kept(self, at_ms: I8, job_type: str) -> F8:
        """The share of the orders at each instant that causes with a factor below 1 leave."""
        out = np.ones(len(at_ms))
        for cause in self._of(job_type):
            if cause.factor < 1.0:
                out[cause.holds(at_ms)] *= cause.factor
        return out

    def adding(self, job_type: str) -> Iterator[tuple[Cause, tuple[Cause, ...]]]:
        """Each cause with a factor above 1, and those of them that go before it: it makes more of
        what these have added, too."""
        before: tuple[Cause, ...] = ()
        for cause in self._of(job_type):
            if cause.factor > 1.0:
                yield cause, before
                before = (*before, cause)

    def _of(self, job_type: str) -> Iterator[Cause]:
        return (cause for cause in self._all if cause.job_type in ("", job_type))


def _on(day: SpecialDay, local: LocalTime) -> NDArray[np.bool_]:
    if day.weekday:
        return np.asarray(local.weekday == WEEKDAYS.index(day.weekday))
    return np.asarray(local.day == date.fromisoformat(day.date).toordinal())
