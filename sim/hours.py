"""Local time as columns: the hour, weekday and date of instants in a zone; imports zoneinfo."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int64]

QUARTER_MS = 900_000
"""Every zone is whole quarter hours off UTC, so that a quarter of UTC is one of the zone."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalTime:
    """b quarter hours from `first_ms` on: what the clock and the calendar of a zone show in each.

    `quarter` is 0 to 95 of the local day, `weekday` 0 (Monday) to 6, `day` the local date as the
    number that `date.toordinal` gives.
    """

    first_ms: int
    quarter: I8
    weekday: I8
    day: I8

    def __len__(self) -> int:
        return len(self.quarter)

    @property
    def edges_ms(self) -> I8:
        """When the quarters begin, and the end of the last: int64[b + 1]."""
        return self.first_ms + QUARTER_MS * np.arange(len(self) + 1, dtype=np.int64)

    def bins(self, at_ms: I8) -> I8:
        """The quarter hour of each instant, the first or last one for what lies outside."""
        return np.clip((at_ms - self.first_ms) // QUARTER_MS, 0, len(self) - 1)


def local_time(from_ms: int, to_ms: int, zone: str) -> LocalTime:
    """The quarter hours that hold anything of [from_ms, to_ms]."""
    first, last = from_ms // QUARTER_MS, max(from_ms, to_ms - 1) // QUARTER_MS
    tz = ZoneInfo(zone)
    seen = [
        datetime.fromtimestamp(n * QUARTER_MS // 1000, UTC).astimezone(tz)
        for n in range(first, last + 1)
    ]
    return LocalTime(
        first * QUARTER_MS,
        np.array([at.hour * 4 + at.minute // 15 for at in seen], np.int64),
        np.array([at.weekday() for at in seen], np.int64),
        np.array([at.toordinal() for at in seen], np.int64),
    )
