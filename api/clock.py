"""The only module that reads a clock; imports nothing of hexrun.

The wall clock of a machine can be set at any moment. What waits for an instant (an offer, an order,
a token) must not be hurt by that, so `now_ms` is the wall clock of the process's start carried
forward by the monotonic clock. It bends towards the reference by SLEW at most: the wall clock, or
the clock that all processes share, once one has told it by `share_clock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SLEW = 0.01  # of the time that passes: an offer of 20 s lasts 19.8 to 20.2 s at worst


class SteadyClock:
    """Milliseconds since 1970 that never jump; `wall` and `monotonic` give milliseconds."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._seen = monotonic()
        self._offset = wall() - self._seen
        self._error = 0.0  # what `now_ms` still lacks to the reference
        self._is_shared = False

    def now_ms(self) -> float:
        now = self._monotonic()
        passed, self._seen = now - self._seen, now
        if not self._is_shared:
            self._error = self._wall() - (now + self._offset)
        step = max(-SLEW * passed, min(SLEW * passed, self._error))
        self._offset += step
        self._error -= step
        return now + self._offset

    def share(self, reference_ms: float, within_ms: float) -> None:
        """The shared clock showed `reference_ms` just now, give or take `within_ms`.

        The first time it is taken over at once, for nothing waits yet; later it is bent to.
        """
        error = reference_ms - self.now_ms()
        if not self._is_shared:
            self._is_shared = True
            self._offset += error
            error = 0.0
        self._error = error if abs(error) > within_ms else 0.0

    def wall_ahead_ms(self) -> float:
        """How far the machine's clock is ahead of `now_ms`: large after it was set."""
        return self._wall() - self.now_ms()

    def behind_ms(self) -> float:
        """How far `now_ms` is behind the shared clock, as last told: large after that was set."""
        return self._error if self._is_shared else 0.0


_clock = SteadyClock(lambda: time.time_ns() / 1e6, lambda: time.monotonic_ns() / 1e6)


def now_ms() -> int:
    """Milliseconds since 1970-01-01 UTC. Does not step when the machine's clock is set."""
    return int(_clock.now_ms())


def monotonic_s() -> float:
    """Seconds from an arbitrary start that never go back; for durations only."""
    return time.monotonic()


def share_clock(reference_ms: float, within_ms: float) -> None:
    """See `SteadyClock.share`."""
    _clock.share(reference_ms, within_ms)


def clock_jumps_ms() -> tuple[float, float]:
    """How far the machine's and the shared clock are ahead of `now_ms`."""
    return _clock.wall_ahead_ms(), _clock.behind_ms()
