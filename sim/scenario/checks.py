"""What every table of a scenario asks of its values; imports cells and errors of geo."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import ConfigDict

from geo.cells import of_text
from geo.errors import InvalidValue

HOUR_MS = 3_600_000
HOURS = 24
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FORBID = ConfigDict(extra="forbid", allow_inf_nan=False)


def need(true: bool, path: str, value: object, expected: str) -> None:
    """Raises InvalidValue for a value at `path` that does not hold."""
    if not true:
        raise InvalidValue(path, value, expected)


def need_share(path: str, value: float) -> None:
    need(0.0 <= value <= 1.0, path, value, "a share from 0 to 1")


def need_over_zero(owner: object, path: str, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        need(0 < value < math.inf, f"{path}.{name}", value, "a number above 0")


def need_zero_or_more(owner: object, path: str, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        need(0 <= value < math.inf, f"{path}.{name}", value, "zero or more")


def need_shares(path: str, shares: Sequence[float]) -> None:
    """Each is a share, and together they are one at most."""
    for i, share in enumerate(shares):
        need_share(f"{path}.{i}.share", share)
    need(sum(shares) <= 1.0 + 1e-9, path, sum(shares), "shares that sum to 1 at most")


def need_day(path: str, factors: Sequence[float]) -> None:
    """A factor above 0 for each hour of the local day, or none at all."""
    need(len(factors) in (0, HOURS), path, len(factors), "24 factors, one for each local hour")
    for i, factor in enumerate(factors):
        need(0 < factor < math.inf, f"{path}.{i}", factor, "a number above 0")


def need_weekday(path: str, name: str, *others: str) -> None:
    known = (*WEEKDAYS, *others)
    need(name in known, path, name, "one of " + ", ".join(repr(n) for n in known))


def need_place(path: str, lat: float, lon: float) -> None:
    need(-85.0 <= lat <= 85.0, f"{path}.lat", lat, "degrees from -85 to 85")
    need(-180.0 <= lon <= 180.0, f"{path}.lon", lon, "degrees from -180 to 180")


def need_cell(path: str, text: str) -> None:
    """An H3 cell in its hexadecimal notation."""
    try:
        of_text(text)
    except InvalidValue as e:
        raise InvalidValue(path, text, e.expected) from None
