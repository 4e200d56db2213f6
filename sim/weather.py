"""When it rains in a scenario and what day it is there: what that changes; uses numpy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import inf

import numpy as np

from sim.hours import LocalTime, local_time
from sim.scenario import WEEKDAYS, Scenario, SpecialDay, Spell
from sim.streams import stream

_DAY_H = 24


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


def draw_spells(scenario: Scenario, seed: int) -> tuple[Spell, ...]:
    """The spells of rain that are told, and those that are drawn, in which all else is as told."""
    rain = scenario.rain
    if not rain.per_day:
        return rain.spells
    rng = stream(seed, "weather", "rain")
    length_h = scenario.duration_s / 3600
    drawn = []
    for _ in range(rng.poisson(rain.per_day * length_h / _DAY_H)):
        from_h = float(rng.uniform(0.0, length_h))
        drawn.append(
            Spell(
                from_h=from_h,
                to_h=from_h + max(float(rng.exponential(rain.hours)), 1e-3),
                demand_factor=rain.demand_factor,
                speed_factor=rain.speed_factor,
                accept_factor=rain.accept_factor,
            )
        )
    return (*rain.spells, *drawn)


def conditions(
    scenario: Scenario, spells: Sequence[Spell], speed_by_hour: Sequence[float] = ()
) -> Conditions | None:
    """What holds for a rider whose speed changes by the local hour; None where nothing changes.

    Spells at the same time multiply.
    """
    if not spells and not speed_by_hour:
        return None
    start_ms = scenario.start_ms
    last_ms = start_ms + scenario.horizon_s * 1000
    turns = {start_ms}
    for spell in spells:
        turns |= {start_ms + spell.from_ms, start_ms + spell.to_ms}
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
        for spell in spells:
            if spell.from_ms <= at_ms - start_ms < spell.to_ms:
                fast *= spell.speed_factor
                willing *= spell.accept_factor
        if not from_ms or (fast, willing) != (speed[-1], accept[-1]):
            from_ms.append(at_ms)
            speed.append(fast)
            accept.append(willing)
    return Conditions(tuple(from_ms), tuple(speed), tuple(accept))


class DemandFactor:
    """How many times as many orders of a job type come at some moment, by day and by rain."""

    def __init__(self, scenario: Scenario, spells: Sequence[Spell], local: LocalTime) -> None:
        self._start_ms, self._spells, self._days = scenario.start_ms, spells, scenario.days
        self._local = local
        self.none = not self._days and all(s.demand_factor == 1.0 for s in spells)

    def at(self, at_ms: np.ndarray, job_type: str) -> np.ndarray:
        """A factor for each instant; several causes multiply."""
        out = np.ones(len(at_ms))
        bins = self._local.bins(at_ms)
        for day in self._days:
            if day.job_type in ("", job_type):
                out[self._is(day)[bins]] *= day.factor
        after_ms = at_ms - self._start_ms
        for spell in self._spells:
            rains = (spell.from_ms <= after_ms) & (after_ms < spell.to_ms)
            out[rains] *= spell.demand_factor
        return out

    def most(self, job_type: str) -> float:
        """No factor is larger."""
        days = [d.factor for d in self._days if d.job_type in ("", job_type)]
        factors = [*days, *(s.demand_factor for s in self._spells)]
        return float(np.prod([max(1.0, f) for f in factors]))

    def _is(self, day: SpecialDay) -> np.ndarray:
        if day.weekday:
            return np.asarray(self._local.weekday == WEEKDAYS.index(day.weekday))
        return np.asarray(self._local.day == date.fromisoformat(day.date).toordinal())
