"""Orders of a log by weekday, quarter hour and cell; uses numpy and geo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.cells import cells_of
from geo.errors import InvalidValue
from sim.hours import LocalTime, local_time
from sim.logs.table import F8, I8, OrderLog
from sim.scenario import QUARTERS, WEEKDAYS


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """`orders[w, q, c]` of `days[w]` days of weekday w, in quarter hour q, from `cells[c]`
    (sorted)."""

    cells: I8
    days: I8
    orders: F8


def local_of(log: OrderLog) -> LocalTime:
    """The quarter hours of the log, in its zone."""
    if not len(log):
        raise InvalidValue("log", "no orders", "some orders to fit")
    return local_time(int(log.placed_ms[0]), int(log.placed_ms[-1]) + 1, log.zone)


def starts(log: OrderLog) -> tuple[F8, F8]:
    """(lat, lon) of where each order begins: its pickup, or its door if it has none."""
    bare = np.isnan(log.pickup_lat)
    return (
        np.where(bare, log.door_lat, log.pickup_lat),
        np.where(bare, log.door_lon, log.pickup_lon),
    )


def of_day(log: OrderLog, ordinal: int) -> NDArray[np.bool_]:
    """Which orders were placed on a local date (as `date.toordinal`)."""
    local = local_of(log)
    return np.asarray(local.day[local.bins(log.placed_ms)] == ordinal)


def counted(log: OrderLog, days: I8 | None = None, without: int | None = None) -> Counts:
    """All orders of the log, on so many `days` of each weekday. Without them, days between the
    first and the last order count, even if nothing was ordered; these two are taken for whole.
    Not so the date `without` (as `date.toordinal`), whose orders were taken out of the log."""
    local = local_of(log)
    bins = local.bins(log.placed_ms)
    cells, cell = np.unique(cells_of(*starts(log)), return_inverse=True)
    orders = np.zeros((len(WEEKDAYS), QUARTERS, len(cells)))
    np.add.at(orders, (local.weekday[bins], local.quarter[bins], cell), 1.0)
    if days is not None:
        return Counts(cells, days, orders)
    first, last = int(local.day[0]), int(local.day[-1])
    # date.toordinal() of a Monday is 1 more than a multiple of 7.
    dates = np.arange(first, last + 1)
    weekdays = (dates[dates != without] - 1) % len(WEEKDAYS)
    return Counts(cells, np.bincount(weekdays, minlength=len(WEEKDAYS)), orders)


def rounded_shares(counts: Sequence[float]) -> list[float]:
    """The share of each count to six digits, so that they sum to 1: the largest takes the rest."""
    total = float(sum(counts))
    shares = [round(n / total, 6) for n in counts]
    largest = shares.index(max(shares))
    shares[largest] = round(1.0 - sum(shares[:largest]) - sum(shares[largest + 1 :]), 6)
    return shares
