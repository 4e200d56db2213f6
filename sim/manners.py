"""What a rider minds besides his route: rain, the hour, how far an offer is, his next break.

A mind without manners knows none of it. Uses numpy. Places are metres, instants ms UTC.
"""

from __future__ import annotations

from math import hypot

import numpy as np

from sim.crew import Member
from sim.scenario import HOUR_MS, RiderKnobs
from sim.streams import stream
from sim.weather import Conditions

_LEAST, _WIDTH = 0.75, 0.5
"""A break, and the time up to it, are as long as told give or take a quarter."""

Point = tuple[float, float]


class Manners:
    """One rider's. `break_ms` is when he would like his next break, None for never."""

    __slots__ = ("_conditions", "_home", "_knobs", "_rng", "break_ms")

    def __init__(
        self,
        knobs: RiderKnobs,
        conditions: Conditions | None,
        home: Point,
        rng: np.random.Generator | None,
    ) -> None:
        self._knobs, self._conditions, self._home, self._rng = knobs, conditions, home, rng
        self.break_ms: int | None = None

    def pace(self, now_ms: int) -> float:
        """How fast he is now, by the speed he is registered with."""
        return 1.0 if self._conditions is None else self._conditions.speed_at(now_ms)

    def accept_share(self, now_ms: int, here: Point, pickup: Point | None) -> float:
        """Of which part of the offers with such a pickup he would accept now."""
        knobs, share = self._knobs, self._knobs.accept_share
        if self._conditions is not None:
            share *= self._conditions.accept_at(now_ms)
        if pickup is None:
            return share
        x, y = pickup
        if knobs.home.far_m and hypot(x - self._home[0], y - self._home[1]) > knobs.home.far_m:
            share *= knobs.home.far_factor
        return max(0.0, share - knobs.accept_drop_per_km * hypot(x - here[0], y - here[1]) / 1000)

    def on_shift(self, now_ms: int) -> None:
        """A shift or the rest of one begins."""
        every_ms = self._knobs.breaks.every_h * HOUR_MS
        self.break_ms = now_ms + self._about(every_ms) if every_ms else None

    def break_end_ms(self, now_ms: int) -> int:
        """When a break that begins now is over."""
        return now_ms + self._about(self._knobs.breaks.minutes * 60_000)

    def _about(self, length_ms: float) -> int:
        assert self._rng is not None
        return int(length_ms * (_LEAST + _WIDTH * self._rng.random()))


def minds_places(knobs: RiderKnobs) -> bool:
    """Whether a rider cares where an offer's pickup is."""
    return bool(knobs.home.far_m or knobs.accept_drop_per_km)


def manners_of(knobs: RiderKnobs, member: Member, seed: int) -> Manners | None:
    """A rider's manners, None where the scenario asks for nothing. Breaks have a stream of their
    own, so that they change none of his other draws."""
    if not (member.conditions or knobs.breaks.every_h or minds_places(knobs)):
        return None
    rng = stream(seed, "rider", member.rider.id, "breaks") if knobs.breaks.every_h else None
    return Manners(knobs, member.conditions, (member.x, member.y), rng)
