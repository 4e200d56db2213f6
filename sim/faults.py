"""What goes wrong in a run, when and how often: knobs, and the draws; uses numpy.

Every kind of fault draws from a stream of its own, so that switching one on leaves the others as
they were. With all knobs at their defaults nothing is drawn and nothing goes wrong.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum, auto

import numpy as np
from pydantic import ConfigDict

from dispatch.events import Event, RiderEvent
from geo.errors import InvalidValue
from sim.streams import stream

HOUR_MS = 3_600_000
_FORBID = ConfigDict(extra="forbid", allow_inf_nan=False)
_RUN_MAX = 50


def _check(owner: object, path: str) -> None:
    """Shares lie between 0 and 1, every other number is zero or more."""
    for f in fields(owner):  # type: ignore[arg-type]
        value = getattr(owner, f.name)
        for number in value if isinstance(value, tuple) else (value,):
            share = f.name.endswith("share")
            if number < 0 or (share and number > 1):
                expected = "a share from 0 to 1" if share else "zero or more"
                raise InvalidValue(f"{path}.{f.name}", value, expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartKnobs:
    """The dispatcher dies, `at_s` after the start and `per_h` times an hour, and is away `for_s`;
    then a fresh one starts from what stands in the store."""

    __pydantic_config__ = _FORBID

    at_s: tuple[float, ...] = ()
    per_h: float = 0.0
    for_s: float = 5.0

    def __post_init__(self) -> None:
        _check(self, "faults.restarts")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteKnobs:
    """Of the plans' writes so many are dropped (nothing stands, and the dispatcher is told), are
    late by `late_s`, or are refused because another dispatcher has the city: a fresh one starts.
    So is the first write from each of the `_at_s` on, seconds after the start."""

    __pydantic_config__ = _FORBID

    dropped_share: float = 0.0
    late_share: float = 0.0
    late_s: float = 10.0
    refused_share: float = 0.0
    dropped_at_s: tuple[float, ...] = ()
    late_at_s: tuple[float, ...] = ()
    refused_at_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "faults.writes")
        total = self.dropped_share + self.late_share + self.refused_share
        if total > 1.0:
            raise InvalidValue("faults.writes", total, "shares that sum to 1 at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatKnobs:
    """After so many of the events the last ones, up to `run_max`, come once more, in order; also
    after the first event from each of `at_s` on."""

    __pydantic_config__ = _FORBID

    share: float = 0.0
    run_max: int = 1
    at_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "faults.repeats")
        if not 1 <= self.run_max <= _RUN_MAX:
            raise InvalidValue("faults.repeats.run_max", self.run_max, f"1 to {_RUN_MAX}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverKnobs:
    """So many rounds, and the first from each of `late_at_s` on, wait `late_s` for the solver in
    vain; it is dead for `for_s`, `at_s` after the start and `per_h` times an hour. The greedy
    stand-in decides instead."""

    __pydantic_config__ = _FORBID

    late_share: float = 0.0
    late_s: float = 1.0
    late_at_s: tuple[float, ...] = ()
    at_s: tuple[float, ...] = ()
    per_h: float = 0.0
    for_s: float = 60.0

    def __post_init__(self) -> None:
        _check(self, "faults.solver")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneKnobs:
    """A rider's phone is dead for `for_s`, some rider's `at_s` after the start and `per_h` times an
    hour, whose is drawn: no fixes, no answers, and what he did meanwhile is reported once it is
    back."""

    __pydantic_config__ = _FORBID

    at_s: tuple[float, ...] = ()
    per_h: float = 0.0
    for_s: float = 180.0

    def __post_init__(self) -> None:
        _check(self, "faults.phones")


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOutKnobs:
    """So many of the accepted orders, and the first from each of `at_s` on, are given back, within
    `within_s`, unless he has the goods."""

    __pydantic_config__ = _FORBID

    share: float = 0.0
    within_s: float = 600.0
    at_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "faults.drop_outs")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockKnobs:
    """So many phones have a clock that is off, by up to `off_s` either way; those of `riders`, by
    row, are `off_s` ahead."""

    __pydantic_config__ = _FORBID

    share: float = 0.0
    off_s: float = 60.0
    riders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self, "faults.clocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKnobs:
    """The `faults:` of a scenario; the default is none."""

    __pydantic_config__ = _FORBID

    restarts: RestartKnobs = field(default_factory=RestartKnobs)
    writes: WriteKnobs = field(default_factory=WriteKnobs)
    repeats: RepeatKnobs = field(default_factory=RepeatKnobs)
    solver: SolverKnobs = field(default_factory=SolverKnobs)
    phones: PhoneKnobs = field(default_factory=PhoneKnobs)
    drop_outs: DropOutKnobs = field(default_factory=DropOutKnobs)
    clocks: ClockKnobs = field(default_factory=ClockKnobs)

    @property
    def any(self) -> bool:
        """Whether anything can go wrong."""
        return self != FaultKnobs()


class Fate(Enum):
    """What becomes of a plan's write."""

    STANDS = auto()
    DROPPED = auto()
    LATE = auto()
    REFUSED = auto()


_FATES = {"dropped": Fate.DROPPED, "late_write": Fate.LATE, "refused": Fate.REFUSED}

_KINDS = (
    "restarts",
    "writes_dropped",
    "writes_late",
    "writes_refused",
    "repeats",
    "solver_late",
    "solver_dead",
    "phones",
    "drop_outs",
)


class Faults:
    """The faults of one run: what is scheduled, drawn once, and the draws for what comes along.

    `happened` counts those that came about, by kind; the run counts those that it brings about.
    """

    def __init__(
        self, knobs: FaultKnobs, seed: int, start_ms: int, duration_s: int, riders: int
    ) -> None:
        self.knobs = knobs
        kinds = ("restarts", "writes", "repeats", "solver", "late", "phones", "drop_outs")
        self._rng = {kind: stream(seed, "faults", kind) for kind in kinds}
        self._start_ms, self._duration_s = start_ms, duration_s
        self.happened: Counter[str] = Counter()
        self.restarts = self._times("restarts", knobs.restarts)
        self.phones = self._phones(seed, riders)
        for_ms = int(knobs.solver.for_s * 1000)
        self._dead = [(at, at + for_ms) for at in self._times("solver", knobs.solver)]
        self.clock_off_ms = self._clocks(seed, riders)
        self._scheduled = {
            "dropped": self._schedule(knobs.writes.dropped_at_s),
            "late_write": self._schedule(knobs.writes.late_at_s),
            "refused": self._schedule(knobs.writes.refused_at_s),
            "repeats": self._schedule(knobs.repeats.at_s),
            "late": self._schedule(knobs.solver.late_at_s),
            "drop_outs": self._schedule(knobs.drop_outs.at_s),
        }
        self._recent: deque[Event | RiderEvent] = deque(maxlen=knobs.repeats.run_max)

    def _schedule(self, at_s: tuple[float, ...]) -> deque[int]:
        return deque(sorted(self._start_ms + int(s * 1000) for s in at_s))

    def _is_due(self, kind: str, now_ms: int) -> bool:
        """Whether the next of its schedule has come, which is then over."""
        due = self._scheduled[kind]
        if not due or due[0] > now_ms:
            return False
        due.popleft()
        return True

    def write(self, now_ms: int) -> Fate:
        """What becomes of the next write."""
        fate = self._fate(now_ms)
        if fate is not Fate.STANDS:
            self.happened[f"writes_{fate.name.lower()}"] += 1
        return fate

    def _fate(self, now_ms: int) -> Fate:
        knobs = self.knobs.writes
        shares = (knobs.dropped_share, knobs.late_share, knobs.refused_share)
        mood = self._rng["writes"].random() if any(shares) else 1.0
        for kind, fate in _FATES.items():
            if self._is_due(kind, now_ms):
                return fate
        for share, fate in zip(shares, _FATES.values(), strict=True):
            if mood < share:
                return fate
            mood -= share
        return Fate.STANDS

    def deliveries(self, event: Event | RiderEvent) -> Iterator[Event | RiderEvent]:
        """The event, and now and then the last ones again."""
        yield event
        knobs = self.knobs.repeats
        if knobs.share or knobs.at_s:
            self._recent.append(event)
            drawn = knobs.share > 0 and self._rng["repeats"].random() < knobs.share
            if self._is_due("repeats", event.at_ms) or drawn:
                self.happened["repeats"] += 1
                yield from tuple(self._recent)

    def counts(self) -> dict[str, int]:
        """How often each kind of fault that the knobs ask for has happened."""
        if not self.knobs.any:
            return {}
        clocks = int(np.count_nonzero(self.clock_off_ms))
        return {kind: self.happened[kind] for kind in _KINDS} | {"clocks": clocks}

    def start_anew(self) -> None:
        """Who starts from a snapshot is sent nothing again from before it."""
        self._recent.clear()

    def solver_is_dead(self, now_ms: int) -> bool:
        dead = any(from_ms <= now_ms < to_ms for from_ms, to_ms in self._dead)
        self.happened["solver_dead"] += dead
        return dead

    def solver_is_late(self, now_ms: int) -> bool:
        """Whether this round waits for the solver in vain."""
        share = self.knobs.solver.late_share
        drawn = share > 0 and self._rng["late"].random() < share
        late = self._is_due("late", now_ms) or drawn
        self.happened["solver_late"] += late
        return late

    def drop_out_ms(self, now_ms: int) -> int | None:
        """After how long an order that was just accepted is given back; None: it is not."""
        knobs = self.knobs.drop_outs
        due = self._is_due("drop_outs", now_ms)
        if not (knobs.share or due):
            return None
        mood, wait = self._rng["drop_outs"].random(2)
        return int(wait * knobs.within_s * 1000) if due or mood < knobs.share else None

    def _times(self, kind: str, knobs: RestartKnobs | SolverKnobs | PhoneKnobs) -> list[int]:
        """When it happens, ms UTC: the schedule, and at random at the rate."""
        rng, span_ms = self._rng[kind], self._duration_s * 1000
        by_rate = rng.random(rng.poisson(knobs.per_h * span_ms / HOUR_MS)) * span_ms
        times = [*(s * 1000 for s in knobs.at_s), *by_rate]
        return sorted(self._start_ms + int(t) for t in times)

    def _phones(self, seed: int, riders: int) -> list[tuple[int, int]]:
        """When phones die, and whose: of so many riders one that has drawn the least. One more
        rider takes that from another only where he draws less, and nobody else notices."""
        found: list[tuple[int, int]] = []
        again: Counter[int] = Counter()
        for at_ms in self._times("phones", self.knobs.phones):
            lots = stream(seed, "faults", "phones", at_ms - self._start_ms, again[at_ms])
            found.append((at_ms, int(lots.random(riders).argmin())))
            again[at_ms] += 1
        return found

    def _clocks(self, seed: int, riders: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """How far each rider's phone is ahead of the true time."""
        knobs = self.knobs.clocks
        wrong = stream(seed, "faults", "clocks").random(riders) < knobs.share
        by = stream(seed, "faults", "clocks", "by")
        off = by.uniform(-knobs.off_s, knobs.off_s, riders) * 1000
        off = np.where(wrong, off, 0.0)
        told = [row for row in knobs.riders if row < riders]
        off[told] = knobs.off_s * 1000
        return off.astype(np.int64)
