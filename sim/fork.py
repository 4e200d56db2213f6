"""What if: from one recorded moment on, two policies on the same orders and moods; uses scipy.

Both arms are simulated, from the same state with the same seeds, so that what differs between them
is the policy's doing. The recording stands beside them only as a check of the simulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import sqrt

import numpy as np
from scipy.special import stdtrit

from dispatch.model import Order
from dispatch.policy import Policy
from geo.arcs import arc_ms
from sim.causes import PARTS, Difference, difference
from sim.habits import Habits
from sim.lives import Lives, lives_kpis, snapshot_at
from sim.recorded import Moment
from sim.resume import Resumed, Where
from sim.run import Stopwatch, simulate

CONFIDENCE = 0.95

Kpis = Mapping[str, int | float | None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its 95 % interval (t on the seeds' values; None for one seed)."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """An order on which the policies differ: minutes from click to door under each, what that adds
    to the difference of the means in minutes an order, and the part that changed most."""

    order_id: str
    was_min: float | None
    now_min: float | None
    adds_min: float
    most: str
    riders: tuple[str, str]


@dataclass(slots=True, kw_only=True)
class ForkResult:
    """`figures`: by name (as it was, now, the paired difference); `causes`: minutes an order, which
    add up to `total`; `changed`: orders a seed; `near`: by name (recorded, as it was) up to the
    recording's end, with the interval in which one more seed would lie."""

    seeds: tuple[int, ...]
    orders: int
    figures: dict[str, tuple[Estimate, Estimate, Estimate]]
    total: Estimate | None
    causes: dict[str, Estimate]
    changed: dict[str, float]
    effects: list[Effect]
    near: dict[str, tuple[float | None, Estimate]]
    violations: tuple[str, ...]


class Branch:
    """One policy from the moment on."""

    def __init__(self, moment: Moment, where: Where, habits: Habits, policy: Policy) -> None:
        self._moment, self.policy = moment, policy
        self._resumed = Resumed(moment, where, habits, policy)
        law, plane = where.travel.build().law, where.plane
        assert law is not None
        self._law, self._plane = law, plane
        self._leave = habits.riders.service_factor
        self._speed = {m.rider.id: m.rider.speed_mps * m.pace for m in self._resumed.day.crew}

    def run(
        self, seed: int, stopwatch: Stopwatch, stop: Callable[[], bool] | None = None
    ) -> tuple[Lives, tuple[str, ...]] | None:
        """The orders' lives until all have ended, and the rules that were broken; None where
        `stop`, asked once a simulated minute, ended it before."""
        lives = Lives(self._moment.until_ms)
        for order in self._moment.orders:
            lives.adopt(order)
        outcome = simulate(
            self._resumed.scenario,
            seed,
            day=self._resumed.day,
            stopwatch=stopwatch,
            on_event=lives.add,
            since=self._resumed,
            stop=stop,
        )
        return None if outcome.interrupted else (lives, outcome.violations)

    def recorded(self) -> Lives:
        """What the recording made of the same orders."""
        lives = Lives(self._moment.until_ms)
        for order in self._moment.orders:
            lives.adopt(order)
        for event in self._moment.events:
            lives.add(event)
        return lives

    def ready_ms(self, order: Order) -> int:
        """When the order's goods are ready, in the simulator."""
        told_ms = order.stops[0].earliest_ms or order.created_at_ms
        return max(told_ms, self._moment.ready_ms.get(order.id, 0))

    def direct_ms(self, order: Order, rider_id: str) -> int:
        """From leaving the first stop to the last with nothing between, at the rider's pace."""
        first, last = order.stops[0], order.stops[-1]
        speed_mps = self._speed.get(rider_id)
        if speed_mps is None:
            return 0
        x1, y1 = self._plane.xy(first.place.lat, first.place.lon)
        x2, y2 = self._plane.xy(last.place.lat, last.place.lon)
        law = self._law
        way_ms = arc_ms(x1, y1, x2, y2, law.metric, law.ms_per_m(speed_mps), law.quantum_ms)
        return int(first.leave_ms * self._leave) + int(way_ms)


@dataclass(slots=True)
class _Effects:
    """One order's part over the seeds."""

    was: list[int] = field(default_factory=list)
    now: list[int] = field(default_factory=list)
    adds: Fraction = Fraction(0)
    parts: Counter[str] = field(default_factory=Counter)
    riders: Counter[tuple[str, str]] = field(default_factory=Counter)


def fork(
    was: Branch,
    now: Branch,
    moment: Moment,
    seeds: Sequence[int],
    *,
    stopwatch: Stopwatch,
    progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    effects: int = 10,
) -> ForkResult | None:
    """Runs both branches under every seed and says what differs and why.

    `progress` is told the runs done, of twice the seeds. `stop` is asked once a simulated minute:
    at a true answer the seeds that are done are all, and None says that not one is. `effects` is
    how many orders are named.
    """
    kpis: list[tuple[Kpis, Kpis]] = []
    near: list[Kpis] = []
    found: list[Difference] = []
    by_order: dict[str, _Effects] = {}
    violations: list[str] = []
    for n, seed in enumerate(seeds):
        one_was = was.run(seed, stopwatch, stop)
        one_now = None if one_was is None else now.run(seed, stopwatch, stop)
        if one_was is None or one_now is None:
            break
        (a, broken_a), (b, broken_b) = one_was, one_now
        violations += [*broken_a, *broken_b]
        kpis.append((lives_kpis(a.by_id.values()), lives_kpis(b.by_id.values())))
        near.append(lives_kpis(snapshot_at(a.by_id, moment.end_ms)))
        one = difference(a.by_id, b.by_id, was.ready_ms, was.direct_ms)
        found.append(one)
        _add_effects(by_order, one)
        if progress is not None:
            progress(2 * (n + 1))
    if not found:
        return None
    told = lives_kpis(snapshot_at(was.recorded().by_id, moment.end_ms))
    totals = [d.total for d in found if d.total is not None]
    names = {name: None for d in found for name in d.causes}
    return ForkResult(
        seeds=tuple(seeds[: len(found)]),
        orders=len(moment.orders) + len(moment.arrivals),
        figures={name: _pair(kpis, name) for name in kpis[0][0] if _is_there(kpis, name)},
        total=_minutes(totals) if totals else None,
        causes={name: _minutes([d.causes.get(name, Fraction(0)) for d in found]) for name in names},
        changed={
            name: sum(d.changed[name] for d in found) / len(found) for name in _changed(found)
        },
        effects=_top(by_order, len(found), effects),
        near={
            name: (told[name], prediction([_number(k[name]) for k in near if k[name] is not None]))
            for name in told
            if any(k[name] is not None for k in near)
        },
        violations=tuple(violations),
    )


def estimate(values: Sequence[float]) -> Estimate:
    """The mean with its interval, `mean -+ t sd / sqrt(n)`."""
    return _within(values, 1.0 / len(values))


def prediction(values: Sequence[float]) -> Estimate:
    """The mean, and where one more value is expected: `mean -+ t sd sqrt(1 + 1 / n)`."""
    return _within(values, 1.0 + 1.0 / len(values))


def _within(values: Sequence[float], spread: float) -> Estimate:
    array = np.asarray(values, np.float64)
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Estimate(mean, None, None)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * float(array.std(ddof=1)) * sqrt(spread)
    return Estimate(mean, mean - half, mean + half)


def _pair(kpis: list[tuple[Kpis, Kpis]], name: str) -> tuple[Estimate, Estimate, Estimate]:
    both = [(a[name], b[name]) for a, b in kpis if a[name] is not None and b[name] is not None]
    was, now = [_number(a) for a, _ in both], [_number(b) for _, b in both]
    return estimate(was), estimate(now), estimate([b - a for a, b in zip(was, now, strict=True)])


def _is_there(kpis: list[tuple[Kpis, Kpis]], name: str) -> bool:
    return any(a[name] is not None and b[name] is not None for a, b in kpis)


def _number(value: int | float | None) -> float:
    assert value is not None
    return float(value)


def _minutes(values: Sequence[Fraction]) -> Estimate:
    return estimate([float(value / 60_000) for value in values])


def _changed(found: list[Difference]) -> dict[str, float]:
    together: Counter[str] = Counter()
    for one in found:
        together.update(one.changed)
    return {name: count / len(found) for name, count in together.items()}


def _add_effects(by_order: dict[str, _Effects], one: Difference) -> None:
    for change in one.changes:
        own = by_order.setdefault(change.order_id, _Effects())
        own.adds += change.adds
        own.parts.update(change.parts)
        own.riders[change.was.rider_id, change.now.rider_id] += 1
        for life, into in ((change.was, own.was), (change.now, own.now)):
            if life.click_to_door_ms is not None:
                into.append(life.click_to_door_ms)


def _top(by_order: dict[str, _Effects], seeds: int, count: int) -> list[Effect]:
    """The orders that add most to the difference, either way."""
    ranked = sorted(by_order.items(), key=lambda item: (-abs(item[1].adds), item[0]))
    return [
        Effect(
            order_id=name,
            was_min=_mean_min(own.was),
            now_min=_mean_min(own.now),
            adds_min=float(own.adds / seeds / 60_000),
            most=max(PARTS, key=lambda part: abs(own.parts[part])) if own.parts else "delivered",
            riders=own.riders.most_common(1)[0][0],
        )
        for name, own in ranked[:count]
        if own.adds
    ]


def _mean_min(values_ms: list[int]) -> float | None:
    return float(np.mean(values_ms)) / 60_000 if values_ms else None
