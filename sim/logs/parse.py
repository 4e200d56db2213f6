"""Text into numbers and instants, by column; imports numpy.

Each function takes texts and gives an array of their length and a mask of those that fit; where a
text does not fit the array holds 0. "" never fits: holes are the caller's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sim.hours import QUARTER_MS
from sim.logs.table import F8, I8

Fits = NDArray[np.bool_]

DAY_MS = 86_400_000
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]+)?)?")
_FIRST_MS, _LAST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2099
_ZONE_HALF_WIDTH = 60.0
_TOLD = {
    "iso": "an instant as 2026-03-02T11:30:00+08:00, of the years 2000 to 2099",
    "epoch_ms": "milliseconds since 1970, of the years 2000 to 2099 (seconds: time: epoch_s)",
    "epoch_s": "seconds since 1970, of the years 2000 to 2099 (milliseconds: time: epoch_ms)",
    "clock": "a time of the day as 11:30:00",
}


def numbers(texts: list[str]) -> tuple[F8, Fits]:
    """Finite decimal numbers."""
    try:
        found = np.array([float(text) for text in texts], np.float64)
    except ValueError:
        found = np.array([_number(text) for text in texts], np.float64)
    fits = np.isfinite(found)
    if any("_" in text for text in texts):  # Python's own spelling, nobody else's
        fits &= np.array(["_" not in text for text in texts])
    return np.where(fits, found, 0.0), fits


def instants(texts: list[str], how: str, day_ms: int, zone: ZoneInfo | None) -> tuple[I8, Fits]:
    """Instants, ms UTC, written as `how` says (see `Mapping.time`).

    `day_ms` is the local midnight of a `clock` as if it were UTC. `zone` is that of times without
    an offset; None where none of them is without.
    """
    if how.startswith("epoch"):
        found, fits = numbers(texts)
        found = found * (1000 if how == "epoch_s" else 1)
        fits &= (found >= _FIRST_MS) & (found < _LAST_MS)
        return np.where(fits, np.rint(found), 0.0).astype(np.int64), fits
    read: Callable[[str], tuple[int, bool]] = _READ.get(how) or _pattern(how)
    known = {text: _tried(read, text) for text in set(texts)}
    pairs = [known[text] for text in texts]
    fits = np.array([pair is not None for pair in pairs], np.bool_)
    at_ms = np.array([pair[0] if pair else 0 for pair in pairs], np.int64)
    local = np.array([pair[1] if pair else False for pair in pairs], np.bool_)
    if how == "clock":
        at_ms = np.where(fits, at_ms + day_ms, 0)
    if local.any():
        if zone is None:
            return at_ms, fits & ~local
        fits[local] &= shown(at_ms[local], zone)
        at_ms[local] = to_utc(at_ms[local], zone)
    return at_ms, fits


def expected(how: str, zone: ZoneInfo | None) -> str:
    """What `instants` takes, in words."""
    told = _TOLD.get(how, f"a time as {how}")
    told += ", which a clock has shown" if zone is not None and how in ("iso", "clock") else ""
    return told if zone is not None or how.startswith("epoch") else f"{told}, with an offset"


def to_utc(local_ms: I8, zone: ZoneInfo) -> I8:
    """Local times, as ms since 1970 by the local clock, in ms UTC.

    Of an hour that a clock shows twice it is the first; one that it skips lies after the gap.
    """
    quarters, where = np.unique(local_ms // QUARTER_MS, return_inverse=True)
    offsets = [_offset_ms(int(quarter) * QUARTER_MS, zone) for quarter in quarters]
    return local_ms - np.array(offsets, np.int64)[where]


def far_from(zone: str, lon: F8) -> Fits:
    """Which longitudes cannot lie in the zone: no zone of a place is 60 degrees wide either way.

    None of them for a zone that is no place's, such as UTC.
    """
    if "/" not in zone or zone.startswith("Etc/"):
        return np.zeros(len(lon), np.bool_)
    middle = _offset_ms(_FIRST_MS, ZoneInfo(zone)) / DAY_MS * 360.0
    return np.asarray(np.abs((lon - middle + 180.0) % 360.0 - 180.0) > _ZONE_HALF_WIDTH)


def shown(local_ms: I8, zone: ZoneInfo) -> Fits:
    """Which local times a clock of the zone has shown: not those that it skipped in spring."""
    quarters, where = np.unique(local_ms // QUARTER_MS, return_inverse=True)
    naive = [datetime.fromtimestamp(q * QUARTER_MS / 1000, UTC) for q in quarters.tolist()]
    there = [
        at.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=UTC) == at
        for at in naive
    ]
    return np.array(there, np.bool_)[where]


def local_text(at_ms: int, zone: ZoneInfo) -> str:
    """The instant in ISO 8601, in the zone, for people."""
    return datetime.fromtimestamp(at_ms / 1000, zone).isoformat(timespec="seconds")


def _offset_ms(local_ms: int, zone: ZoneInfo) -> int:
    naive = datetime.fromtimestamp(local_ms / 1000, UTC).replace(tzinfo=zone)
    offset = naive.utcoffset()
    assert offset is not None
    return round(offset.total_seconds() * 1000)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _tried(read: Callable[[str], tuple[int, bool]], text: str) -> tuple[int, bool] | None:
    try:
        return read(text)
    except (ValueError, OverflowError):
        return None


def _clock(text: str) -> tuple[int, bool]:
    """Ms of the day; 24:00:00 is the end of it."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError(text)
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    at_ms = ((hour * 60 + minute) * 60 + second) * 1000
    if minute > 59 or second > 59 or at_ms > DAY_MS:
        raise ValueError(text)
    return at_ms, True


def _iso(text: str) -> tuple[int, bool]:
    return _since_1970(datetime.fromisoformat(text))


def _pattern(how: str) -> Callable[[str], tuple[int, bool]]:
    return lambda text: _since_1970(datetime.strptime(text, how))


def _since_1970(at: datetime) -> tuple[int, bool]:
    """Ms since 1970, and whether by a local clock."""
    local = at.tzinfo is None
    since = (at.replace(tzinfo=UTC) if local else at) - _EPOCH
    at_ms = since.days * DAY_MS + since.seconds * 1000 + since.microseconds // 1000
    if not _FIRST_MS <= at_ms < _LAST_MS:
        raise ValueError(at_ms)
    return at_ms, local


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_READ = {"iso": _iso, "clock": _clock}
