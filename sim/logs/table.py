"""Logs as columns, right once built; imports numpy, the vehicles, and the errors of geo."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from dispatch.vehicles import LEGAL_SPEED_MPS
from geo.errors import InvalidValue

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

WALKING = "walking"
"""How some logs say foot."""
VEHICLES = (*LEGAL_SPEED_MPS, WALKING)
"""What a courier may have."""
_PLACES = (("pickup_lat", 90.0), ("pickup_lon", 180.0), ("door_lat", 90.0), ("door_lon", 180.0))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OrderLog:
    """n orders by the time of their placement, ms UTC and WGS-84 degrees.

    `zone` is an IANA name: local hours and weekdays are read in it. `merchant` is "" where nobody
    knows it; a place is NaN where a job has no such stop. `ready_ms` is when the goods were said to
    be ready, `promise_ms` when the customer was told to have them: `dispatch.snapshot.NEVER` where
    nothing was said. `load` counts items. Raises InvalidValue, naming the column and the row, for
    columns that break this.
    """

    zone: str
    id: tuple[str, ...]
    placed_ms: I8
    job_type: tuple[str, ...]
    merchant: tuple[str, ...]
    pickup_lat: F8
    pickup_lon: F8
    door_lat: F8
    door_lon: F8
    ready_ms: I8
    promise_ms: I8
    load: I8

    def __post_init__(self) -> None:
        check_zone(self.zone, "zone")
        _check_columns(self, "orders")
        placed = self.placed_ms
        _hold(
            "placed_ms", placed, np.diff(placed, prepend=placed[:1]) >= 0, "times that never fall"
        )
        _hold_once(self.id)
        for name, limit in _PLACES:
            column = getattr(self, name)
            fits = ~(np.abs(column) > limit)  # NaN fits
            _hold(name, column, fits, f"degrees from -{limit:g} to {limit:g}")
        for end in ("pickup", "door"):
            lat, lon = getattr(self, f"{end}_lat"), getattr(self, f"{end}_lon")
            _hold(f"{end}_lon", lon, np.isnan(lat) == np.isnan(lon), f"NaN where {end}_lat is")
        for name in ("ready_ms", "promise_ms"):
            column = getattr(self, name)
            _hold(name, column, column >= placed, "not before placed_ms")
        _hold("load", self.load, self.load >= 1, "1 or more")

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: NDArray[Any]) -> OrderLog:
        """The orders of some rows (indices that rise, or a mask)."""
        return OrderLog(zone=self.zone, **_taken(self, rows))

    def shops(self) -> I8:
        """Where each order is picked up, int64[n], numbered from 0 by first appearance.

        One merchant is one shop, whatever its coordinates; where no merchant is known each exact
        pickup place is one. -1 for an order without a pickup.
        """
        numbers: dict[object, int] = {}
        out = np.full(len(self), -1, np.int64)
        rows = zip(self.merchant, self.pickup_lat.tolist(), self.pickup_lon.tolist(), strict=True)
        for row, (merchant, lat, lon) in enumerate(rows):
            if lat == lat:  # a NaN is not
                key: object = merchant or (lat, lon)
                out[row] = numbers.setdefault(key, len(numbers))
        return out


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CourierLog:
    """n shifts of couriers by id: where they came on (WGS-84 degrees), from when to when (ms UTC).

    A courier may have several, one after the other. Who was on for no time at all has `off_ms` at
    `on_ms`. Raises InvalidValue, naming the column
    and the row, for columns that break this.
    """

    zone: str
    id: tuple[str, ...]
    vehicle: tuple[str, ...]
    lat: F8
    lon: F8
    on_ms: I8
    off_ms: I8

    def __post_init__(self) -> None:
        check_zone(self.zone, "zone")
        _check_columns(self, "couriers")
        _hold("lat", self.lat, np.abs(self.lat) <= 90.0, "degrees from -90 to 90")
        _hold("lon", self.lon, np.abs(self.lon) <= 180.0, "degrees from -180 to 180")
        _hold("off_ms", self.off_ms, self.off_ms >= self.on_ms, "not before on_ms")
        _hold("on_ms", self.on_ms, self._one_by_one(), "not before the courier's last off_ms")

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: NDArray[Any]) -> CourierLog:
        """The shifts of some rows (indices that rise, or a mask)."""
        return CourierLog(zone=self.zone, **_taken(self, rows))

    def who(self) -> I8:
        """The courier of each shift, int64[n], numbered from 0 by first appearance."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(name, len(numbers)) for name in self.id], np.int64)

    def _one_by_one(self) -> NDArray[np.bool_]:
        """Which shifts begin when the one before of their courier is over."""
        fits, last = np.ones(len(self), np.bool_), dict[str, int]()
        for i in np.argsort(self.on_ms, kind="stable").tolist():
            before = last.get(self.id[i])
            if before is not None:
                own = self.on_ms[i] > self.on_ms[before]
                fits[i] = own and self.on_ms[i] >= self.off_ms[before]
            last[self.id[i]] = i
        return fits


def vehicle_of(name: str) -> str:
    """The vehicle, of what a log calls it (one of VEHICLES)."""
    return "foot" if name == WALKING else name


def check_zone(name: str, field: str) -> ZoneInfo:
    """The time zone; InvalidValue, naming `field`, for one that nobody knows."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidValue(field, name, "an IANA time zone such as Asia/Shanghai") from None


def _hold(name: str, column: NDArray[Any], fits: NDArray[np.bool_], expected: str) -> None:
    wrong = np.flatnonzero(~fits)
    if len(wrong):
        raise InvalidValue(f"{name}[{wrong[0]}]", column[wrong[0]].item(), expected)


def _hold_once(ids: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name in seen:
            raise InvalidValue(f"id[{row}]", name, "an id that stands once")
        seen.add(name)


def _names(log: OrderLog | CourierLog) -> list[str]:
    return [field.name for field in fields(log) if field.name != "zone"]


def _check_columns(log: OrderLog | CourierLog, what: str) -> None:
    lengths = {name: len(getattr(log, name)) for name in _names(log)}
    if len(set(lengths.values())) != 1:
        raise InvalidValue(what, lengths, "columns of one length")


def _taken(log: OrderLog | CourierLog, rows: NDArray[Any]) -> dict[str, Any]:
    index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    taken: dict[str, Any] = {}
    for name in _names(log):
        column = getattr(log, name)
        if isinstance(column, tuple):
            taken[name] = tuple(column[i] for i in index.tolist())
        else:
            taken[name] = column[index]
    return taken
